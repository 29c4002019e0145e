//! Our smaller reader reads every SQS batch as `aws_lambda_events` does.
//!
//! Duplicate names in an object are left out: AWS sends none, and we refuse some of which a map takes the last.

use crate::generate;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use generate::{config, text};
use ingest::Ingest;
use ingest::message::Message;
use notification::testing::{Memory, TestClock};
use notification::{Deadline, Envelope, Malformed, Notification, Timestamp};
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Compares both readers on a batch, and returns whether `aws_lambda_events` could read it.
fn compare(batch: &str) -> bool {
    let Ok(theirs) = serde_json::from_str::<SqsEvent>(batch) else { return false };
    let ours: Envelope = serde_json::from_str(batch).unwrap();
    assert_eq!(ours.records.len(), theirs.records.len());
    ours.records.iter().zip(&theirs.records).for_each(|(ours, theirs)| compare_message(ours, theirs));
    true
}

fn compare_message(ours: &RawValue, theirs: &SqsMessage) {
    let Ok(message) = Message::read(ours) else {
        assert_eq!(theirs.message_id.as_deref().unwrap_or_default(), "");
        return;
    };
    assert_eq!(Some(message.message_id.as_str()), theirs.message_id.as_deref());
    let is_fifo = theirs.event_source_arn.as_ref().is_some_and(|arn| arn.rsplit('.').next() == Some("fifo"));
    assert_eq!(message.fifo_group.as_ref(), theirs.attributes.get("MessageGroupId").filter(|_| is_fifo));
    let receive_count = theirs.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok());
    assert_eq!(message.receive_count, receive_count);
    let body = theirs.body.clone().ok_or(Malformed::NoBody).and_then(Notification::parse);
    match (message.notification, body) {
        (Ok(ours), Ok(theirs)) => assert_eq!(ours.event(), theirs.event()),
        (Err(ours), Err(theirs)) => assert_eq!(ours.reason, theirs.to_string()),
        (ours, theirs) => panic!("{ours:?}, but {theirs:?}"),
    }
}

/// The JSON of an answer, written by both.
#[tokio::test]
async fn an_answer_has_the_json_that_lambda_reads() {
    let envelope = serde_json::from_str(r#"{"Records":[{"messageId":"m1"},{"messageId":"m2"}]}"#).unwrap();
    let memory = Memory::default();
    let ingest = Ingest::new(&memory, &memory, TestClock::at_millis(0));
    let ours = ingest.handle(envelope, Deadline::at(Timestamp::MAX)).await.unwrap();
    let mut theirs = SqsBatchResponse::default();
    theirs.add_failure("m1");
    theirs.add_failure("m2");
    assert_eq!(serde_json::to_value(ours).unwrap(), serde_json::to_value(theirs).unwrap());
}

#[test]
fn the_sample_events_are_read_alike() {
    for name in ["valid", "duplicate", "conflict", "malformed", "mixed"] {
        let path = format!("{}/../../events/ingest-{name}.json", env!("CARGO_MANIFEST_DIR"));
        assert!(compare(&std::fs::read_to_string(path).unwrap()), "{name} is not read by aws_lambda_events");
    }
}

fn event() -> Value {
    json!({"specversion": "1.0", "id": "rfd-1", "source": "urn:s", "type": "t", "data": {"amount": 19.99}})
}

fn message(body: &str, attributes: &Value, arn: &str) -> Value {
    json!({
        "messageId": "m", "receiptHandle": "r", "body": body, "md5OfBody": "x", "awsRegion": "eu-central-1",
        "attributes": attributes, "messageAttributes": {"a": {"stringValue": "b", "dataType": "String"}},
        "eventSource": "aws:sqs", "eventSourceARN": arn,
    })
}

/// A batch of a message with any text as its body and attributes, or of one with a fault.
fn batch() -> impl Strategy<Value = String> {
    let arn = prop::sample::select(vec!["arn:aws:sqs:eu-central-1:1:q", "arn:aws:sqs:eu-central-1:1:q.fifo"]);
    let attributes = (any::<String>(), prop_oneof!["[0-9]{1,12}", any::<String>()]);
    let odd = (text(&event()), attributes, arn).prop_map(|(body, (group, count), arn)| {
        message(&body, &json!({"MessageGroupId": group, "ApproximateReceiveCount": count}), arn)
    });
    let valid = message(&event().to_string(), &json!({"MessageGroupId": "g"}), "q.fifo");
    generate::batch(odd, &valid)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_batch_that_aws_lambda_events_reads_is_read_alike(batch in batch()) {
        prop_assume!(compare(&batch));
    }
}
