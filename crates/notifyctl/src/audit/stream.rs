//! The table's stream as evidence: how often each notification was inserted, and how often it became DONE.
//!
//! [`reader`] has the rules for how far it is read. The records that were read prove something only for a notification whose
//! last change in the table is among them; the verdict checks that.

mod reader;

use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use crate::time::since;
use aws::SystemClock;
use aws_sdk_dynamodbstreams::types::{AttributeValue, OperationType, Record};
use futures_util::stream::{self, StreamExt};
use notification::{Clock, Status, Timestamp, limits};
use reader::{Answer, Next, Position, Reader};
use std::collections::{HashMap, HashSet};
use stream_reader::{CallError, ReadFrom};

/// What the stream shows about one notification, over the last 24 hours.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Times it was inserted.
    pub(crate) inserted: usize,
    /// Times it was written as DONE, even if it was DONE before: nothing may be written to a notification that is DONE.
    pub(crate) done: usize,
    /// The `done_at` of the last of these.
    pub(crate) done_at: Option<String>,
    /// Times it was changed from DONE to something else.
    pub(crate) left_done: usize,
}

/// The result of reading.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// By notification id.
    pub(crate) changes: HashMap<String, Changes>,
    /// Whether all closed shards were read to their end, and all open ones until they showed nothing new.
    pub(crate) whole: bool,
}

/// Reads the stream for the notifications that are `wanted`, until it shows that all `missing` ones became DONE, or to its end.
pub(crate) async fn read(
    stack: &Stack,
    started: Timestamp,
    mut missing: HashSet<String>,
    wanted: impl Fn(&str) -> bool,
) -> Result<Reading, Error> {
    let bar = output::spinner("reading the table's stream");
    let mut changes = HashMap::new();
    let mut reader = Reader::new(SystemClock.now());
    let mut records = 0;
    loop {
        match reader.next(SystemClock.now(), missing.is_empty()) {
            Next::List => match stack.table_stream.shards().await {
                Ok(shards) => reader.list(shards, SystemClock.now()),
                Err(error) if error.is_throttled() => SystemClock.sleep(limits::BACKOFF_CAP).await,
                Err(error) => return Err(error.into()),
            },
            Next::Wait(until) => SystemClock.sleep(since(SystemClock.now(), until)).await,
            Next::Read(shards) => {
                let calls = stream::iter(shards).map(|(shard, position)| async move {
                    let answer = read_shard(stack, &shard, position).await;
                    (shard, answer)
                });
                let mut answers = calls.buffer_unordered(limits::CALLS_IN_FLIGHT);
                while let Some((shard, answer)) = answers.next().await {
                    let (found, next) = match answer {
                        Ok(answer) => answer,
                        Err(error) if error.is_throttled() => {
                            reader.throttled(&shard, SystemClock.now());
                            continue;
                        }
                        Err(error) => return Err(error.into()),
                    };
                    records += found.len();
                    for record in &found {
                        note(record, &wanted, &mut missing, &mut changes);
                    }
                    let later_than_audit = found.iter().any(|record| is_later_than(record, started));
                    let answer = Answer { empty: found.is_empty(), later_than_audit, next };
                    reader.answer(&shard, answer, SystemClock.now());
                }
                let ((ended, all), records) = (reader.shards(), output::thousands(records));
                bar.set_message(format!(
                    "reading the table's stream: {records} records, {ended} of {all} shards to their end"
                ));
                bar.tick();
            }
            Next::Stop { whole } => {
                bar.finish_and_clear();
                return Ok(Reading { changes, whole });
            }
        }
    }
}

/// Reads once from a shard.
async fn read_shard(stack: &Stack, shard: &str, position: Position) -> Result<(Vec<Record>, Position), CallError> {
    let iterator = match position {
        Position::At(iterator) => Some(iterator),
        Position::Start => match stack.table_stream.iterator(shard, &ReadFrom::TrimHorizon).await {
            // The shard has gone since it was listed.
            Err(error) if error.is_not_found() => None,
            iterator => iterator?,
        },
        Position::End => None,
    };
    // A shard that has gone has no records of the last 24 hours.
    let Some(iterator) = iterator else { return Ok((vec![], Position::End)) };
    match stack.table_stream.records(iterator).await {
        Ok(page) => Ok((page.records, page.next.map_or(Position::End, Position::At))),
        // The records at the iterator are older than 24 hours: the oldest record that is left is next.
        Err(error) if error.is_trimmed() => Ok((vec![], Position::Start)),
        Err(error) => Err(error),
    }
}

/// Whether a record is certainly later than this time. Its own time is rounded down to the second.
fn is_later_than(record: &Record, time: Timestamp) -> bool {
    let created = record.dynamodb().and_then(|change| change.approximate_creation_date_time());
    created.is_some_and(|created| created.secs() > time.as_second())
}

fn note(
    record: &Record,
    wanted: impl Fn(&str) -> bool,
    missing: &mut HashSet<String>,
    changes: &mut HashMap<String, Changes>,
) {
    let Some(change) = record.dynamodb() else { return };
    let text = |image: Option<&HashMap<String, AttributeValue>>, name: &str| {
        image.and_then(|image| image.get(name)).and_then(|value| value.as_s().ok().cloned())
    };
    let is_done = |image| text(image, "status").is_some_and(|status| status == Status::Done.as_str());
    let Some(id) = text(change.keys(), "id").filter(|id| wanted(id)) else { return };
    let (old, new) = (change.old_image(), change.new_image());
    if is_done(new) {
        missing.remove(&id);
    }
    let entry = changes.entry(id).or_default();
    if record.event_name() == Some(&OperationType::Insert) {
        entry.inserted += 1;
    }
    if is_done(new) {
        entry.done += 1;
        entry.done_at = text(new, "done_at");
    }
    // A delete does not count: DONE items expire.
    if is_done(old) && new.is_some() && !is_done(new) {
        entry.left_done += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodbstreams::primitives::DateTime;
    use aws_sdk_dynamodbstreams::types::StreamRecord;

    const DONE_AT: &str = "2026-11-22T10:00:02.000Z";

    /// A record of the notification a, with its statuses before and after, if it existed.
    fn record(event: OperationType, old: Option<&str>, new: Option<&str>) -> Record {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let image = |status: &str| {
            let done_at = (status == "DONE").then(|| ("done_at".to_owned(), text(DONE_AT)));
            [("status".to_owned(), text(status))].into_iter().chain(done_at).collect()
        };
        let change = StreamRecord::builder()
            .keys("id", text("a"))
            .set_old_image(old.map(image))
            .set_new_image(new.map(image))
            .approximate_creation_date_time(DateTime::from_secs(1_000));
        Record::builder().event_name(event).dynamodb(change.build()).build()
    }

    fn check(records: &[(OperationType, Option<&str>, Option<&str>)], inserted: usize, done: usize, left_done: usize) {
        let mut changes = HashMap::new();
        for (event, old, new) in records {
            note(&record(event.clone(), *old, *new), |_| true, &mut HashSet::new(), &mut changes);
        }
        let done_at = (done > 0).then(|| DONE_AT.to_owned());
        assert_eq!(changes["a"], Changes { inserted, done, done_at, left_done });
    }

    #[test]
    fn inserts_and_every_write_of_done_are_counted() {
        use OperationType::{Insert, Modify, Remove};
        let insert = (Insert, None, Some("INIT"));
        let done = (Modify, Some("INIT"), Some("DONE"));
        check(&[insert.clone(), done.clone()], 1, 1, 0);
        check(&[insert.clone(), done.clone(), (Modify, Some("DONE"), Some("DONE"))], 1, 2, 0);
        check(&[insert.clone(), done.clone(), (Modify, Some("DONE"), Some("INIT")), done.clone()], 1, 2, 1);
        check(&[done.clone(), (Remove, Some("DONE"), None), insert, done], 1, 2, 0);
        check(&[(Modify, Some("INIT"), Some("FAILED"))], 0, 0, 0);
    }

    #[test]
    fn a_notification_is_missing_until_the_stream_shows_it_done() {
        let mut missing = HashSet::from(["a".to_owned()]);
        let mut note = |old, new| {
            note(&record(OperationType::Modify, old, Some(new)), |_| true, &mut missing, &mut HashMap::new());
            missing.len()
        };
        assert_eq!([note(None, "INIT"), note(Some("INIT"), "DONE")], [1, 0]);
    }

    #[test]
    fn a_notification_that_is_not_audited_is_not_kept() {
        let mut changes = HashMap::new();
        let record = record(OperationType::Insert, None, Some("INIT"));
        note(&record, |id| id == "b", &mut HashSet::new(), &mut changes);
        assert!(changes.is_empty());
    }

    #[test]
    fn a_record_of_the_same_second_is_not_certainly_later() {
        let record = record(OperationType::Insert, None, Some("INIT"));
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        assert!(is_later_than(&record, at(999_999)));
        assert!(!is_later_than(&record, at(1_000_000)));
    }
}
