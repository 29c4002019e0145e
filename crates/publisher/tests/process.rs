//! The process of publisher: its settings, its wiring to Kinesis and DynamoDB, and its metrics.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../../aws/tests/process/lambda.rs"]
mod lambda;

use lambda::{Invoked, Process};
use serde_json::{Value, json};

fn process() -> Process {
    Process::new(env!("CARGO_BIN_EXE_publisher")).with("TABLE_NAME", "the-table").with("STREAM_NAME", "the-stream")
}

#[test]
fn a_missing_setting_ends_the_process_at_start_and_is_named() {
    for name in ["AWS_REGION", "TABLE_NAME", "STREAM_NAME"] {
        let refusal = process().refusal_without(name);
        assert!(refusal.contains(&format!("the environment variable {name} is missing")), "{refusal}");
    }
}

#[test]
fn an_image_is_put_into_the_stream_under_its_id_and_one_that_is_throttled_is_reported() {
    let image = |id: &str| json!({"id": {"S": id}, "status": {"S": "INIT"}, "event": {"S": format!("event of {id}")}});
    let record = |sequence_number: &str, id: &str| json!({"eventName": "INSERT", "dynamodb": {"SequenceNumber": sequence_number, "NewImage": image(id)}});
    let batch = json!({"Records": [record("1", "a"), record("2", "b")]});
    let invoked = process().invoke(&batch, |operation| match operation {
        "PutRecords" => json!({"FailedRecordCount": 1, "Records": [
            {"SequenceNumber": "1", "ShardId": "shardId-0"},
            {"ErrorCode": "InvalidArgumentException", "ErrorMessage": "no"},
        ]}),
        other => panic!("{other}"),
    });
    assert_eq!((invoked.kind.as_str(), &invoked.answer), ("response", &json!({"batchItemFailures": []})));
    let (_, put) = &invoked.calls[0];
    assert_eq!((&put["StreamName"], &put["Records"][0]["PartitionKey"]), (&json!("the-stream"), &json!("a")));
    assert_eq!((invoked.metric("Published"), invoked.metric("Unpublishable")), (Some(1), Some(1)));
}

fn sweep_of_a_table_with_one_pending_notification(process: Process) -> Invoked {
    process.invoke(&json!({"sweep": true}), |operation| match operation {
        "Query" => json!({"Items": [], "Count": 0, "ScannedCount": 0}),
        other => panic!("{other}"),
    })
}

#[test]
fn a_sweep_reads_every_partition_of_the_indexes_and_answers_with_what_it_found() {
    let invoked = sweep_of_a_table_with_one_pending_notification(process());
    let names: Vec<_> = invoked.calls.iter().map(|(_, query)| query["IndexName"].as_str().unwrap()).collect();
    let count = |name: &str| names.iter().filter(|found| **found == name).count();
    assert_eq!((count("pending"), count("unresolved")), (32, 64));
    assert!(invoked.calls.iter().all(|(_, query)| query["TableName"] == "the-table"));
    let expected = json!({
        "published": 0, "failed": 0, "notDue": 0, "invalid": 0, "oldestPendingSeconds": 0, "inDoubt": 0,
        "recentlyFailed": 0, "failedShards": 0, "complete": true, "skipped": false, "indexReadUnits": 0.0,
    });
    assert_eq!((invoked.kind.as_str(), &invoked.answer), ("response", &expected));
}

#[test]
fn a_sweep_that_can_read_nothing_is_an_invocation_error() {
    let invoked = process().invoke(&json!({"sweep": true}), |_| Value::from("no answer to a query"));
    assert_eq!(invoked.kind, "error");
    let message = invoked.answer["errorMessage"].as_str().unwrap();
    assert!(message.starts_with("the sweep ended early: Query"), "{message}");
}
