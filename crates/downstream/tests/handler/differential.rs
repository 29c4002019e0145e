//! Our smaller reader reads every Kinesis batch as `aws_lambda_events` does.
//!
//! Duplicate names in an object are left out: AWS sends none.

use crate::generate;
use aws_lambda_events::kinesis::{KinesisEvent, KinesisEventRecord};
use aws_lambda_events::streams::KinesisEventResponse;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use downstream::Downstream;
use downstream::record::{Content, Record};
use generate::{bytes, config};
use notification::testing::{Fault, Memory, TestClock};
use notification::{Deadline, Envelope, Failure, Invocation, MarkDone, Notification, Timestamp};
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::panic::catch_unwind;

/// Compares both readers on a batch, and returns whether `aws_lambda_events` could read it.
fn compare(batch: &str) -> bool {
    // It panics at some arrival times, which overflow.
    let theirs = catch_unwind(|| serde_json::from_str::<KinesisEvent>(batch));
    let Ok(Ok(theirs)) = theirs else { return false };
    let ours: Envelope = serde_json::from_str(batch).unwrap();
    assert_eq!(ours.records.len(), theirs.records.len());
    ours.records.iter().zip(&theirs.records).for_each(|(ours, theirs)| compare_record(ours, theirs));
    true
}

fn compare_record(ours: &RawValue, theirs: &KinesisEventRecord) {
    let Ok(record) = Record::read(ours) else {
        assert_eq!(theirs.kinesis.sequence_number, "");
        return;
    };
    assert_eq!(record.sequence_number.as_str(), theirs.kinesis.sequence_number);
    assert_eq!(record.bytes(), theirs.kinesis.data.0);
    let shard = theirs.event_id.as_deref().and_then(|event_id| event_id.split_once(':')).map(|(shard, _)| shard);
    assert_eq!(record.shard, shard.unwrap_or("unknown"));
    let text = std::str::from_utf8(&theirs.kinesis.data).ok();
    match (record.content, text.and_then(|text| Notification::parse(text).ok())) {
        (Content::Notification(ours), Some(theirs)) => assert_eq!(ours.event(), theirs.event()),
        (Content::Malformed { .. }, None) => {}
        (ours, theirs) => panic!("{ours:?}, but {theirs:?}"),
    }
}

/// The JSON of an answer, written by both.
#[tokio::test]
async fn an_answer_has_the_json_that_lambda_reads() {
    let records: Vec<_> = ["1", "2"].map(|number| kinesis_record(b"{}", "shardId-0:1", number)).into();
    let memory = Memory::failing(|_| Some(Fault::Before(Failure::retryable("down"))));
    let invocation = Invocation { deadline: Deadline::at(Timestamp::MAX), request_id: "r".to_owned() };
    let envelope = serde_json::from_str(&json!({"Records": records}).to_string()).unwrap();
    let ours = Downstream::new(&memory, TestClock::at_millis(0), MarkDone).handle(envelope, invocation).await.unwrap();
    let mut theirs = KinesisEventResponse::default();
    theirs.add_failure("1");
    assert_eq!(serde_json::to_value(ours).unwrap(), serde_json::to_value(theirs).unwrap());
}

#[test]
fn the_sample_events_are_read_alike() {
    for name in ["valid", "duplicate", "conflict", "malformed", "mixed"] {
        let path = format!("{}/../../events/downstream-{name}.json", env!("CARGO_MANIFEST_DIR"));
        assert!(compare(&std::fs::read_to_string(path).unwrap()), "{name} is not read by aws_lambda_events");
    }
}

fn event() -> Value {
    json!({"specversion": "1.0", "id": "rfd-1", "source": "urn:s", "type": "t", "data": {"amount": 19.99}})
}

fn kinesis_record(data: &[u8], event_id: &str, sequence_number: &str) -> Value {
    json!({
        "kinesis": {
            "kinesisSchemaVersion": "1.0", "partitionKey": "rfd-1", "sequenceNumber": sequence_number,
            "data": BASE64_STANDARD.encode(data), "approximateArrivalTimestamp": 1_763_805_602.123,
        },
        "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": event_id,
        "eventName": "aws:kinesis:record", "awsRegion": "eu-central-1",
    })
}

/// A batch of a record with any bytes as its data, or of one with a fault.
fn batch() -> impl Strategy<Value = String> {
    let event_id = prop_oneof!["shardId-[0-9]{12}:[0-9]{1,20}", any::<String>()];
    let odd = (bytes(&event()), event_id, prop_oneof!["[0-9]{1,56}", any::<String>()]);
    let odd = odd.prop_map(|(data, event_id, sequence_number)| kinesis_record(&data, &event_id, &sequence_number));
    let valid = kinesis_record(event().to_string().as_bytes(), "shardId-000000000006:1", "1");
    generate::batch(odd, &valid)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_batch_that_aws_lambda_events_reads_is_read_alike(batch in batch()) {
        prop_assume!(compare(&batch));
    }
}
