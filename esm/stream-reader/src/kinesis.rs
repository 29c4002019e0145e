//! A Kinesis data stream.
//! <https://docs.aws.amazon.com/streams/latest/dev/developing-consumers-with-sdk.html>

use crate::{CallError, Page, ReadFrom, Shard, iterator_type};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::get_shard_iterator::builders::GetShardIteratorFluentBuilder;
use aws_sdk_kinesis::types::{self, Record, ShardIteratorType};
use aws_smithy_types::DateTime;
use jiff::Timestamp;

/// A data stream, by its name or its ARN: each call takes either.
#[derive(Debug, Clone)]
pub struct DataStream {
    client: Client,
    name: Option<String>,
    arn: Option<String>,
}

impl DataStream {
    /// The stream with this name.
    #[must_use]
    pub fn by_name(client: Client, name: String) -> Self {
        Self { client, name: Some(name), arn: None }
    }

    /// The stream with this ARN.
    #[must_use]
    pub fn by_arn(client: Client, arn: String) -> Self {
        Self { client, name: None, arn: Some(arn) }
    }

    /// All shards, closed ones included, in pages of `ListShards`.
    /// <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_ListShards.html>
    ///
    /// # Errors
    /// [`CallError`] if a call fails.
    pub async fn shards(&self) -> Result<Vec<Shard>, CallError> {
        let mut shards = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut call = self.client.list_shards();
            // The API takes the stream or the token, and not both.
            call = match next {
                Some(token) => call.next_token(token),
                None => call.set_stream_name(self.name.clone()).set_stream_arn(self.arn.clone()),
            };
            let answer = call.send().await.map_err(CallError::of("ListShards"))?;
            shards.extend(answer.shards.unwrap_or_default().into_iter().map(shard));
            next = answer.next_token;
            if next.is_none() {
                return Ok(shards);
            }
        }
    }

    /// An iterator for a shard.
    ///
    /// # Errors
    /// [`CallError`] if the call fails.
    pub async fn iterator(&self, shard: &str, from: &ReadFrom) -> Result<Option<String>, CallError> {
        let (kind, after) = iterator_type(from);
        let call = self.get_iterator(shard, kind.into()).set_starting_sequence_number(after);
        Ok(call.send().await.map_err(CallError::of("GetShardIterator"))?.shard_iterator)
    }

    /// An iterator for the first record of a shard that arrived at this time or later.
    ///
    /// # Errors
    /// [`CallError`] if the call fails.
    pub async fn iterator_at(&self, shard: &str, time: Timestamp) -> Result<Option<String>, CallError> {
        let time = DateTime::from_millis(time.as_millisecond());
        let call = self.get_iterator(shard, ShardIteratorType::AtTimestamp).timestamp(time);
        Ok(call.send().await.map_err(CallError::of("GetShardIterator"))?.shard_iterator)
    }

    fn get_iterator(&self, shard: &str, kind: ShardIteratorType) -> GetShardIteratorFluentBuilder {
        let call = self.client.get_shard_iterator().set_stream_name(self.name.clone()).set_stream_arn(self.arn.clone());
        call.shard_id(shard).shard_iterator_type(kind)
    }

    /// The records at an iterator.
    /// <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html>
    ///
    /// # Errors
    /// [`CallError`] if the call fails.
    pub async fn records(&self, iterator: String) -> Result<Page<Record>, CallError> {
        let call = self.client.get_records().set_stream_arn(self.arn.clone()).shard_iterator(iterator);
        let answer = call.send().await.map_err(CallError::of("GetRecords"))?;
        Ok(Page {
            records: answer.records,
            next: answer.next_shard_iterator,
            millis_behind_latest: answer.millis_behind_latest,
        })
    }
}

fn shard(shard: types::Shard) -> Shard {
    Shard {
        id: shard.shard_id,
        parents: shard.parent_shard_id.into_iter().chain(shard.adjacent_parent_shard_id).collect(),
        is_closed: shard.sequence_number_range.is_some_and(|range| range.ending_sequence_number.is_some()),
    }
}
