//! The streams: what changes in the table and what is put into Kinesis is handed to its function, in order.

use super::state::{Respond, World};
use crate::aws::captured::{self, REMOVE};
use crate::aws::lambda::Ended;
use crate::aws::source::{Function, Source};
use crate::aws::stream::StreamSource;
use crate::judge;
use crate::mutants;
use crate::rng;
use crate::scenario::Trouble;
use crate::trace::Step;
use event_source::payload;
use event_source::record::KinesisRecord;
use event_source::stream::{Condition, Discarded, Invocation, Record};
use notification::status::{TRANSITIONS, Transition, Writer};
use notification::testing::Captured;
use notification::{Status, event};
use std::sync::Arc;
use std::time::Duration;

impl World {
    /// One of the two streams.
    pub(super) fn stream(&mut self, name: Source) -> &mut StreamSource {
        match name {
            Source::TableStream => &mut self.table_stream,
            _ => &mut self.kinesis,
        }
    }

    /// Moves the changes of the table into its stream, and lets the index follow.
    pub(crate) fn capture(&mut self) {
        let now = self.now;
        for captured in self.table.take_captured() {
            let event_name = captured::event_name(&captured);
            self.check_transition(&captured);
            if matches!(captured.new, Some((Status::Done, _))) {
                *self.done.entry(captured.id.clone()).or_default() += 1;
            }
            if let Some((status, _)) = captured.new {
                self.tell_operators(&captured.id, status);
            }
            let captured = mutants::captured(self.mutant, captured);
            self.table_stream.shards.append(&captured.id, now, |_, sequence_number| {
                captured::record(&captured, event_name, sequence_number, now)
            });
            if event_name == REMOVE {
                self.note("a DONE item expires");
            }
            let lag = Duration::from_millis(rng::numbered(self.scenario.seed, "lag", self.calls).u64(10..2_000));
            self.after(lag, move |world| world.table.update_index(&captured.id));
        }
        let kept_for = self.deployed.done_retention;
        if self.scenario.runs_until_expiry
            && let Some(expiry) = self.table.next_expiry(kept_for)
        {
            self.at(expiry, move |world| {
                let expired = world.table.expire(kept_for, world.now);
                world.expired.extend(expired);
                world.capture();
            });
        }
        self.look_at(Source::TableStream, now + Duration::from_millis(250));
        self.expect_sweep();
    }

    /// Checks that a function makes only its own changes of a status.
    fn check_transition(&mut self, captured: &Captured) {
        let Some((to, _)) = &captured.new else { return };
        self.settles(&captured.id, *to);
        // A change can take effect after its worker has ended, and an operator makes other changes.
        let running = self.running.get(&self.caller).filter(|_| self.wiring.hands_over);
        let Some(running) = running else { return };
        let writer = match running.from.function() {
            Function::Ingest => Writer::Ingest,
            Function::Publisher => return self.violated(format!("publisher changed {}", captured.id)),
            Function::Downstream => Writer::Downstream,
        };
        let is_allowed = |allowed: &&Transition| (allowed.from, allowed.to, allowed.by) == (captured.old, *to, writer);
        if !TRANSITIONS.iter().any(|allowed| is_allowed(&allowed)) {
            let from = captured.old.map_or("nothing", Status::as_str);
            self.violated(format!("{writer} changed {} from {from} to {to}", captured.id));
        }
    }

    /// Puts a record into Kinesis.
    pub(crate) fn put_record(&mut self, key: &str, data: &[u8]) {
        // With another key, two workers could have one notification, each from another shard.
        let event = std::str::from_utf8(data).ok();
        let id = event.and_then(event::readable_id);
        if let Some(id) = id.filter(|id| id.as_str() != key) {
            self.violated(format!("{id} is in Kinesis under another partition key"));
        }
        if let Some(event) = event {
            self.check_content(key.split('#').next().unwrap_or(key), event);
        }
        self.append(key, data);
    }

    /// Appends a record to Kinesis, whoever puts it.
    pub(crate) fn append(&mut self, key: &str, data: &[u8]) {
        let now = self.now;
        self.kinesis.shards.append(key, now, |shard, sequence_number| {
            let record = KinesisRecord {
                shard,
                sequence_number,
                partition_key: key,
                data,
                arrived_at: now,
                role_arn: "arn:aws:iam::123456789012:role/downstream",
                stream_arn: "arn:aws:kinesis:us-east-1:123456789012:stream/s",
            };
            record.to_json()
        });
        self.look_at(Source::Kinesis, now + Duration::from_millis(300));
    }

    /// Checks that an event that is handed on has the content that was accepted.
    pub(crate) fn check_content(&mut self, id: &str, event: &str) {
        if self.ever(id).is_some_and(|item| !judge::same(&item.event, event)) {
            self.violated(format!("{id} is handed on with another content than it was accepted with"));
        }
    }

    pub(super) fn poll_stream(&mut self, name: Source) {
        let now = self.now;
        if self.suffers(Trouble::NothingReads) {
            let outages = self.outages.iter().filter(|(from, until, _)| (*from..*until).contains(&now));
            if let Some(end) = outages.map(|(_, until, _)| *until).max() {
                self.look_at(name, end);
            }
            return;
        }
        if self.stream(name).read(now) {
            self.note("a stream record expires unread");
        }
        let (invocations, discarded) = self.stream(name).mapping.due(now);
        for discarded in discarded {
            self.discarded(name, &discarded);
        }
        for invocation in invocations {
            self.invoke_with_records(name, invocation);
        }
        if let Some(next) = self.stream(name).mapping.wake_at().filter(|at| *at > now) {
            self.look_at(name, next);
        }
    }

    fn invoke_with_records(&mut self, name: Source, invocation: Invocation) {
        let Invocation { number, records, .. } = invocation;
        let payload = payload(records.iter().map(|record| &*record.event));
        let ids = records.iter().map(|record| record.key.to_string()).collect();
        let respond: Respond = Box::new(move |world, ended| world.answered_stream(name, number, &records, ended));
        self.invoke(name, ids, payload, respond);
    }

    fn answered_stream(&mut self, name: Source, number: u64, records: &[Arc<Record>], ended: Ended) {
        let ended = mutants::report(self.mutant, ended, records);
        if !matches!(ended, Ended::Throttled) {
            self.check_deliveries(name, records);
        }
        let now = self.now;
        let answered = self.stream(name).mapping.answered(number, ended.answer(), now);
        if answered.bisected {
            self.note("a batch is bisected");
        }
        self.check_acknowledged(name, &answered.done);
        if let Some(discarded) = answered.discarded {
            self.discarded(name, &discarded);
        }
        self.look_at(name, now);
    }

    fn discarded(&mut self, name: Source, discarded: &Discarded) {
        self.note(match discarded.condition {
            Condition::RetryAttemptsExhausted => "a record is discarded after its retries",
            Condition::RecordAgeExceeded => "a record is discarded for its age",
        });
        let keys: Vec<&str> = discarded.records.iter().map(|record| &*record.key).collect();
        self.trace(|| Step::note_over(name.name(), format!("gives up {}: {:?}", keys.join(", "), discarded.condition)));
        self.stream(name).lose(keys.into_iter());
        self.expect_sweep();
    }

    /// Checks that a record is acknowledged only when the next step has its notification.
    fn check_acknowledged(&mut self, name: Source, records: &[Arc<Record>]) {
        if !self.wiring.hands_over {
            return;
        }
        for record in records {
            let Some(status) = self.item(&record.key).map(|item| item.status) else { continue };
            // A notification that was put back has another record on its way.
            if !status.is_pending() || self.was_put_back_since(&record.key, record.arrived_at) {
                continue;
            }
            match name {
                Source::TableStream if self.kinesis.shards.count(&record.key) > 0 => {}
                Source::TableStream => {
                    self.violated(format!("publisher acknowledged {}, which is not in Kinesis", record.key));
                }
                _ => {
                    self.violated(format!("downstream acknowledged {}, which is {status}", record.key));
                }
            }
        }
    }

    /// Checks that a record is delivered no more often than its retries allow, whatever its neighbours do; and where nothing
    /// goes wrong, once.
    fn check_deliveries(&mut self, name: Source, records: &[Arc<Record>]) {
        let source = self.stream(name);
        let allowed = source.deliveries_allowed();
        let delivered = source.count_delivery(records);
        if delivered > allowed && !self.scenario.progress_resets_retries {
            self.violated(format!("{} delivered a record {delivered} times", name.name()));
        }
        if delivered > 1 && self.scenario.is_healthy() {
            self.violated(format!("{} delivered a record again, and nothing went wrong", name.name()));
        }
    }
}
