//! The records of the table's stream.

use event_source::record::TableChange;
use jiff::Timestamp;
use notification::Status;
use notification::testing::Captured;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The `eventName` of the record of an item that expired.
pub(crate) const REMOVE: &str = "REMOVE";

/// What happened to the item.
pub(crate) fn event_name(captured: &Captured) -> &'static str {
    match (&captured.old, &captured.new) {
        (None, _) => "INSERT",
        (Some(_), Some(_)) => "MODIFY",
        (Some(_), None) => REMOVE,
    }
}

/// The record as publisher gets it. Its images have what the functions read of an item.
pub(crate) fn record(
    captured: &Captured,
    event_name: &str,
    sequence_number: &str,
    changed_at: Timestamp,
) -> Box<RawValue> {
    let change = TableChange {
        event_id: sequence_number,
        event_name,
        sequence_number,
        changed_at,
        keys: json!({"id": {"S": captured.id}}),
        new_image: captured.new.as_ref().map(|(status, event)| image(&captured.id, *status, Some(event))),
        old_image: captured.old.map(|status| image(&captured.id, status, None)),
        size_bytes: 1,
        view_type: "NEW_AND_OLD_IMAGES",
        is_expiry: event_name == REMOVE,
        stream_arn: "arn:aws:dynamodb:us-east-1:123456789012:table/t/stream/s",
    };
    change.to_json()
}

fn image(id: &str, status: Status, event: Option<&str>) -> Value {
    let mut image = json!({"id": {"S": id}, "status": {"S": status.as_str()}});
    if let Some(event) = event {
        image["event"] = json!({"S": event});
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(old: Option<Status>, new: Option<(Status, Box<str>)>) -> Value {
        let captured = Captured { id: "a".to_owned(), old, new };
        let record = record(&captured, event_name(&captured), "7", Timestamp::UNIX_EPOCH);
        serde_json::from_str(record.get()).unwrap()
    }

    #[test]
    fn every_change_is_captured_with_its_images() {
        let inserted = recorded(None, Some((Status::Init, "{}".into())));
        assert_eq!(inserted["eventName"], "INSERT");
        assert_eq!(inserted["dynamodb"]["NewImage"]["event"]["S"], "{}");
        let done = recorded(Some(Status::Init), Some((Status::Done, "{}".into())));
        assert_eq!(done["eventName"], "MODIFY");
        assert_eq!(done["dynamodb"]["OldImage"]["status"]["S"], "INIT");
        assert_eq!(done["dynamodb"]["SequenceNumber"], "7");
        assert_eq!(recorded(Some(Status::Done), None)["eventName"], "REMOVE");
    }
}
