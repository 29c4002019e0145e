//! What must hold for every change of an item, judged by its images alone: by the transitions that are documented, by what
//! upstream sent, and by the attributes that an item of each status has. Nothing here calls the adapters.
//!
//! The rules that `notifyctl verify` checks in production are applied, too: it must find nothing wrong in what is right.

use crate::scenario::Message;
use crate::world::World;
use aws_model::dynamodb::{Image, Item as Attributes, text};
use jiff::Timestamp;
use notification::id::{QUARANTINE_PREFIX, SWEEP_CURSOR_ID, index_shard};
use notification::status::TRANSITIONS;
use notification::testing::Item;
use notification::{Claim, ReasonCode, Status};
use serde_json::Value;

#[path = "../../../../crates/notifyctl/src/verify/rules.rs"]
#[allow(dead_code, reason = "here, items are removed by their time to live only")]
mod rules;

impl World {
    /// Checks a change of an item, and keeps the item as the checks of every run look at it.
    pub(super) fn check_item(&mut self, image: &Image) {
        let id = &image.key;
        if id == SWEEP_CURSOR_ID {
            return;
        }
        let old = image.old.as_ref().map(status);
        let Some(new) = &image.new else {
            self.note("a DONE item expires");
            if old != Some(Some(Status::Done)) {
                self.violated(format!("{id} expired although it is not DONE"));
            }
            let item = self.table.remove(id);
            self.expired.extend(item.map(|item| (id.clone(), item)));
            return;
        };
        let Some(to) = status(new) else { return self.violated(format!("{id} has no status")) };
        let from = old.flatten();
        if !TRANSITIONS.iter().any(|allowed| allowed.from == from && allowed.to == to) {
            let from = from.map_or("–", Status::as_str);
            self.violated(format!("{id} went from {from} to {to}, which is not allowed"));
        }
        let retentions = self.cloud.iter().flat_map(|cloud| &cloud.retentions);
        if let Some(wrong) = wrong_attribute(id, to, new, &retentions.copied().collect::<Vec<_>>()) {
            self.violated(format!("{id} is {to}, and {wrong}"));
        }
        let is_orphan = id.starts_with(QUARANTINE_PREFIX);
        match &image.old {
            None if is_orphan => self.note("an orphan is quarantined"),
            None if to != Status::Init => self.violated(format!("{id} is new, and it is {to}")),
            None => {
                let sent = self.scenario.messages.iter().filter(|message| message.id == *id);
                if !sent.into_iter().any(|message| is_of(new, message)) {
                    self.violated(format!("{id} was accepted with another content than was sent"));
                }
            }
            Some(old) => {
                for name in ["event", "source", "type", "received_at"] {
                    if old.get(name) != new.get(name) {
                        self.violated(format!("{id}: a change to {to} changed its {name}"));
                    }
                }
            }
        }
        self.settles(id, to);
        if to == Status::Done && from != Some(Status::Done) {
            *self.done.entry(id.clone()).or_default() += 1;
        }
        self.note_transition(from, to);
        let writes = self.table.items().get(id).map_or(0, |item| item.writes);
        self.table.insert(id, Item { writes: writes + 1, ..item(to, new) });
    }

    /// Checks a change by the rules of `notifyctl verify`.
    pub(super) fn check_rules(&mut self, image: &Image) {
        if let Some(problem) = broken_rule(image) {
            self.violated(format!("notifyctl verify finds {}: {problem}", image.key));
        }
    }

    fn note_transition(&mut self, from: Option<Status>, to: Status) {
        self.note(match (from, to) {
            (Some(Status::Init), Status::Claimed) => "a notification is claimed",
            (Some(Status::Claimed), Status::InDoubt) => "a claimed notification becomes IN_DOUBT",
            (Some(Status::Claimed), Status::Init) => "a claim is released",
            (Some(Status::Init), Status::Init) => "a failure of an action is noted",
            _ => return,
        });
    }
}

/// What `notifyctl verify --follow` says about a change.
fn broken_rule(image: &Image) -> Option<String> {
    let (old, new) = (image.old.as_ref().map(rules_item), image.new.as_ref().map(rules_item));
    match (&old, &new) {
        (old, Some(new)) => rules::wrong_change(old.as_ref(), new),
        (Some(old), None) => rules::wrong_removal(old, rules::Removal::Expiry),
        (None, None) => None,
    }
}

fn rules_item(attributes: &Attributes) -> rules::Item {
    let value = |value: &Value| match (value["S"].as_str(), value["N"].as_str(), value["B"].as_str()) {
        (Some(text), None, None) => rules::Value::Text(text.to_owned()),
        (None, Some(number), None) => rules::Value::Number(number.to_owned()),
        (None, None, Some(_)) => rules::Value::Bytes,
        _ => texts(value).map_or(rules::Value::Other, rules::Value::Texts),
    };
    attributes.iter().map(|(name, attribute)| (name.clone(), value(attribute))).collect()
}

/// A list of texts.
fn texts(value: &Value) -> Option<Vec<String>> {
    value["L"].as_array()?.iter().map(|text| text["S"].as_str().map(str::to_owned)).collect()
}

/// Whether a new item has what a message says, byte for byte.
fn is_of(item: &Attributes, message: &Message) -> bool {
    let event: Value = serde_json::from_str(&message.body).unwrap_or_default();
    let copied = |name| attribute(item, name) == event[name].as_str();
    attribute(item, "event") == Some(message.body.as_str()) && copied("id") && copied("source") && copied("type")
}

/// What is wrong with the attributes of an item that has this status.
fn wrong_attribute(id: &str, status: Status, item: &Attributes, retentions: &[u64]) -> Option<String> {
    let has = |name: &str| item.contains_key(name);
    let is = |name: &str, value: Option<String>| {
        let found = item.get(name).and_then(|value| value.get("S").or_else(|| value.get("N"))?.as_str());
        let expected = value.as_deref();
        (found != expected).then(|| format!("its {name} is {found:?} instead of {expected:?}"))
    };
    let shard = index_shard(id);
    let is_unresolved = matches!(status, Status::Failed | Status::InDoubt);
    // The time to live that one of the retentions gives, and preferably the one that it has.
    let expires_at = || {
        let done_at: Timestamp = attribute(item, "done_at")?.parse().ok()?;
        let after = |seconds: &u64| Some((done_at.as_second() + i64::try_from(*seconds).ok()?).to_string());
        let expected: Vec<String> = retentions.iter().filter_map(after).collect();
        let found = item.get("expires_at").and_then(|value| value.get("N")?.as_str());
        expected.iter().find(|at| Some(at.as_str()) == found).or(expected.first()).cloned()
    };
    let since = match status {
        Status::Init | Status::Claimed => "pending_since",
        Status::Done => "done_at",
        Status::Failed => "failed_at",
        Status::InDoubt => "in_doubt_at",
    };
    if !has(since) {
        return Some(format!("it has no {since}"));
    }
    if status == Status::Claimed && !(has("owner") && has("lease_until")) {
        return Some("it has no claim".to_owned());
    }
    if is_unresolved && !has("reason") {
        return Some("it has no reason".to_owned());
    }
    let code = attribute(item, "reason_code").map(str::parse::<ReasonCode>);
    if matches!(code, Some(Err(_))) || (is_unresolved && code.is_none()) {
        return Some("it has no known reason code".to_owned());
    }
    if has("last_failure_at") != has("failures") {
        return Some("its note of a failure is not complete".to_owned());
    }
    let since = |name: &str| attribute(item, name).map(str::to_owned);
    is("pending_shard", status.is_pending().then(|| shard.to_string()))
        .or_else(|| is("pending_since", status.is_pending().then(|| since("pending_since")).flatten()))
        .or_else(|| is("unresolved_partition", is_unresolved.then(|| format!("{status}#{shard}"))))
        .or_else(|| is("unresolved_since", is_unresolved.then(|| since("unresolved_since")).flatten()))
        .or_else(|| is("owner", (status == Status::Claimed).then(|| since("owner")).flatten()))
        .or_else(|| is("lease_until", (status == Status::Claimed).then(|| since("lease_until")).flatten()))
        .or_else(|| is("expires_at", (status == Status::Done).then(expires_at).flatten()))
}

fn attribute<'a>(item: &'a Attributes, name: &str) -> Option<&'a str> {
    text(item.get(name)?)
}

fn status(item: &Attributes) -> Option<Status> {
    attribute(item, "status")?.parse().ok()
}

/// The item as the checks look at it.
fn item(status: Status, attributes: &Attributes) -> Item {
    let owned = |name| attribute(attributes, name).map(str::to_owned);
    let time = |name| attribute(attributes, name).and_then(|time| time.parse().ok());
    let claim = attribute(attributes, "owner").zip(time("lease_until"));
    Item {
        status,
        event: owned("event").unwrap_or_default(),
        reason: owned("reason"),
        reason_code: attribute(attributes, "reason_code").and_then(|code| code.parse().ok()),
        outcome: owned("outcome"),
        raw: vec![],
        claim: claim.map(|(owner, lease_until)| Claim { owner: owner.into(), lease_until }),
        pending_since: time("pending_since"),
        since: match status {
            Status::Init | Status::Claimed => time("pending_since"),
            Status::Done => time("done_at"),
            Status::Failed => time("failed_at"),
            Status::InDoubt => time("in_doubt_at"),
        },
        unknown_call: attributes.contains_key("unknown_call_at"),
        put_back_at: time("put_back_at"),
        earlier_put_backs: vec![],
        last_failure: None,
        writes: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wrong(status: Status, attributes: Value) -> Option<String> {
        let Value::Object(attributes) = attributes else { panic!() };
        wrong_attribute("a", status, &attributes, &[60])
    }

    #[test]
    fn an_item_has_the_attributes_of_its_status_and_no_others() {
        let time = json!({"S": "2026-11-22T10:00:00.000Z"});
        let init = json!({"pending_shard": {"N": "12"}, "pending_since": time});
        assert_eq!(wrong(Status::Init, init.clone()), None);
        assert!(wrong(Status::Done, init.clone()).is_some());
        let done = json!({"done_at": time, "expires_at": {"N": "1795341660"}});
        assert_eq!(wrong(Status::Done, done.clone()), None);
        for (name, value) in
            [("expires_at", json!({"N": "1"})), ("pending_since", time.clone()), ("owner", time.clone())]
        {
            let mut broken = done.clone();
            broken[name] = value;
            assert!(wrong(Status::Done, broken).unwrap().contains(name), "{name}");
        }
        let mut other_shard = init;
        other_shard["pending_shard"] = json!({"N": "13"});
        assert!(wrong(Status::Init, other_shard).is_some());
        let failed = json!({"failed_at": time, "reason": {"S": "no"}, "reason_code": {"S": "rejected"}, "unresolved_partition": {"S": "FAILED#12"},
            "unresolved_since": time});
        assert_eq!(wrong(Status::Failed, failed.clone()), None);
        assert!(wrong(Status::InDoubt, failed).is_some());
    }
}
