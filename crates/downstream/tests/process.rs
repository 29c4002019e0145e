//! The process of downstream: its settings, its wiring to DynamoDB, and its metrics.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../../aws/tests/process/lambda.rs"]
mod lambda;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lambda::Process;
use serde_json::{Value, json};

fn process() -> Process {
    Process::new(env!("CARGO_BIN_EXE_downstream")).with("TABLE_NAME", "the-table").with("DONE_RETENTION_DAYS", "40")
}

fn batch() -> Value {
    let data = STANDARD.encode(r#"{"specversion":"1.0","id":"a","source":"s","type":"t"}"#);
    json!({"Records": [{"eventID": "shardId-0:1", "kinesis": {"sequenceNumber": "1", "data": data}}]})
}

#[test]
fn a_missing_setting_ends_the_process_at_start_and_is_named() {
    for name in ["AWS_REGION", "TABLE_NAME"] {
        let refusal = process().refusal_without(name);
        assert!(refusal.contains(&format!("the environment variable {name} is missing")), "{refusal}");
    }
    let refusal = process().with("ACTION", "ledger").refusal_without("LEDGER_TABLE_NAME");
    assert!(refusal.contains("the environment variable LEDGER_TABLE_NAME is missing"), "{refusal}");
}

#[test]
fn a_record_is_done_in_the_table_and_expires_after_the_retention_that_is_set() {
    let invoked = process().invoke(&batch(), |operation| match operation {
        "BatchExecuteStatement" => json!({"Responses": [{}]}),
        other => panic!("{other}"),
    });
    assert_eq!((invoked.kind.as_str(), &invoked.answer), ("response", &json!({"batchItemFailures": []})));
    assert_eq!(invoked.metric("Done"), Some(1));
    let statement = &invoked.calls[0].1["Statements"][0];
    let text = statement["Statement"].as_str().unwrap();
    assert!(
        text.starts_with(r#"UPDATE "the-table" SET "status" = ? SET "done_at" = ? SET "expires_at" = ?"#),
        "{text}"
    );
    let parameter = |place: usize, kind: &str| statement["Parameters"][place][kind].as_str().unwrap();
    assert_eq!((parameter(0, "S"), parameter(3, "S")), ("DONE", "a"));
    let done_at: notification::Timestamp = parameter(1, "S").parse().unwrap();
    let days = (parameter(2, "N").parse::<i64>().unwrap() - done_at.as_second()) / (24 * 60 * 60);
    assert_eq!(days, 40);
}

#[test]
fn the_action_that_is_chosen_runs() {
    let data = STANDARD.encode(
        r#"{"specversion":"1.0","id":"a","source":"s","type":"t","data":{"orderId":"42","amount":"1.50","currency":"EUR"}}"#,
    );
    let batch = json!({"Records": [{"eventID": "shardId-0:1", "kinesis": {"sequenceNumber": "1", "data": data}}]});
    let process = process().with("ACTION", "ledger").with("LEDGER_TABLE_NAME", "the-ledger");
    let invoked = process.invoke(&batch, |operation| match operation {
        "TransactWriteItems" => json!({}),
        other => panic!("{other}"),
    });
    assert_eq!(invoked.metric("Done"), Some(1));
    let put = &invoked.calls[0].1["TransactItems"][1]["Put"];
    assert_eq!((&put["TableName"], &put["Item"]["amount"]), (&json!("the-ledger"), &json!({"S": "1.50"})));
}
