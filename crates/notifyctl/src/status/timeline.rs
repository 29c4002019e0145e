//! What happened to a notification, in order: as its item says, where each change leaves its time, and as logs and dead letters
//! say.

use crate::stack::items::text;
use aws_sdk_dynamodb::types::AttributeValue;
use notification::Timestamp;
use serde::Serialize;
use std::collections::HashMap;

/// Something that happened to a notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Event {
    /// When: RFC 3339, UTC, milliseconds.
    pub(crate) at: String,
    /// Milliseconds since the event before; `None` for the first one.
    pub(crate) after_ms: Option<i64>,
    pub(crate) from: Origin,
    pub(crate) what: String,
}

/// What an event is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// The item in the table.
    Table,
    /// The log of ingest.
    Ingest,
    /// The log of publisher.
    Publisher,
    /// The log of downstream.
    Downstream,
    /// A message in the dead-letter queue.
    DeadLetter,
}

impl Origin {
    /// As it is printed.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Ingest => "ingest",
            Self::Publisher => "publisher",
            Self::Downstream => "downstream",
            Self::DeadLetter => "dead letter",
        }
    }
}

impl Event {
    /// An event whose place in the order is not known yet.
    pub(crate) const fn new(at: String, from: Origin, what: String) -> Self {
        Self { at, after_ms: None, from, what }
    }
}

const PUT_BACK: &str = "put back: an operator moved it to INIT (redrive or resolve --retry)";

/// The attributes with times, and what they are the times of, in the order in which they would follow at the same time.
const TIMES: [(&str, &str); 8] = [
    ("received_at", "received: ingest put it into the table"),
    ("put_back_at", PUT_BACK),
    ("unknown_call_at", "a call of its action had an unknown outcome"),
    ("last_failure_at", "its action failed"),
    ("failed_at", "FAILED"),
    ("in_doubt_at", "IN_DOUBT"),
    ("done_at", "DONE"),
    ("lease_until", "the claim of its worker expires"),
];

/// What the item says, in order. The reason is that of the last failure.
pub(crate) fn of(item: &HashMap<String, AttributeValue>) -> Vec<Event> {
    let last_failure = last_failure(item);
    let reason = reason(item);
    let mut events = earlier_put_backs(item);
    for (name, what) in TIMES {
        let Some(at) = text(item, name) else { continue };
        let mut what = what.to_owned();
        if name == "last_failure_at" {
            what = format!("{what}, {}", failures(item));
        }
        if let Some(reason) = reason.as_ref().filter(|_| last_failure == Some(name)) {
            what = format!("{what}: {reason}");
        }
        events.push(Event::new(at.to_owned(), Origin::Table, what));
    }
    in_order(events)
}

/// When operators put the notification back before the last time. What failed in between is in the logs.
fn earlier_put_backs(item: &HashMap<String, AttributeValue>) -> Vec<Event> {
    let times = item.get("earlier_put_backs").and_then(|times| times.as_l().ok());
    let times = times.into_iter().flatten().filter_map(|at| at.as_s().ok());
    times.map(|at| Event::new(at.clone(), Origin::Table, PUT_BACK.to_owned())).collect()
}

/// Puts events in order, and measures the time between them.
pub(crate) fn in_order(mut events: Vec<Event>) -> Vec<Event> {
    // Times are text of one format, so they sort by time. The sort is stable.
    events.sort_by(|one, other| one.at.cmp(&other.at));
    let mut before: Option<Timestamp> = None;
    for event in &mut events {
        let now: Option<Timestamp> = event.at.parse().ok();
        event.after_ms = before.zip(now).map(|(before, now)| now.as_millisecond() - before.as_millisecond());
        before = now.or(before);
    }
    events
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

/// The attribute with the time of the last failure. `IN_DOUBT` and `FAILED` come after a failure of the same time.
fn last_failure(item: &HashMap<String, AttributeValue>) -> Option<&'static str> {
    let times =
        ["last_failure_at", "failed_at", "in_doubt_at"].into_iter().filter_map(|name| Some((name, text(item, name)?)));
    times.max_by_key(|(_, at)| *at).map(|(name, _)| name)
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
            "earlier_put_backs" => {
                AttributeValue::L(text.split(' ').map(|at| AttributeValue::S(at.to_owned())).collect())
            }
            _ => AttributeValue::S(text.to_owned()),
        };
        attributes.iter().map(|(name, text)| ((*name).to_owned(), value(name, text))).collect()
    }

    #[test]
    fn a_reason_is_that_of_the_last_failure_only() {
        let described = told(&[
            ("last_failure_at", "2026-11-22T10:00:01.000Z"),
            ("failed_at", "2026-11-22T10:00:02.000Z"),
            ("in_doubt_at", "2026-11-22T10:00:02.000Z"),
            ("reason", "r"),
        ]);
        let described: Vec<_> = described.iter().map(|(_, what)| what.as_str()).collect();
        assert_eq!(described, ["its action failed, ? noted since it became INIT", "FAILED", "IN_DOUBT: r"]);
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
    fn each_time_at_which_it_was_put_back_is_told() {
        let told = told(&[
            ("received_at", "2026-11-22T10:00:00.000Z"),
            ("earlier_put_backs", "2026-11-22T10:01:00.000Z 2026-11-22T10:02:00.000Z"),
            ("put_back_at", "2026-11-22T10:03:00.000Z"),
            ("failed_at", "2026-11-22T10:02:01.000Z"),
        ]);
        let what: Vec<_> = told.iter().map(|(_, what)| what.split(':').next().unwrap()).collect();
        assert_eq!(what, ["received", "put back", "put back", "FAILED", "put back"]);
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
    fn a_line_of_a_log_is_in_its_place_between_what_the_table_says_and_the_times_between_are_measured_again() {
        let mut events =
            of(&item(&[("received_at", "2026-11-22T10:00:00.000Z"), ("done_at", "2026-11-22T10:00:02.000Z")]));
        events.push(Event::new(
            "2026-11-22T10:00:01.500Z".to_owned(),
            Origin::Publisher,
            "WARN not published".to_owned(),
        ));
        let events = in_order(events);
        let from: Vec<_> = events.iter().map(|event| (event.from, event.after_ms)).collect();
        assert_eq!(from, [(Origin::Table, None), (Origin::Publisher, Some(1_500)), (Origin::Table, Some(500))]);
    }

    #[test]
    fn a_time_is_told_in_the_units_that_people_use() {
        let told = [0, 1_250, 61_000, 7_260_000, 260_000_000].map(span);
        assert_eq!(told, ["+0.000 s", "+1.250 s", "+1 min 1 s", "+2 h 1 min", "+3 days"]);
    }
}
