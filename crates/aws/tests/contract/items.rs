//! Items, notifications and times for the tests.

use aws::SystemClock;
use aws_sdk_dynamodb::types::AttributeValue;
use notification::Clock;
use notification::{Deadline, Notification, NotificationId, Timestamp};
use std::collections::HashMap;
use std::time::Duration;

/// An item as the SDK has it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// When what a test prepares has happened, and when the adapter writes.
pub(crate) const BEFORE: &str = "2026-11-22T10:00:00.000Z";
pub(crate) const NOW: &str = "2026-11-22T10:00:07.123Z";

/// Ninety days after [`NOW`], in seconds since the epoch.
pub(crate) const NINETY_DAYS_LATER: &str = "1803117607";

pub(crate) fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

/// A deadline that no test comes near.
pub(crate) fn in_a_minute() -> Deadline {
    Deadline::at(SystemClock.now() + Duration::from_mins(1))
}

/// An item with these attributes.
pub(crate) fn item<'a>(attributes: impl IntoIterator<Item = (&'a str, String)>) -> Item {
    attributes.into_iter().map(|(name, text)| (name.to_owned(), value(name, text))).collect()
}

/// A value with the type that its attribute has.
fn value(name: &str, text: String) -> AttributeValue {
    match name {
        "pending_shard" | "expires_at" | "raw_bytes" => AttributeValue::N(text),
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

/// A notification that fills as much of an item as a notification may.
pub(crate) fn largest_notification(id: &str) -> Notification {
    let max = notification::limits::ITEM_MAX_BYTES - notification::limits::ITEM_RESERVED_BYTES;
    let data = "x".repeat(max - notification(id).item_bytes());
    let largest = Notification::parse(event(id, &data)).unwrap();
    assert_eq!(largest.item_bytes(), max);
    largest
}

/// What a notification's item is when it was inserted at [`BEFORE`].
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
