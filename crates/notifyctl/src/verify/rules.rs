//! The rules of the table: which attributes an item has in each status, and what each change does to them.
//!
//! `docs/SEMANTICS.md` has the same two tables, and a test compares them. Everything here is pure, and knows neither the
//! SDK nor the code that writes: the simulation applies these rules to every change that goes through the adapters.

use notification::id::{QUARANTINE_PREFIX, SWEEP_CURSOR_ID, index_shard};
use notification::{Notification, NotificationId, ReasonCode, Status, Timestamp, limits};
use std::collections::{BTreeMap, BTreeSet};

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Number(String),
    Bytes,
    /// A list of texts.
    Texts(Vec<String>),
    /// Of a type that no attribute of an item has.
    Other,
}

/// The attributes of an item.
pub(crate) type Item = BTreeMap<String, Value>;

/// An attribute that items can have.
pub(super) struct Attribute {
    pub(super) name: &'static str,
    pub(super) kind: Type,
    /// Whether an item has it, by [`COLUMNS`].
    pub(super) has: [Has; 6],
}

/// The type of an attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    /// A text: RFC 3339, UTC, with milliseconds. Indexes sort by it, so it has always the same length.
    Time,
    /// A list of times.
    Times,
    Number,
    Bytes,
}

/// Whether an item has an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Has {
    Always,
    Never,
    /// It depends on what happened before.
    Maybe,
}

use Has::{Always, Maybe, Never};
use Type::{Bytes, Number, Text, Time, Times};

/// The kinds of items: notifications by their status, and orphans, which are FAILED.
pub(super) const COLUMNS: [&str; 6] = ["INIT", "CLAIMED", "DONE", "FAILED", "IN_DOUBT", "orphan"];

/// Every attribute, and which items have it.
#[rustfmt::skip]
pub(super) const ATTRIBUTES: &[Attribute] = &[
    //                                         INIT    CLAIMED DONE    FAILED  IN_DOUBT orphan
    attribute("id",                   Text,   [Always, Always, Always, Always, Always, Always]),
    attribute("status",               Text,   [Always, Always, Always, Always, Always, Always]),
    attribute("event",                Text,   [Always, Always, Always, Always, Always, Never]),
    attribute("source",               Text,   [Always, Always, Always, Always, Always, Never]),
    attribute("type",                 Text,   [Always, Always, Always, Always, Always, Never]),
    attribute("received_at",          Time,   [Always, Always, Always, Always, Always, Never]),
    attribute("pending_shard",        Number, [Always, Always, Never,  Never,  Never,  Never]),
    attribute("pending_since",        Time,   [Always, Always, Never,  Never,  Never,  Never]),
    attribute("put_back_at",          Time,   [Maybe,  Maybe,  Maybe,  Maybe,  Maybe,  Never]),
    attribute("earlier_put_backs",    Times,  [Maybe,  Maybe,  Maybe,  Maybe,  Maybe,  Never]),
    attribute("owner",                Text,   [Never,  Always, Never,  Never,  Never,  Never]),
    attribute("lease_until",          Time,   [Never,  Always, Never,  Never,  Never,  Never]),
    attribute("unknown_call_at",      Time,   [Maybe,  Never,  Maybe,  Never,  Maybe,  Never]),
    attribute("last_failure_at",      Time,   [Maybe,  Maybe,  Maybe,  Maybe,  Maybe,  Never]),
    attribute("failures",             Number, [Maybe,  Maybe,  Maybe,  Maybe,  Maybe,  Never]),
    attribute("reason",               Text,   [Maybe,  Maybe,  Maybe,  Always, Always, Always]),
    attribute("reason_code",          Text,   [Maybe,  Maybe,  Maybe,  Always, Always, Always]),
    attribute("failed_at",            Time,   [Maybe,  Maybe,  Maybe,  Always, Maybe,  Always]),
    attribute("in_doubt_at",          Time,   [Maybe,  Maybe,  Maybe,  Maybe,  Always, Never]),
    attribute("unresolved_partition", Text,   [Never,  Never,  Never,  Always, Always, Always]),
    attribute("unresolved_since",     Time,   [Never,  Never,  Never,  Always, Always, Always]),
    attribute("done_at",              Time,   [Never,  Never,  Always, Never,  Never,  Never]),
    attribute("expires_at",           Number, [Never,  Never,  Always, Never,  Never,  Never]),
    attribute("outcome",              Text,   [Never,  Never,  Maybe,  Never,  Never,  Never]),
    attribute("raw",                  Bytes,  [Never,  Never,  Never,  Never,  Never,  Always]),
    attribute("raw_bytes",            Number, [Never,  Never,  Never,  Never,  Never,  Always]),
];

const fn attribute(name: &'static str, kind: Type, has: [Has; 6]) -> Attribute {
    Attribute { name, kind, has }
}

/// What a change of an item does to its attributes. What is not listed stays as it is, except the status.
pub(super) struct Change {
    /// `None` if there is no item yet.
    pub(super) from: Option<Status>,
    pub(super) to: Status,
    /// The item has these afterwards.
    pub(super) sets: &'static [&'static [&'static str]],
    /// It may set these, and removes none of them.
    pub(super) may_set: &'static [&'static str],
    /// The item does not have these afterwards.
    pub(super) removes: &'static [&'static [&'static str]],
}

const ORPHAN: &[&str] = &["id", "raw", "raw_bytes"];
const CONTENT: &[&str] = &["event", "source", "type", "received_at"];
const PENDING: &[&str] = &["pending_shard", "pending_since"];
const CLAIM: &[&str] = &["owner", "lease_until"];
const REASON: &[&str] = &["reason", "reason_code"];
const NOTE: &[&str] = &["last_failure_at", "failures"];
const UNRESOLVED: &[&str] = &["unresolved_partition", "unresolved_since"];
const DONE: &[&str] = &["done_at", "expires_at"];
const FAILED: &[&str] = &["failed_at"];
const IN_DOUBT: &[&str] = &["in_doubt_at"];
const PUT_BACK: &[&str] = &["put_back_at"];
const EARLIER: &[&str] = &["earlier_put_backs"];
/// What is known about the calls of a run, which an operator's decision ends.
const RUN: &[&str] = &["unknown_call_at", "reason_code", "last_failure_at", "failures"];

/// Every change. The transitions are those of `notification::status::TRANSITIONS`.
#[rustfmt::skip]
pub(super) const CHANGES: &[Change] = &[
    change(None,                  Status::Init,    &[&["id"], CONTENT, PENDING],         &[],            &[]),
    change(Some(Status::Init),    Status::Done,    &[DONE],                         &["outcome"],         &[PENDING]),
    change(Some(Status::Init),    Status::Failed,  &[FAILED, REASON, UNRESOLVED],   &[],                  &[PENDING]),
    change(Some(Status::Init),    Status::Claimed, &[CLAIM],                        &[],                  &[]),
    change(Some(Status::Init),    Status::Init,    &[REASON, NOTE],                 &["unknown_call_at"], &[]),
    change(Some(Status::Init),    Status::InDoubt, &[IN_DOUBT, REASON, UNRESOLVED], &[],                  &[PENDING]),
    change(Some(Status::Claimed), Status::Done,    &[DONE],                         &["outcome"],   &[CLAIM, PENDING]),
    change(Some(Status::Claimed), Status::Failed,  &[FAILED, REASON, UNRESOLVED],   &[],            &[CLAIM, PENDING]),
    change(Some(Status::Claimed), Status::Init,    &[REASON, NOTE],                 &[],            &[CLAIM]),
    change(Some(Status::Claimed), Status::InDoubt, &[IN_DOUBT, REASON, UNRESOLVED], &[],            &[CLAIM, PENDING]),
    change(None,                  Status::Failed,  &[ORPHAN, FAILED, REASON, UNRESOLVED], &[],      &[]),
    change(Some(Status::Failed),  Status::Init,    &[PENDING, PUT_BACK],            EARLIER,        &[UNRESOLVED, RUN]),
    change(Some(Status::InDoubt), Status::Init,    &[PENDING, PUT_BACK],            EARLIER,        &[UNRESOLVED, RUN]),
    change(Some(Status::InDoubt), Status::Done,    &[DONE],                         &[],            &[UNRESOLVED]),
];

const fn change(
    from: Option<Status>,
    to: Status,
    sets: &'static [&'static [&'static str]],
    may_set: &'static [&'static str],
    removes: &'static [&'static [&'static str]],
) -> Change {
    Change { from, to, sets, may_set, removes }
}

/// An attribute, and those of which an item with it has at least one.
pub(super) const NEEDS: &[(&str, &[&str])] = &[
    ("failures", &["last_failure_at"]),
    ("last_failure_at", &["failures"]),
    ("unknown_call_at", &["last_failure_at"]),
    ("last_failure_at", &["reason"]),
    ("reason_code", &["reason"]),
    ("put_back_at", &["failed_at", "in_doubt_at"]),
    ("earlier_put_backs", &["put_back_at"]),
];

/// The first rule that an item breaks; `None` if it breaks none.
pub(crate) fn wrong_item(item: &Item) -> Option<String> {
    let Some(id) = text(item, "id") else { return Some("it has no id".to_owned()) };
    if id == SWEEP_CURSOR_ID {
        return None;
    }
    let Some(status) = status(item) else { return Some("it has no known status".to_owned()) };
    let kind = if id.starts_with(QUARANTINE_PREFIX) { "orphan" } else { status.as_str() };
    if kind == "orphan" && status != Status::Failed {
        return Some(format!("it is an orphan and {status}"));
    }
    wrong_attributes(item, kind)
        .or_else(|| wrong_times(item, status))
        .or_else(|| wrong_values(item, id, status))
        .or_else(|| wrong_expiry(item))
        .or_else(|| wrong_event(item, id, status))
}

/// Whether an item has the attributes that items of its kind have, with values of the right types.
fn wrong_attributes(item: &Item, kind: &str) -> Option<String> {
    let column = COLUMNS.iter().position(|column| *column == kind)?;
    for Attribute { name, kind: type_, has } in ATTRIBUTES {
        match (has[column], item.get(*name)) {
            (Always, None) => return Some(format!("it is {kind} and has no {name}")),
            (Never, Some(_)) => return Some(format!("it is {kind} and has {name}")),
            (_, Some(value)) if !type_.fits(value) => return Some(format!("its {name} is not a {}", type_.name())),
            _ => {}
        }
    }
    let is_known = |name: &&String| ATTRIBUTES.iter().any(|attribute| attribute.name == *name);
    if let Some(name) = item.keys().find(|name| !is_known(name)) {
        return Some(format!("it has {name}, which no item has"));
    }
    let is_missing = |(name, needed): &&(&str, &[&str])| {
        item.contains_key(*name) && !needed.iter().any(|needed| item.contains_key(*needed))
    };
    let (name, needed) = NEEDS.iter().find(is_missing)?;
    Some(format!("it has {name} and no {}", needed.join(" or ")))
}

impl Type {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Text => "text",
            Time => "time in UTC with milliseconds",
            Times => "list of times in UTC with milliseconds",
            Number => "number",
            Bytes => "binary value",
        }
    }

    fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Text, Value::Text(_)) | (Bytes, Value::Bytes) => true,
            (Number, Value::Number(number)) => number.parse::<u64>().is_ok(),
            (Time, Value::Text(text)) => is_time(text),
            (Times, Value::Texts(texts)) => texts.iter().all(|text| is_time(text)),
            _ => false,
        }
    }
}

fn is_time(text: &str) -> bool {
    text.parse::<Timestamp>().is_ok_and(|time| format!("{time:.3}") == text)
}

/// Whether the times of an item tell one story.
fn wrong_times(item: &Item, status: Status) -> Option<String> {
    let was_put_back = item.contains_key("put_back_at");
    let (since, expected) = match status {
        Status::Init | Status::Claimed => ("pending_since", if was_put_back { "put_back_at" } else { "received_at" }),
        Status::Failed => ("unresolved_since", "failed_at"),
        Status::InDoubt => ("unresolved_since", "in_doubt_at"),
        Status::Done => ("done_at", "done_at"),
    };
    if item.get(since) != item.get(expected) {
        return Some(format!("its {since} is not its {expected}"));
    }
    // Only an operator ends FAILED and IN_DOUBT: by putting the notification back, or by `notifyctl resolve --done`.
    let was_failed = status != Status::Failed && item.contains_key("failed_at");
    let was_in_doubt = !matches!(status, Status::InDoubt | Status::Done) && item.contains_key("in_doubt_at");
    if (was_failed || was_in_doubt) && !was_put_back {
        let was = if was_failed { Status::Failed } else { Status::InDoubt };
        return Some(format!("it was {was} and has no put_back_at"));
    }
    None
}

fn wrong_values(item: &Item, id: &str, status: Status) -> Option<String> {
    let shard = index_shard(id);
    let is_unresolved = matches!(status, Status::Failed | Status::InDoubt);
    for (name, expected) in [
        ("pending_shard", status.is_pending().then(|| Value::Number(shard.to_string()))),
        ("unresolved_partition", is_unresolved.then(|| Value::Text(format!("{status}#{shard}")))),
    ] {
        if item.get(name) != expected.as_ref() {
            return Some(format!("its {name} is {:?} instead of {expected:?}", item.get(name)));
        }
    }
    if text(item, "reason_code").is_some_and(|code| code.parse::<ReasonCode>().is_err()) {
        return Some("its reason_code is not a known one".to_owned());
    }
    // A new run begins without one, and each failure that is noted sets it.
    if status.is_pending() && item.contains_key("reason_code") != item.contains_key("failures") {
        return Some(format!("it is {status} and has one of reason_code and failures"));
    }
    (number(item, "failures") == Some(0)).then(|| "its failures are 0".to_owned())
}

/// Whether a DONE item is kept for whole days, and for long enough.
fn wrong_expiry(item: &Item) -> Option<String> {
    let done_at: Timestamp = text(item, "done_at")?.parse().ok()?;
    let kept = i64::try_from(number(item, "expires_at")?).ok()?.checked_sub(done_at.as_second())?;
    if kept < DAY * i64::from(limits::DONE_RETENTION_MIN_DAYS) {
        return Some(format!("it expires less than {} days after it was DONE", limits::DONE_RETENTION_MIN_DAYS));
    }
    (kept % DAY != 0).then(|| "it does not expire whole days after it was DONE".to_owned())
}

const DAY: i64 = 24 * 60 * 60;

/// Whether its event is its notification's. A FAILED item may have any event.
fn wrong_event(item: &Item, id: &str, status: Status) -> Option<String> {
    if status == Status::Failed {
        return None;
    }
    if NotificationId::parse(id).is_err() {
        return Some("its id is not a notification id".to_owned());
    }
    match Notification::parse(text(item, "event")?) {
        Err(malformed) => Some(format!("its event is malformed: {malformed}")),
        Ok(notification) if notification.id().as_str() != id => Some("its event has another id".to_owned()),
        Ok(notification) => {
            let copies = [("source", notification.source()), ("type", notification.event_type())];
            let wrong = copies.iter().find(|(name, value)| text(item, name) != Some(value));
            wrong.map(|(name, _)| format!("its {name} is not that of its event"))
        }
    }
}

/// The first rule that a change of an item breaks: `old` is `None` for a new one.
pub(crate) fn wrong_change(old: Option<&Item>, new: &Item) -> Option<String> {
    if text(new, "id") == Some(SWEEP_CURSOR_ID) {
        return None;
    }
    let Some(to) = status(new) else { return wrong_item(new) };
    let from = match old.map(status) {
        None => None,
        Some(None) => return Some(format!("it had no known status, and is {to}")),
        Some(known) => known,
    };
    let Some(change) = CHANGES.iter().find(|change| (change.from, change.to) == (from, to)) else {
        let from = from.map_or("nothing", Status::as_str);
        return Some(format!("it was changed from {from} to {to}, which is not an allowed transition"));
    };
    // An item that was wrong before, perhaps since an earlier version wrote it, is no mistake of this change.
    let had_right_event = |old| text(old, "id").is_some_and(|id| wrong_event(old, id, to).is_none());
    let was_right = old.is_none_or(|old| wrong_item(old).is_none() && had_right_event(old));
    if was_right && let Some(problem) = wrong_item(new) {
        return Some(problem);
    }
    let before = old.cloned().unwrap_or_default();
    let problem = change.wrong(&before, new).or_else(|| change.wrong_earlier(&before, new).filter(|_| was_right));
    problem.map(|problem| format!("it became {to}, and {problem}"))
}

impl Change {
    /// What the change of these attributes should not have done, or should have done.
    fn wrong(&self, old: &Item, new: &Item) -> Option<String> {
        let names: BTreeSet<&str> = old.keys().chain(new.keys()).map(String::as_str).collect();
        for name in names.into_iter().chain(self.sets.concat()).filter(|name| *name != "status") {
            let (before, after) = (old.get(name), new.get(name));
            if self.sets.concat().contains(&name) {
                if after.is_none() {
                    return Some(format!("its {name} was not set"));
                }
            } else if self.removes.concat().contains(&name) {
                if after.is_some() {
                    return Some(format!("its {name} was not removed"));
                }
            } else if before != after && !(self.may_set.contains(&name) && after.is_some()) {
                return Some(format!("its {name} was changed"));
            }
        }
        let is_new_call =
            old.get("unknown_call_at") != new.get("unknown_call_at") && new.contains_key("unknown_call_at");
        (is_new_call && new.get("unknown_call_at") != new.get("last_failure_at"))
            .then(|| "its new unknown_call_at is not its last_failure_at".to_owned())
    }

    /// An item that is put back keeps when it was put back before.
    fn wrong_earlier(&self, old: &Item, new: &Item) -> Option<String> {
        let is_put_back = self.sets.concat().contains(&"put_back_at");
        (is_put_back && put_backs(old) != earlier_put_backs(new))
            .then(|| "its earlier_put_backs are not those before it and its put_back_at of then".to_owned())
    }
}

/// Why an item was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Its time to live was over.
    Expiry,
    /// Anything else.
    Deletion,
}

/// What is wrong with a removal: only DONE items expire, and nothing else is removed.
pub(crate) fn wrong_removal(old: &Item, removal: Removal) -> Option<String> {
    if text(old, "id") == Some(SWEEP_CURSOR_ID) {
        return None;
    }
    match (removal, status(old)) {
        (Removal::Expiry, Some(Status::Done)) => None,
        (Removal::Expiry, _) => Some("it expired although it was not DONE".to_owned()),
        (Removal::Deletion, _) => Some("it was deleted, and not by its time to live".to_owned()),
    }
}

/// When an item was put back, as an item that is put back once more keeps it: the last ones.
fn put_backs(item: &Item) -> Vec<&str> {
    let all: Vec<_> = earlier_put_backs(item).into_iter().chain(text(item, "put_back_at")).collect();
    all[all.len().saturating_sub(limits::EARLIER_PUT_BACKS_MAX)..].to_vec()
}

fn earlier_put_backs(item: &Item) -> Vec<&str> {
    match item.get("earlier_put_backs") {
        Some(Value::Texts(texts)) => texts.iter().map(String::as_str).collect(),
        _ => vec![],
    }
}

fn status(item: &Item) -> Option<Status> {
    text(item, "status")?.parse().ok()
}

fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    match item.get(name)? {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn number(item: &Item, name: &str) -> Option<u64> {
    match item.get(name)? {
        Value::Number(number) => number.parse().ok(),
        _ => None,
    }
}
