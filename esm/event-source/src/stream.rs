//! A mapping of a DynamoDB stream or a Kinesis data stream.
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-create.html>,
//! <https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html>
//!
//! The driver lists the shards ([`StreamMapping::discovered`]), reads those that it should read
//! ([`StreamMapping::to_read`]), hands over the records ([`StreamMapping::read`]), makes the invocations that are due
//! ([`StreamMapping::due`]) and reports their answers ([`StreamMapping::answered`]).
//!
//! The documentation leaves two things open. Here, a retry waits one second, then twice as long each time, up to a minute;
//! and a record that is too old is discarded when its batch is due next.

use crate::gathering::Gathering;
use crate::response::{self, Verdict};
use crate::settings::{RetriesAfterProgress, Settings, StartingPosition};
use crate::{Answer, InvocationNumber, limits};
use jiff::Timestamp;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::cell::LazyCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// One record of a stream.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its sequence number in its shard.
    pub sequence_number: Box<str>,
    /// The partition key, or the key of the item. Records with the same key stay in order.
    pub key: Box<str>,
    /// When it arrived in the stream.
    pub arrived_at: Timestamp,
    /// The record as the function gets it.
    pub event: Box<RawValue>,
}

/// Where to read a shard from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadFrom {
    /// The oldest record.
    TrimHorizon,
    /// After the newest record.
    Latest,
    /// After the record with this sequence number.
    After(Box<str>),
}

/// An invocation that is due.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Its number, for the answer.
    pub number: InvocationNumber,
    /// The shard of its records.
    pub shard: Box<str>,
    /// Its records, in order.
    pub records: Vec<Arc<Record>>,
}

/// Records that were discarded.
#[derive(Debug, Clone)]
pub struct Discarded {
    /// Why.
    pub condition: Condition,
    /// Their shard.
    pub shard: Box<str>,
    /// The records, in order; never empty.
    pub records: Vec<Arc<Record>>,
    /// How often their batch was invoked.
    pub invocations: u32,
}

/// The effect of an answer.
#[derive(Debug, Default)]
pub struct Answered {
    /// The records that the function is done with.
    pub done: Vec<Arc<Record>>,
    /// The records that are discarded.
    pub discarded: Option<Discarded>,
    /// Whether the batch was split in two.
    pub bisected: bool,
}

/// Why records were discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Their batch was retried as often as the mapping allows.
    RetryAttemptsExhausted,
    /// They are older than the mapping allows.
    RecordAgeExceeded,
}

/// A mapping of a stream to a function.
#[derive(Debug)]
pub struct StreamMapping {
    settings: Settings,
    shards: BTreeMap<Box<str>, Shard>,
    started: bool,
    invocations: InvocationNumber,
}

/// A record with its place: its number among all records that were read from its shard.
type Placed = (usize, Arc<Record>);

#[derive(Debug)]
struct Shard {
    parents: Vec<Box<str>>,
    /// Where the next read starts.
    position: ReadFrom,
    /// Whether it was read to its end.
    ended: bool,
    progress: Progress,
    lanes: Vec<Lane>,
}

/// How far the records of a shard are done.
#[derive(Debug)]
struct Progress {
    /// Where a restart of the mapping continues.
    checkpoint: ReadFrom,
    /// The records after the checkpoint that were read: the sequence number, and whether it is done.
    open: VecDeque<(Box<str>, bool)>,
    /// The place of the first of them.
    first_open: usize,
}

/// One of the concurrent sequences of batches of a shard. All records of a key are in the same lane.
#[derive(Debug, Default)]
struct Lane {
    gathering: Gathering<Placed>,
    /// Batches in order; only the first is invoked.
    batches: VecDeque<Batch>,
}

#[derive(Debug)]
struct Batch {
    records: Vec<Placed>,
    /// Failed invocations that count towards the retry limit.
    failures: u32,
    /// All invocations.
    invocations: u32,
    /// Answers in a row without success, for the backoff.
    waits: u32,
    due_at: Timestamp,
    in_flight: Option<InvocationNumber>,
}

impl StreamMapping {
    /// A mapping that has read nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, shards: BTreeMap::new(), started: false, invocations: 0 }
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes the list of the stream's shards, with their parents. The shards of the first list are read from the starting
    /// position. Later ones are read from their beginning, and only after their parents.
    /// <https://docs.aws.amazon.com/streams/latest/dev/kinesis-using-sdk-java-resharding-strategies.html>
    pub fn discovered<'a>(&mut self, shards: impl IntoIterator<Item = (&'a str, Vec<&'a str>)>) {
        let position = match self.settings.starting_position {
            StartingPosition::Latest if !self.started => ReadFrom::Latest,
            _ => ReadFrom::TrimHorizon,
        };
        let factor = self.settings.parallelization_factor;
        for (shard, parents) in shards {
            self.shards.entry(shard.into()).or_insert_with(|| Shard {
                parents: parents.into_iter().map(Into::into).collect(),
                position: position.clone(),
                ended: false,
                progress: Progress { checkpoint: position.clone(), open: VecDeque::new(), first_open: 0 },
                lanes: std::iter::repeat_with(Lane::default).take(factor).collect(),
            });
        }
        self.started = true;
    }

    /// The shards to read now, and from where: none whose parents are unfinished, and none too far ahead of the function.
    pub fn to_read(&self) -> impl Iterator<Item = (&str, &ReadFrom)> {
        let finished =
            |parent: &str| self.shards.get(parent).is_none_or(|shard| shard.ended && shard.progress.open.is_empty());
        let ahead = self.settings.batch_size * limits::READ_AHEAD_BATCHES * self.settings.parallelization_factor;
        let may_be_read = move |shard: &Shard| {
            !shard.ended && shard.progress.open.len() < ahead && shard.parents.iter().all(|parent| finished(parent))
        };
        self.shards.iter().filter(move |(_, shard)| may_be_read(shard)).map(|(name, shard)| (&**name, &shard.position))
    }

    /// Takes records that were read from a shard, in order. `ended` means that the shard is closed and these are its last.
    pub fn read(&mut self, shard: &str, records: impl IntoIterator<Item = Record>, ended: bool, now: Timestamp) {
        let Some(shard) = self.shards.get_mut(shard) else { return };
        for record in records {
            let passes = self.settings.filter.as_ref().is_none_or(|filter| filter.passes(&record.event));
            let place = shard.progress.add(&record, !passes);
            shard.position = ReadFrom::After(record.sequence_number.clone());
            if passes {
                let (lane, bytes) = (lane_of(&record.key, shard.lanes.len()), record.event.get().len());
                shard.lanes[lane].gathering.push((place, Arc::new(record)), bytes, now);
            }
        }
        shard.ended |= ended;
        shard.progress.move_checkpoint();
    }

    /// The invocations that are due now, and the records that are discarded because they are too old.
    pub fn due(&mut self, now: Timestamp) -> (Vec<Invocation>, Vec<Discarded>) {
        let (mut invocations, mut discarded) = (Vec::new(), Vec::new());
        for (name, shard) in &mut self.shards {
            for lane in &mut shard.lanes {
                // If all records of a batch are too old, the next batch may be due at once.
                while let Some(batch) = lane.due_batch(&self.settings, now) {
                    let too_old = self.settings.maximum_record_age.map_or(0, |age| batch.older_than(age, now));
                    if too_old > 0 {
                        discarded.push(Discarded {
                            condition: Condition::RecordAgeExceeded,
                            shard: name.clone(),
                            records: shard.progress.finish(batch.records.drain(..too_old)),
                            invocations: batch.invocations,
                        });
                    }
                    if batch.records.is_empty() {
                        lane.batches.pop_front();
                        continue;
                    }
                    self.invocations += 1;
                    batch.in_flight = Some(self.invocations);
                    let records = batch.records.iter().map(|(_, record)| Arc::clone(record)).collect();
                    invocations.push(Invocation { number: self.invocations, shard: name.clone(), records });
                }
            }
        }
        (invocations, discarded)
    }

    /// Takes the answer to an invocation. The answer to an invocation from before a restart is ignored.
    pub fn answered(&mut self, number: InvocationNumber, answer: Answer<'_>, now: Timestamp) -> Answered {
        let mut answered = Answered::default();
        let found = self.shards.iter_mut().find_map(|(name, shard)| {
            let (lane, batch) = shard.lanes.iter_mut().find_map(|lane| lane.take_invoked(number))?;
            Some((name, &mut shard.progress, lane, batch))
        });
        let Some((shard, progress, lane, mut batch)) = found else { return answered };
        batch.in_flight = None;
        batch.due_at = now.saturating_add(backoff(batch.waits)).unwrap_or(Timestamp::MAX);
        batch.waits += 1;
        if answer == Answer::Throttled {
            // The function did not run, so this uses up no retry: it is repeated until the records are too old.
            lane.batches.push_front(batch);
            return answered;
        }
        batch.invocations += 1;
        let settings = &self.settings;
        let verdict = {
            let numbers = batch.records.iter().map(|(_, record)| &*record.sequence_number);
            let places: LazyCell<HashMap<&str, usize>, _> = LazyCell::new(|| numbers.zip(0..).collect());
            let place = |identifier: &str| places.get(identifier).copied();
            response::read(answer, settings.reports_batch_item_failures, place)
        };
        match verdict {
            Verdict::Complete => answered.done = progress.finish(batch.records.drain(..)),
            // The lowest reported sequence number is the checkpoint: all records from there on are retried.
            Verdict::Partial(places) => {
                answered.done = progress.finish(batch.records.drain(..places[0]));
                batch.failures = match settings.retries_after_progress {
                    RetriesAfterProgress::Reset if !answered.done.is_empty() => 0,
                    _ => batch.failures + 1,
                };
            }
            Verdict::Failed if settings.bisect_batch_on_function_error && batch.records.len() > 1 => {
                // Splitting a batch uses up no retry.
                let second = batch.records.split_off(batch.records.len() / 2);
                lane.batches.push_front(Batch { records: second, ..batch });
                answered.bisected = true;
            }
            Verdict::Failed => batch.failures += 1,
        }
        if settings.maximum_retry_attempts.is_some_and(|attempts| batch.failures > attempts) {
            answered.discarded = Some(Discarded {
                condition: Condition::RetryAttemptsExhausted,
                shard: shard.clone(),
                records: progress.finish(batch.records.drain(..)),
                invocations: batch.invocations,
            });
        }
        if !batch.records.is_empty() {
            lane.batches.push_front(batch);
        }
        answered
    }

    /// The next time at which something becomes due without a new record or answer.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        let lanes = self.shards.values().flat_map(|shard| &shard.lanes);
        lanes.filter_map(|lane| lane.wake_at(&self.settings)).min()
    }

    /// Goes on with other settings, as after `UpdateEventSourceMapping`. The documentation does not say what becomes of batches in
    /// flight. Here the poller restarts from its checkpoints, so these batches are delivered again.
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html>
    pub fn update(&mut self, settings: Settings) {
        self.settings = settings;
        self.restart();
        for shard in self.shards.values_mut() {
            shard.lanes.resize_with(self.settings.parallelization_factor, Lane::default);
        }
    }

    /// Restarts from its checkpoints, as after a failure of the poller: the records after them are read again, and answers to
    /// invocations in flight are ignored. An event source mapping delivers at least once.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html>
    pub fn restart(&mut self) {
        for shard in self.shards.values_mut() {
            shard.position = shard.progress.checkpoint.clone();
            shard.progress.first_open += shard.progress.open.len();
            shard.progress.open.clear();
            shard.ended = false;
            shard.lanes.iter_mut().for_each(|lane| *lane = Lane::default());
        }
    }
}

impl Progress {
    /// Adds a record that was read, and returns its place.
    fn add(&mut self, record: &Record, is_done: bool) -> usize {
        self.open.push_back((record.sequence_number.clone(), is_done));
        self.first_open + self.open.len() - 1
    }

    /// These records are done, or discarded.
    fn finish(&mut self, records: impl Iterator<Item = Placed>) -> Vec<Arc<Record>> {
        let (places, records): (Vec<usize>, Vec<Arc<Record>>) = records.unzip();
        for place in places {
            self.open[place - self.first_open].1 = true;
        }
        self.move_checkpoint();
        records
    }

    fn move_checkpoint(&mut self) {
        while let Some((sequence_number, _)) = self.open.pop_front_if(|(_, is_done)| *is_done) {
            self.checkpoint = ReadFrom::After(sequence_number);
            self.first_open += 1;
        }
    }
}

impl Lane {
    /// Its first batch, if it is due. A new batch begins only when the last is done.
    fn due_batch(&mut self, settings: &Settings, now: Timestamp) -> Option<&mut Batch> {
        if self.batches.is_empty() {
            let records = self.gathering.take(settings, now)?;
            let batch = Batch { records, failures: 0, invocations: 0, waits: 0, due_at: now, in_flight: None };
            self.batches.push_back(batch);
        }
        self.batches.front_mut().filter(|batch| batch.in_flight.is_none() && batch.due_at <= now)
    }

    /// Takes out the batch of this invocation.
    fn take_invoked(&mut self, number: InvocationNumber) -> Option<(&mut Self, Batch)> {
        let batch = self.batches.pop_front_if(|batch| batch.in_flight == Some(number))?;
        Some((self, batch))
    }

    fn wake_at(&self, settings: &Settings) -> Option<Timestamp> {
        match self.batches.front() {
            Some(batch) => batch.in_flight.is_none().then_some(batch.due_at),
            None => self.gathering.window_ends(settings),
        }
    }
}

impl Batch {
    /// How many of its first records are older than `age`.
    fn older_than(&self, age: Duration, now: Timestamp) -> usize {
        let oldest = now.saturating_sub(age).unwrap_or(Timestamp::MIN);
        self.records.iter().take_while(|(_, record)| record.arrived_at < oldest).count()
    }
}

impl Discarded {
    /// The message for an on-failure destination. It names the records, but does not contain them.
    #[must_use]
    pub fn message(&self, function_arn: &str, stream_arn: &str, now: Timestamp) -> Value {
        let info = if stream_arn.contains(":dynamodb:") { "DDBStreamBatchInfo" } else { "KinesisBatchInfo" };
        let (first, last) = (self.records.first(), self.records.last());
        json!({
            "requestContext": {
                "functionArn": function_arn,
                "condition": format!("{:?}", self.condition),
                "approximateInvokeCount": self.invocations,
            },
            "version": "1.0",
            "timestamp": now.to_string(),
            info: {
                "shardId": *self.shard,
                "startSequenceNumber": first.map(|record| &record.sequence_number),
                "endSequenceNumber": last.map(|record| &record.sequence_number),
                "approximateArrivalOfFirstRecord": first.map(|record| record.arrived_at.to_string()),
                "approximateArrivalOfLastRecord": last.map(|record| record.arrived_at.to_string()),
                "batchSize": self.records.len(),
                "streamArn": stream_arn,
            },
        })
    }
}

/// The lane of a key, by its FNV-1a hash. Any hash that spreads keys evenly would do.
fn lane_of(key: &str, lanes: usize) -> usize {
    let hash = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    usize::try_from(hash % lanes as u64).unwrap_or(0)
}

fn backoff(waits: u32) -> Duration {
    limits::BACKOFF_BASE.saturating_mul(1 << waits.min(16)).min(limits::BACKOFF_CAP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn settings(properties: &Value) -> Settings {
        let mut all = json!({
            "StartingPosition": "TRIM_HORIZON", "BatchSize": 100, "MaximumRetryAttempts": 2,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
        });
        all.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
        Settings::of_stream(&all).unwrap()
    }

    /// A mapping with one shard "s", which has records with these numbers. Each has a key of its own.
    fn mapping(properties: &Value, numbers: std::ops::Range<u32>) -> StreamMapping {
        let mut mapping = StreamMapping::new(settings(properties));
        mapping.discovered([("s", vec![])]);
        mapping.read("s", numbers.map(|number| record(number, &number.to_string())), false, at(0));
        mapping
    }

    fn record(number: u32, key: &str) -> Record {
        let event = RawValue::from_string(format!(r#"{{"n":{number},"even":{}}}"#, number.is_multiple_of(2))).unwrap();
        Record { sequence_number: number.to_string().into(), key: key.into(), arrived_at: at(0), event }
    }

    /// The sequence numbers of the records that are due, by invocation.
    fn due(mapping: &mut StreamMapping, second: i64) -> Vec<(InvocationNumber, Vec<String>)> {
        let (invocations, _) = mapping.due(at(second));
        let numbers = |invocation: &Invocation| {
            invocation.records.iter().map(|record| record.sequence_number.to_string()).collect()
        };
        invocations.iter().map(|invocation| (invocation.number, numbers(invocation))).collect()
    }

    /// The only invocation that is due.
    fn only(mapping: &mut StreamMapping, second: i64) -> (InvocationNumber, Vec<String>) {
        let mut due = due(mapping, second);
        assert_eq!(due.len(), 1, "{due:?}");
        due.remove(0)
    }

    fn failed(sequence_numbers: &[&str]) -> String {
        let items: Vec<_> = sequence_numbers.iter().map(|number| json!({"itemIdentifier": number})).collect();
        json!({"batchItemFailures": items}).to_string()
    }

    /// Whether all records that were read are done.
    fn is_idle(mapping: &StreamMapping) -> bool {
        mapping.shards.values().all(|shard| shard.progress.open.is_empty())
    }

    fn checkpoint(mapping: &StreamMapping) -> &ReadFrom {
        &mapping.shards["s"].progress.checkpoint
    }

    #[test]
    fn a_batch_has_at_most_batch_size_records_and_the_next_waits_for_its_answer() {
        let mut mapping = mapping(&json!({"BatchSize": 2}), 0..3);
        let (number, records) = only(&mut mapping, 0);
        assert_eq!(records, ["0", "1"]);
        assert!(due(&mut mapping, 0).is_empty(), "one invocation at once");
        let answered = mapping.answered(number, Answer::Response(b"{}"), at(1));
        assert!(answered.done.len() == 2 && answered.discarded.is_none());
        assert_eq!(only(&mut mapping, 1).1, ["2"]);
    }

    #[test]
    fn a_batch_is_at_most_as_large_as_a_payload() {
        let mut mapping = mapping(&json!({}), 0..0);
        let large = |number: u32| {
            let event = RawValue::from_string(json!({"x": "x".repeat(4 * 1024 * 1024)}).to_string()).unwrap();
            Record { event, ..record(number, "k") }
        };
        mapping.read("s", [large(0), large(1)], false, at(0));
        assert_eq!(only(&mut mapping, 0).1, ["0"]);
    }

    #[test]
    fn a_batching_window_gathers_until_it_ends_or_the_batch_is_full() {
        let mut mapping = mapping(&json!({"BatchSize": 3, "MaximumBatchingWindowInSeconds": 5}), 0..2);
        assert!(due(&mut mapping, 4).is_empty());
        assert_eq!(mapping.wake_at(), Some(at(5)));
        mapping.read("s", [record(2, "2")], false, at(4));
        assert_eq!(only(&mut mapping, 4).1, ["0", "1", "2"]);
        mapping.read("s", [record(3, "3")], false, at(4));
        mapping.answered(1, Answer::Response(b"{}"), at(5));
        assert!(due(&mut mapping, 8).is_empty());
        assert_eq!(only(&mut mapping, 9).1, ["3"]);
    }

    #[test]
    fn a_record_that_matches_no_filter_pattern_is_skipped_and_the_checkpoint_moves_past_it() {
        let criteria = json!({"FilterCriteria": {"Filters": [{"Pattern": r#"{"even":[true]}"#}]}});
        let mut mapping = mapping(&criteria, 0..4);
        let (number, records) = only(&mut mapping, 0);
        assert_eq!(records, ["0", "2"]);
        mapping.answered(number, Answer::Response(b"{}"), at(1));
        assert!(is_idle(&mapping));
        assert_eq!(*checkpoint(&mapping), ReadFrom::After("3".into()));
    }

    #[test]
    fn the_lowest_reported_sequence_number_is_the_checkpoint() {
        let mut mapping = mapping(&json!({}), 0..5);
        let (number, _) = only(&mut mapping, 0);
        mapping.answered(number, Answer::Response(failed(&["3", "1"]).as_bytes()), at(0));
        assert_eq!(*checkpoint(&mapping), ReadFrom::After("0".into()));
        assert!(due(&mut mapping, 0).is_empty(), "a retry waits");
        assert_eq!(only(&mut mapping, 1).1, ["1", "2", "3", "4"]);
    }

    #[test]
    fn without_report_batch_item_failures_a_partial_response_is_a_success() {
        let mut mapping = mapping(&json!({"FunctionResponseTypes": []}), 0..2);
        let (number, _) = only(&mut mapping, 0);
        mapping.answered(number, Answer::Response(failed(&["0"]).as_bytes()), at(0));
        assert!(is_idle(&mapping));
    }

    #[test]
    fn an_empty_identifier_fails_the_whole_batch() {
        let mut mapping = mapping(&json!({}), 0..3);
        let (number, _) = only(&mut mapping, 0);
        mapping.answered(number, Answer::Response(failed(&["2", ""]).as_bytes()), at(0));
        assert_eq!(only(&mut mapping, 1).1, ["0", "1", "2"]);
    }

    #[test]
    fn a_failed_batch_is_retried_up_to_the_limit_and_then_discarded() {
        let mut mapping = mapping(&json!({}), 0..2);
        for second in [0, 100] {
            let (number, records) = only(&mut mapping, second);
            assert_eq!(records, ["0", "1"]);
            assert!(mapping.answered(number, Answer::FunctionError, at(second)).discarded.is_none());
        }
        let (number, _) = only(&mut mapping, 200);
        let discarded = mapping.answered(number, Answer::FunctionError, at(200)).discarded.unwrap();
        assert_eq!(discarded.condition, Condition::RetryAttemptsExhausted);
        assert_eq!((discarded.records.len(), discarded.invocations), (2, 3), "one invocation and two retries");
        let message = discarded.message("arn:f", "arn:aws:kinesis:x:1:stream/s", at(200));
        assert_eq!(message["requestContext"]["condition"], "RetryAttemptsExhausted");
        assert_eq!(message["KinesisBatchInfo"]["startSequenceNumber"], "0");
        assert_eq!(message["KinesisBatchInfo"]["endSequenceNumber"], "1");
        assert!(is_idle(&mapping), "the shard continues");
    }

    #[test]
    fn retries_wait_longer_and_longer_up_to_a_minute() {
        let mut mapping = mapping(&json!({"MaximumRetryAttempts": -1}), 0..1);
        let mut waits = Vec::new();
        let mut now = at(0);
        for _ in 0..8 {
            let (invocations, _) = mapping.due(now);
            mapping.answered(invocations[0].number, Answer::FunctionError, now);
            let next = mapping.wake_at().unwrap();
            waits.push(next.duration_since(now).as_secs());
            now = next;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_bisect_splits_a_failed_batch_in_order_and_uses_up_no_retry() {
        let mut mapping = mapping(&json!({"BisectBatchOnFunctionError": true, "MaximumRetryAttempts": 0}), 0..4);
        let (number, _) = only(&mut mapping, 0);
        let answered = mapping.answered(number, Answer::FunctionError, at(0));
        assert!(answered.bisected && answered.discarded.is_none(), "a bisect is not a retry");
        let (number, records) = only(&mut mapping, 10);
        assert_eq!(records, ["0", "1"]);
        let answered = mapping.answered(number, Answer::FunctionError, at(10));
        assert!(answered.bisected && answered.discarded.is_none());
        let (number, records) = only(&mut mapping, 20);
        assert_eq!(records, ["0"]);
        let answered = mapping.answered(number, Answer::FunctionError, at(20));
        assert!(!answered.bisected);
        let discarded = answered.discarded.unwrap();
        assert_eq!(&*discarded.records[0].sequence_number, "0", "only the poison record is discarded");
        for (second, expected) in [(30, vec!["1"]), (40, vec!["2", "3"])] {
            let (number, records) = only(&mut mapping, second);
            assert_eq!(records, expected);
            assert!(!mapping.answered(number, Answer::Response(b"{}"), at(second)).bisected);
        }
        assert!(is_idle(&mapping));
    }

    #[test]
    fn a_partial_response_splits_a_batch_at_its_checkpoint_and_not_in_the_middle() {
        let mut mapping = mapping(&json!({"BisectBatchOnFunctionError": true}), 0..4);
        let (number, _) = only(&mut mapping, 0);
        mapping.answered(number, Answer::Response(failed(&["1"]).as_bytes()), at(0));
        assert_eq!(only(&mut mapping, 10).1, ["1", "2", "3"]);
    }

    #[test]
    fn progress_keeps_or_resets_the_retries_as_the_driver_chooses() {
        for (retries, discarded_at) in [(RetriesAfterProgress::Kept, 2), (RetriesAfterProgress::Reset, 4)] {
            let mut settings = settings(&json!({}));
            settings.retries_after_progress = retries;
            let mut mapping = StreamMapping::new(settings);
            mapping.discovered([("s", vec![])]);
            mapping.read("s", (0..8).map(|number| record(number, "k")), false, at(0));
            let mut invocations = 0;
            for second in (0..).step_by(100) {
                // The first two answers make progress by one record each, the others make none.
                let (number, records) = only(&mut mapping, second);
                let failing = &records[usize::from(invocations < 2)];
                let answer = failed(&[failing]);
                if mapping.answered(number, Answer::Response(answer.as_bytes()), at(second)).discarded.is_some() {
                    break;
                }
                invocations += 1;
            }
            assert_eq!(invocations, discarded_at, "{retries:?}");
        }
    }

    #[test]
    fn records_that_are_too_old_are_discarded_and_the_others_go_on() {
        let mut mapping = mapping(&json!({"MaximumRecordAgeInSeconds": 60, "MaximumRetryAttempts": -1}), 0..2);
        let young = Record { arrived_at: at(50), ..record(2, "2") };
        mapping.read("s", [young], false, at(50));
        let (number, _) = only(&mut mapping, 50);
        mapping.answered(number, Answer::FunctionError, at(55));
        let (invocations, discarded) = mapping.due(at(61));
        assert_eq!(discarded[0].condition, Condition::RecordAgeExceeded);
        assert_eq!(discarded[0].records.len(), 2);
        assert_eq!(invocations[0].records.len(), 1);
    }

    #[test]
    fn after_a_batch_that_is_too_old_the_next_one_is_due_at_once() {
        let mut mapping = mapping(&json!({"MaximumRecordAgeInSeconds": 60, "BatchSize": 1}), 0..1);
        let (number, _) = only(&mut mapping, 0);
        let young = Record { arrived_at: at(100), ..record(1, "1") };
        mapping.read("s", [young], false, at(100));
        mapping.answered(number, Answer::FunctionError, at(100));
        let (invocations, discarded) = mapping.due(at(110));
        assert_eq!((discarded.len(), invocations.len()), (1, 1));
    }

    #[test]
    fn a_throttled_invocation_uses_up_no_retry_and_is_repeated_until_its_records_are_too_old() {
        let mut mapping = mapping(&json!({"MaximumRetryAttempts": 0, "MaximumRecordAgeInSeconds": 3600}), 0..1);
        for second in (0..3000).step_by(100) {
            let (number, _) = only(&mut mapping, second);
            assert!(mapping.answered(number, Answer::Throttled, at(second)).discarded.is_none());
        }
        let (invocations, discarded) = mapping.due(at(3700));
        assert!(invocations.is_empty());
        assert_eq!(discarded[0].condition, Condition::RecordAgeExceeded);
        assert_eq!(discarded[0].invocations, 0);
    }

    #[test]
    fn a_parallelization_factor_runs_batches_of_one_shard_at_once_and_keeps_each_key_in_order() {
        let mut mapping = mapping(&json!({"ParallelizationFactor": 4, "BatchSize": 10}), 0..0);
        let keys = ["a", "b", "c", "d", "e", "f"];
        mapping.read("s", (0..60).map(|number| record(number, keys[number as usize % 6])), false, at(0));
        let mut seen: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        let mut at_once = 0;
        while !is_idle(&mapping) {
            let due = due(&mut mapping, 0);
            at_once = at_once.max(due.len());
            for (number, records) in due {
                for record in records {
                    let number: u32 = record.parse().unwrap();
                    seen.entry(number as usize % 6).or_default().push(number);
                }
                mapping.answered(number, Answer::Response(b"{}"), at(0));
            }
        }
        assert!((2..=4).contains(&at_once), "{at_once}");
        assert!(seen.len() == 6 && seen.values().all(|numbers| numbers.is_sorted() && numbers.len() == 10), "{seen:?}");
    }

    #[test]
    fn the_checkpoint_waits_for_the_slowest_lane_and_a_restart_continues_from_it() {
        let mut mapping = mapping(&json!({"ParallelizationFactor": 2}), 0..0);
        // Two keys of different lanes.
        let other = ('b'..='z').map(String::from).find(|key| lane_of(key, 2) != lane_of("a", 2)).unwrap();
        mapping.read("s", [record(0, "a"), record(1, &other), record(2, "a")], false, at(0));
        let (invocations, _) = mapping.due(at(0));
        let of = |key: &str| invocations.iter().find(|invocation| &*invocation.records[0].key == key).unwrap().number;
        mapping.answered(of("a"), Answer::Response(b"{}"), at(1));
        assert_eq!(*checkpoint(&mapping), ReadFrom::After("0".into()));
        mapping.restart();
        assert_eq!(mapping.to_read().collect::<Vec<_>>(), [("s", &ReadFrom::After("0".into()))]);
        assert!(
            mapping.answered(of(&other), Answer::Response(b"{}"), at(2)).done.is_empty(),
            "an answer from before the restart is ignored"
        );
        mapping.read("s", [record(1, &other), record(2, "a")], false, at(2));
        let again: usize = mapping.due(at(2)).0.iter().map(|invocation| invocation.records.len()).sum();
        assert_eq!(again, 2, "records after the checkpoint are read again, even if they were done");
    }

    #[test]
    fn both_starting_positions() {
        let read_from = |position: &str| {
            let mut mapping = StreamMapping::new(settings(&json!({"StartingPosition": position})));
            mapping.discovered([("s", vec![])]);
            // A later shard is read from its beginning in either case.
            mapping.discovered([("t", vec![])]);
            mapping.to_read().map(|(shard, from)| (shard.to_owned(), from.clone())).collect::<Vec<_>>()
        };
        let later = ("t".to_owned(), ReadFrom::TrimHorizon);
        assert_eq!(read_from("TRIM_HORIZON"), [("s".to_owned(), ReadFrom::TrimHorizon), later.clone()]);
        assert_eq!(read_from("LATEST"), [("s".to_owned(), ReadFrom::Latest), later]);
    }

    #[test]
    fn a_child_shard_is_read_when_its_parents_are_done() {
        let mut mapping = mapping(&json!({}), 0..1);
        mapping.discovered([("child", vec!["s", "a parent that expired"])]);
        let readable =
            |mapping: &StreamMapping| mapping.to_read().map(|(shard, _)| shard.to_owned()).collect::<Vec<_>>();
        assert_eq!(readable(&mapping), ["s"]);
        mapping.read("s", [record(1, "1")], true, at(0));
        assert!(readable(&mapping).is_empty(), "all of it is read, but not done");
        let (number, _) = only(&mut mapping, 0);
        mapping.answered(number, Answer::Response(b"{}"), at(0));
        assert_eq!(readable(&mapping), ["child"]);
    }

    #[test]
    fn a_shard_is_not_read_far_ahead_of_the_function() {
        let mapping = mapping(&json!({"BatchSize": 10}), 0..20);
        assert_eq!(mapping.to_read().count(), 0);
    }
}
