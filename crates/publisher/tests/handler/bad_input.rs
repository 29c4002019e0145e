//! Any batch from the table stream and any payload of a schedule: nothing panics, a bad record blocks nothing, and a refusal
//! names the broken rule and quotes nothing but an id.

mod check;

use crate::generate;
use generate::{MARKER, bytes, config, json, marked, spoiled, text};
use proptest::prelude::*;
use publisher::Payload;
use publisher::record::{Image, Record};
use serde_json::value::RawValue;
use serde_json::{Value, json};

fn stream_record() -> Value {
    let event = json!({"specversion": "1.0", "id": "rfd-1", "source": "s", "type": "t", "data": MARKER}).to_string();
    json!({
        "eventID": "e", "eventName": "MODIFY", "eventSource": "aws:dynamodb", "awsRegion": "eu-central-1",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_763_805_600.0, "SequenceNumber": "1", "SizeBytes": 512,
            "StreamViewType": "NEW_AND_OLD_IMAGES", "Keys": {"id": {"S": "rfd-1"}},
            "NewImage": {
                "id": {"S": "rfd-1"}, "status": {"S": "INIT"}, "event": {"S": event}, "attempts": {"N": "1"},
                "raw": {"B": "AQI="}, "more": {"M": {"a": {"L": [{"NULL": true}, {"SS": ["x"]}]}}},
            },
            "OldImage": {"id": {"S": "rfd-1"}, "status": {"S": "FAILED"}},
        },
    })
}

/// Any JSON as a record, or one with a fault.
fn record() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => json().prop_map(|json| json.to_string()),
        5 => spoiled(&stream_record()),
    ]
}

/// Any record whose image is to be published, with any text as one of its attributes.
fn image() -> impl Strategy<Value = Box<RawValue>> {
    let attribute = prop::sample::select(vec!["status", "id", "event"]);
    (attribute, marked(any::<String>())).prop_map(|(attribute, text)| {
        let mut record = stream_record();
        record["dynamodb"]["NewImage"][attribute]["S"] = text.into();
        RawValue::from_string(record.to_string()).unwrap()
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn rule_3_a_record_with_a_sequence_number_is_read_and_one_without_is_refused(record in record()) {
        check::record(&RawValue::from_string(record).unwrap());
    }

    #[test]
    fn an_image_is_published_byte_for_byte_or_refused_by_the_rule_it_breaks(image in image()) {
        check::record(&image);
    }

    #[test]
    fn no_refusal_of_an_image_quotes_it(record in prop_oneof![
        image(),
        record().prop_map(|record| RawValue::from_string(record).unwrap()),
    ]) {
        if let Ok(Record { image: Image::Unpublishable(failure), .. }) = Record::read(&record) {
            let of_an_id = failure.reason.starts_with("the image of ");
            prop_assert!(of_an_id || !failure.reason.contains(MARKER), "{}", failure);
        }
    }

    #[test]
    fn rule_2_no_batch_of_bad_records_is_reported_and_a_good_one_is_published(
        records in prop::collection::vec(record(), 0..6),
    ) {
        check::invocation(format!(r#"{{"Records":[{}]}}"#, records.join(",")).as_bytes());
    }

    #[test]
    fn an_invocation_is_a_batch_or_a_sweep_or_refused_with_a_reason(
        bytes in prop_oneof![
            bytes(&json!({"Records": [stream_record()]})),
            bytes(&json!({"Records": null, "sweep": true})),
        ],
    ) {
        check::invocation(&bytes);
    }

    #[test]
    fn no_refusal_of_an_invocation_quotes_it(event in marked(text(&json!({"Records": [{}], "sweep": true})))) {
        if let Err(refusal) = serde_json::from_str::<Payload>(&event) {
            prop_assert!(!refusal.to_string().contains(MARKER), "{}", refusal);
        }
    }
}
