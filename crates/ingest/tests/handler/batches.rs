//! The rules of ingest, against the table in memory.

use crate::collect;
use collect::Telemetry;
use ingest::Ingest;
use notification::Clock;
use notification::report::{BatchResponse, MissingIdentifier};
use notification::testing::{Fault, Memory, TestClock};
use notification::{Deadline, Envelope, Failure, Status, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

const START: i64 = 1_763_805_600_000;

fn event(id: &str) -> String {
    json!({"specversion": "1.0", "id": id, "source": "s", "type": "t", "data": {"amount": "1"}}).to_string()
}

fn conflicting(id: &str) -> String {
    event(id).replace("\"1\"", "\"2\"")
}

fn message(message_id: &str, body: &str) -> Value {
    json!({
        "messageId": message_id,
        "receiptHandle": format!("receipt of {message_id}"),
        "body": body,
        "eventSourceARN": "arn:aws:sqs:eu-central-1:1:q",
    })
}

/// The same message with this receive count.
fn received(mut message: Value, times: u32) -> Value {
    message["attributes"]["ApproximateReceiveCount"] = json!(times.to_string());
    message
}

/// How long each message is hidden, in seconds, by its message id.
fn hidden(memory: &Memory) -> Vec<(String, u64)> {
    let hidden = memory.hidden().into_iter();
    hidden.map(|(handle, wait)| (handle.replace("receipt of ", ""), wait.as_secs())).collect()
}

fn fifo(message_id: &str, group: &str, body: &str) -> Value {
    json!({
        "messageId": message_id,
        "receiptHandle": format!("receipt of {message_id}"),
        "body": body,
        "attributes": {"MessageGroupId": group},
        "eventSourceARN": "arn:aws:sqs:eu-central-1:1:q.fifo",
    })
}

async fn respond(
    memory: Memory,
    records: &Value,
    millis_left: u64,
) -> (Result<BatchResponse, MissingIdentifier>, Memory) {
    let envelope: Envelope = serde_json::from_str(&json!({"Records": records}).to_string()).unwrap();
    let deadline = Deadline::from_epoch_millis(u64::try_from(START).unwrap() + millis_left);
    let ingest = Ingest::new(&memory, &memory, TestClock::at_millis(START));
    let response = ingest.handle(envelope, deadline).await;
    (response, memory)
}

/// Handles a batch and checks which messages are reported; the memory is returned for more checks.
async fn check(memory: Memory, records: Value, reported: &[&str]) -> Memory {
    let (response, memory) = respond(memory, &records, 30_000).await;
    assert_eq!(response.unwrap().identifiers().collect::<Vec<_>>(), reported);
    memory
}

#[tokio::test]
async fn a_new_notification_is_inserted_as_init_byte_for_byte() {
    let body = event("a").replace(',', " , ");
    let memory = check(Memory::default(), json!([message("m1", &body)]), &[]).await;
    let item = memory.item("a").unwrap();
    assert_eq!((item.status, item.event, item.writes), (Status::Init, body, 1));
}

#[tokio::test]
async fn a_put_that_the_sdk_repeats_is_counted_as_inserted_and_not_as_a_duplicate() {
    let telemetry = Telemetry::default();
    let _collecting = telemetry.collect();
    let memory = Memory::failing(|call| (call.method == "write").then_some(Fault::Repeated));
    check(memory, json!([message("m1", &event("a")), message("m2", &event("b"))]), &[]).await;
    telemetry.check_metrics(&[("Inserted", 2)]);
}

#[tokio::test]
async fn rule_1_standard_queue_only_the_failed_message_ids_are_reported() {
    let records =
        json!([message("m1", &event("a")), message("m2", "not JSON"), message("m3", &event("b")), message("m4", "")]);
    let memory = check(Memory::default(), records, &["m2", "m4"]).await;
    assert_eq!(memory.items().len(), 2);
}

#[tokio::test]
async fn rule_1_fifo_after_the_first_failure_of_a_group_the_rest_of_it_fails_and_is_not_written() {
    let records = json!([
        fifo("m1", "g", &event("a")),
        fifo("m2", "g", "not JSON"),
        fifo("m3", "h", &event("c")),
        fifo("m4", "g", &event("d")),
    ]);
    let memory = check(Memory::default(), records, &["m2", "m4"]).await;
    assert_eq!(memory.items().into_keys().collect::<Vec<_>>(), ["a", "c"]);
}

#[tokio::test]
async fn rule_1_a_message_group_on_a_standard_queue_has_no_order() {
    let mut second = fifo("m2", "g", &event("b"));
    second["eventSourceARN"] = json!("arn:aws:sqs:eu-central-1:1:q");
    let mut first = fifo("m1", "g", "not JSON");
    first["eventSourceARN"] = second["eventSourceARN"].clone();
    check(Memory::default(), json!([first, second]), &["m1"]).await;
}

#[tokio::test]
async fn rule_3_a_missing_or_empty_message_id_is_an_invocation_error_and_nothing_is_written() {
    for bad in [json!({"body": event("b")}), message("", &event("b")), json!(null), json!("x")] {
        let (response, memory) = respond(Memory::default(), &json!([message("m1", &event("a")), bad]), 30_000).await;
        assert_eq!(response, Err(MissingIdentifier));
        assert!(memory.items().is_empty());
    }
}

#[tokio::test]
async fn rule_4_a_record_of_the_wrong_shape_fails_alone() {
    let records = json!([{"messageId": "m1", "body": {"not": "a string"}}, message("m2", &event("a"))]);
    let memory = check(Memory::default(), records, &["m1"]).await;
    assert!(memory.item("a").is_some());
}

#[tokio::test]
async fn rule_4_a_panic_for_one_notification_fails_only_that_notification() {
    let memory = Memory::failing(|call| call.ids.contains(&"b".to_owned()).then_some(Fault::Panic));
    let records = json!([message("m1", &event("a")), message("m2", &event("b")), message("m3", &event("c"))]);
    let memory = check(memory, records, &["m2"]).await;
    assert_eq!(memory.items().into_keys().collect::<Vec<_>>(), ["a", "c"]);
}

#[tokio::test]
async fn rule_5_near_the_deadline_no_call_starts_and_every_message_is_reported() {
    let records = json!([message("m1", &event("a")), message("m2", &event("b"))]);
    let (response, memory) = respond(Memory::default(), &records, 400).await;
    assert_eq!(response.unwrap().identifiers().count(), 2);
    assert!(memory.calls("write").is_empty());
}

#[tokio::test]
async fn rule_5_a_hanging_call_is_reported_before_the_deadline() {
    let memory = Memory::failing(|call| (call.number == 0).then_some(Fault::Hang));
    let records: Vec<_> = (0..30).map(|n| message(&format!("m{n}"), &event(&format!("id{n}")))).collect();
    let (response, memory) = respond(memory, &json!(records), 30_000).await;
    assert_eq!(response.unwrap().identifiers().count(), 25);
    assert_eq!(memory.items().len(), 5);
}

#[tokio::test]
async fn rule_6_only_entries_that_fail_inside_an_answer_are_repeated() {
    let memory =
        Memory::failing(|call| (call.number == 0).then(|| Fault::Entries(vec!["b"], Failure::retryable("throttled"))));
    let records = json!([message("m1", &event("a")), message("m2", &event("b"))]);
    let memory = check(memory, records, &[]).await;
    let calls: Vec<_> = memory.calls("write").into_iter().map(|call| call.ids).collect();
    assert_eq!(calls, [vec!["a", "b"], vec!["b"]]);
}

#[tokio::test]
async fn rule_7_after_a_lost_reply_the_retried_message_finds_its_own_write() {
    let memory = Memory::failing(|call| (call.number == 0).then_some(Fault::LostReply));
    let records = json!([message("m1", &event("a"))]);
    let memory = check(memory, records.clone(), &["m1"]).await;
    let memory = check(memory, records, &[]).await;
    assert_eq!(memory.item("a").unwrap().writes, 1);
}

#[tokio::test]
async fn rule_12_a_duplicate_is_a_success_and_a_conflict_an_error_and_neither_writes() {
    for hides_old_items in [false, true] {
        for status in Status::ALL {
            let memory = Memory::default().with("a", status, &event("a"));
            memory.hide_old_items(hides_old_items);
            let spaced = event("a").replace(':', ": ");
            let records = json!([message("m1", &spaced), message("m2", &conflicting("a")), message("m3", &event("b"))]);
            let memory = check(memory, records, &["m2"]).await;
            let item = memory.item("a").unwrap();
            assert_eq!((item.status, item.writes, item.event), (status, 1, event("a")));
            assert_eq!(memory.calls("read").len(), usize::from(hides_old_items), "read only if the answer lacks it");
        }
    }
}

#[tokio::test]
async fn duplicates_and_conflicts_within_a_batch_are_distinguished_and_each_id_is_written_once() {
    let records = json!([
        message("m1", &event("a")),
        message("m2", &event("a")),
        message("m3", &conflicting("a")),
        message("m4", &event("a").replace(':', ": ")),
    ]);
    let memory = check(Memory::default(), records, &["m3"]).await;
    assert_eq!(memory.calls("write")[0].ids, ["a"]);
    assert_eq!(memory.item("a").unwrap().event, event("a"));
}

#[tokio::test]
async fn all_messages_of_an_id_that_could_not_be_written_are_retried() {
    let memory = Memory::failing(|_| Some(Fault::Before(Failure::retryable("down"))));
    let records = json!([message("m1", &event("a")), message("m2", &event("a")), message("m3", &conflicting("a"))]);
    check(memory, records, &["m1", "m2", "m3"]).await;
}

#[tokio::test]
async fn failed_messages_are_hidden_and_after_retryable_failures_for_longer_with_each_receive() {
    let memory =
        Memory::failing(|call| (call.method == "write").then(|| Fault::Before(Failure::retryable("throttled"))));
    let records = json!([
        received(message("m1", &event("a")), 1),
        received(message("m2", &event("b")), 4),
        received(message("m3", "not JSON"), 4),
        received(message("m4", &event("d")), 6),
    ]);
    let memory = check(memory, records, &["m1", "m2", "m3", "m4"]).await;
    let hidden: std::collections::BTreeMap<_, _> = hidden(&memory).into_iter().collect();
    assert!((15..=16).contains(&hidden["m1"]) && (1_200..=1_320).contains(&hidden["m2"]), "{hidden:?}");
    assert_eq!((hidden["m3"], hidden["m4"]), (5, 5), "malformed; and after the last receive");
    assert_eq!(memory.calls("hide").len(), 1);
}

#[tokio::test]
async fn a_conflict_is_received_again_within_seconds_and_accepted_messages_are_not_hidden() {
    let memory = Memory::default().with("a", Status::Done, &event("a"));
    let records = json!([message("m1", &conflicting("a")), message("m2", &event("a")), message("m3", &event("b"))]);
    let memory = check(memory, records, &["m1"]).await;
    assert_eq!(hidden(&memory), [("m1".to_owned(), 5)]);
}

#[tokio::test]
async fn nothing_is_hidden_if_nothing_failed() {
    let memory = check(Memory::default(), json!([message("m1", &event("a"))]), &[]).await;
    assert!(memory.calls("hide").is_empty());
}

#[tokio::test]
async fn rule_1_fifo_all_failed_messages_of_a_group_are_hidden_for_the_same_time() {
    let records = json!([
        fifo("m1", "g", &event("a")),
        received(fifo("m2", "g", "not JSON"), 2),
        fifo("m3", "h", &event("c")),
        received(fifo("m4", "g", &event("d")), 5),
    ]);
    let memory = check(Memory::default(), records, &["m2", "m4"]).await;
    assert_eq!(hidden(&memory), [("m2".to_owned(), 5), ("m4".to_owned(), 5)]);
}

#[tokio::test]
async fn a_message_without_a_receipt_handle_is_reported_and_not_hidden() {
    let memory = check(Memory::default(), json!([{"messageId": "m1", "body": "not JSON"}]), &["m1"]).await;
    assert!(memory.calls("hide").is_empty());
}

#[tokio::test]
async fn a_message_that_cannot_be_hidden_is_still_reported() {
    let faults = [
        || Fault::Before(Failure::retryable("throttled")),
        || Fault::Before(Failure::permanent("refused")),
        || Fault::LostReply,
        || Fault::Hang,
        || Fault::Panic,
        || Fault::Entries(vec!["receipt of m1"], Failure::permanent("not in flight")),
    ];
    for fault in faults {
        let memory = Memory::failing(move |call| (call.method == "hide").then(fault));
        let records = json!([message("m1", "not JSON"), message("m2", &event("a"))]);
        let memory = check(memory, records, &["m1"]).await;
        assert!(memory.item("a").is_some());
    }
}

#[tokio::test]
async fn rule_5_messages_of_a_hanging_call_are_hidden_and_reported_before_the_deadline() {
    let memory = Memory::failing(|call| (call.method == "write").then_some(Fault::Hang));
    let records: Vec<_> = (0..25).map(|n| message(&format!("m{n}"), &event(&format!("id{n}")))).collect();
    let envelope: Envelope = serde_json::from_str(&json!({"Records": records}).to_string()).unwrap();
    let deadline = Deadline::from_epoch_millis(u64::try_from(START).unwrap() + 30_000);
    let clock = SharedClock(TestClock::at_millis(START).into());
    let response = Ingest::new(&memory, &memory, clock.clone()).handle(envelope, deadline).await.unwrap();
    assert_eq!((response.identifiers().count(), memory.hidden().len()), (25, 25));
    assert_eq!(memory.calls("hide").len(), 3, "ten messages per call");
    assert!(clock.now() < deadline.time());
}

/// A clock that a test can still read after passing it to a handler.
#[derive(Clone)]
struct SharedClock(std::sync::Arc<TestClock>);

impl Clock for SharedClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    async fn sleep(&self, duration: Duration) {
        self.0.sleep(duration).await;
    }
}

#[tokio::test]
async fn a_thousand_notifications_need_forty_writes() {
    let records: Vec<_> = (0..1000).map(|n| message(&format!("m{n}"), &event(&format!("id{n}")))).collect();
    let memory = check(Memory::default(), json!(records), &[]).await;
    assert_eq!(memory.calls("write").len(), 40);
    assert_eq!(memory.items().len(), 1000);
}

/// The sample events have the results that their README describes.
#[tokio::test]
async fn the_sample_events_give_the_documented_results() {
    let samples = [
        (include_str!("../../../../events/ingest-valid.json"), vec![], 1),
        (include_str!("../../../../events/ingest-duplicate.json"), vec![], 1),
        (include_str!("../../../../events/ingest-conflict.json"), vec![1], 1),
        (include_str!("../../../../events/ingest-malformed.json"), vec![0, 1, 2], 0),
        (include_str!("../../../../events/ingest-mixed.json"), vec![1, 4], 2),
    ];
    for (sample, failed, items) in samples {
        let sample: Value = serde_json::from_str(sample).unwrap();
        let reported: Vec<_> =
            failed.iter().map(|&n: &usize| sample["Records"][n]["messageId"].as_str().unwrap()).collect();
        let memory = check(Memory::default(), sample["Records"].clone(), &reported).await;
        assert_eq!(memory.items().len(), items);
    }
}
