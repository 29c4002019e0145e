//! What happens to the world besides its calls.

use super::state::World;
use crate::aws::source::Source;
use crate::aws::stream::FOREIGN;
use crate::scenario::events::{self, Version};
use crate::scenario::{Orphan, PAYLOAD, What};
use crate::trace::Step;
use notification::id::QUARANTINE_PREFIX;
use notification::ports::IndexKey;

impl World {
    pub(super) fn disturb(&mut self, what: What) {
        let choice = usize::try_from(self.calls).unwrap_or(0);
        self.trace(|| Step::note(what.to_string()));
        let now = self.now;
        match what {
            What::Split => {
                if self.kinesis.shards.split(choice) {
                    self.note("a shard is split");
                }
            }
            What::Merge => {
                if self.kinesis.shards.merge(choice) {
                    self.note("two shards are merged");
                }
            }
            What::Rollover => {
                self.note("the table's stream rolls over");
                self.table_stream.shards.roll_over();
            }
            What::RestartTableMapping => self.restart_mapping(Source::TableStream),
            What::RestartStreamMapping => self.restart_mapping(Source::Kinesis),
            What::KillAll => self.kills.extend(self.running.keys().map(|task| (*task, "its process dies"))),
            What::Trouble(trouble, lasts) => self.outages.push((now, now + lasts, trouble)),
            What::ForeignRecord => {
                self.foreign += 1;
                self.append(FOREIGN, b"\xff no notification");
            }
            What::OrphanOfKnownId(kind) => self.put_orphan_of_known_id(kind),
            What::RedriveDeadLetters => self.redrive_dead_letters(),
            What::InvalidIndexEntry(partition) => {
                let key = IndexKey { since: "0".into(), id: "written by hand".into() };
                self.table.add_invalid(partition, key);
            }
            What::Deploy(deploy) => self.deploy(deploy),
        }
        self.look_at(Source::TableStream, now);
        self.look_at(Source::Kinesis, now);
    }

    /// Another producer puts a record under the id of a notification.
    fn put_orphan_of_known_id(&mut self, kind: Orphan) {
        let ids: Vec<&String> = self.table.items().keys().filter(|id| !id.starts_with(QUARANTINE_PREFIX)).collect();
        let id = usize::try_from(self.calls).ok().and_then(|choice| ids.get(choice % ids.len().max(1)));
        let Some(id) = id.map(|id| (*id).clone()) else { return };
        self.note(match kind {
            Orphan::OtherEvent => "an orphan arrives with another event of a notification",
            Orphan::Malformed => "an orphan arrives, malformed and with the id of a notification",
        });
        self.foreign += 1;
        let event = events::event(self.scenario.seed, &id, Version::Conflict(u32::MAX));
        // Equal records of a batch are quarantined once.
        let event = event.replace(PAYLOAD, &format!("{PAYLOAD} {}", self.foreign));
        let data = match kind {
            Orphan::OtherEvent => event,
            Orphan::Malformed => event.replace("\"specversion\":\"1.0\"", "\"specversion\":\"0.3\""),
        };
        self.append(FOREIGN, data.as_bytes());
    }

    fn restart_mapping(&mut self, name: Source) {
        self.note("a poller restarts");
        self.stream(name).restart();
    }

    /// A redriven message is a new one, with its own retention.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html>
    fn redrive_dead_letters(&mut self) {
        self.note("an operator redrives the dead-letter queue");
        let dead: Vec<_> = self.upstream.dead.messages().cloned().collect();
        for message in dead {
            self.upstream.dead.delete(message.number);
            self.upstream.queue.send(message.body, self.now);
        }
        self.look_at(Source::Upstream, self.now);
    }
}
