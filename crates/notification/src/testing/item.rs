//! An item of the table.

use crate::change::{Claim, LastFailure, Stored};
use crate::reason::ReasonCode;
use crate::status::Status;
use jiff::Timestamp;
use std::time::Duration;

/// One item of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its status.
    pub status: Status,
    /// Its event.
    pub event: String,
    /// Why it is or was FAILED or IN_DOUBT, or why its action failed.
    pub reason: Option<String>,
    /// The kind of that reason, in this run of the action.
    pub reason_code: Option<ReasonCode>,
    /// What its action returned.
    pub outcome: Option<String>,
    /// The bytes of an orphan.
    pub raw: Vec<u8>,
    /// Who has claimed it, while it is CLAIMED.
    pub claim: Option<Claim>,
    /// Since when it is pending, while it is INIT or CLAIMED.
    pub pending_since: Option<Timestamp>,
    /// Since when it has its status, if something changed it.
    pub since: Option<Timestamp>,
    /// Whether a call ended with an unknown outcome.
    pub unknown_call: bool,
    /// When an operator last moved it back to INIT.
    pub put_back_at: Option<Timestamp>,
    /// When operators did so before, oldest first.
    pub earlier_put_backs: Vec<Timestamp>,
    /// The last failure of its action that was noted.
    pub last_failure: Option<LastFailure>,
    /// How often it was written.
    pub writes: usize,
}

impl Item {
    /// An item that was written once and is not pending.
    pub(super) fn new(status: Status, event: &str) -> Self {
        Self {
            status,
            event: event.to_owned(),
            reason: None,
            reason_code: None,
            outcome: None,
            raw: vec![],
            claim: None,
            pending_since: None,
            since: None,
            unknown_call: false,
            put_back_at: None,
            earlier_put_backs: vec![],
            last_failure: None,
            writes: 1,
        }
    }

    /// When it expires, if DONE items are kept for this long.
    pub(super) fn expiry(&self, kept_for: Duration) -> Option<Timestamp> {
        self.since.filter(|_| self.status == Status::Done)?.checked_add(kept_for).ok()
    }

    /// The item as the table returns it.
    pub(super) fn stored(&self) -> Stored {
        Stored {
            status: Some(self.status),
            event: self.event.as_str().into(),
            claim: self.claim.clone(),
            since: match self.status {
                Status::Init => self.pending_since,
                Status::Claimed => None,
                Status::Done | Status::Failed | Status::InDoubt => self.since,
            },
            unknown_call: self.unknown_call,
            put_back_at: self.put_back_at,
            earlier_put_backs: self.earlier_put_backs.as_slice().into(),
            last_failure: self.last_failure,
        }
    }
}
