//! How long notifications take to become DONE.

use crate::ended::Done;
use notification::Timestamp;
use notification::latency::{millis, sample};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A record whose notification became DONE in this invocation.
pub(crate) type DoneRecord<'a> = (&'a RawValue, Done);

/// Records latencies in milliseconds, for a sample of the records:
///
/// - `PublishedToDone`, since Kinesis has the record.
/// - `ReceivedToDone`, since the notification is pending, if it was read: the record itself does not have that time, and a
///   transactional action needs no read.
pub(crate) fn record(done: &[DoneRecord<'_>]) {
    for (record, Done { at, pending_since }) in sample(done) {
        if let Some(arrived) = arrived(record) {
            metrics::histogram!("PublishedToDone").record(millis(arrived, *at));
        }
        if let Some(pending_since) = pending_since {
            metrics::histogram!("ReceivedToDone").record(millis(*pending_since, *at));
        }
    }
}

/// When Kinesis accepted a record. It is read for the sample alone, and an unusual time makes no record malformed.
fn arrived(record: &RawValue) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Wire {
        kinesis: Payload,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Payload {
        /// Seconds since 1970.
        approximate_arrival_timestamp: f64,
    }
    let seconds = serde_json::from_str::<Wire>(record.get()).ok()?.kinesis.approximate_arrival_timestamp;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a number of milliseconds; what is out of range is no timestamp"
    )]
    Timestamp::from_millisecond((seconds * 1000.0).round() as i64).ok()
}
