//! What happens to the world besides its calls.

use super::state::World;
use crate::aws::source::Source;
use crate::aws::stream::FOREIGN;
use crate::scenario::What;
use crate::trace::Step;
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
                self.put_record(FOREIGN, b"\xff no notification");
            }
            What::RedriveDeadLetters => self.redrive_dead_letters(),
            What::InvalidIndexEntry(partition) => {
                let key = IndexKey { since: "0".into(), id: "written by hand".into() };
                self.table.add_invalid(partition, key);
            }
        }
        self.look_at(Source::TableStream, now);
        self.look_at(Source::Kinesis, now);
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
