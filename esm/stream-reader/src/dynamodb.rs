//! The stream of a DynamoDB table.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html>

use crate::{CallError, Page, ReadFrom, Shard, iterator_type};
use aws_sdk_dynamodbstreams::Client;
use aws_sdk_dynamodbstreams::types::{self, Record};

/// The stream of a table.
#[derive(Debug, Clone)]
pub struct TableStream {
    client: Client,
    arn: String,
}

impl TableStream {
    /// The stream with this ARN.
    #[must_use]
    pub fn new(client: Client, arn: String) -> Self {
        Self { client, arn }
    }

    /// All shards, in pages of `DescribeStream`.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_DescribeStream.html>
    ///
    /// # Errors
    /// [`CallError`] if a call fails.
    pub async fn shards(&self) -> Result<Vec<Shard>, CallError> {
        let mut shards = Vec::new();
        let mut last = None;
        loop {
            let call = self.client.describe_stream().stream_arn(&self.arn).set_exclusive_start_shard_id(last);
            let answer = call.send().await.map_err(CallError::of("DescribeStream"))?;
            let Some(page) = answer.stream_description else { return Ok(shards) };
            shards.extend(page.shards.unwrap_or_default().into_iter().filter_map(shard));
            last = page.last_evaluated_shard_id;
            if last.is_none() {
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
        let call = self.client.get_shard_iterator().stream_arn(&self.arn).shard_id(shard);
        let answer = call.shard_iterator_type(kind.into()).set_sequence_number(after).send().await;
        Ok(answer.map_err(CallError::of("GetShardIterator"))?.shard_iterator)
    }

    /// The records at an iterator.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html>
    ///
    /// # Errors
    /// [`CallError`] if the call fails.
    pub async fn records(&self, iterator: String) -> Result<Page<Record>, CallError> {
        let answer = self.client.get_records().shard_iterator(iterator).send().await;
        let answer = answer.map_err(CallError::of("GetRecords"))?;
        let records = answer.records.unwrap_or_default();
        Ok(Page { records, next: answer.next_shard_iterator, millis_behind_latest: None })
    }
}

fn shard(shard: types::Shard) -> Option<Shard> {
    let is_closed = shard.sequence_number_range.is_some_and(|range| range.ending_sequence_number.is_some());
    Some(Shard { id: shard.shard_id?, parents: shard.parent_shard_id.into_iter().collect(), is_closed })
}
