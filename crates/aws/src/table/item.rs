//! The attributes of an item, and what an old item says.

use aws_sdk_dynamodb::types::AttributeValue;
use notification::ports::{Claim, Stored};
use notification::{Timestamp, limits};
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

pub(super) fn stored(item: &HashMap<String, AttributeValue>) -> Stored {
    let attribute = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
    let claim = || {
        let owner = attribute("owner")?.as_str().into();
        Some(Claim { owner, lease_until: attribute("lease_until")?.parse().ok()? })
    };
    Stored {
        status: attribute("status").and_then(|status| status.parse().ok()),
        event: attribute("event").map(|event| event.as_str().into()).unwrap_or_default(),
        claim: claim(),
    }
}

/// A reason within its limit, cut between characters.
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
