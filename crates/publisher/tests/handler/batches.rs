//! The rules of publisher, against the stream in memory.

use notification::report::{BatchResponse, MissingIdentifier};
use notification::testing::{Fault, Memory, TestClock};
use notification::{Deadline, Envelope, Failure};
use publisher::Publisher;
use serde_json::{Value, json};

const START: i64 = 1_763_805_600_000;

fn record(sequence_number: &str, event_name: &str, id: &str, status: &str) -> Value {
    json!({
        "eventID": "e", "eventName": event_name, "awsRegion": "eu-central-1",
        "dynamodb": {
            "SequenceNumber": sequence_number, "SizeBytes": 1, "Keys": {"id": {"S": id}},
            "NewImage": {"id": {"S": id}, "status": {"S": status}, "event": {"S": format!("event of {id}")}},
        },
    })
}

fn init(sequence_number: &str, id: &str) -> Value {
    record(sequence_number, "INSERT", id, "INIT")
}

async fn respond(
    memory: Memory,
    records: &Value,
    millis_left: u64,
) -> (Result<BatchResponse, MissingIdentifier>, Memory) {
    let envelope: Envelope = serde_json::from_str(&json!({"Records": records}).to_string()).unwrap();
    let deadline = Deadline::from_epoch_millis(u64::try_from(START).unwrap() + millis_left);
    let publisher = Publisher::new(&memory, TestClock::at_millis(START));
    let response = publisher.handle(envelope, deadline).await;
    (response, memory)
}

async fn check(memory: Memory, records: Value, reported: &[&str]) -> Memory {
    let (response, memory) = respond(memory, &records, 60_000).await;
    assert_eq!(response.unwrap().identifiers().collect::<Vec<_>>(), reported);
    memory
}

fn published(memory: &Memory) -> Vec<String> {
    memory.records().into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn a_notification_that_became_init_is_published_under_its_id_byte_for_byte() {
    let memory = check(Memory::default(), json!([init("1", "a")]), &[]).await;
    assert_eq!(memory.records(), [("a".to_owned(), "event of a".to_owned())]);
}

#[tokio::test]
async fn rule_2_the_first_retryable_failure_is_the_checkpoint_and_other_ids_go_on_past_it() {
    let memory = Memory::failing(|call| {
        call.ids.contains(&"b".to_owned()).then(|| Fault::Entries(vec!["b", "c"], Failure::retryable("throttled")))
    });
    let records = json!([init("1", "a"), init("2", "b"), init("3", "c"), init("4", "d")]);
    let memory = check(memory, records, &["2"]).await;
    assert_eq!(published(&memory), ["a", "d"]);
}

#[tokio::test]
async fn rule_2_an_image_that_can_never_be_published_is_passed_and_not_reported() {
    let mut no_event = init("2", "b");
    no_event["dynamodb"]["NewImage"].as_object_mut().unwrap().remove("event");
    let mut number_id = init("3", "c");
    number_id["dynamodb"]["NewImage"]["id"] = json!({"N": "7"});
    let wrong_shape = json!({"dynamodb": {"SequenceNumber": "4", "NewImage": 7}});
    let records = json!([init("1", "a"), no_event, number_id, wrong_shape, init("5", "e")]);
    let memory = check(Memory::default(), records, &[]).await;
    assert_eq!(published(&memory), ["a", "e"]);
}

#[tokio::test]
async fn a_record_without_a_readable_change_is_logged_and_passed() {
    for event_name in [None, Some(json!(null)), Some(json!(7))] {
        let mut record = init("1", "a");
        let members = record.as_object_mut().unwrap();
        members.remove("eventName");
        members.extend(event_name.map(|name| ("eventName".to_owned(), name)));
        let raw = serde_json::value::to_raw_value(&record).unwrap();
        let image = publisher::record::Record::read(&raw).unwrap().image;
        assert!(matches!(image, publisher::record::Image::Unpublishable(_)), "{image:?}");
    }
}

#[tokio::test]
async fn rule_2_an_entry_that_is_refused_permanently_is_passed_and_its_neighbours_are_published() {
    let memory = Memory::failing(|call| {
        call.ids.contains(&"b".to_owned()).then(|| Fault::Before(Failure::permanent("invalid")))
    });
    let memory = check(memory, json!([init("1", "a"), init("2", "b"), init("3", "c")]), &[]).await;
    assert_eq!(published(&memory), ["a", "c"]);
}

#[tokio::test]
async fn rule_3_a_missing_or_empty_sequence_number_is_an_invocation_error_and_nothing_is_published() {
    let mut missing = init("2", "b");
    missing["dynamodb"].as_object_mut().unwrap().remove("SequenceNumber");
    for bad in [missing, init("", "b"), json!({}), json!(null)] {
        let (response, memory) = respond(Memory::default(), &json!([init("1", "a"), bad]), 60_000).await;
        assert_eq!(response, Err(MissingIdentifier));
        assert!(published(&memory).is_empty());
    }
}

#[tokio::test]
async fn rule_4_a_panic_for_one_record_fails_only_that_record() {
    let memory = Memory::failing(|call| call.ids.contains(&"b".to_owned()).then_some(Fault::Panic));
    let memory = check(memory, json!([init("1", "a"), init("2", "b"), init("3", "c")]), &["2"]).await;
    assert_eq!(published(&memory), ["a", "c"]);
}

#[tokio::test]
async fn rule_5_near_the_deadline_no_call_starts_and_the_first_record_is_the_checkpoint() {
    let (response, memory) = respond(Memory::default(), &json!([init("1", "a"), init("2", "b")]), 400).await;
    assert_eq!(response.unwrap().identifiers().collect::<Vec<_>>(), ["1"]);
    assert!(memory.calls("put").is_empty());
}

#[tokio::test]
async fn rule_6_only_entries_that_fail_inside_a_200_are_repeated() {
    let memory = Memory::failing(|call| {
        (call.number == 0).then(|| Fault::Entries(vec!["b"], Failure::retryable("ProvisionedThroughputExceeded")))
    });
    let memory = check(memory, json!([init("1", "a"), init("2", "b"), init("3", "c")]), &[]).await;
    assert_eq!(published(&memory), ["a", "c", "b"]);
}

#[tokio::test]
async fn rule_7_after_a_lost_reply_the_record_is_retried() {
    let memory = Memory::failing(|call| (call.number == 0).then_some(Fault::LostReply));
    let memory = check(memory, json!([init("1", "a")]), &["1"]).await;
    assert_eq!(published(&memory), ["a"], "published, which is harmless because of downstream's condition");
}

#[tokio::test]
async fn rule_8_only_images_that_became_init_are_published() {
    let mut removed = record("5", "REMOVE", "e", "INIT");
    let old = removed["dynamodb"].as_object_mut().unwrap().remove("NewImage");
    removed["dynamodb"]["OldImage"] = old.unwrap();
    let mut given_back = record("7", "MODIFY", "g", "INIT");
    given_back["dynamodb"]["OldImage"] = json!({"id": {"S": "g"}, "status": {"S": "CLAIMED"}});
    let mut noted = record("8", "MODIFY", "h", "INIT");
    noted["dynamodb"]["OldImage"] = json!({"id": {"S": "h"}, "status": {"S": "INIT"}});
    let records = json!([
        given_back,
        noted,
        record("1", "INSERT", "a", "INIT"),
        record("2", "MODIFY", "b", "INIT"),
        record("3", "MODIFY", "c", "DONE"),
        record("4", "INSERT", "d", "FAILED"),
        removed,
        record("6", "REMOVE", "f", "INIT"),
    ]);
    let memory = check(Memory::default(), records, &[]).await;
    assert_eq!(published(&memory), ["a", "b"]);
}

#[tokio::test]
async fn rule_10_an_id_that_occurs_twice_in_a_batch_is_published_once() {
    let memory = check(Memory::default(), json!([init("1", "a"), record("2", "MODIFY", "a", "INIT")]), &[]).await;
    assert_eq!(published(&memory), ["a"]);
}

#[tokio::test]
async fn rule_11_put_records_stays_within_500_entries_and_10_mebibytes() {
    let records: Vec<_> = (0..1000).map(|n| init(&n.to_string(), &format!("id{n}"))).collect();
    let memory = check(Memory::default(), json!(records), &[]).await;
    assert_eq!(memory.calls("put").len(), 2);

    let large = |n: usize| {
        let mut record = init(&n.to_string(), &format!("id{n}"));
        record["dynamodb"]["NewImage"]["event"]["S"] = json!("x".repeat(390_000));
        record
    };
    let records: Vec<_> = (0..30).map(large).collect();
    let memory = check(Memory::default(), json!(records), &[]).await;
    let sizes: Vec<_> = memory.calls("put").iter().map(|call| call.ids.len()).collect();
    assert_eq!(sizes, [26, 4]);
}

/// The sample events have the results that their README describes.
#[tokio::test]
async fn the_sample_events_give_the_documented_results() {
    let samples = [
        (include_str!("../../../../events/publisher-valid.json"), vec!["rfd-000001"]),
        (include_str!("../../../../events/publisher-duplicate.json"), vec!["rfd-000001"]),
        (include_str!("../../../../events/publisher-conflict.json"), vec!["rfd-000001"]),
        (include_str!("../../../../events/publisher-malformed.json"), vec![]),
        (include_str!("../../../../events/publisher-mixed.json"), vec!["rfd-000001", "rfd-000005"]),
    ];
    for (sample, expected) in samples {
        let sample: Value = serde_json::from_str(sample).unwrap();
        let memory = check(Memory::default(), sample["Records"].clone(), &[]).await;
        assert_eq!(published(&memory), expected);
    }
}
