//! The table's stream as evidence: how often each notification was inserted, and how often it became DONE.
//!
//! How far it is read: [`reader`] has the rules. What was read proves something only for a notification whose last change in
//! the table was among it, which the verdict looks at.

mod reader;

use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use aws::SystemClock;
use aws_sdk_dynamodbstreams::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodbstreams::types::{AttributeValue, OperationType, Record, ShardIteratorType};
use futures_util::stream::{self, StreamExt};
use indicatif::ProgressBar;
use notification::ports::Clock;
use notification::{Status, Timestamp, limits};
use reader::{Answer, Listed, Next, Position, Reader};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// What the stream shows of one notification. It reaches back 24 hours.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Times it was inserted.
    pub(crate) inserted: usize,
    /// Times it was written as DONE, over DONE included: nothing may be written to a notification that is DONE.
    pub(crate) done: usize,
    /// The `done_at` of the last of these.
    pub(crate) done_at: Option<String>,
    /// Times it was DONE, and was changed to something else.
    pub(crate) left_done: usize,
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// By notification id.
    pub(crate) changes: HashMap<String, Changes>,
    /// Whether all closed shards were read to their end, and all open ones until they showed nothing new.
    pub(crate) whole: bool,
}

/// Reads the stream for the notifications that are `wanted`, until it shows that all the `missing` ones became DONE, or as
/// far as it goes.
pub(crate) async fn read(
    stack: &Stack,
    started: Timestamp,
    mut missing: HashSet<String>,
    wanted: impl Fn(&str) -> bool,
) -> Result<Reading, Error> {
    let bar = output::spinner("reading the table's stream");
    let mut reading = Reading::default();
    let mut reader = Reader::new(SystemClock.now());
    let mut records = 0;
    loop {
        match reader.next(SystemClock.now(), missing.is_empty()) {
            Next::List => match shards(stack).await {
                Ok(listed) => reader.list(listed, SystemClock.now()),
                Err(Refused::Throttled) => SystemClock.sleep(limits::BACKOFF_CAP).await,
                Err(Refused::Failed(error)) => return Err(error),
            },
            Next::Wait(until) => sleep_until(until).await,
            Next::Read(shards) => {
                let calls = stream::iter(shards).map(|(shard, position)| async move {
                    let page = call(stack, &shard, position).await;
                    (shard, page)
                });
                let answers: Vec<_> = calls.buffer_unordered(limits::CALLS_IN_FLIGHT).collect().await;
                for (shard, page) in answers {
                    let page = match page {
                        Ok(page) => page,
                        Err(Refused::Throttled) => {
                            reader.throttled(&shard, SystemClock.now());
                            continue;
                        }
                        Err(Refused::Failed(error)) => return Err(error),
                    };
                    records += page.records.len();
                    for record in &page.records {
                        note(record, &wanted, &mut missing, &mut reading.changes);
                    }
                    let later = page.records.iter().any(|record| is_later_than(record, started));
                    let answer = Answer { empty: page.records.is_empty(), later_than_audit: later, next: page.next };
                    reader.answer(&shard, answer, SystemClock.now());
                }
                show(&bar, records, &reader);
            }
            Next::Stop { whole } => {
                bar.finish_and_clear();
                return Ok(Reading { whole, ..reading });
            }
        }
    }
}

async fn sleep_until(until: Timestamp) {
    let left = Duration::try_from(until.duration_since(SystemClock.now())).unwrap_or_default();
    SystemClock.sleep(left).await;
}

fn show(bar: &ProgressBar, records: usize, reader: &Reader) {
    let (ended, all) = reader.shards();
    let records = output::thousands(records);
    bar.set_message(format!("reading the table's stream: {records} records, {ended} of {all} shards to their end"));
    bar.tick();
}

/// An answer of `GetRecords`.
struct Page {
    records: Vec<Record>,
    next: Position,
}

/// Why a call has no answer.
#[derive(Debug)]
enum Refused {
    /// It may be tried again later. The SDK's own attempts are over within seconds.
    Throttled,
    Failed(Error),
}

/// The error of an SDK call.
fn refused<E: ProvideErrorMetadata, R>(call: &'static str) -> impl FnOnce(SdkError<E, R>) -> Refused {
    move |error| match error.code() {
        Some(code) if THROTTLING.contains(&code) => Refused::Throttled,
        _ => Refused::Failed(Error::aws(call)(error)),
    }
}

/// Error codes that say: too much at once.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>
const THROTTLING: [&str; 4] =
    ["LimitExceededException", "ThrottlingException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"];

/// Reads once from a shard.
async fn call(stack: &Stack, shard: &str, position: Position) -> Result<Page, Refused> {
    let iterator = match position {
        Position::At(iterator) => Some(iterator),
        Position::Start => start(stack, shard).await?,
        Position::End => None,
    };
    // A shard that has gone holds nothing of the last 24 hours.
    let Some(iterator) = iterator else { return Ok(Page { records: vec![], next: Position::End }) };
    match stack.streams.get_records().shard_iterator(iterator).send().await {
        Ok(answer) => {
            let next = answer.next_shard_iterator.map_or(Position::End, Position::At);
            Ok(Page { records: answer.records.unwrap_or_default(), next })
        }
        // What it points to has passed its 24 hours: the oldest record that is left is next.
        Err(SdkError::ServiceError(error)) if error.err().is_trimmed_data_access_exception() => {
            Ok(Page { records: vec![], next: Position::Start })
        }
        Err(error) => Err(refused("GetRecords")(error)),
    }
}

/// An iterator for a shard's oldest record; none where the shard has gone since it was listed.
async fn start(stack: &Stack, shard: &str) -> Result<Option<String>, Refused> {
    let answer = stack
        .streams
        .get_shard_iterator()
        .stream_arn(&stack.table_stream_arn)
        .shard_id(shard)
        .shard_iterator_type(ShardIteratorType::TrimHorizon)
        .send()
        .await;
    match answer {
        Ok(answer) => Ok(answer.shard_iterator),
        Err(SdkError::ServiceError(error)) if error.err().is_resource_not_found_exception() => Ok(None),
        Err(error) => Err(refused("GetShardIterator")(error)),
    }
}

async fn shards(stack: &Stack) -> Result<Vec<Listed>, Refused> {
    let mut shards = Vec::new();
    let mut last = None;
    loop {
        let description = stack
            .streams
            .describe_stream()
            .stream_arn(&stack.table_stream_arn)
            .set_exclusive_start_shard_id(last)
            .send()
            .await
            .map_err(refused("DescribeStream"))?
            .stream_description;
        let Some(description) = description else { return Ok(shards) };
        for shard in description.shards() {
            let range = shard.sequence_number_range();
            let closed = range.is_some_and(|range| range.ending_sequence_number().is_some());
            shards.extend(shard.shard_id.clone().map(|id| Listed { id, closed }));
        }
        last = description.last_evaluated_shard_id;
        if last.is_none() {
            return Ok(shards);
        }
    }
}

/// Whether a record is surely of a later second than this time: its own is rounded down to the second.
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
    // Not when it is deleted: a DONE item expires.
    if is_done(old) && new.is_some() && !is_done(new) {
        entry.left_done += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodbstreams::error::ErrorMetadata;
    use aws_sdk_dynamodbstreams::operation::get_records::GetRecordsError;
    use aws_sdk_dynamodbstreams::primitives::DateTime;
    use aws_sdk_dynamodbstreams::types::StreamRecord;
    use aws_sdk_dynamodbstreams::types::error::LimitExceededException;

    const DONE_AT: &str = "2026-11-22T10:00:02.000Z";

    /// A record of the notification a; its statuses before and after, where it was there.
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
    fn a_throttled_call_is_told_from_one_that_fails() {
        let refused = |code: &str| {
            let error = GetRecordsError::generic(ErrorMetadata::builder().code(code).build());
            refused("GetRecords")(SdkError::service_error(error, ()))
        };
        let codes = ["LimitExceededException", "ThrottlingException", "ProvisionedThroughputExceededException"];
        for code in codes {
            assert!(matches!(refused(code), Refused::Throttled), "{code}");
        }
        for code in ["AccessDeniedException", "ExpiredIteratorException"] {
            assert!(matches!(refused(code), Refused::Failed(_)), "{code}");
        }
        let error = GetRecordsError::LimitExceededException(
            LimitExceededException::builder().meta(ErrorMetadata::builder().code(codes[0]).build()).build(),
        );
        let refused = super::refused("GetRecords")(SdkError::service_error(error, ()));
        assert!(matches!(refused, Refused::Throttled), "as the SDK has it");
    }

    #[test]
    fn what_is_not_audited_is_not_kept() {
        let mut changes = HashMap::new();
        let record = record(OperationType::Insert, None, Some("INIT"));
        note(&record, |id| id == "b", &mut HashSet::new(), &mut changes);
        assert!(changes.is_empty());
    }

    #[test]
    fn a_record_of_the_same_second_is_not_surely_later() {
        let record = record(OperationType::Insert, None, Some("INIT"));
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        assert!(is_later_than(&record, at(999_999)));
        assert!(!is_later_than(&record, at(1_000_000)));
    }
}
