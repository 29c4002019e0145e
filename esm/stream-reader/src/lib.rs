//! Reads the shards of DynamoDB streams and Kinesis data streams: one method for each call. The caller decides when to
//! call, how often, and what to do after an error.
//!
//! | file | concern |
//! |---|---|
//! | [`dynamodb`] | the stream of a DynamoDB table |
//! | [`kinesis`] | a Kinesis data stream |
//! | [`error`] | why a call to AWS failed |

pub mod dynamodb;
pub mod error;
pub mod kinesis;

pub use error::CallError;
pub use event_source::stream::ReadFrom;

use aws_smithy_types::DateTime;
use jiff::Timestamp;

/// A shard of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its id.
    pub id: String,
    /// The shards that it continues: it has two after a merge.
    pub parents: Vec<String>,
    /// Whether it takes no more records: it has an ending sequence number.
    pub is_closed: bool,
}

/// The answer to one `GetRecords`. It may be empty although more records follow.
#[derive(Debug)]
pub struct Page<R> {
    /// The records, in order.
    pub records: Vec<R>,
    /// Where the next read continues; `None` at the end of a closed shard.
    pub next: Option<String>,
    /// Milliseconds from these records to the end of the stream. Only Kinesis tells it.
    pub millis_behind_latest: Option<i64>,
}

/// The type of a shard iterator, as both APIs name it, and the sequence number after which it begins.
fn iterator_type(from: &ReadFrom) -> (&'static str, Option<String>) {
    match from {
        ReadFrom::TrimHorizon => ("TRIM_HORIZON", None),
        ReadFrom::Latest => ("LATEST", None),
        ReadFrom::After(number) => ("AFTER_SEQUENCE_NUMBER", Some(number.to_string())),
    }
}

/// The time of a record, to the millisecond. The services send a fraction of seconds, which is not exact as a binary
/// number.
#[must_use]
pub fn timestamp(time: &DateTime) -> Option<Timestamp> {
    let millis = i64::try_from((time.as_nanos() + 500_000).div_euclid(1_000_000)).ok()?;
    Timestamp::from_millisecond(millis).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_the_milliseconds_that_the_service_sent() {
        for millis in 1_763_805_602_000..1_763_805_603_000 {
            #[allow(clippy::cast_precision_loss, reason = "this is how the SDK reads it")]
            let seconds = millis as f64 / 1_000.0;
            let expected = Timestamp::from_millisecond(millis).unwrap();
            assert_eq!(timestamp(&DateTime::from_secs_f64(seconds)), Some(expected));
        }
    }
}
