//! What downstream logs and counts: every record has one result, and every result that is not DONE is named.

use crate::support::{Handled, START, event, handle, init, record, records, status};
use futures_util::FutureExt;
use notification::ports::{Table, Written};
use notification::testing::{Call, Fault, Memory, NOTE, REJECTED};
use notification::{
    Action, ActionError, Change, Claim, Deadline, Effect, Failure, Guarantee, MarkDone, Notification, NotificationId,
    Status, Timestamp, limits,
};
use serde_json::{Value, json};
use std::time::Duration;

const IDEMPOTENT: Guarantee = Guarantee::Idempotent { timeout: Duration::from_secs(5) };
const AT_MOST_ONCE: Guarantee = Guarantee::AtMostOnce { timeout: Duration::from_secs(5) };

fn rejected() -> Result<Effect, ActionError> {
    Err(ActionError::Rejected("no such order".into()))
}

fn did_not_happen() -> Result<Effect, ActionError> {
    Err(ActionError::Retry("the receiver answered 429".into()))
}

fn may_have_happened() -> Result<Effect, ActionError> {
    Err(ActionError::MayHaveHappened("no answer".into()))
}

/// An action that runs while other workers and operators change the table, and then ends in a certain way.
struct Meanwhile<'a> {
    guarantee: Guarantee,
    table: &'a Memory,
    others: fn(&Memory),
    ends: fn() -> Result<Effect, ActionError>,
}

impl Action for Meanwhile<'_> {
    fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    async fn run(&self, _: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        (self.others)(self.table);
        (self.ends)()
    }
}

fn nothing(_: &Memory) {}

#[allow(clippy::unnecessary_wraps, reason = "it is one of the ways in which an action ends")]
fn happened() -> Result<Effect, ActionError> {
    Ok(Effect::default())
}

/// Makes changes at once, as another worker.
fn make(table: &Memory, changes: &[Change<'_>]) {
    for change in changes {
        let written = table.write(&[*change], Timestamp::UNIX_EPOCH).now_or_never();
        assert_eq!(written.unwrap().unwrap(), [Ok(Written::Yes)]);
    }
}

/// Handles a record of `a`. While it is called, `others` happens.
async fn meanwhile(
    guarantee: Guarantee,
    others: fn(&Memory),
    ends: fn() -> Result<Effect, ActionError>,
) -> (Handled, Status) {
    let memory = init(Memory::default(), ["a"]);
    let handled = handle(&memory, Meanwhile { guarantee, table: &memory, others, ends }, &records(["a"])).await;
    (handled, status(&memory, "a"))
}

fn a() -> NotificationId {
    NotificationId::parse("a").unwrap()
}

fn counted(handled: &Handled) -> Vec<(&str, u64)> {
    handled.counted.iter().map(|(name, count)| (name.as_str(), *count)).collect()
}

fn expired(owner: &str) -> Claim {
    Claim { owner: owner.into(), lease_until: Timestamp::from_millisecond(START - 1).unwrap() }
}

#[tokio::test]
async fn every_result_of_a_record_is_counted_and_named_with_its_ids_and_its_reason() {
    /// It rejects one notification, cannot reach the receiver for another, and gets no answer for a third.
    struct ById;
    impl Action for ById {
        fn guarantee(&self) -> Guarantee {
            AT_MOST_ONCE
        }

        async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
            match notification.id().as_str() {
                "rejected" => rejected(),
                "refused" => did_not_happen(),
                "lost" => may_have_happened(),
                _ => Ok(Effect::default()),
            }
        }
    }
    let memory = init(Memory::default(), ["done", "rejected", "refused", "lost"]);
    let memory = memory.with("settled", Status::Done, &event("settled"));
    let memory = memory.with("failed", Status::Failed, &event("failed"));
    let mut batch = records(["done", "rejected", "refused", "lost", "settled", "failed", "orphan", "done"]);
    batch.push(record(8, "no JSON"));
    let handled = handle(&memory, ById, &batch).await;
    let line = |level: &str, number: usize, id: &str, text: &str| {
        format!(r#"{level} record{{sequence_number="{number}" shard="shardId-0" id={id}}}: {text}"#)
    };
    let expected = [
        line("DEBUG", 0, "done", "done"),
        line("ERROR", 1, "rejected", r#"failed permanently; the notification is FAILED reason_code="rejected" reason="rejected: no such order""#),
        line("WARN", 2, "refused", r#"not settled; the record is retried reason_code="retry" reason=retryable: the receiver answered 429"#),
        line("ERROR", 3, "lost", r#"IN_DOUBT: an operator must resolve it reason_code="outcome_unknown" reason="may have happened: no answer""#),
        line("DEBUG", 4, "settled", "settled before; nothing was written"),
        line("WARN", 5, "failed", r#"settled before; nothing was written status="FAILED""#),
        line(
            "ERROR",
            6,
            "orphan",
            r#"the record belongs to no notification; quarantined as FAILED reason_code="orphan" reason="the table has no notification with this id" item="kinesis:shardId-0:6""#,
        ),
        line("DEBUG", 7, "done", "settled before; nothing was written"),
        r#"ERROR record{sequence_number="8" shard="shardId-0"}: the record belongs to no notification; quarantined as FAILED reason_code="orphan" reason="not valid JSON at line 1, column 2" item="kinesis:shardId-0:8""#.to_owned(),
    ];
    assert_eq!(handled.lines, expected);
    assert_eq!(counted(&handled), [("Done", 1), ("Failed", 3), ("InDoubt", 1), ("Repeated", 3), ("Retried", 1)]);
}

#[tokio::test]
async fn every_line_that_names_a_notification_has_the_trace_id_of_its_event() {
    let traced = |id: &str, version: &str| {
        json!({
            "specversion": version, "id": id, "source": "s", "type": "t",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        })
        .to_string()
    };
    let memory = Memory::failing(|call| {
        (call.method == "write").then(|| Fault::Entries(vec!["throttled"], Failure::retryable("ThrottlingError")))
    });
    let memory = memory.with("done", Status::Init, &traced("done", "1.0"));
    let memory = memory.with("throttled", Status::Init, &traced("throttled", "1.0"));
    let memory = memory.with("malformed", Status::Init, &traced("malformed", "0.3"));
    let batch = [
        record(0, traced("done", "1.0")),
        record(1, traced("throttled", "1.0")),
        record(2, traced("malformed", "0.3")),
        record(3, traced("orphan", "1.0")),
    ];
    let lines = handle(&memory, MarkDone, &batch).await.lines;
    assert_eq!(lines.len(), 4, "{lines:?}");
    for (line, id) in lines.iter().zip(["done", "throttled", "malformed", "orphan"]) {
        assert!(line.contains(&format!(r#"id={id} trace_id="4bf92f3577b34da6a3ce929d0e0e4736"}}"#)), "{line}");
    }
}

#[tokio::test]
async fn done_is_counted_for_each_batch_and_only_if_there_is_any() {
    let memory = init(Memory::default(), ["a", "b"]);
    assert_eq!(counted(&handle(&memory, MarkDone, &records(["a", "b"])).await), [("Done", 2)]);
    let memory = ["a", "b"].into_iter().fold(Memory::default(), |memory, id| memory.with(id, Status::Done, &event(id)));
    assert_eq!(counted(&handle(&memory, MarkDone, &records(["a", "b"])).await), [("Repeated", 2)]);
}

/// A record that Kinesis accepted so many milliseconds before the start.
fn arrived(sequence_number: usize, id: &str, before: i64) -> Value {
    let mut record = record(sequence_number, event(id));
    #[allow(clippy::cast_precision_loss, reason = "a time in milliseconds is far below 2^52")]
    let seconds = (START - before) as f64 / 1000.0;
    record["kinesis"]["approximateArrivalTimestamp"] = json!(seconds);
    record
}

fn latencies(handled: &Handled) -> Vec<(&str, u64)> {
    handled.latencies.iter().map(|(name, millis)| (name.as_str(), *millis)).collect()
}

#[tokio::test]
async fn the_latency_of_done_is_measured_from_kinesis_and_from_the_receipt_where_the_item_was_read() {
    struct Succeeds(Guarantee);
    impl Action for Succeeds {
        fn guarantee(&self) -> Guarantee {
            self.0
        }

        async fn run(&self, _: &Notification, _: Deadline) -> Result<Effect, ActionError> {
            happened()
        }
    }
    for guarantee in [Guarantee::Transactional, IDEMPOTENT, AT_MOST_ONCE] {
        let memory = init(Memory::default(), ["a", "b"]);
        let memory = memory.pending_since("a", START - 5_000).pending_since("b", START - 7_000);
        let memory = memory.with("before", Status::Done, &event("before"));
        let batch = [arrived(0, "a", 2_000), arrived(1, "b", 2_500), arrived(2, "before", 9_000)];
        let handled = handle(&memory, Succeeds(guarantee), &batch).await;
        let mut expected = vec![("PublishedToDone", 2_000), ("PublishedToDone", 2_500)];
        if guarantee != Guarantee::Transactional {
            expected.extend([("ReceivedToDone", 5_000), ("ReceivedToDone", 7_000)]);
        }
        assert_eq!(latencies(&handled), expected, "{guarantee:?}");
    }
}

#[tokio::test]
async fn only_what_became_done_has_a_latency_and_an_unusual_time_has_none() {
    let memory = init(Memory::failing(|_| Some(Fault::Before(Failure::retryable("down")))), ["a"]);
    assert_eq!(latencies(&handle(&memory, MarkDone, &[arrived(0, "a", 1)]).await), []);
    let memory = init(Memory::default(), ["a", "b", "c"]);
    let mut batch = [arrived(0, "a", 1), arrived(1, "b", 1), arrived(2, "c", -3_000)];
    batch[0]["kinesis"]["approximateArrivalTimestamp"] = json!("yesterday");
    batch[1]["kinesis"]["approximateArrivalTimestamp"] = json!(1e300);
    let handled = handle(&memory, MarkDone, &batch).await;
    assert_eq!((counted(&handled), latencies(&handled)), (vec![("Done", 3)], vec![("PublishedToDone", 0)]));
}

#[tokio::test]
async fn a_batch_has_at_most_as_many_latencies_as_a_line_of_metrics_may_have() {
    let ids: Vec<String> = (0..1_000).map(|n| format!("n{n}")).collect();
    let memory = init(Memory::default(), ids.iter().map(String::as_str));
    let batch: Vec<_> = ids.iter().enumerate().map(|(n, id)| arrived(n, id, 1)).collect();
    let handled = handle(&memory, MarkDone, &batch).await;
    assert_eq!((handled.count("Done"), handled.latencies.len()), (1_000, limits::METRIC_VALUES_MAX));
}

#[tokio::test]
async fn a_record_that_shares_the_failure_of_another_is_named_as_well() {
    let memory = init(Memory::failing(|_| Some(Fault::Before(Failure::retryable("down")))), ["a"]);
    let handled = handle(&memory, MarkDone, &records(["a", "a"])).await;
    assert_eq!(counted(&handled), [("Retried", 2)]);
    let line = |number: usize| {
        format!(
            r#"WARN record{{sequence_number="{number}" shard="shardId-0" id=a}}: not settled; the record is retried reason_code="retry" reason=down"#
        )
    };
    assert_eq!(handled.lines, [line(0), line(1)]);
}

#[tokio::test]
async fn a_poison_that_could_not_be_written_is_named_with_its_reason() {
    let memory = Memory::failing(|call| (call.method == "quarantine").then_some(Fault::Hang));
    let handled = handle(&memory, MarkDone, &[record(0, "no JSON")]).await;
    assert_eq!(counted(&handled), [("Retried", 1)]);
    assert!(handled.lines[0].ends_with("reason=no answer before the invocation's deadline"), "{:?}", handled.lines);
}

const TOO_LATE: &str = "=not started: the invocation's deadline is too near";

/// A table that throttles every write of the outcome of a call.
fn throttled_outcomes() -> Memory {
    let throttled = |call: &Call| {
        let is_claim = call.changes.iter().all(|(_, to)| *to == Status::Claimed);
        (call.method == "write" && !is_claim).then(|| Fault::Before(Failure::retryable("ThrottlingException")))
    };
    init(Memory::failing(throttled), ["a"])
}

#[tokio::test]
async fn a_record_whose_outcome_cannot_be_written_until_the_deadline_is_named_with_that_reason() {
    for guarantee in [IDEMPOTENT, AT_MOST_ONCE] {
        let memory = throttled_outcomes();
        let done = Meanwhile { guarantee, table: &memory, others: nothing, ends: happened };
        let handled = handle(&memory, done, &records(["a"])).await;
        assert_eq!(counted(&handled), [("Retried", 1)], "{guarantee:?}");
        assert!(handled.lines[0].ends_with(TOO_LATE), "{guarantee:?}: {:?}", handled.lines);
    }
}

#[tokio::test]
async fn a_note_of_an_unknown_outcome_that_cannot_be_written_is_an_error_for_the_operator() {
    let memory = throttled_outcomes();
    let lost = Meanwhile { guarantee: IDEMPOTENT, table: &memory, others: nothing, ends: may_have_happened };
    let handled = handle(&memory, lost, &records(["a"])).await;
    let [note, retried] = &handled.lines[..] else { panic!("{:?}", handled.lines) };
    let ids = r#"record{sequence_number="0" shard="shardId-0" id=a}"#;
    assert!(note.starts_with(&format!("ERROR {ids}: the outcome of a call is unknown")), "{note}");
    assert!(note.contains("reason=may have happened: no answer") && note.ends_with(TOO_LATE), "{note}");
    let expected =
        r#"not settled; the record is retried reason_code="outcome_unknown" reason=may have happened: no answer"#;
    assert!(retried.ends_with(expected), "{retried}");
}

// ---- Results that need an operator ---------------------------------------------------------------------------------

/// Its claim is taken to have expired.
fn doubted(table: &Memory) {
    let claim = table.item("a").unwrap().claim.unwrap();
    make(table, &[Change::doubt_claimed(&a(), &claim, REJECTED)]);
}

/// An operator decides afterwards that the call did not happen.
fn doubted_and_resolved(table: &Memory) {
    doubted(table);
    make(table, &[Change::resolve_retry(&a(), Timestamp::UNIX_EPOCH, &[])]);
}

#[tokio::test]
async fn an_effect_after_its_claim_expired_is_counted_as_late_and_named() {
    let (handled, status) = meanwhile(AT_MOST_ONCE, doubted, happened).await;
    assert_eq!((counted(&handled), status, handled.reported.len()), (vec![("LateEffect", 1)], Status::InDoubt, 0));
    let line = &handled.lines[0];
    assert!(line.starts_with("ERROR record") && line.ends_with("status=IN_DOUBT"), "{line}");
}

#[tokio::test]
async fn a_call_of_unknown_outcome_whose_notification_is_in_doubt_already_changes_nothing() {
    let (handled, status) = meanwhile(AT_MOST_ONCE, doubted, may_have_happened).await;
    assert_eq!((counted(&handled), status, handled.reported.len()), (vec![("Repeated", 1)], Status::InDoubt, 0));
}

#[tokio::test]
async fn a_call_of_unknown_outcome_whose_notification_was_moved_back_to_init_is_in_doubt() {
    let (handled, status) = meanwhile(AT_MOST_ONCE, doubted_and_resolved, may_have_happened).await;
    assert_eq!((counted(&handled), status, handled.reported.len()), (vec![("InDoubt", 1)], Status::InDoubt, 0));
}

fn released_and_noted(table: &Memory) {
    make(table, &[Change::release(&a(), &expired("gone"), NOTE), Change::note_unknown_call(&a(), &event("a"), NOTE)]);
}

fn released_and_claimed(table: &Memory) {
    make(
        table,
        &[Change::release(&a(), &expired("gone"), NOTE), Change::claim(&a(), &event("a"), &expired("another"))],
    );
}

#[tokio::test]
async fn an_expired_claim_is_in_doubt_only_if_the_notification_is_still_as_it_was_read() {
    let cases = [
        (nothing as fn(&Memory), "InDoubt", Status::InDoubt),
        (released_and_noted, "Retried", Status::Init),
        (released_and_claimed, "Retried", Status::Claimed),
    ];
    for (others, counter, expected) in cases {
        // `a` is written after the call for `b`.
        let memory = init(Memory::default(), ["a", "b"]).with_claim("a", expired("gone"));
        let action = Meanwhile { guarantee: IDEMPOTENT, table: &memory, others, ends: happened };
        let handled = handle(&memory, action, &records(["a", "b"])).await;
        assert_eq!((counted(&handled), status(&memory, "a")), (vec![("Done", 1), (counter, 1)], expected));
    }
}

fn claimed_and_expired(table: &Memory) {
    make(table, &[Change::claim(&a(), &event("a"), &expired("gone"))]);
}

#[tokio::test]
async fn a_rejection_that_meets_an_expired_claim_becomes_in_doubt_at_once() {
    let (handled, status) = meanwhile(IDEMPOTENT, claimed_and_expired, rejected).await;
    assert_eq!((counted(&handled), status, handled.reported.len()), (vec![("InDoubt", 1)], Status::InDoubt, 0));
}

#[tokio::test]
async fn a_claim_that_was_surely_not_made_is_not_released() {
    let throttled = |call: &Call| (call.method == "write").then(|| Fault::Before(Failure::retryable("throttled")));
    let memory = init(Memory::failing(throttled), ["a"]);
    let action = Meanwhile { guarantee: AT_MOST_ONCE, table: &memory, others: nothing, ends: happened };
    let handled = handle(&memory, action, &records(["a"])).await;
    assert!(handled.lines[0].ends_with("reason=throttled"), "{:?}", handled.lines);
    let attempted: Vec<_> = memory.calls("write").into_iter().flat_map(|call| call.changes).collect();
    assert!(attempted.iter().all(|change| *change == (Some(Status::Init), Status::Claimed)), "{attempted:?}");
}
