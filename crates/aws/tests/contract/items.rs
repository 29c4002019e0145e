//! Items, notifications and times for the tests.

use aws::SystemClock;
use aws_sdk_dynamodb::types::AttributeValue;
use notification::ports::{Committed, Written};
use notification::{Clock, Deadline, Failure, Notification, NotificationId, Timestamp, limits};
use std::collections::HashMap;
use std::time::Duration;

/// An item in the SDK's form.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// The time of the items that a test prepares, and the time at which the adapter writes.
pub(crate) const BEFORE: &str = "2026-11-22T10:00:00.000Z";
pub(crate) const NOW: &str = "2026-11-22T10:00:07.123Z";

/// Ninety days after [`NOW`], in seconds since the epoch.
pub(crate) const NINETY_DAYS_LATER: &str = "1803117607";

/// The answer for a notification whose transaction was committed.
pub(crate) const COMMITTED: Result<Committed, Failure> = Ok(Committed::Written(Written::Yes));

pub(crate) fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

/// A deadline later than any test needs.
pub(crate) fn in_a_minute() -> Deadline {
    Deadline::at(SystemClock.now() + Duration::from_mins(1))
}

/// An item with these attributes.
pub(crate) fn item<'a>(attributes: impl IntoIterator<Item = (&'a str, String)>) -> Item {
    attributes.into_iter().map(|(name, text)| (name.to_owned(), value(name, text))).collect()
}

/// A value of the type that its attribute has.
fn value(name: &str, text: String) -> AttributeValue {
    match name {
        "pending_shard" | "expires_at" | "raw_bytes" | "failures" => AttributeValue::N(text),
        "earlier_put_backs" => AttributeValue::L(text.split(' ').map(|at| AttributeValue::S(at.to_owned())).collect()),
        _ => AttributeValue::S(text),
    }
}

pub(crate) fn id(id: &str) -> NotificationId {
    NotificationId::parse(id).unwrap()
}

/// The text of an event with this id and this text in its data.
pub(crate) fn event(id: &str, data: &str) -> String {
    serde_json::json!({"specversion": "1.0", "id": id, "source": "s", "type": "k", "data": data}).to_string()
}

pub(crate) fn notification(id: &str) -> Notification {
    Notification::parse(event(id, "")).unwrap()
}

/// A notification of the largest size that is accepted.
pub(crate) fn largest_notification(id: &str) -> Notification {
    let max = limits::ITEM_MAX_BYTES - limits::ITEM_RESERVED_BYTES;
    let data = "x".repeat(max - notification(id).item_bytes());
    let largest = Notification::parse(event(id, &data)).unwrap();
    assert_eq!(largest.item_bytes(), max);
    largest
}

/// The item of a notification that was inserted at [`BEFORE`].
pub(crate) fn inserted(notification: &Notification) -> Item {
    item([
        ("id", notification.id().as_str().to_owned()),
        ("status", "INIT".to_owned()),
        ("event", notification.event().to_owned()),
        ("source", notification.source().to_owned()),
        ("type", notification.event_type().to_owned()),
        ("received_at", BEFORE.to_owned()),
        ("pending_shard", notification.id().pending_shard().to_string()),
        ("pending_since", BEFORE.to_owned()),
    ])
}
