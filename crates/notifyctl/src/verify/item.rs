//! The invariants of one item, and of one change of an item.

use notification::id::{QUARANTINE_PREFIX, SWEEP_CURSOR_ID, index_shard};
use notification::status::TRANSITIONS;
use notification::{Notification, NotificationId, ReasonCode, Status, Timestamp, limits};
use std::collections::HashMap;
use std::time::Duration;

/// The attributes of an item: texts and numbers as text. Others, as the bytes of an orphan, are empty.
pub(super) type Attributes = HashMap<String, String>;

/// The first invariant that an item breaks; `None` if it breaks none.
pub(super) fn problem(item: &Attributes) -> Option<String> {
    let Some(id) = item.get("id") else { return Some("it has no id".to_owned()) };
    if id == SWEEP_CURSOR_ID {
        return None;
    }
    let Some(status) = status(item) else { return Some("it has no known status".to_owned()) };
    wrong_attribute(item, id, status).or_else(|| wrong_time(item)).or_else(|| wrong_event(item, id, status))
}

fn status(item: &Attributes) -> Option<Status> {
    item.get("status")?.parse().ok()
}

/// Whether an item has exactly the attributes that its status implies.
fn wrong_attribute(item: &Attributes, id: &str, status: Status) -> Option<String> {
    let shard = index_shard(id);
    let is_pending = status.is_pending();
    let is_unresolved = matches!(status, Status::Failed | Status::InDoubt);
    let is_claimed = status == Status::Claimed;
    let is_done = status == Status::Done;
    for (name, wanted) in [
        ("pending_since", is_pending),
        ("owner", is_claimed),
        ("lease_until", is_claimed),
        ("unresolved_since", is_unresolved),
        ("expires_at", is_done),
    ] {
        if item.contains_key(name) != wanted {
            return Some(format!("it is {status} and has {} {name}", if wanted { "no" } else { "a" }));
        }
    }
    let required = match status {
        Status::Init | Status::Claimed => None,
        Status::Done => Some("done_at"),
        Status::Failed => Some("failed_at"),
        Status::InDoubt => Some("in_doubt_at"),
    };
    if let Some(name) = required.filter(|name| !item.contains_key(*name)) {
        return Some(format!("it is {status} and has no {name}"));
    }
    let partition = is_unresolved.then(|| format!("{status}#{shard}"));
    for (name, expected) in
        [("pending_shard", is_pending.then(|| shard.to_string())), ("unresolved_partition", partition)]
    {
        if item.get(name) != expected.as_ref() {
            return Some(format!("its {name} is {:?} instead of {expected:?}", item.get(name)));
        }
    }
    if is_unresolved && !item.contains_key("reason") {
        return Some(format!("it is {status} and has no reason"));
    }
    let code = item.get("reason_code").filter(|code| code.parse::<ReasonCode>().is_err());
    code.map(|_| "its reason code is not a known one".to_owned())
}

/// The attributes with times.
const TIMES: [&str; 9] = [
    "received_at",
    "pending_since",
    "put_back_at",
    "unknown_call_at",
    "last_failure_at",
    "failed_at",
    "in_doubt_at",
    "done_at",
    "lease_until",
];

fn wrong_time(item: &Attributes) -> Option<String> {
    for name in TIMES {
        if item.get(name).is_some_and(|time| time.parse::<Timestamp>().is_err()) {
            return Some(format!("its {name} is not a time"));
        }
    }
    let (done_at, expires_at) = (item.get("done_at"), item.get("expires_at"));
    let (Some(done_at), Some(expires_at)) = (done_at, expires_at) else { return None };
    let kept = Duration::from_hours(24 * u64::from(limits::DONE_RETENTION_MIN_DAYS)).as_secs();
    let earliest = done_at.parse::<Timestamp>().ok()?.as_second().saturating_add_unsigned(kept);
    match expires_at.parse::<i64>() {
        Ok(at) if at >= earliest => None,
        Ok(_) => Some(format!("it expires less than {} days after it was DONE", limits::DONE_RETENTION_MIN_DAYS)),
        Err(_) => Some("its expires_at is not a number of seconds".to_owned()),
    }
}

/// Whether its event is its notification's. A FAILED item may have any event, and an orphan has none.
fn wrong_event(item: &Attributes, id: &str, status: Status) -> Option<String> {
    let event = item.get("event");
    if status == Status::Failed {
        return (event.is_none() && !id.starts_with(QUARANTINE_PREFIX))
            .then(|| "it has no event and is not an orphan".to_owned());
    }
    if NotificationId::parse(id).is_err() {
        return Some("its id is not a notification id".to_owned());
    }
    let Some(event) = event else { return Some("it has no event".to_owned()) };
    match Notification::parse(event.as_str()) {
        Err(malformed) => Some(format!("its event is malformed: {malformed}")),
        Ok(notification) if notification.id().as_str() != id => Some("its event has another id".to_owned()),
        Ok(notification) => {
            let copies = [("source", notification.source()), ("type", notification.event_type())];
            let wrong = copies.iter().find(|(name, value)| item.get(*name).is_none_or(|copy| copy != value));
            wrong.map(|(name, _)| format!("its {name} is not that of its event"))
        }
    }
}

/// Why an item was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    /// Its time to live was over.
    Expiry,
    /// Anything else.
    Deletion,
}

/// What is wrong with a change of an item: `old` is `None` for a new one.
pub(super) fn wrong_change(old: Option<&Attributes>, new: &Attributes) -> Option<String> {
    if new.get("id").is_some_and(|id| id == SWEEP_CURSOR_ID) {
        return None;
    }
    if let Some(problem) = problem(new) {
        return Some(problem);
    }
    let (from, to) = (old.and_then(status), status(new)?);
    let is_allowed = TRANSITIONS.iter().any(|allowed| (allowed.from, allowed.to) == (from, to));
    if !is_allowed {
        let from = from.map_or("nothing", Status::as_str);
        return Some(format!("it was changed from {from} to {to}, which is no transition"));
    }
    let is_other = old.is_some_and(|old| old.get("event") != new.get("event"));
    is_other.then(|| "its event was changed".to_owned())
}

/// What is wrong with a removal: only DONE items expire, and nothing else is removed.
pub(super) fn wrong_removal(old: &Attributes, removal: Removal) -> Option<String> {
    if old.get("id").is_some_and(|id| id == SWEEP_CURSOR_ID) {
        return None;
    }
    match (removal, status(old)) {
        (Removal::Expiry, Some(Status::Done)) => None,
        (Removal::Expiry, _) => Some("it expired although it was not DONE".to_owned()),
        (Removal::Deletion, _) => Some("it was deleted, and not by its time to live".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"specversion":"1.0","id":"a","source":"s","type":"t"}"#;
    const TIME: &str = "2026-11-22T10:00:00.000Z";

    /// An item with these attributes and the usual ones.
    fn item(status: &str, attributes: &[(&str, &str)]) -> Attributes {
        let usual = [("id", "a"), ("status", status), ("event", EVENT), ("source", "s"), ("type", "t")];
        let all = usual.iter().chain([&("received_at", TIME)]).chain(attributes);
        all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn init() -> Attributes {
        item("INIT", &[("pending_shard", "12"), ("pending_since", TIME)])
    }

    fn done() -> Attributes {
        item("DONE", &[("done_at", TIME), ("expires_at", "1803117600")])
    }

    fn failed() -> Attributes {
        let unresolved = [("unresolved_partition", "FAILED#12"), ("unresolved_since", TIME)];
        let reason = [("failed_at", TIME), ("reason", "no"), ("reason_code", "rejected")];
        item("FAILED", &[&unresolved[..], &reason[..]].concat())
    }

    fn with(mut item: Attributes, name: &str, value: Option<&str>) -> Attributes {
        match value {
            Some(value) => item.insert(name.to_owned(), value.to_owned()),
            None => item.remove(name),
        };
        item
    }

    #[test]
    fn each_invariant_is_found_broken() {
        for good in [init(), done(), failed()] {
            assert_eq!(problem(&good), None);
        }
        for (broken, told) in [
            (with(init(), "id", None), "it has no id"),
            (with(init(), "status", Some("OPEN")), "no known status"),
            (with(init(), "pending_since", None), "no pending_since"),
            (with(init(), "pending_shard", Some("13")), "instead of Some(\"12\")"),
            (with(init(), "owner", Some("w")), "a owner"),
            (with(init(), "pending_since", Some("now")), "is not a time"),
            (with(init(), "event", None), "it has no event"),
            (with(init(), "event", Some("{}")), "malformed"),
            (with(init(), "event", Some(&EVENT.replace("\"a\"", "\"b\""))), "another id"),
            (with(init(), "source", Some("other")), "its source is not that of its event"),
            (with(done(), "done_at", None), "no done_at"),
            (with(done(), "expires_at", Some("1798000000")), "less than 36 days"),
            (with(failed(), "reason", None), "no reason"),
            (with(failed(), "reason_code", Some("refused")), "not a known one"),
            (with(failed(), "unresolved_partition", Some("IN_DOUBT#12")), "unresolved_partition"),
            (with(failed(), "event", None), "not an orphan"),
        ] {
            let problem = problem(&broken).unwrap();
            assert!(problem.contains(told), "{problem} does not contain {told}");
        }
    }

    #[test]
    fn only_transitions_are_allowed_and_the_event_stays() {
        assert_eq!(wrong_change(None, &init()), None);
        assert_eq!(wrong_change(Some(&init()), &done()), None);
        assert_eq!(wrong_change(Some(&failed()), &init()), None);
        let reopened = wrong_change(Some(&done()), &init()).unwrap();
        assert_eq!(reopened, "it was changed from DONE to INIT, which is no transition");
        assert!(wrong_change(None, &done()).unwrap().contains("from nothing to DONE"));
        let other = with(init(), "event", Some(&EVENT.replace('}', ",\"data\":1}")));
        assert_eq!(wrong_change(Some(&other), &done()).unwrap(), "its event was changed");
    }

    #[test]
    fn only_done_items_are_removed_and_only_by_their_time_to_live() {
        assert_eq!(wrong_removal(&done(), Removal::Expiry), None);
        assert!(wrong_removal(&init(), Removal::Expiry).is_some());
        assert!(wrong_removal(&done(), Removal::Deletion).is_some());
    }
}
