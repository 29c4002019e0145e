//! Any batch from SQS: nothing panics, a bad message fails alone, and a refusal names the broken rule without quoting the
//! message.

mod check;

use crate::generate;
use generate::{MARKER, config, json, marked, spoiled, text};
use ingest::message::Message;
use notification::Envelope;
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

fn event() -> Value {
    json!({"specversion": "1.0", "id": "rfd-1", "source": "urn:s", "type": "t", "data": {"amount": 19.99, "to": MARKER}})
}

fn message(body: &str) -> Value {
    json!({
        "messageId": "m", "receiptHandle": "r", "body": body, "md5OfBody": "x", "awsRegion": "eu-central-1",
        "attributes": {"ApproximateReceiveCount": "1", "MessageGroupId": "g"},
        "messageAttributes": {"a": {"stringValue": MARKER, "dataType": "String"}},
        "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:eu-central-1:1:q.fifo",
    })
}

/// Any JSON as a record, or a message with something wrong in it, in its body, or in both.
fn record() -> impl Strategy<Value = Box<RawValue>> {
    let record = prop_oneof![
        1 => json().prop_map(|json| json.to_string()),
        3 => spoiled(&message(&event().to_string())),
        3 => text(&event()).prop_map(|body| message(&body).to_string()),
        1 => text(&event()).prop_flat_map(|body| spoiled(&message(&body))),
    ];
    record.prop_map(|record| RawValue::from_string(record).unwrap())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn rule_3_a_record_with_a_message_id_is_read_and_one_without_is_refused(record in record()) {
        check::record(&record);
    }

    #[test]
    fn a_body_is_stored_byte_for_byte_or_refused_by_the_rule_it_breaks(body in text(&event())) {
        check::body(&body);
    }

    #[test]
    fn no_refusal_of_a_message_quotes_its_body(body in marked(text(&event()))) {
        let record = RawValue::from_string(message(&body).to_string()).unwrap();
        if let Err(failure) = Message::read(&record).unwrap().notification {
            let shown = format!("{failure} {failure:?}");
            prop_assert!(!shown.contains(MARKER), "{}", shown);
        }
    }

    #[test]
    fn no_refusal_of_a_record_quotes_it(message_id in "[a-z]{1,8}", spoiled in json()) {
        let record = json!({"messageId": message_id, "body": 0, "x": MARKER}).to_string().replace(":0", &format!(":{spoiled}"));
        let message = Message::read(&RawValue::from_string(record).unwrap()).unwrap();
        if let Err(failure) = message.notification {
            prop_assert!(!failure.reason.contains(MARKER), "{}", failure);
        }
    }

    #[test]
    fn rule_4_bad_messages_never_keep_a_good_one_out_of_the_table(records in prop::collection::vec(record(), 0..6)) {
        check::batch(Envelope { records });
    }
}
