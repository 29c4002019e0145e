//! A stream as a mapping reads it: its shards, and its records as the engine takes them.

use crate::arn;
use crate::mapping::Mapping;
use crate::record;
use aws_config::SdkConfig;
use event_source::stream::{ReadFrom, Record};
use stream_reader::dynamodb::TableStream;
use stream_reader::kinesis::DataStream;
use stream_reader::{CallError, Page, Shard};

/// A stream.
#[derive(Debug)]
pub(crate) struct Source {
    stream: Stream,
    arn: String,
    /// The role of the function.
    role_arn: String,
}

#[derive(Debug)]
enum Stream {
    /// Of a DynamoDB table.
    Table(TableStream),
    /// Of Kinesis.
    Data(DataStream),
}

/// The records of one read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) records: Vec<Record>,
    /// Where the next read continues; `None` at the end of a closed shard.
    pub(crate) next: Option<String>,
    /// Whether records had expired before they were read.
    pub(crate) trimmed: bool,
}

impl Source {
    pub(crate) fn of(mapping: &Mapping, config: &SdkConfig) -> Self {
        let arn = mapping.stream_arn.clone();
        let stream = if arn::part(&arn, 2) == "dynamodb" {
            Stream::Table(TableStream::new(aws_sdk_dynamodbstreams::Client::new(config), arn.clone()))
        } else {
            Stream::Data(DataStream::by_arn(aws_sdk_kinesis::Client::new(config), arn.clone()))
        };
        Self { stream, arn, role_arn: mapping.role_arn.clone() }
    }

    /// All shards.
    pub(crate) async fn shards(&self) -> Result<Vec<Shard>, CallError> {
        match &self.stream {
            Stream::Table(stream) => stream.shards().await,
            Stream::Data(stream) => stream.shards().await,
        }
    }

    /// Reads from a shard: at the iterator of the last read, if there was one.
    pub(crate) async fn read(&self, shard: &str, from: &ReadFrom, next: Option<String>) -> Result<Read, CallError> {
        match self.read_page(shard, from, next).await {
            // Lambda, too, continues with the oldest record.
            Err(error) if error.is_trimmed() => {
                let read = self.read_page(shard, &ReadFrom::TrimHorizon, None).await?;
                Ok(Read { trimmed: true, ..read })
            }
            other => other,
        }
    }

    async fn read_page(&self, shard: &str, from: &ReadFrom, next: Option<String>) -> Result<Read, CallError> {
        let iterator = match (next, &self.stream) {
            (Some(next), _) => Some(next),
            (None, Stream::Table(stream)) => stream.iterator(shard, from).await?,
            (None, Stream::Data(stream)) => stream.iterator(shard, from).await?,
        };
        let Some(iterator) = iterator else { return Ok(Read { records: vec![], next: None, trimmed: false }) };
        match &self.stream {
            Stream::Table(stream) => {
                let Page { records, next, .. } = stream.records(iterator).await?;
                let records = records.iter().filter_map(|found| record::of_table(found, &self.arn)).collect();
                Ok(Read { records, next, trimmed: false })
            }
            Stream::Data(stream) => {
                let Page { records, next, .. } = stream.records(iterator).await?;
                let to_record = |found| record::of_kinesis(found, shard, &self.arn, &self.role_arn);
                Ok(Read { records: records.iter().map(to_record).collect(), next, trimmed: false })
            }
        }
    }
}
