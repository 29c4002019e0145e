//! Any batch from Kinesis: nothing panics, poison is quarantined and blocks nothing, and a refusal names the broken rule
//! without quoting the record.

mod check;

use crate::generate;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use downstream::record::{Content, Record};
use generate::{MARKER, bytes, config, json, marked, spoiled, text};
use notification::Envelope;
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

fn event() -> Value {
    json!({"specversion": "1.0", "id": "rfd-1", "source": "urn:s", "type": "t", "data": {"amount": 19.99, "to": MARKER}})
}

fn kinesis_record(data: &[u8]) -> Value {
    json!({
        "kinesis": {
            "kinesisSchemaVersion": "1.0", "partitionKey": "rfd-1", "sequenceNumber": "1",
            "data": STANDARD.encode(data), "approximateArrivalTimestamp": 1_763_805_602.123,
        },
        "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": "shardId-000000000006:1",
        "eventName": "aws:kinesis:record", "awsRegion": "eu-central-1",
    })
}

/// Any JSON as a record, or one with a fault in it, in its data, or in both.
fn record() -> impl Strategy<Value = Box<RawValue>> {
    let record = prop_oneof![
        1 => json().prop_map(|json| json.to_string()),
        3 => spoiled(&kinesis_record(event().to_string().as_bytes())),
        3 => bytes(&event()).prop_map(|data| kinesis_record(&data).to_string()),
        1 => bytes(&event()).prop_flat_map(|data| spoiled(&kinesis_record(&data))),
    ];
    record.prop_map(|record| RawValue::from_string(record).unwrap())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn rule_3_a_record_with_a_sequence_number_is_read_and_one_without_is_refused(record in record()) {
        check::record(&record);
    }

    #[test]
    fn data_is_read_byte_for_byte_and_is_a_notification_or_refused_by_the_rule_it_breaks(data in bytes(&event())) {
        check::data(&data);
    }

    #[test]
    fn no_refusal_of_a_record_quotes_its_data(data in marked(text(&event())), shape in record()) {
        let record = RawValue::from_string(kinesis_record(data.as_bytes()).to_string()).unwrap();
        for record in [record, shape] {
            if let Ok(Record { content: Content::Malformed { failure, .. }, .. }) = Record::read(&record) {
                prop_assert!(!failure.reason.contains(MARKER), "{}", failure);
            }
        }
    }

    #[test]
    fn rule_2_poison_is_quarantined_and_never_keeps_a_good_record_from_becoming_done(records in prop::collection::vec(record(), 0..6)) {
        check::batch(Envelope { records });
    }

    #[test]
    fn only_its_data_decides_what_a_record_holds(arrival in json(), event_id in json(), rest in json()) {
        let mut record = kinesis_record(event().to_string().as_bytes());
        record["kinesis"]["approximateArrivalTimestamp"] = "ARRIVAL".into();
        record["eventID"] = "EVENT".into();
        record["awsRegion"] = "REST".into();
        let record = record.to_string();
        let record = record.replace("\"ARRIVAL\"", &arrival.to_string()).replace("\"REST\"", &rest.to_string());
        let with_event_id = record.replace("\"EVENT\"", &event_id.to_string());
        check::record(&RawValue::from_string(with_event_id).unwrap());
        let record = RawValue::from_string(record).unwrap();
        prop_assert!(matches!(Record::read(&record).unwrap().content, Content::Notification(_)));
    }
}

#[test]
fn the_time_of_arrival_may_have_any_precision() {
    for arrival in ["1763805602", "1763805602.123", "1763805602.123456", "1763805602.1234567890123456", "-1.5", "\"?\""]
    {
        let record = kinesis_record(event().to_string().as_bytes()).to_string().replace("1763805602.123", arrival);
        let record = Record::read(&RawValue::from_string(record).unwrap()).unwrap();
        assert!(matches!(record.content, Content::Notification(_)), "{arrival}");
    }
}

#[test]
fn rule_4_a_record_without_a_readable_shard_is_still_quarantined() {
    for event_id in ["7", "null", "\"no colon\""] {
        let record = format!(r#"{{"eventID":{event_id},"kinesis":{{"sequenceNumber":"1","data":"!"}}}}"#);
        let record = Record::read(&RawValue::from_string(record).unwrap()).unwrap();
        assert_eq!((record.shard.as_str(), record.sequence_number.as_str()), ("unknown", "1"));
    }
}
