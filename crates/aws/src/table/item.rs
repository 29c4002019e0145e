//! The attributes of an item, and how to read them.

use aws_sdk_dynamodb::types::AttributeValue;
use notification::change::LastFailure;
use notification::ports::Written;
use notification::{Claim, Status, Stored, Timestamp, limits};
use std::collections::HashMap;

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// RFC 3339, UTC, milliseconds.
pub(super) fn time(at: Timestamp) -> AttributeValue {
    AttributeValue::S(format!("{at:.3}"))
}

pub(super) fn number(value: &impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A list of times.
pub(super) fn times(times: &[Timestamp]) -> AttributeValue {
    AttributeValue::L(times.iter().copied().map(time).collect())
}

fn times_of(list: &AttributeValue) -> Box<[Timestamp]> {
    let list = list.as_l().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|at| at.as_s().ok()?.parse().ok()).collect()
}

pub(super) fn stored(item: &HashMap<String, AttributeValue>) -> Stored {
    let attribute = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
    let (owner, lease_until) = (attribute("owner"), attribute("lease_until"));
    let claim = owner.zip(lease_until.and_then(|until| until.parse().ok()));
    let status = attribute("status").and_then(|status| status.parse().ok());
    Stored {
        status,
        event: attribute("event").map(|event| event.as_str().into()).unwrap_or_default(),
        claim: claim.map(|(owner, lease_until)| Claim { owner: owner.as_str().into(), lease_until }),
        since: status.and_then(since_attribute).and_then(attribute).and_then(|since| since.parse().ok()),
        unknown_call: item.contains_key(UNKNOWN_CALL),
        put_back_at: attribute(PUT_BACK).and_then(|at| at.parse().ok()),
        earlier_put_backs: item.get(EARLIER_PUT_BACKS).map(times_of).unwrap_or_default(),
        last_failure: attribute(LAST_FAILURE)
            .and_then(|at| at.parse().ok())
            .map(|at| LastFailure { at, failures: failures(item) }),
    }
}

fn failures(item: &HashMap<String, AttributeValue>) -> u32 {
    item.get(FAILURES).and_then(|count| count.as_n().ok()?.parse().ok()).unwrap_or_default()
}

/// The answer of a refused write, with the item if the answer contains it.
pub(super) fn refused(item: Option<&HashMap<String, AttributeValue>>) -> Written {
    item.filter(|item| !item.is_empty()).map_or(Written::RefusedUnseen, |item| Written::Refused(stored(item)))
}

/// When a call of the action first ended with an unknown outcome. The item has it from then on, until an operator decides.
pub(super) const UNKNOWN_CALL: &str = "unknown_call_at";

/// When the last failure of the action was noted, and how many have been noted by then.
pub(super) const LAST_FAILURE: &str = "last_failure_at";
pub(super) const FAILURES: &str = "failures";

/// When an operator last moved the notification back to INIT.
pub(super) const PUT_BACK: &str = "put_back_at";

/// When operators did so before, oldest first.
pub(super) const EARLIER_PUT_BACKS: &str = "earlier_put_backs";

/// The attribute with the time since when an item has had a status.
pub(super) const fn since_attribute(status: Status) -> Option<&'static str> {
    match status {
        Status::Init => Some("pending_since"),
        Status::Claimed => None,
        Status::Done => Some("done_at"),
        Status::Failed => Some("failed_at"),
        Status::InDoubt => Some("in_doubt_at"),
    }
}

/// The attributes that are read.
pub(super) const STORED_ATTRIBUTES: [&str; 14] = [
    "id",
    "status",
    "event",
    "owner",
    "lease_until",
    "pending_since",
    "done_at",
    "failed_at",
    "in_doubt_at",
    UNKNOWN_CALL,
    PUT_BACK,
    EARLIER_PUT_BACKS,
    LAST_FAILURE,
    FAILURES,
];

/// The reason, cut to its limit between two characters.
pub(super) fn shortened(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(limits::REASON_MAX_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(shortened(&"é".repeat(600)).len(), 1024);
        assert_eq!(shortened(&format!("x{}", "é".repeat(600))).len(), 1023);
    }
}
