//! What happened to a notification, in order, as far as its item says: each change leaves its time.

use crate::items::text;
use aws_sdk_dynamodb::types::AttributeValue;
use notification::Timestamp;
use serde::Serialize;
use std::collections::HashMap;

/// Something that happened to a notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Event {
    /// When, as the item has it.
    pub(crate) at: String,
    /// Milliseconds since the event before; `None` for the first one.
    pub(crate) after_ms: Option<i64>,
    pub(crate) what: String,
}

const FAILED: &str = "its action failed";

/// The attributes with times, and what they are the times of, in the order in which they would follow at the same time.
const TIMES: [(&str, &str); 8] = [
    ("received_at", "received: ingest put it into the table"),
    ("put_back_at", "put back: an operator moved it to INIT (redrive or resolve --retry)"),
    ("unknown_call_at", "a call of its action had an unknown outcome"),
    ("last_failure_at", FAILED),
    ("failed_at", "FAILED"),
    ("in_doubt_at", "IN_DOUBT"),
    ("done_at", "DONE"),
    ("lease_until", "the claim of its worker expires"),
];

/// The events, in order. The reason is that of the last failure.
pub(crate) fn of(item: &HashMap<String, AttributeValue>) -> Vec<Event> {
    let mut events: Vec<(&str, String)> = Vec::new();
    for (name, what) in TIMES {
        let Some(at) = text(item, name) else { continue };
        let what = match name {
            "last_failure_at" => format!("{what}, {}", failures(item)),
            _ => what.to_owned(),
        };
        events.push((at, what));
    }
    // Times are text of one format, so they sort by time. The sort is stable.
    events.sort_by_key(|(at, _)| *at);
    if let (Some(reason), Some(last)) = (reason(item), last_failure(item)) {
        let is_failure = |what: &str| what.starts_with(FAILED) || ["FAILED", "IN_DOUBT"].contains(&what);
        let failure = events.iter_mut().rfind(|(at, what)| *at == last && is_failure(what));
        if let Some((_, what)) = failure {
            *what = format!("{what}: {reason}");
        }
    }
    let mut before: Option<Timestamp> = None;
    let timed = events.into_iter().map(|(at, what)| {
        let now: Option<Timestamp> = at.parse().ok();
        let after_ms = before.zip(now).map(|(before, now)| now.as_millisecond() - before.as_millisecond());
        before = now.or(before);
        Event { at: at.to_owned(), after_ms, what }
    });
    timed.collect()
}

/// How many failures were noted.
fn failures(item: &HashMap<String, AttributeValue>) -> String {
    let count = item.get("failures").and_then(|count| Some(count.as_n().ok()?.as_str())).unwrap_or("?");
    format!("{count} noted since it became INIT")
}

/// The reason with its code.
fn reason(item: &HashMap<String, AttributeValue>) -> Option<String> {
    let reason = text(item, "reason")?;
    Some(text(item, "reason_code").map_or_else(|| reason.to_owned(), |code| format!("{reason} ({code})")))
}

/// When the reason was written.
fn last_failure(item: &HashMap<String, AttributeValue>) -> Option<&str> {
    ["last_failure_at", "failed_at", "in_doubt_at"].into_iter().filter_map(|name| text(item, name)).max()
}

/// A time in milliseconds, for people.
pub(crate) fn span(millis: i64) -> String {
    match millis {
        ..60_000 => format!("+{}.{:03} s", millis / 1_000, millis.rem_euclid(1_000)),
        60_000..3_600_000 => format!("+{} min {} s", millis / 60_000, millis / 1_000 % 60),
        3_600_000..172_800_000 => format!("+{} h {} min", millis / 3_600_000, millis / 60_000 % 60),
        _ => format!("+{} days", millis / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(attributes: &[(&str, &str)]) -> HashMap<String, AttributeValue> {
        let value = |name: &str, text: &str| match name {
            "failures" => AttributeValue::N(text.to_owned()),
            _ => AttributeValue::S(text.to_owned()),
        };
        attributes.iter().map(|(name, text)| ((*name).to_owned(), value(name, text))).collect()
    }

    fn told(attributes: &[(&str, &str)]) -> Vec<(Option<i64>, String)> {
        of(&item(attributes)).into_iter().map(|event| (event.after_ms, event.what)).collect()
    }

    #[test]
    fn the_events_are_in_order_with_the_time_between_them_and_the_last_failure_has_its_reason() {
        let told = told(&[
            ("done_at", "2026-11-22T10:20:00.500Z"),
            ("received_at", "2026-11-22T10:00:00.000Z"),
            ("failed_at", "2026-11-22T10:00:01.250Z"),
            ("put_back_at", "2026-11-22T10:20:00.000Z"),
            ("reason", "rejected: no such order"),
            ("reason_code", "rejected"),
        ]);
        let what: Vec<_> = told.iter().map(|(_, what)| what.as_str()).collect();
        assert_eq!(what[1], "FAILED: rejected: no such order (rejected)");
        assert!(what[0].starts_with("received") && what[2].starts_with("put back") && what[3] == "DONE");
        let after: Vec<_> = told.iter().map(|(after, _)| *after).collect();
        assert_eq!(after, [None, Some(1_250), Some(1_198_750), Some(500)]);
    }

    #[test]
    fn a_pending_notification_has_its_noted_failures() {
        let told = told(&[
            ("received_at", "2026-11-22T10:00:00.000Z"),
            ("last_failure_at", "2026-11-22T10:06:00.000Z"),
            ("failures", "2"),
            ("reason", "could not connect"),
            ("reason_code", "receiver_unavailable"),
        ]);
        assert_eq!(
            told[1].1,
            "its action failed, 2 noted since it became INIT: could not connect (receiver_unavailable)"
        );
    }

    #[test]
    fn a_time_is_told_in_the_units_that_people_use() {
        let told = [0, 1_250, 61_000, 7_260_000, 260_000_000].map(span);
        assert_eq!(told, ["+0.000 s", "+1.250 s", "+1 min 1 s", "+2 h 1 min", "+3 days"]);
    }
}
