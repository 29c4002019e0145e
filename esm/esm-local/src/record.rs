//! A record of a stream, as the engine takes it: with the JSON that Lambda makes of it.

use crate::clock;
use aws_sdk_dynamodbstreams::types::{AttributeValue, OperationType, StreamViewType};
use aws_sdk_kinesis::types;
use aws_smithy_types::DateTime;
use event_source::record::{KinesisRecord, TableChange};
use event_source::stream::Record;
use jiff::Timestamp;
use serde_dynamo::Item;
use serde_json::{Value, json};
use std::collections::HashMap;

/// A record of a Kinesis stream.
pub(crate) fn of_kinesis(found: &types::Record, shard: &str, stream_arn: &str, role_arn: &str) -> Record {
    let sequence_number = found.sequence_number.as_str();
    let arrived_at = timestamp(found.approximate_arrival_timestamp.as_ref());
    let event = KinesisRecord {
        shard,
        sequence_number,
        partition_key: found.partition_key().unwrap_or_default(),
        data: found.data.as_ref(),
        arrived_at,
        role_arn,
        stream_arn,
    };
    Record {
        sequence_number: sequence_number.into(),
        // A record without a key has no order to keep.
        key: found.partition_key().unwrap_or(sequence_number).into(),
        arrived_at,
        event: event.to_json(),
    }
}

/// A record of a table's stream; `None` if it has no change or no sequence number, which the API never leaves out.
pub(crate) fn of_table(found: &aws_sdk_dynamodbstreams::types::Record, stream_arn: &str) -> Option<Record> {
    let change = found.dynamodb()?;
    let sequence_number = change.sequence_number()?;
    let keys = change.keys().cloned().map(item).unwrap_or_default();
    let key = key(&keys).into();
    let changed_at = timestamp(change.approximate_creation_date_time.as_ref());
    let event = TableChange {
        event_id: found.event_id().unwrap_or_default(),
        event_name: found.event_name().map_or("", OperationType::as_str),
        sequence_number,
        changed_at,
        keys,
        new_image: change.new_image().cloned().map(item),
        old_image: change.old_image().cloned().map(item),
        size_bytes: change.size_bytes().unwrap_or_default(),
        view_type: change.stream_view_type().map_or("", StreamViewType::as_str),
        is_expiry: found.user_identity.is_some(),
        stream_arn,
    };
    Some(Record { sequence_number: sequence_number.into(), key, arrived_at: changed_at, event: event.to_json() })
}

/// The time of a record; now, if the stream does not tell it.
fn timestamp(time: Option<&DateTime>) -> Timestamp {
    time.and_then(stream_reader::timestamp).unwrap_or_else(clock::now)
}

/// An item in DynamoDB's JSON.
fn item(attributes: HashMap<String, AttributeValue>) -> Value {
    json!(Item::from(attributes))
}

/// The key of an item as one text, which is the same for all of its changes.
fn key(keys: &Value) -> String {
    let attributes = keys.as_object().into_iter().flatten();
    let mut parts: Vec<_> = attributes.map(|(name, value)| format!("{name}={value}")).collect();
    parts.sort_unstable();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodbstreams::types::builders::StreamRecordBuilder;
    use aws_sdk_dynamodbstreams::types::{Identity, Record as Found, StreamRecord};
    use aws_smithy_types::Blob;

    const TABLE_STREAM: &str = "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/2026-11-22T09:00:00.000";

    fn text(text: &str) -> AttributeValue {
        AttributeValue::S(text.to_owned())
    }

    fn change() -> StreamRecordBuilder {
        StreamRecord::builder()
            .approximate_creation_date_time(DateTime::from_secs(1_763_805_600))
            .keys("id", text("rfd-1"))
            .sequence_number("111")
            .size_bytes(512)
            .stream_view_type(StreamViewType::NewAndOldImages)
    }

    fn event(record: &Record) -> Value {
        serde_json::from_str(record.event.get()).unwrap()
    }

    #[test]
    fn a_kinesis_record_is_the_json_that_lambda_makes_of_it() {
        let found = types::Record::builder()
            .sequence_number("4959")
            .approximate_arrival_timestamp(DateTime::from_secs_f64(1_763_805_602.123))
            .data(Blob::new(b"\xffnot text"))
            .partition_key("rfd-1")
            .build()
            .unwrap();
        let (arn, role) = ("arn:aws:kinesis:eu-central-1:000000000000:stream/s", "arn:aws:iam::000000000000:role/r");
        let record = of_kinesis(&found, "shardId-000000000000", arn, role);
        assert_eq!(
            event(&record),
            json!({
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "rfd-1",
                    "sequenceNumber": "4959",
                    "data": "/25vdCB0ZXh0",
                    "approximateArrivalTimestamp": 1_763_805_602.123,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": "shardId-000000000000:4959",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": role,
                "awsRegion": "eu-central-1",
                "eventSourceARN": arn,
            })
        );
        assert_eq!((&*record.sequence_number, &*record.key), ("4959", "rfd-1"));
        assert_eq!(record.arrived_at.as_second(), 1_763_805_602);
    }

    #[test]
    fn a_change_of_an_item_is_the_json_that_lambda_makes_of_it() {
        let change = change().new_image("id", text("rfd-1")).new_image("status", text("DONE"));
        let change = change.old_image("status", text("INIT")).build();
        let found = Found::builder().event_id("e-1").event_name(OperationType::Modify).dynamodb(change).build();
        let record = of_table(&found, TABLE_STREAM).unwrap();
        assert_eq!(
            event(&record),
            json!({
                "eventID": "e-1",
                "eventName": "MODIFY",
                "eventVersion": "1.1",
                "eventSource": "aws:dynamodb",
                "awsRegion": "us-east-1",
                "dynamodb": {
                    "ApproximateCreationDateTime": 1_763_805_600,
                    "Keys": {"id": {"S": "rfd-1"}},
                    "NewImage": {"id": {"S": "rfd-1"}, "status": {"S": "DONE"}},
                    "OldImage": {"status": {"S": "INIT"}},
                    "SequenceNumber": "111",
                    "SizeBytes": 512,
                    "StreamViewType": "NEW_AND_OLD_IMAGES",
                },
                "eventSourceARN": TABLE_STREAM,
            })
        );
        assert_eq!((&*record.sequence_number, &*record.key), ("111", r#"id={"S":"rfd-1"}"#));
        assert_eq!(record.arrived_at.as_second(), 1_763_805_600);
    }

    #[test]
    fn an_expired_item_has_no_new_image_and_names_who_removed_it() {
        let identity = Identity::builder().r#type("Service").principal_id("dynamodb.amazonaws.com").build();
        let found = Found::builder().event_name(OperationType::Remove).dynamodb(change().build());
        let event = event(&of_table(&found.user_identity(identity).build(), TABLE_STREAM).unwrap());
        assert_eq!(event["userIdentity"], json!({"type": "Service", "principalId": "dynamodb.amazonaws.com"}));
        assert!(event["dynamodb"].get("NewImage").is_none());
    }

    #[test]
    fn every_type_of_attribute_has_its_json() {
        let attributes = [
            (AttributeValue::B(Blob::new("b")), json!({"B": "Yg=="})),
            (AttributeValue::Bool(true), json!({"BOOL": true})),
            (AttributeValue::Bs(vec![Blob::new("b")]), json!({"BS": ["Yg=="]})),
            (AttributeValue::L(vec![text("x")]), json!({"L": [{"S": "x"}]})),
            (AttributeValue::M(HashMap::from([("k".to_owned(), text("x"))])), json!({"M": {"k": {"S": "x"}}})),
            (AttributeValue::N("1.10".to_owned()), json!({"N": "1.10"})),
            (AttributeValue::Ns(vec!["1".to_owned()]), json!({"NS": ["1"]})),
            (AttributeValue::Null(true), json!({"NULL": true})),
            (text("x"), json!({"S": "x"})),
            (AttributeValue::Ss(vec!["x".to_owned()]), json!({"SS": ["x"]})),
        ];
        for (attribute, json) in attributes {
            assert_eq!(item(HashMap::from([("a".to_owned(), attribute)])), json!({"a": json}));
        }
    }
}
