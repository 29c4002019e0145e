//! What publisher and its sweep log and count: everything that is not published is named.

use crate::collect;
use collect::Telemetry;
use notification::testing::{Call, Fault, Memory, TestClock};
use notification::{Deadline, Envelope, Failure, Status, Timestamp};
use publisher::Publisher;
use publisher::sweep::{Sweep, Swept};
use serde_json::{Value, json};
use std::time::Duration;

const START: i64 = 1_763_805_600_000;
const OLD: i64 = START - 901_000;

fn deadline() -> Deadline {
    Deadline::at(Timestamp::from_millisecond(START + 60_000).unwrap())
}

fn record(sequence_number: &str, id: &str, status: &str) -> Value {
    json!({
        "eventName": "INSERT",
        "dynamodb": {
            "SequenceNumber": sequence_number, "Keys": {"id": {"S": id}},
            "NewImage": {"id": {"S": id}, "status": {"S": status}, "event": {"S": "e"}},
        },
    })
}

async fn handle(memory: &Memory, records: &[Value]) -> Telemetry {
    let telemetry = Telemetry::default();
    {
        let _collecting = telemetry.collect();
        let envelope: Envelope = serde_json::from_str(&json!({"Records": records}).to_string()).unwrap();
        Publisher::new(memory, TestClock::at_millis(START)).handle(envelope, deadline()).await.unwrap();
    }
    telemetry
}

async fn sweep(memory: &Memory) -> (Result<Swept, Failure>, Telemetry) {
    let telemetry = Telemetry::default();
    let swept = {
        let _collecting = telemetry.collect();
        let publisher = Publisher::new(memory, TestClock::at_millis(START));
        Sweep::new(memory, Duration::from_mins(15)).run(&publisher, deadline()).await
    };
    (swept, telemetry)
}

fn down() -> Fault {
    Fault::Before(Failure::retryable("down"))
}

#[tokio::test]
async fn every_result_of_a_record_is_counted_and_named_with_its_ids_and_its_reason() {
    let memory = Memory::failing(|call| match (call.method, call.ids.contains(&"refused".to_owned())) {
        ("put", true) => Some(Fault::Before(Failure::permanent("InvalidArgumentException"))),
        ("put", false) => Some(Fault::Entries(vec!["throttled"], Failure::retryable("throttled"))),
        _ => None,
    });
    let mut without_event = record("4", "no event", "INIT");
    without_event["dynamodb"]["NewImage"].as_object_mut().unwrap().remove("event");
    let other_shape = json!({"dynamodb": {"SequenceNumber": "5"}});
    let batch = [
        record("1", "a", "INIT"),
        record("2", "throttled", "INIT"),
        record("3", "refused", "INIT"),
        without_event,
        other_shape,
        record("6", "done", "DONE"),
        record("7", "a", "INIT"),
    ];
    let telemetry = handle(&memory, &batch).await;
    let unpublishable = "cannot be published; the notification stays INIT in the table";
    let expected = [
        r#"DEBUG record{sequence_number="1" id="a"}: published"#.to_owned(),
        r#"WARN record{sequence_number="2" id="throttled"}: not published; the record is retried reason=throttled"#
            .to_owned(),
        format!(r#"ERROR record{{sequence_number="3" id="refused"}}: {unpublishable} reason=InvalidArgumentException"#),
        format!(
            r#"ERROR record{{sequence_number="4" id="no event"}}: {unpublishable} reason=the image of no event has no event"#
        ),
        format!(
            r#"ERROR record{{sequence_number="5"}}: {unpublishable} reason=the record does not have the shape of its event source"#
        ),
        r#"DEBUG record{sequence_number="7" id="a"}: published"#.to_owned(),
    ];
    assert_eq!(telemetry.lines(), expected);
    telemetry.check_metrics(&[("Published", 1), ("Retried", 1), ("Unpublishable", 3)]);
}

#[tokio::test]
async fn the_latency_of_what_was_published_is_measured_from_its_receipt() {
    let memory = Memory::failing(|call| {
        (call.method == "put").then(|| Fault::Entries(vec!["refused"], Failure::permanent("InvalidArgumentException")))
    });
    let received = |sequence_number: &str, id: &str, since: Value| {
        let mut record = record(sequence_number, id, "INIT");
        record["dynamodb"]["NewImage"]["pending_since"] = since;
        record
    };
    let at = |millis: i64| json!({"S": format!("{:.3}", Timestamp::from_millisecond(millis).unwrap())});
    let batch = [
        received("1", "a", at(START - 250)),
        received("2", "refused", at(START - 300)),
        received("3", "b", at(START - 1_000)),
        received("4", "ahead", at(START + 1_000)),
        received("5", "unreadable", json!({"S": "yesterday"})),
        received("6", "no text", json!({"N": "1"})),
        record("7", "absent", "INIT"),
    ];
    let latencies = [("ReceivedToPublished", 0), ("ReceivedToPublished", 250), ("ReceivedToPublished", 1_000)];
    let expected = [&[("Published", 6)][..], &latencies, &[("Unpublishable", 1)]].concat();
    let telemetry = handle(&memory, &batch).await;
    telemetry.check_metrics(&expected);
}

#[tokio::test]
async fn a_sweep_counts_what_it_published_the_oldest_age_and_what_is_unresolved() {
    let memory = ["a", "b"]
        .into_iter()
        .fold(Memory::default(), |memory, id| memory.with(id, Status::Init, "e").pending_since(id, OLD));
    let memory = memory.with("doubt", Status::InDoubt, "e").since("doubt", OLD);
    let memory = memory.with("failed", Status::Failed, "e").since("failed", START - 1_000);
    let (swept, telemetry) = sweep(&memory).await;
    let swept = swept.unwrap();
    let expected =
        [("InDoubtItems", 1), ("OldestPendingAge", 901), ("Published", 2), ("RecentlyFailed", 1), ("Swept", 2)];
    telemetry.check_metrics(&expected);
    let lines = telemetry.lines();
    let published = |id: &str| format!("INFO pending for too long; published again id={id}");
    assert!(lines.contains(&published("a")) && lines.contains(&published("b")), "{lines:?}");
    assert_eq!(*lines.last().unwrap(), format!("INFO swept swept={swept:?}"));
}

#[tokio::test]
async fn every_line_that_names_a_notification_has_the_trace_id_of_its_event() {
    let traced = |id: &str| {
        format!(r#"{{"id":"{id}","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}"#)
    };
    let memory = Memory::failing(|call| {
        (call.method == "put").then(|| Fault::Entries(vec!["refused"], Failure::permanent("InvalidArgumentException")))
    });
    let batch = [("1", "published"), ("2", "refused")].map(|(sequence_number, id)| {
        let mut record = record(sequence_number, id, "INIT");
        record["dynamodb"]["NewImage"]["event"]["S"] = json!(traced(id));
        record
    });
    let mut lines = handle(&memory, &batch).await.lines();
    let memory = ["swept", "refused"]
        .into_iter()
        .fold(memory, |memory, id| memory.with(id, Status::Init, &traced(id)).pending_since(id, OLD));
    lines.extend(sweep(&memory).await.1.lines());
    let named: Vec<_> = lines.iter().filter(|line| line.contains("id=")).collect();
    assert_eq!(named.len(), 4, "{lines:?}");
    for line in named {
        assert!(line.contains(r#"trace_id="4bf92f3577b34da6a3ce929d0e0e4736""#), "{line}");
    }
}

#[tokio::test]
async fn a_sweep_that_finds_nothing_counts_zero_for_its_alarms_and_names_nothing() {
    let (_, telemetry) = sweep(&Memory::default()).await;
    let zeros = [("InDoubtItems", 0), ("OldestPendingAge", 0), ("RecentlyFailed", 0), ("Swept", 0)];
    telemetry.check_metrics(&zeros);
    assert_eq!(telemetry.lines().len(), 1, "that it swept");
}

#[tokio::test]
async fn what_a_sweep_cannot_publish_is_named_with_its_id_and_its_reason() {
    for (method, expected) in [
        ("read", "WARN pending for too long; could not be read id=a reason=down"),
        ("put", "WARN pending for too long; not published id=a reason=down"),
    ] {
        let memory = Memory::failing(move |call| (call.method == method).then(down));
        let (_, telemetry) = sweep(&memory.with("a", Status::Init, "e").pending_since("a", OLD)).await;
        assert!(telemetry.lines().contains(&expected.to_owned()), "{:?}", telemetry.lines());
    }
}

#[tokio::test]
async fn a_sweep_names_the_first_hundred_invalid_entries_and_counts_all() {
    let memory = (0..150).fold(Memory::default(), |memory, n| {
        memory.with_invalid_entry(12, &format!("kinesis:{n:04}"), "2000-01-01T00:00:00.000Z")
    });
    let (_, telemetry) = sweep(&memory).await;
    let lines = telemetry.lines();
    let named: Vec<_> = lines.iter().filter(|line| line.contains("is not a notification's")).collect();
    assert_eq!(named.len(), 100);
    assert!(named[0].ends_with(r#"id="kinesis:0000" since="2000-01-01T00:00:00.000Z" shard=12"#), "{}", named[0]);
    let expected =
        [("InDoubtItems", 0), ("OldestPendingAge", 0), ("RecentlyFailed", 0), ("Swept", 0), ("Unpublishable", 150)];
    telemetry.check_metrics(&expected);
}

#[tokio::test]
async fn an_item_without_its_event_is_named_and_counted() {
    let (_, telemetry) = sweep(&Memory::default().with("a", Status::Init, "").pending_since("a", OLD)).await;
    let line = "WARN a pending item lacks its event, or its status is unknown; fix it or delete it id=a";
    assert_eq!(telemetry.lines()[0], line);
    let expected = [
        ("InDoubtItems", 0),
        ("OldestPendingAge", 901),
        ("Published", 0),
        ("RecentlyFailed", 0),
        ("Swept", 0),
        ("Unpublishable", 1),
    ];
    telemetry.check_metrics(&expected);
}

#[tokio::test]
async fn a_partition_that_cannot_be_read_is_named_once_and_hides_the_oldest_age() {
    let failing = |call: &Call| {
        let is_hit = call.ids == ["12"] || call.ids == ["FAILED#13"];
        (["pending", "count_unresolved"].contains(&call.method) && is_hit).then(down)
    };
    let (_, telemetry) = sweep(&Memory::failing(failing)).await;
    let lines = telemetry.lines();
    let expected = [
        "ERROR a partition of the pending index could not be read; the next run tries again shard=12 reason=down",
        "ERROR unresolved items of a partition could not be counted status=FAILED shard=13 reason=down",
    ];
    assert_eq!(lines[..2], expected);
    telemetry.check_metrics(&[("InDoubtItems", 0), ("Swept", 0)]);
}

#[tokio::test]
async fn a_count_of_unresolved_items_that_is_cut_off_says_that_there_are_more() {
    let in_one_partition = (0..).map(|n| format!("id{n}")).filter(|id| notification::id::index_shard(id) == 12);
    let memory =
        in_one_partition.take(1_001).fold(Memory::default(), |memory, id| memory.with(&id, Status::InDoubt, "e"));
    let (swept, telemetry) = sweep(&memory).await;
    assert_eq!(swept.unwrap().in_doubt, Some(1_000));
    let line = "WARN there are more unresolved items than are counted status=IN_DOUBT at_least=1000";
    assert_eq!(telemetry.lines()[0], line);
}

#[tokio::test]
async fn a_sweep_without_its_lease_or_its_state_says_what_follows() {
    for (method, expected) in [
        ("begin_sweep", "ERROR the lease of the sweep could not be taken; the next run tries again reason=down"),
        (
            "end_sweep",
            "ERROR the state of the sweep could not be saved; a later run publishes the same again reason=down",
        ),
    ] {
        let memory = Memory::failing(move |call| (call.method == method).then(down));
        let (_, telemetry) = sweep(&memory.with("a", Status::Init, "e").pending_since("a", OLD)).await;
        assert!(telemetry.lines().contains(&expected.to_owned()), "{:?}", telemetry.lines());
    }
}
