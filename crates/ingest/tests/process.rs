//! The process of ingest: its settings, its wiring to SQS and DynamoDB, and its metrics.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../../aws/tests/process/lambda.rs"]
mod lambda;

use lambda::Process;
use serde_json::json;

fn process() -> Process {
    Process::new(env!("CARGO_BIN_EXE_ingest"))
        .with("TABLE_NAME", "the-table")
        .with("QUEUE_URL", "https://sqs/the-queue")
}

#[test]
fn a_missing_setting_ends_the_process_at_start_and_is_named() {
    for name in ["AWS_REGION", "TABLE_NAME", "QUEUE_URL"] {
        let refusal = process().refusal_without(name);
        assert!(refusal.contains(&format!("the environment variable {name} is missing")), "{refusal}");
    }
}

#[test]
fn a_good_message_is_inserted_into_the_table_and_a_bad_one_is_hidden_in_the_queue_and_reported() {
    let event = r#"{"specversion":"1.0","id":"a","source":"s","type":"t"}"#;
    let message = |message_id: &str, body: &str| json!({"messageId": message_id, "receiptHandle": "r", "body": body});
    let batch = json!({"Records": [message("m1", event), message("m2", "no JSON")]});
    let invoked = process().invoke(&batch, |operation| match operation {
        "BatchExecuteStatement" => json!({"Responses": [{}]}),
        "ChangeMessageVisibilityBatch" => json!({"Successful": [{"Id": "0"}], "Failed": []}),
        other => panic!("{other}"),
    });
    assert_eq!(
        (invoked.kind.as_str(), invoked.answer.clone()),
        ("response", json!({"batchItemFailures": [{"itemIdentifier": "m2"}]}))
    );
    let [(_, insert), (_, hide)] = &invoked.calls[..] else { panic!("{:?}", invoked.calls) };
    assert!(
        insert["Statements"][0]["Statement"].as_str().unwrap().starts_with(r#"INSERT INTO "the-table""#),
        "{insert}"
    );
    assert_eq!(insert["Statements"][0]["Parameters"][1], json!({"S": event}));
    assert_eq!(
        (&hide["QueueUrl"], &hide["Entries"][0]["ReceiptHandle"]),
        (&json!("https://sqs/the-queue"), &json!("r"))
    );
    assert_eq!((invoked.metric("Inserted"), invoked.metric("Malformed")), (Some(1), Some(1)));
}

#[test]
fn a_payload_that_is_not_a_batch_is_an_invocation_error() {
    let invoked = process().invoke(&json!({"Records": 7}), |operation| panic!("{operation}"));
    assert_eq!(invoked.kind, "error");
    let message = invoked.answer["errorMessage"].as_str().unwrap();
    assert!(message.trim_end().ends_with("not a batch: expected an object with a \"Records\" array"), "{message}");
}
