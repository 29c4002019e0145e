//! Our smaller reader reads every batch of a table stream as `aws_lambda_events` does.
//!
//! Duplicate names in an object are left out: AWS sends none, and we refuse some of which a map takes the last.

use crate::generate;
use aws_lambda_events::dynamodb::{Event, EventRecord};
use aws_lambda_events::streams::DynamoDbEventResponse;
use generate::config;
use notification::testing::{Fault, Memory, TestClock};
use notification::{Deadline, Envelope, Failure, NotificationId, Timestamp};
use proptest::prelude::*;
use publisher::Publisher;
use publisher::record::{Image, Record};
use publisher::sweep::Sweep;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::time::Duration;

/// Compares both readers on a batch, and returns whether `aws_lambda_events` could read it.
fn compare(batch: &str) -> bool {
    let Ok(theirs) = serde_json::from_str::<Event>(batch) else { return false };
    let ours: Envelope = serde_json::from_str(batch).unwrap();
    assert_eq!(ours.records.len(), theirs.records.len());
    ours.records.iter().zip(&theirs.records).for_each(|(ours, theirs)| compare_record(ours, theirs));
    true
}

fn compare_record(ours: &RawValue, theirs: &EventRecord) {
    let sequence_number = theirs.change.sequence_number.as_deref();
    let Ok(record) = Record::read(ours) else {
        assert_eq!(sequence_number.unwrap_or_default(), "");
        return;
    };
    assert_eq!(Some(record.sequence_number.as_str()), sequence_number);
    // Their items are maps whose values are variants: as JSON, a text is again {"S": text}.
    let item = |item| serde_json::to_value(item).unwrap();
    let (new, old) = (item(&theirs.change.new_image), item(&theirs.change.old_image));
    let text = |item: &Value, name: &str| item[name]["S"].as_str().map(str::to_owned);
    let became_init = ["INSERT", "MODIFY"].contains(&theirs.event_name.as_str())
        && text(&new, "status").as_deref() == Some("INIT")
        && !matches!(text(&old, "status").as_deref(), Some("INIT" | "CLAIMED"));
    let id = text(&new, "id").filter(|id| NotificationId::parse(id).is_ok());
    let event = text(&new, "event").filter(|event| !event.is_empty());
    match (record.image, became_init, id, event) {
        (Image::Init { id: ours, event: our_event }, true, Some(id), Some(event)) => {
            assert_eq!((ours.as_str(), our_event), (id.as_str(), event));
        }
        (Image::Other, false, ..)
        | (Image::Unpublishable(_), true, None, _)
        | (Image::Unpublishable(_), true, _, None) => {}
        (image, ..) => panic!("{image:?} of {new} after {old}, {}", theirs.event_name),
    }
}

/// The JSON of an answer to a batch, read and written by both.
#[tokio::test]
async fn an_answer_to_a_batch_has_the_json_that_lambda_reads() {
    let image = json!({"id": {"S": "a"}, "status": {"S": "INIT"}, "event": {"S": "{}"}});
    let payload = json!({"Records": [record("INSERT", &image, &Value::Null)]}).to_string();
    let memory = Memory::failing(|_| Some(Fault::Before(Failure::retryable("down"))));
    let publisher = Publisher::new(&memory, TestClock::at_millis(0));
    let sweep = Sweep::new(&memory, Duration::ZERO);
    let payload = serde_json::from_str(&payload).unwrap();
    let ours = publisher::handle(&publisher, &sweep, payload, Deadline::at(Timestamp::MAX)).await.unwrap();
    let ours = serde_json::to_value(ours).unwrap();
    let theirs: DynamoDbEventResponse = serde_json::from_value(ours.clone()).unwrap();
    assert_eq!(theirs.batch_item_failures[0].item_identifier.as_deref(), Some("1"));
    assert_eq!(ours, serde_json::to_value(theirs).unwrap());
}

#[test]
fn the_sample_events_are_read_alike() {
    for name in ["valid", "duplicate", "conflict", "malformed", "mixed"] {
        let path = format!("{}/../../events/publisher-{name}.json", env!("CARGO_MANIFEST_DIR"));
        assert!(compare(&std::fs::read_to_string(path).unwrap()), "{name} is not read by aws_lambda_events");
    }
}

fn record(name: &str, new: &Value, old: &Value) -> Value {
    json!({
        "eventID": "e", "eventName": name, "eventSource": "aws:dynamodb", "awsRegion": "eu-central-1",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_763_805_600.0, "SequenceNumber": "1", "SizeBytes": 512,
            "StreamViewType": "NEW_AND_OLD_IMAGES", "Keys": {"id": {"S": "rfd-1"}}, "NewImage": new, "OldImage": old,
        },
    })
}

/// The value of an attribute: mostly text, and DynamoDB's other types.
fn attribute(likely: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => prop::sample::select(likely).prop_map(|text| json!({"S": text})),
        2 => any::<String>().prop_map(|text| json!({"S": text})),
        1 => any::<u32>().prop_map(|number| json!({"N": number.to_string()})),
        1 => prop::sample::select(vec![
            json!({"B": "AQI="}), json!({"NULL": true}), json!({"BOOL": false}), json!({"SS": ["a"]}),
            json!({"M": {"S": {"S": "a"}}}), json!({"L": [{"S": "a"}]}),
        ]),
    ]
}

fn image() -> impl Strategy<Value = Value> {
    let id = attribute(&["rfd-1", "kinesis:1", ""]);
    let status = attribute(&["INIT", "DONE", "FAILED", "CLAIMED", "IN_DOUBT"]);
    let event = attribute(&["{}", "{\"id\":\"rfd-1\"}", ""]);
    let image = (prop::option::of(id), prop::option::of(status), prop::option::of(event));
    image.prop_map(|(id, status, event)| {
        let attributes = [("id", id), ("status", status), ("event", event), ("other", Some(json!({"N": "1"})))];
        attributes.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Value>()
    })
}

/// A batch of a record with any images, or of one with a fault.
fn batch() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["INSERT", "MODIFY", "MODIFY", "REMOVE", "insert"]);
    let odd =
        (name, image(), prop_oneof![image(), Just(Value::Null)]).prop_map(|(name, new, old)| record(name, &new, &old));
    let valid = json!({"id": {"S": "rfd-1"}, "status": {"S": "INIT"}, "event": {"S": "{}"}});
    generate::batch(odd, &record("INSERT", &valid, &json!({"status": {"S": "FAILED"}})))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_batch_that_aws_lambda_events_reads_is_read_alike(batch in batch()) {
        prop_assume!(compare(&batch));
    }
}
