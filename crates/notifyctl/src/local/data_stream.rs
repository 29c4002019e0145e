//! A Kinesis stream, and the event that Lambda makes of a record.
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html>

use crate::error::Error;
use crate::local::mapping::Mapping;
use crate::local::source::{Page, ReadError, Shard, arn_part, arrival, raw, seconds};
use aws::SdkConfig;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{self, ShardIteratorType};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use event_source::stream::{ReadFrom, Record};
use serde_json::json;

/// A Kinesis stream.
#[derive(Debug)]
pub(crate) struct DataStream {
    client: Client,
    arn: String,
    role_arn: String,
}

impl DataStream {
    pub(crate) fn new(mapping: &Mapping, config: &SdkConfig) -> Self {
        Self { client: Client::new(config), arn: mapping.stream_arn.clone(), role_arn: mapping.role_arn.clone() }
    }

    pub(crate) async fn shards(&self) -> Result<Vec<Shard>, Error> {
        let mut shards = Vec::new();
        let mut next: Option<String> = None;
        loop {
            // The API takes the stream or the token, and not both.
            let stream = next.is_none().then(|| self.arn.clone());
            let answer = self.client.list_shards().set_stream_arn(stream).set_next_token(next).send().await;
            let answer = answer.map_err(Error::aws("ListShards"))?;
            shards.extend(answer.shards.unwrap_or_default().into_iter().map(|shard| Shard {
                name: shard.shard_id,
                parents: shard.parent_shard_id.into_iter().chain(shard.adjacent_parent_shard_id).collect(),
            }));
            next = answer.next_token;
            if next.is_none() {
                return Ok(shards);
            }
        }
    }

    pub(crate) async fn look(&self, shard: &str, from: &ReadFrom, iterator: Option<String>) -> Result<Page, ReadError> {
        let iterator = match iterator {
            Some(iterator) => Some(iterator),
            None => self.iterator(shard, from).await?,
        };
        let answer = self.client.get_records().stream_arn(&self.arn).set_shard_iterator(iterator).send().await;
        let answer = answer.map_err(ReadError::aws("GetRecords"))?;
        let records = answer.records.iter().map(|found| record(found, shard, &self.arn, &self.role_arn)).collect();
        Ok(Page { records, next: answer.next_shard_iterator, trimmed: false })
    }

    async fn iterator(&self, shard: &str, from: &ReadFrom) -> Result<Option<String>, ReadError> {
        let (kind, after) = match from {
            ReadFrom::TrimHorizon => (ShardIteratorType::TrimHorizon, None),
            ReadFrom::Latest => (ShardIteratorType::Latest, None),
            ReadFrom::After(number) => (ShardIteratorType::AfterSequenceNumber, Some(number.to_string())),
        };
        let call = self.client.get_shard_iterator().stream_arn(&self.arn).shard_id(shard);
        let answer = call.shard_iterator_type(kind).set_starting_sequence_number(after).send().await;
        Ok(answer.map_err(ReadError::aws("GetShardIterator"))?.shard_iterator)
    }
}

/// The record for the engine.
fn record(found: &types::Record, shard: &str, stream_arn: &str, role_arn: &str) -> Record {
    let number = found.sequence_number.as_str();
    let event = json!({
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": found.partition_key,
            "sequenceNumber": number,
            "data": BASE64_STANDARD.encode(&found.data),
            "approximateArrivalTimestamp": seconds(found.approximate_arrival_timestamp.as_ref()),
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": format!("{shard}:{number}"),
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": role_arn,
        "awsRegion": arn_part(stream_arn, 3),
        "eventSourceARN": stream_arn,
    });
    Record {
        sequence_number: number.into(),
        // A record without a key keeps no order.
        key: found.partition_key.as_deref().unwrap_or(number).into(),
        arrived_at: arrival(found.approximate_arrival_timestamp.as_ref()),
        event: raw(&event),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_types::{Blob, DateTime};
    use serde_json::Value;

    #[test]
    fn a_record_is_the_event_that_lambda_makes_of_it() {
        let found = types::Record::builder()
            .sequence_number("4959")
            .approximate_arrival_timestamp(DateTime::from_secs_f64(1_763_805_602.123))
            .data(Blob::new(b"\xffno text"))
            .partition_key("rfd-1")
            .build()
            .unwrap();
        let (arn, role) = ("arn:aws:kinesis:eu-central-1:000000000000:stream/s", "arn:aws:iam::000000000000:role/r");
        let record = record(&found, "shardId-000000000000", arn, role);
        assert_eq!(
            serde_json::from_str::<Value>(record.event.get()).unwrap(),
            json!({
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "rfd-1",
                    "sequenceNumber": "4959",
                    "data": "/25vIHRleHQ=",
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
}
