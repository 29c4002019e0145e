//! A stream as a mapping reads it: its shards with their parents, iterators, and records made into events.

use crate::error::Error;
use crate::local::data_stream::DataStream;
use crate::local::mapping::Mapping;
use crate::local::table_stream::TableStream;
use aws::{SdkConfig, SystemClock};
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_types::DateTime;
use event_source::stream::{ReadFrom, Record};
use notification::Timestamp;
use notification::ports::Clock;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// A stream.
#[derive(Debug)]
pub(crate) enum Source {
    /// A table's.
    Table(TableStream),
    /// Of Kinesis.
    Data(DataStream),
}

/// A shard, and the shards that come before it.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) name: String,
    pub(crate) parents: Vec<String>,
}

/// What one look into a shard found.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) records: Vec<Record>,
    /// Where it is read on; `None` where the shard is closed and these are its last.
    pub(crate) next: Option<String>,
    /// Whether records had expired before they were read.
    pub(crate) trimmed: bool,
}

/// Why a look into a shard found nothing.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The iterator was not used for too long.
    ExpiredIterator,
    /// What was to be read next is older than the stream keeps records.
    Trimmed,
    /// Anything else.
    Other(Error),
}

impl Source {
    pub(crate) fn of(mapping: &Mapping, config: &SdkConfig) -> Self {
        if arn_part(&mapping.stream_arn, 2) == "dynamodb" {
            Self::Table(TableStream::new(mapping, config))
        } else {
            Self::Data(DataStream::new(mapping, config))
        }
    }

    /// All shards.
    pub(crate) async fn shards(&self) -> Result<Vec<Shard>, Error> {
        match self {
            Self::Table(stream) => stream.shards().await,
            Self::Data(stream) => stream.shards().await,
        }
    }

    /// Reads on in a shard: at the iterator of the last look, if there was one.
    pub(crate) async fn read(&self, shard: &str, from: &ReadFrom, iterator: Option<String>) -> Result<Page, ReadError> {
        match self.look(shard, from, iterator).await {
            // Lambda goes on with the oldest record that there is, too.
            Err(ReadError::Trimmed) => {
                self.look(shard, &ReadFrom::TrimHorizon, None).await.map(|page| Page { trimmed: true, ..page })
            }
            other => other,
        }
    }

    async fn look(&self, shard: &str, from: &ReadFrom, iterator: Option<String>) -> Result<Page, ReadError> {
        match self {
            Self::Table(stream) => stream.look(shard, from, iterator).await,
            Self::Data(stream) => stream.look(shard, from, iterator).await,
        }
    }
}

impl ReadError {
    /// The error of an SDK call.
    pub(crate) fn aws<E: ProvideErrorMetadata, R>(call: &'static str) -> impl FnOnce(SdkError<E, R>) -> Self {
        move |error| match error.code() {
            Some("ExpiredIteratorException") => Self::ExpiredIterator,
            Some("TrimmedDataAccessException") => Self::Trimmed,
            _ => Self::Other(Error::aws(call)(error)),
        }
    }
}

/// A part of an ARN, counted from 0: `arn:aws:<2 service>:<3 region>:<4 account>:<5 …>`. Empty where there is none.
pub(crate) fn arn_part(arn: &str, place: usize) -> &str {
    arn.split(':').nth(place).unwrap_or_default()
}

/// The name of a table or a stream in the ARN of its stream.
pub(crate) fn stream_name(arn: &str) -> &str {
    arn_part(arn, 5).split('/').nth(1).unwrap_or(arn)
}

/// The time of a record for the engine.
pub(crate) fn arrival(time: Option<&DateTime>) -> Timestamp {
    let time = time.and_then(|time| Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok());
    time.unwrap_or_else(|| SystemClock.now())
}

/// Seconds of the epoch, as Lambda has times in events: a JSON number, with a fraction where there is one.
pub(crate) fn seconds(time: Option<&DateTime>) -> Value {
    match time {
        Some(time) if time.subsec_nanos() == 0 => time.secs().into(),
        Some(time) => time.as_secs_f64().into(),
        None => Value::Null,
    }
}

/// The event's text.
pub(crate) fn raw(event: &Value) -> Box<RawValue> {
    to_raw_value(event).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_with_the_fraction_that_they_came_with() {
        assert_eq!(seconds(Some(&DateTime::from_secs(1_763_805_600))).to_string(), "1763805600");
        assert_eq!(seconds(Some(&DateTime::from_secs_f64(1_763_805_602.123))).to_string(), "1763805602.123");
    }

    #[test]
    fn parts_of_an_arn_are_counted_and_absent_ones_are_empty() {
        let arn = "arn:aws:lambda:eu-central-1:000000000000:function:f:live";
        assert_eq!((arn_part(arn, 2), arn_part(arn, 3), arn_part(arn, 6)), ("lambda", "eu-central-1", "f"));
        assert_eq!(arn_part("", 6), "");
        assert_eq!(stream_name("arn:aws:dynamodb:r:0:table/t/stream/2026-11-22T09:00:00.000"), "t");
        assert_eq!(stream_name("arn:aws:kinesis:r:0:stream/s"), "s");
    }
}
