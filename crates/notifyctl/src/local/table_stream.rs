//! A table's stream, and the event that Lambda makes of a record.
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html>

use crate::error::Error;
use crate::local::mapping::Mapping;
use crate::local::source::{Page, ReadError, Shard, arrival, raw, seconds};
use aws::SdkConfig;
use aws_sdk_dynamodbstreams::Client;
use aws_sdk_dynamodbstreams::types::{self, AttributeValue, ShardIteratorType};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use event_source::stream::{ReadFrom, Record};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// A table's stream.
#[derive(Debug)]
pub(crate) struct TableStream {
    client: Client,
    arn: String,
}

impl TableStream {
    pub(crate) fn new(mapping: &Mapping, config: &SdkConfig) -> Self {
        Self { client: Client::new(config), arn: mapping.stream_arn.clone() }
    }

    pub(crate) async fn shards(&self) -> Result<Vec<Shard>, Error> {
        let mut shards = Vec::new();
        let mut last = None;
        loop {
            let answer =
                self.client.describe_stream().stream_arn(&self.arn).set_exclusive_start_shard_id(last).send().await;
            let Some(page) = answer.map_err(Error::aws("DescribeStream"))?.stream_description else {
                return Ok(shards);
            };
            shards.extend(page.shards.unwrap_or_default().into_iter().filter_map(|shard| {
                Some(Shard { name: shard.shard_id?, parents: shard.parent_shard_id.into_iter().collect() })
            }));
            last = page.last_evaluated_shard_id;
            if last.is_none() {
                return Ok(shards);
            }
        }
    }

    pub(crate) async fn look(&self, shard: &str, from: &ReadFrom, iterator: Option<String>) -> Result<Page, ReadError> {
        let iterator = match iterator {
            Some(iterator) => Some(iterator),
            None => self.iterator(shard, from).await?,
        };
        let answer = self.client.get_records().set_shard_iterator(iterator).send().await;
        let answer = answer.map_err(ReadError::aws("GetRecords"))?;
        let records = answer.records.unwrap_or_default().iter().filter_map(|found| record(found, &self.arn)).collect();
        Ok(Page { records, next: answer.next_shard_iterator, trimmed: false })
    }

    async fn iterator(&self, shard: &str, from: &ReadFrom) -> Result<Option<String>, ReadError> {
        let (kind, after) = match from {
            ReadFrom::TrimHorizon => (ShardIteratorType::TrimHorizon, None),
            ReadFrom::Latest => (ShardIteratorType::Latest, None),
            ReadFrom::After(number) => (ShardIteratorType::AfterSequenceNumber, Some(number.to_string())),
        };
        let call = self.client.get_shard_iterator().stream_arn(&self.arn).shard_id(shard);
        let answer = call.shard_iterator_type(kind).set_sequence_number(after).send().await;
        Ok(answer.map_err(ReadError::aws("GetShardIterator"))?.shard_iterator)
    }
}

/// The record for the engine; `None` where it has no change or no number, which the API never leaves out.
fn record(found: &types::Record, stream_arn: &str) -> Option<Record> {
    let change = found.dynamodb.as_ref()?;
    let mut data = Map::new();
    let mut put = |name: &str, value: Option<Value>| value.map(|value| data.insert(name.to_owned(), value));
    put("ApproximateCreationDateTime", Some(seconds(change.approximate_creation_date_time.as_ref())));
    put("Keys", change.keys.as_ref().map(item));
    put("NewImage", change.new_image.as_ref().map(item));
    put("OldImage", change.old_image.as_ref().map(item));
    put("SequenceNumber", change.sequence_number.as_deref().map(Value::from));
    put("SizeBytes", change.size_bytes.map(Value::from));
    put("StreamViewType", change.stream_view_type.as_ref().map(|kind| kind.as_str().into()));
    let mut event = json!({
        "eventID": found.event_id,
        "eventName": found.event_name.as_ref().map(types::OperationType::as_str),
        "eventVersion": found.event_version,
        "eventSource": "aws:dynamodb",
        "awsRegion": found.aws_region,
        "dynamodb": data,
        "eventSourceARN": stream_arn,
    });
    // Who made the change, where nobody's request did: the removal of expired items.
    if let Some(identity) = &found.user_identity {
        event["userIdentity"] = json!({"type": identity.r#type, "principalId": identity.principal_id});
    }
    Some(Record {
        sequence_number: change.sequence_number.as_deref()?.into(),
        key: change.keys.as_ref().map(key).unwrap_or_default().into(),
        arrived_at: arrival(change.approximate_creation_date_time.as_ref()),
        event: raw(&event),
    })
}

/// The item's key as one text: the same for all changes of an item.
fn key(keys: &HashMap<String, AttributeValue>) -> String {
    let mut parts: Vec<_> = keys.iter().map(|(name, attribute)| format!("{name}={}", value(attribute))).collect();
    parts.sort_unstable();
    parts.join(" ")
}

/// An item in DynamoDB's JSON.
fn item(attributes: &HashMap<String, AttributeValue>) -> Value {
    attributes.iter().map(|(name, attribute)| (name.clone(), value(attribute))).collect::<Map<_, _>>().into()
}

fn value(attribute: &AttributeValue) -> Value {
    let base64 = |blob: &aws_smithy_types::Blob| BASE64_STANDARD.encode(blob);
    match attribute {
        AttributeValue::B(blob) => json!({"B": base64(blob)}),
        AttributeValue::Bool(is) => json!({"BOOL": is}),
        AttributeValue::Bs(blobs) => json!({"BS": blobs.iter().map(base64).collect::<Vec<_>>()}),
        AttributeValue::L(list) => json!({"L": list.iter().map(value).collect::<Vec<_>>()}),
        AttributeValue::M(map) => json!({"M": item(map)}),
        AttributeValue::N(number) => json!({"N": number}),
        AttributeValue::Ns(numbers) => json!({"NS": numbers}),
        AttributeValue::Null(is) => json!({"NULL": is}),
        AttributeValue::S(text) => json!({"S": text}),
        AttributeValue::Ss(texts) => json!({"SS": texts}),
        // A type that this SDK does not know yet.
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodbstreams::types::{Identity, OperationType, StreamRecord, StreamViewType};
    use aws_smithy_types::{Blob, DateTime};

    const ARN: &str = "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/2026-11-22T09:00:00.000";

    fn text(text: &str) -> AttributeValue {
        AttributeValue::S(text.to_owned())
    }

    fn change() -> aws_sdk_dynamodbstreams::types::builders::StreamRecordBuilder {
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
    fn a_change_is_the_event_that_lambda_makes_of_it() {
        let change = change().new_image("id", text("rfd-1")).new_image("status", text("DONE"));
        let change = change.old_image("status", text("INIT")).build();
        let found = types::Record::builder().event_id("e-1").event_name(OperationType::Modify).event_version("1.1");
        let found = found.event_source("aws:dynamodb").aws_region("us-east-1").dynamodb(change).build();
        let record = record(&found, ARN).unwrap();
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
                "eventSourceARN": ARN,
            })
        );
        assert_eq!((&*record.sequence_number, &*record.key), ("111", r#"id={"S":"rfd-1"}"#));
        assert_eq!(record.arrived_at.as_second(), 1_763_805_600);
    }

    #[test]
    fn an_expired_item_has_no_new_image_and_names_who_removed_it() {
        let identity = Identity::builder().r#type("Service").principal_id("dynamodb.amazonaws.com").build();
        let found = types::Record::builder().event_name(OperationType::Remove).dynamodb(change().build());
        let event = event(&record(&found.user_identity(identity).build(), ARN).unwrap());
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
            assert_eq!(value(&attribute), json);
        }
    }
}
