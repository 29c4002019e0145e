//! The rules for any input of the domain. The property tests and the fuzz targets share them.

#![allow(dead_code, reason = "each fuzz target uses a part of it")]

use crate::refusals::check_named;
use notification::envelope::NotABatch;
use notification::event::readable_id;
use notification::report::Identifier;
use notification::{Deadline, Envelope, Notification, NotificationId, Status, Timestamp, content, limits};
use std::time::Duration;

/// Any text as an event: stored byte for byte, or refused by the rule that it breaks.
pub(crate) fn event(text: &str) {
    match Notification::parse(text) {
        Ok(notification) => {
            assert_eq!(notification.event(), text);
            assert_eq!(readable_id(text).as_ref(), Some(notification.id()));
            for attribute in [notification.source(), notification.event_type()] {
                assert!(!attribute.is_empty() && !attribute.chars().any(char::is_control), "{attribute:?}");
            }
            assert!(notification.data().is_none_or(|data| text.contains(data)));
            assert!(notification.item_bytes() <= limits::ITEM_MAX_BYTES - limits::ITEM_RESERVED_BYTES);
        }
        Err(malformed) => check_named(&malformed.to_string()),
    }
    if let Some(id) = readable_id(text) {
        assert_eq!(NotificationId::parse(id.as_str()), Ok(id));
    }
}

/// Any text as an id, an identifier or a status: unchanged and never empty, or refused by the rule that it breaks.
pub(crate) fn id(text: &str) {
    match NotificationId::parse(text) {
        Ok(id) => {
            assert_eq!(id.as_str(), text);
            assert!(!text.is_empty() && text.encode_utf16().count() <= limits::ID_MAX_CHARS);
            assert!(!text.chars().any(char::is_control));
            assert!(id.pending_shard() < limits::PENDING_SHARDS);
        }
        Err(invalid) => check_named(&invalid.to_string()),
    }
    match Identifier::parse(Some(text)) {
        Ok(identifier) => assert!(!text.is_empty() && identifier.as_str() == text),
        Err(_) => assert_eq!(text, ""),
    }
    if let Ok(status) = text.parse::<Status>() {
        assert_eq!(status.as_str(), text);
    }
}

/// Any two texts: comparing their contents is symmetric, and each has the same content as itself.
pub(crate) fn contents(a: &str, b: &str) {
    assert!(content::same(a, a) && content::same(b, b));
    assert_eq!(content::same(a, b), content::same(b, a));
}

/// Any bytes as a batch: each record is a part of them, or the refusal is one line that says what was expected.
pub(crate) fn envelope(bytes: &[u8]) {
    match serde_json::from_slice::<Envelope>(bytes) {
        Ok(envelope) => {
            let text = std::str::from_utf8(bytes).unwrap();
            assert!(envelope.records.iter().all(|record| !record.get().is_empty() && text.contains(record.get())));
        }
        Err(refusal) => check_refused_envelope(&refusal),
    }
}

fn check_refused_envelope(refusal: &serde_json::Error) {
    // Invalid JSON is refused with the position of its first error.
    assert!(!refusal.is_data() || refusal.to_string() == NotABatch.to_string(), "{refusal}");
}

/// Any number as a deadline, and any time before and after it.
pub(crate) fn deadline(millis: u64, by: Duration) {
    let deadline = Deadline::from_epoch_millis(millis);
    assert!(deadline.earlier(by) <= deadline && deadline.later(by) >= deadline.time());
    assert!(!deadline.allows_new_work(Timestamp::MAX));
}
