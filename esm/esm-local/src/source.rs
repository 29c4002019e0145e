//! A stream as a mapping reads it: its shards, and its records as the engine takes them.

use crate::arn;
use crate::mapping::Mapping;
use crate::record;
use aws_config::SdkConfig;
use event_source::stream::{ReadFrom, Record};
use stream_reader::dynamodb::TableStream;
use stream_reader::kinesis::DataStream;
use stream_reader::{CallError, Shard};

/// A stream.
#[derive(Debug)]
pub(crate) enum Source {
    /// Of a DynamoDB table.
    Table(TableStream),
    /// Of Kinesis.
    Data(DataStream),
}

impl Source {
    pub(crate) fn of(mapping: &Mapping, config: &SdkConfig) -> Self {
        let arn = mapping.stream_arn.clone();
        if arn::part(&arn, 2) == "dynamodb" {
            Self::Table(TableStream::new(aws_sdk_dynamodbstreams::Client::new(config), arn))
        } else {
            Self::Data(DataStream::by_arn(aws_sdk_kinesis::Client::new(config), arn))
        }
    }

    /// All shards.
    pub(crate) async fn shards(&self) -> Result<Vec<Shard>, CallError> {
        match self {
            Self::Table(stream) => stream.shards().await,
            Self::Data(stream) => stream.shards().await,
        }
    }

    /// Reads from a shard: at the iterator of the last read, if there was one. Returns the records and the next iterator, which
    /// is `None` at the end of a closed shard.
    pub(crate) async fn read(
        &self,
        mapping: &Mapping,
        shard: &str,
        from: &ReadFrom,
        iterator: Option<String>,
    ) -> Result<(Vec<Record>, Option<String>), CallError> {
        let iterator = match (iterator, self) {
            (Some(iterator), _) => Some(iterator),
            (None, Self::Table(stream)) => stream.iterator(shard, from).await?,
            (None, Self::Data(stream)) => stream.iterator(shard, from).await?,
        };
        let Some(iterator) = iterator else { return Ok((vec![], None)) };
        match self {
            Self::Table(stream) => {
                let page = stream.records(iterator).await?;
                let record = |found| record::of_table(found, &mapping.stream_arn);
                Ok((page.records.iter().filter_map(record).collect(), page.next))
            }
            Self::Data(stream) => {
                let page = stream.records(iterator).await?;
                let record = |found| record::of_kinesis(found, shard, &mapping.stream_arn, &mapping.role_arn);
                Ok((page.records.iter().map(record).collect(), page.next))
            }
        }
    }
}
