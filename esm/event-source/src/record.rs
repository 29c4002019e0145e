//! The records of a batch, as the JSON that Lambda hands to a function.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

/// A message of an SQS queue.
/// <https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html#example-standard-queue-message-event>
#[derive(Debug, Clone, Copy)]
pub struct QueueMessage<'a> {
    /// Its `messageId`, which the function reports if the message fails.
    pub message_id: &'a str,
    /// What deletes this delivery of the message.
    pub receipt_handle: &'a str,
    /// Its body.
    pub body: &'a str,
    /// The MD5 digest of the body, in hexadecimal.
    pub md5_of_body: &'a str,
    /// How often it was received, this time included.
    pub receive_count: u32,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// The ARN of the queue.
    pub queue_arn: &'a str,
}

/// A record of a Kinesis data stream.
/// <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html#services-kinesis-event-example>
#[derive(Debug, Clone, Copy)]
pub struct KinesisRecord<'a> {
    /// The shard that it was read from.
    pub shard: &'a str,
    /// Its sequence number in the shard.
    pub sequence_number: &'a str,
    /// Its partition key.
    pub partition_key: &'a str,
    /// Its bytes.
    pub data: &'a [u8],
    /// When it arrived in the stream.
    pub arrived_at: Timestamp,
    /// The ARN of the role that the function runs with.
    pub role_arn: &'a str,
    /// The ARN of the stream.
    pub stream_arn: &'a str,
}

/// A record of a DynamoDB stream: a change of one item. Items are in DynamoDB's JSON, such as `{"id":{"S":"a"}}`.
/// <https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html#events-sample-dynamodb>
#[derive(Debug, Clone)]
pub struct TableChange<'a> {
    /// The `eventID` of the record.
    pub event_id: &'a str,
    /// `INSERT`, `MODIFY` or `REMOVE`.
    pub event_name: &'a str,
    /// Its sequence number in its shard.
    pub sequence_number: &'a str,
    /// When the item was changed.
    pub changed_at: Timestamp,
    /// The item's key.
    pub keys: Value,
    /// The item after the change, if there is one and the stream has it.
    pub new_image: Option<Value>,
    /// The item before the change, if there was one and the stream has it.
    pub old_image: Option<Value>,
    /// Size of the record in bytes.
    pub size_bytes: i64,
    /// Which images the stream has, for example `NEW_AND_OLD_IMAGES`.
    pub view_type: &'a str,
    /// Whether DynamoDB removed the item because its time to live was over.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/time-to-live-ttl-streams.html>
    pub is_expiry: bool,
    /// The ARN of the stream.
    pub stream_arn: &'a str,
}

impl QueueMessage<'_> {
    /// The message as the function gets it.
    #[must_use]
    pub fn to_json(&self) -> Box<RawValue> {
        raw(&json!({
            "messageId": self.message_id,
            "receiptHandle": self.receipt_handle,
            "body": self.body,
            "attributes": {
                "ApproximateReceiveCount": self.receive_count.to_string(),
                "SentTimestamp": self.sent_at.as_millisecond().to_string(),
            },
            "messageAttributes": {},
            "md5OfBody": self.md5_of_body,
            "eventSource": "aws:sqs",
            "eventSourceARN": self.queue_arn,
            "awsRegion": region(self.queue_arn),
        }))
    }
}

impl KinesisRecord<'_> {
    /// The record as the function gets it.
    #[must_use]
    pub fn to_json(&self) -> Box<RawValue> {
        raw(&json!({
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": self.partition_key,
                "sequenceNumber": self.sequence_number,
                "data": BASE64_STANDARD.encode(self.data),
                "approximateArrivalTimestamp": seconds(self.arrived_at),
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": format!("{}:{}", self.shard, self.sequence_number),
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": self.role_arn,
            "awsRegion": region(self.stream_arn),
            "eventSourceARN": self.stream_arn,
        }))
    }
}

impl TableChange<'_> {
    /// The record as the function gets it.
    #[must_use]
    pub fn to_json(&self) -> Box<RawValue> {
        let mut record = json!({
            "eventID": self.event_id,
            "eventName": self.event_name,
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": region(self.stream_arn),
            "dynamodb": {
                "ApproximateCreationDateTime": seconds(self.changed_at),
                "Keys": self.keys,
                "SequenceNumber": self.sequence_number,
                "SizeBytes": self.size_bytes,
                "StreamViewType": self.view_type,
            },
            "eventSourceARN": self.stream_arn,
        });
        if let Some(image) = &self.new_image {
            record["dynamodb"]["NewImage"] = image.clone();
        }
        if let Some(image) = &self.old_image {
            record["dynamodb"]["OldImage"] = image.clone();
        }
        if self.is_expiry {
            record["userIdentity"] = json!({"type": "Service", "principalId": "dynamodb.amazonaws.com"});
        }
        raw(&record)
    }
}

/// The text of a value, which always has one.
fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_default()
}

/// The region in an ARN: `arn:aws:sqs:REGION:…`.
fn region(arn: &str) -> &str {
    arn.split(':').nth(3).unwrap_or_default()
}

/// A time in seconds since the Unix epoch: a JSON number, with a fraction unless it is zero.
fn seconds(time: Timestamp) -> Value {
    if time.subsec_nanosecond() == 0 { time.as_second().into() } else { time.as_duration().as_secs_f64().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(record: &RawValue) -> Value {
        serde_json::from_str(record.get()).unwrap()
    }

    #[test]
    fn an_sqs_message_is_the_json_that_lambda_makes_of_it() {
        let message = QueueMessage {
            message_id: "059f36b4-87a3-44ab-83d2-661975830a7d",
            receipt_handle: "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
            body: "Test \"message\"",
            md5_of_body: "e4e68fb7bd0e697a0ae8f1bb342846b3",
            receive_count: 2,
            sent_at: Timestamp::from_millisecond(1_545_082_649_183).unwrap(),
            queue_arn: "arn:aws:sqs:us-east-2:123456789012:my-queue",
        };
        assert_eq!(
            parsed(&message.to_json()),
            json!({
                "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
                "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
                "body": "Test \"message\"",
                "attributes": {"ApproximateReceiveCount": "2", "SentTimestamp": "1545082649183"},
                "messageAttributes": {},
                "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:my-queue",
                "awsRegion": "us-east-2",
            })
        );
    }

    #[test]
    fn a_kinesis_record_is_the_json_that_lambda_makes_of_it() {
        let record = KinesisRecord {
            shard: "shardId-000000000006",
            sequence_number: "49590338271490256608559692538361571095921575989136588898",
            partition_key: "1",
            data: b"\xffnot text",
            arrived_at: Timestamp::from_millisecond(1_545_084_650_987).unwrap(),
            role_arn: "arn:aws:iam::123456789012:role/lambda-role",
            stream_arn: "arn:aws:kinesis:us-east-2:123456789012:stream/lambda-stream",
        };
        assert_eq!(
            parsed(&record.to_json()),
            json!({
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "1",
                    "sequenceNumber": "49590338271490256608559692538361571095921575989136588898",
                    "data": "/25vdCB0ZXh0",
                    "approximateArrivalTimestamp": 1_545_084_650.987,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": "shardId-000000000006:49590338271490256608559692538361571095921575989136588898",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda-role",
                "awsRegion": "us-east-2",
                "eventSourceARN": "arn:aws:kinesis:us-east-2:123456789012:stream/lambda-stream",
            })
        );
    }

    /// A change of the item 101, as in the sample of the AWS documentation.
    fn change() -> TableChange<'static> {
        TableChange {
            event_id: "2",
            event_name: "MODIFY",
            sequence_number: "222",
            changed_at: Timestamp::from_second(1_479_499_740).unwrap(),
            keys: json!({"Id": {"N": "101"}}),
            new_image: Some(json!({"Id": {"N": "101"}, "Message": {"S": "This item has changed"}})),
            old_image: Some(json!({"Id": {"N": "101"}, "Message": {"S": "New item!"}})),
            size_bytes: 59,
            view_type: "NEW_AND_OLD_IMAGES",
            is_expiry: false,
            stream_arn: "arn:aws:dynamodb:us-east-2:123456789012:table/t/stream/2026-11-22T09:00:00.000",
        }
    }

    #[test]
    fn a_change_of_an_item_is_the_json_that_lambda_makes_of_it() {
        assert_eq!(
            parsed(&change().to_json()),
            json!({
                "eventID": "2",
                "eventName": "MODIFY",
                "eventVersion": "1.1",
                "eventSource": "aws:dynamodb",
                "awsRegion": "us-east-2",
                "dynamodb": {
                    "ApproximateCreationDateTime": 1_479_499_740,
                    "Keys": {"Id": {"N": "101"}},
                    "NewImage": {"Id": {"N": "101"}, "Message": {"S": "This item has changed"}},
                    "OldImage": {"Id": {"N": "101"}, "Message": {"S": "New item!"}},
                    "SequenceNumber": "222",
                    "SizeBytes": 59,
                    "StreamViewType": "NEW_AND_OLD_IMAGES",
                },
                "eventSourceARN": "arn:aws:dynamodb:us-east-2:123456789012:table/t/stream/2026-11-22T09:00:00.000",
            })
        );
    }

    #[test]
    fn an_expired_item_has_no_new_image_and_was_removed_by_dynamodb() {
        let expiry = TableChange { event_name: "REMOVE", new_image: None, is_expiry: true, ..change() };
        let record = parsed(&expiry.to_json());
        assert_eq!(record["userIdentity"], json!({"type": "Service", "principalId": "dynamodb.amazonaws.com"}));
        assert!(record["dynamodb"].get("NewImage").is_none());
    }
}
