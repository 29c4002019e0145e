//! What the table's stream captures.

use event_source::record::TableChange;
use jiff::Timestamp;
use notification::Status;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A change of an item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Captured {
    /// The item's key.
    pub(crate) id: String,
    /// The status and the event after it; `None` for a removal.
    pub(crate) new: Option<(Status, Box<str>)>,
    /// The status before it; `None` for a new item.
    pub(crate) old: Option<Status>,
    pub(crate) event_name: &'static str,
}

impl Captured {
    pub(crate) fn is_removal(&self) -> bool {
        self.event_name == "REMOVE"
    }

    /// The record as publisher gets it. Its images have what the functions read of an item.
    pub(crate) fn record(&self, sequence_number: &str, now: Timestamp) -> Box<RawValue> {
        let change = TableChange {
            event_id: sequence_number,
            event_name: self.event_name,
            sequence_number,
            changed_at: now,
            keys: json!({"id": {"S": self.id}}),
            new_image: self.new.as_ref().map(|(status, event)| self.image(*status, Some(event))),
            old_image: self.old.map(|status| self.image(status, None)),
            size_bytes: 1,
            view_type: "NEW_AND_OLD_IMAGES",
            is_expiry: self.is_removal(),
            stream_arn: "arn:aws:dynamodb:us-east-1:123456789012:table/t/stream/s",
        };
        change.to_json()
    }

    fn image(&self, status: Status, event: Option<&str>) -> Value {
        let mut image = json!({"id": {"S": self.id}, "status": {"S": status.as_str()}});
        if let Some(event) = event {
            image["event"] = json!({"S": event});
        }
        image
    }
}
