//! How long notifications take from INIT to Kinesis.

use notification::latency::{millis, sample};
use notification::{Text, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Records the metric `ReceivedToPublished`, in milliseconds, for a sample of the published records. An image has the time since
/// which its notification is pending: that of its receipt, or of the operator's command that put it back to INIT.
pub(crate) fn record(published: &[&RawValue], at: Timestamp) {
    for pending_since in sample(published).filter_map(|record| pending_since(record)) {
        metrics::histogram!("ReceivedToPublished").record(millis(pending_since, at));
    }
}

/// Since when the notification of a record is pending. It is read for the sample alone.
fn pending_since(record: &RawValue) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Wire<'a> {
        #[serde(borrow)]
        dynamodb: Change<'a>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Change<'a> {
        #[serde(borrow)]
        new_image: Image<'a>,
    }
    #[derive(Deserialize)]
    struct Image<'a> {
        #[serde(borrow)]
        pending_since: Attribute<'a>,
    }
    #[derive(Deserialize)]
    struct Attribute<'a> {
        #[serde(borrow, rename = "S")]
        text: Text<'a>,
    }
    serde_json::from_str::<Wire<'_>>(record.get()).ok()?.dynamodb.new_image.pending_since.text.parse().ok()
}
