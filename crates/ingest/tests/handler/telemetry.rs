//! What ingest logs and counts: every message that is not inserted is named and counted once.

use crate::collect;
use collect::Telemetry;
use ingest::Ingest;
use notification::testing::{Call, Fault, Memory, TestClock};
use notification::{Deadline, Envelope, Failure, Status, Timestamp};
use serde_json::{Value, json};

const CONFLICT: &str = "conflict: the table has this id with different content (source, type, subject, datacontenttype, \
    dataschema or data); nothing was written";

fn event(id: &str, amount: u32) -> String {
    json!({"specversion": "1.0", "id": id, "source": "s", "type": "t", "data": {"amount": amount}}).to_string()
}

fn message(message_id: &str, body: &str) -> Value {
    json!({
        "messageId": message_id, "receiptHandle": "r", "body": body,
        "attributes": {"ApproximateReceiveCount": "2"}, "eventSourceARN": "arn:aws:sqs:eu-central-1:1:q",
    })
}

async fn handle(memory: &Memory, messages: &[Value]) -> Telemetry {
    let telemetry = Telemetry::default();
    {
        let _collecting = telemetry.collect();
        let envelope: Envelope = serde_json::from_str(&json!({"Records": messages}).to_string()).unwrap();
        let deadline = Deadline::at(Timestamp::from_second(60).unwrap());
        Ingest::new(memory, memory, TestClock::at_millis(0)).handle(envelope, deadline).await.unwrap();
    }
    telemetry
}

#[tokio::test]
async fn every_result_of_a_message_is_counted_and_named_with_its_ids_and_the_reason_of_a_refusal() {
    let throttled = |call: &Call| {
        (call.method == "write").then(|| Fault::Entries(vec!["e"], Failure::retryable("ThrottlingError")))
    };
    let memory = Memory::failing(throttled);
    let memory = memory.with("b", Status::Done, &event("b", 1)).with("c", Status::Init, &event("c", 1));
    let messages = [
        message("m1", &event("a", 1)),
        message("m2", &event("b", 1)),
        message("m3", &event("c", 2)),
        message("m4", r#"{"id":"d"}"#),
        message("m5", "no JSON"),
        message("m6", &event("e", 1)),
    ];
    let telemetry = handle(&memory, &messages).await;
    let refused = |ids: &str, reason: &str| {
        format!("ERROR message{{{ids}}}: not accepted; the message stays in the queue reason={reason} receive_count=2")
    };
    let expected = [
        r#"DEBUG message{message_id="m1" id=a}: inserted"#.to_owned(),
        r#"INFO message{message_id="m2" id=b}: duplicate: the same content is in the table; nothing was written"#
            .to_owned(),
        refused(r#"message_id="m3" id=c"#, CONFLICT),
        refused(r#"message_id="m4" id=d"#, r#"malformed: the attribute "specversion" is missing"#),
        refused(r#"message_id="m5""#, "malformed: not valid JSON at line 1, column 2"),
        refused(r#"message_id="m6" id=e"#, "ThrottlingError"),
    ];
    assert_eq!(telemetry.lines(), expected);
    let counts = [("Conflicts", 1), ("Duplicates", 1), ("Inserted", 1), ("Malformed", 2), ("Retried", 1)];
    telemetry.check_metrics(&counts);
}

#[tokio::test]
async fn every_line_that_names_a_notification_has_the_trace_id_of_its_event() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let event = |id: &str, version: &str, traceparent: &str| {
        json!({"specversion": version, "id": id, "source": "s", "type": "t", "traceparent": traceparent}).to_string()
    };
    let memory = Memory::default().with("b", Status::Done, &event("b", "1.0", PARENT));
    let messages = [
        message("m1", &event("a", "1.0", PARENT)),
        message("m2", &event("b", "1.0", PARENT)),
        message("m3", &event("c", "0.3", PARENT)),
        message("m4", &event("d", "1.0", "no trace")),
    ];
    let lines = handle(&memory, &messages).await.lines();
    let spans = [
        r#"DEBUG message{message_id="m1" id=a trace_id="4bf92f3577b34da6a3ce929d0e0e4736"}: inserted"#,
        r#"INFO message{message_id="m2" id=b trace_id="4bf92f3577b34da6a3ce929d0e0e4736"}: duplicate"#,
        r#"ERROR message{message_id="m3" id=c trace_id="4bf92f3577b34da6a3ce929d0e0e4736"}: not accepted"#,
        r#"DEBUG message{message_id="m4" id=d}: inserted"#,
    ];
    assert_eq!(lines.len(), spans.len(), "{lines:?}");
    for (line, span) in lines.iter().zip(spans) {
        assert!(line.starts_with(span), "{line}");
    }
}

#[tokio::test]
async fn inserted_notifications_are_counted_for_each_batch_and_only_if_there_are_any() {
    let messages = ["a", "b", "c"].map(|id| message(id, &event(id, 1)));
    handle(&Memory::default(), &messages).await.check_metrics(&[("Inserted", 3)]);
    let known =
        ["a", "b", "c"].into_iter().fold(Memory::default(), |memory, id| memory.with(id, Status::Done, &event(id, 1)));
    handle(&known, &messages).await.check_metrics(&[("Duplicates", 3)]);
}

#[tokio::test]
async fn messages_that_could_not_be_hidden_are_counted_in_one_line() {
    let refused = |call: &Call| (call.method == "hide").then(|| Fault::Before(Failure::permanent("AccessDenied")));
    let telemetry = handle(&Memory::failing(refused), &[message("m1", "no JSON"), message("m2", "no JSON")]).await;
    let line = "WARN not hidden; the messages are redelivered after the queue's visibility timeout messages=2 reason=AccessDenied";
    assert_eq!(telemetry.lines()[2..], [line]);
}
