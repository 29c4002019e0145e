//! The rules of downstream, against the table in memory.

use downstream::Downstream;
use notification::report::{BatchResponse, MissingIdentifier};
use notification::testing::{Fault, Memory, TestClock};
use notification::{
    Action, ActionError, Deadline, Effect, Envelope, Failure, Guarantee, Invocation, MarkDone, Notification, Outcome,
    Status, limits,
};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const IDEMPOTENT: Guarantee = Guarantee::Idempotent { timeout: Duration::from_secs(5) };
const START: i64 = 1_763_805_600_000;

fn event(id: &str) -> String {
    json!({"specversion": "1.0", "id": id, "source": "s", "type": "t"}).to_string()
}

fn record(sequence_number: &str, data: &[u8]) -> Value {
    json!({
        "eventID": format!("shardId-000000000001:{sequence_number}"),
        "kinesis": {
            "sequenceNumber": sequence_number, "partitionKey": "k", "approximateArrivalTimestamp": 1.0,
            "data": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, data),
        },
    })
}

fn of(sequence_number: &str, id: &str) -> Value {
    record(sequence_number, event(id).as_bytes())
}

/// A table with these ids as INIT.
fn init(memory: Memory, ids: &[&str]) -> Memory {
    ids.iter().fold(memory, |memory, id| memory.with(id, Status::Init, &event(id)))
}

async fn respond(
    memory: Memory,
    action: impl Action,
    records: &Value,
    millis_left: u64,
) -> (Result<BatchResponse, MissingIdentifier>, Memory) {
    let envelope: Envelope = serde_json::from_str(&json!({"Records": records}).to_string()).unwrap();
    let deadline = Deadline::from_epoch_millis(u64::try_from(START).unwrap() + millis_left);
    let downstream = Downstream::new(&memory, TestClock::at_millis(START), action);
    let response = downstream.handle(envelope, Invocation { deadline, request_id: "r".to_owned() }).await;
    (response, memory)
}

async fn check_action(memory: Memory, action: impl Action, records: Value, reported: &[&str]) -> Memory {
    let (response, memory) = respond(memory, action, &records, 60_000).await;
    assert_eq!(response.unwrap().identifiers().collect::<Vec<_>>(), reported);
    memory
}

async fn check(memory: Memory, records: Value, reported: &[&str]) -> Memory {
    check_action(memory, MarkDone, records, reported).await
}

fn status(memory: &Memory, id: &str) -> Status {
    memory.item(id).unwrap().status
}

/// An action whose result depends on the id, and which records the notifications for which it ran.
#[derive(Default)]
struct Scripted(Mutex<Vec<String>>);

impl Action for &Scripted {
    fn guarantee(&self) -> Guarantee {
        IDEMPOTENT
    }

    async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        let id = notification.id().as_str();
        self.0.lock().unwrap().push(id.to_owned());
        match id {
            "reject" => Err(ActionError::Rejected("no such order".to_owned())),
            "retry" => Err(ActionError::Retry("the bank is closed".to_owned())),
            "panic" => panic!("on purpose"),
            "hang" => std::future::pending().await,
            _ => Ok(Effect { outcome: Some(Outcome::new(&json!({"paid": id}))), ..Effect::default() }),
        }
    }
}

#[tokio::test]
async fn a_notification_is_done_with_the_outcome_of_its_action() {
    let scripted = Scripted::default();
    let memory = check_action(init(Memory::default(), &["a"]), &scripted, json!([of("1", "a")]), &[]).await;
    let item = memory.item("a").unwrap();
    assert_eq!((item.status, item.outcome.as_deref()), (Status::Done, Some(r#"{"paid":"a"}"#)));
}

#[tokio::test]
async fn rule_2_the_first_retryable_failure_is_the_checkpoint_and_other_ids_go_on_past_it() {
    let scripted = Scripted::default();
    let memory = init(Memory::default(), &["a", "retry", "b"]);
    let records = json!([of("1", "a"), of("2", "retry"), of("3", "b"), of("4", "retry")]);
    let memory = check_action(memory, &scripted, records, &["2"]).await;
    assert_eq!(
        (status(&memory, "a"), status(&memory, "retry"), status(&memory, "b")),
        (Status::Done, Status::Init, Status::Done)
    );
    let runs = scripted.0.lock().unwrap().iter().filter(|id| *id == "retry").count();
    assert_eq!(runs, 1, "after a retryable failure, the id is not run again");
}

#[tokio::test]
async fn rule_2_a_rejection_becomes_failed_with_its_reason_and_is_never_reported() {
    let scripted = Scripted::default();
    let memory = init(Memory::default(), &["reject", "a"]);
    let memory = check_action(memory, &scripted, json!([of("1", "reject"), of("2", "a")]), &[]).await;
    let item = memory.item("reject").unwrap();
    assert_eq!((item.status, item.reason.as_deref()), (Status::Failed, Some("rejected: no such order")));
    assert_eq!(status(&memory, "a"), Status::Done);
}

#[tokio::test]
async fn rule_2_a_record_without_a_readable_id_is_quarantined_with_its_raw_bytes_and_passed() {
    let memory = init(Memory::default(), &["a"]);
    let records = json!([record("1", b"\xff\xfe"), of("2", "a"), record("3", b"not JSON")]);
    let memory = check(memory, records.clone(), &[]).await;
    let item = memory.item("kinesis:shardId-000000000001:1").unwrap();
    assert_eq!(
        (item.status, item.raw, item.reason.as_deref()),
        (Status::Failed, b"\xff\xfe".to_vec(), Some("not valid UTF-8"))
    );
    assert!(memory.item("kinesis:shardId-000000000001:3").is_some());
    assert_eq!(status(&memory, "a"), Status::Done);

    let memory = check(memory, records, &[]).await;
    assert_eq!(memory.items().len(), 3, "quarantining it again changes nothing");
}

#[tokio::test]
async fn rule_2_a_record_whose_notification_is_not_in_the_table_does_not_vanish() {
    let records = json!([of("1", "foreign"), record("2", br#"{"id":"foreign too"}"#)]);
    let memory = check(Memory::default(), records, &[]).await;
    let item = memory.item("kinesis:shardId-000000000001:1").unwrap();
    assert_eq!(
        (item.raw, item.reason.as_deref()),
        (event("foreign").into_bytes(), Some("the table has no notification with this id"))
    );
    assert!(memory.item("kinesis:shardId-000000000001:2").is_some());
}

#[tokio::test]
async fn rule_2_poison_that_could_not_be_quarantined_is_retried() {
    let memory =
        Memory::failing(|call| (call.method == "quarantine").then(|| Fault::Before(Failure::retryable("down"))));
    check(memory, json!([record("1", b"not JSON")]), &["1"]).await;
}

#[tokio::test]
async fn rule_3_a_missing_or_empty_sequence_number_is_an_invocation_error_and_nothing_is_done() {
    let mut missing = of("2", "b");
    missing["kinesis"].as_object_mut().unwrap().remove("sequenceNumber");
    for bad in [missing, of("", "b"), json!({}), json!(null)] {
        let memory = init(Memory::default(), &["a"]);
        let (response, memory) = respond(memory, MarkDone, &json!([of("1", "a"), bad]), 60_000).await;
        assert_eq!(response, Err(MissingIdentifier));
        assert_eq!(status(&memory, "a"), Status::Init);
    }
}

#[tokio::test]
async fn rule_4_a_record_of_the_wrong_shape_is_quarantined_and_its_neighbours_are_done() {
    let mut no_base64 = of("1", "x");
    no_base64["kinesis"]["data"] = json!("***");
    let memory = check(init(Memory::default(), &["a"]), json!([no_base64, of("2", "a")]), &[]).await;
    assert!(memory.item("kinesis:shardId-000000000001:1").is_some());
    assert_eq!(status(&memory, "a"), Status::Done);
}

#[tokio::test]
async fn rule_4_a_panic_of_the_action_is_that_records_retryable_failure() {
    let scripted = Scripted::default();
    let memory = init(Memory::default(), &["a", "panic", "b"]);
    let records = json!([of("1", "a"), of("2", "panic"), of("3", "b")]);
    let memory = check_action(memory, &scripted, records, &["2"]).await;
    assert_eq!(
        (status(&memory, "a"), status(&memory, "panic"), status(&memory, "b")),
        (Status::Done, Status::Init, Status::Done)
    );
}

#[tokio::test]
async fn rule_5_near_the_deadline_no_action_starts() {
    let scripted = Scripted::default();
    let memory = init(Memory::default(), &["a"]);
    let (response, memory) = respond(memory, &scripted, &json!([of("1", "a")]), 400).await;
    assert_eq!(response.unwrap().identifiers().collect::<Vec<_>>(), ["1"]);
    assert!(scripted.0.lock().unwrap().is_empty());
    assert_eq!(status(&memory, "a"), Status::Init);
}

#[tokio::test]
async fn rule_5_a_hanging_action_is_reported_before_the_deadline() {
    let scripted = Scripted::default();
    let memory = init(Memory::default(), &["hang"]);
    check_action(memory, &scripted, json!([of("1", "hang")]), &["1"]).await;
}

#[tokio::test]
async fn rule_6_only_entries_that_fail_inside_an_answer_are_repeated() {
    let memory =
        Memory::failing(|call| (call.number == 0).then(|| Fault::Entries(vec!["b"], Failure::retryable("throttled"))));
    let memory = check(init(memory, &["a", "b"]), json!([of("1", "a"), of("2", "b")]), &[]).await;
    let calls: Vec<_> = memory.calls("write").into_iter().map(|call| call.ids).collect();
    assert_eq!(calls, [vec!["a", "b"], vec!["b"]]);
}

#[tokio::test]
async fn rule_7_after_a_lost_reply_the_record_is_retried_and_found_done() {
    // The reply to DONE, and to the read that would show it.
    let memory = Memory::failing(|call| match call.number {
        0 => Some(Fault::LostReply),
        1 => Some(Fault::Before(Failure::retryable("down"))),
        _ => None,
    });
    let memory = check(init(memory, &["a"]), json!([of("1", "a")]), &["1"]).await;
    let memory = check(memory, json!([of("1", "a")]), &[]).await;
    assert_eq!(memory.item("a").unwrap().writes, 2, "INIT once and DONE once");
}

#[tokio::test]
async fn rule_10_repeats_are_recognised_by_the_notification_id_alone() {
    let scripted = Scripted::default();
    let memory = init(Memory::default(), &["a"]);
    let memory = check_action(memory, &scripted, json!([of("1", "a"), of("2", "a"), of("3", "a")]), &[]).await;
    assert_eq!(*scripted.0.lock().unwrap(), ["a"]);
    assert_eq!(memory.calls("write")[0].ids, ["a"]);
}

#[tokio::test]
async fn rule_12_a_notification_that_is_settled_is_not_written_again() {
    for hides_old_items in [false, true] {
        for settled in [Status::Done, Status::Failed] {
            let memory = Memory::default().with("a", settled, &event("a"));
            memory.hide_old_items(hides_old_items);
            let memory = check(memory, json!([of("1", "a")]), &[]).await;
            let item = memory.item("a").unwrap();
            assert_eq!((item.status, item.writes), (settled, 1));
            assert_eq!(memory.calls("read").len(), usize::from(hides_old_items));
        }
    }
}

#[tokio::test]
async fn a_thousand_notifications_need_forty_writes() {
    let ids: Vec<_> = (0..1000).map(|n| format!("id{n}")).collect();
    let memory = init(Memory::default(), &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let records: Vec<_> = ids.iter().enumerate().map(|(n, id)| of(&n.to_string(), id)).collect();
    let memory = check(memory, json!(records), &[]).await;
    assert_eq!(memory.calls("write").len(), 40);
    assert!(memory.items().values().all(|item| item.status == Status::Done && item.writes == 2));
}

#[tokio::test]
async fn actions_in_flight_are_bounded() {
    #[derive(Default)]
    struct Counting(Mutex<(usize, usize)>);
    impl Action for &Counting {
        fn guarantee(&self) -> Guarantee {
            IDEMPOTENT
        }

        async fn run(&self, _: &Notification, _: Deadline) -> Result<Effect, ActionError> {
            let now = {
                let mut counts = self.0.lock().unwrap();
                counts.0 += 1;
                counts.1 = counts.1.max(counts.0);
                counts.0
            };
            assert!(now <= limits::ACTIONS_IN_FLIGHT);
            tokio::task::yield_now().await;
            self.0.lock().unwrap().0 -= 1;
            Ok(Effect::default())
        }
    }
    let ids: Vec<_> = (0..100).map(|n| format!("id{n}")).collect();
    let memory = init(Memory::default(), &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let records: Vec<_> = ids.iter().enumerate().map(|(n, id)| of(&n.to_string(), id)).collect();
    let counting = Counting::default();
    check_action(memory, &counting, json!(records), &[]).await;
    assert_eq!(counting.0.lock().unwrap().1, limits::ACTIONS_IN_FLIGHT);
}

/// The table with the first event of each notification in a sample, as INIT.
fn with_events_of(sample: &Value, mut memory: Memory) -> Memory {
    for record in sample["Records"].as_array().unwrap().iter().rev() {
        let data = record["kinesis"]["data"].as_str().unwrap();
        let data = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data).unwrap();
        let Some(notification) = String::from_utf8(data).ok().and_then(|text| Notification::parse(text).ok()) else {
            continue;
        };
        memory = memory.with(notification.id().as_str(), Status::Init, notification.event());
    }
    memory
}

/// The sample events have the results that their README describes.
#[tokio::test]
async fn the_sample_events_give_the_documented_results() {
    let samples = [
        (include_str!("../../../../events/downstream-valid.json"), 1, 0),
        (include_str!("../../../../events/downstream-duplicate.json"), 1, 0),
        (include_str!("../../../../events/downstream-conflict.json"), 1, 1),
        (include_str!("../../../../events/downstream-malformed.json"), 0, 3),
        (include_str!("../../../../events/downstream-mixed.json"), 2, 2),
    ];
    for (sample, done, failed) in samples {
        let sample: Value = serde_json::from_str(sample).unwrap();
        let memory = with_events_of(&sample, init(Memory::default(), &["rfd-000001", "rfd-000002", "rfd-000003"]));
        let memory = check(memory, sample["Records"].clone(), &[]).await;
        let count = |status| memory.items().values().filter(|item| item.status == status).count();
        assert_eq!((count(Status::Done), count(Status::Failed)), (done, failed));
    }
}

/// An action that cannot run now, and counts how often it was asked.
#[derive(Default)]
struct Unavailable(AtomicUsize);

impl Action for &Unavailable {
    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }

    async fn run(&self, _: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(ActionError::Unavailable("down".into()))
    }
}

#[tokio::test]
async fn an_action_that_cannot_run_now_is_asked_once_in_an_invocation() {
    let action = Unavailable::default();
    check_action(init(Memory::default(), &["a"]), &action, json!([of("1", "a")]), &["1"]).await;
    assert_eq!(action.0.load(Ordering::Relaxed), 1);
}
