//! The action: the business code that downstream runs for one notification, and the guarantee that it gives.

use crate::deadline::Deadline;
use crate::event::Notification;
use crate::failure::{Failure, FailureKind};
use crate::limits;
use std::future::Future;
use std::time::Duration;

/// The business code that downstream runs for one notification.
pub trait Action: Send + Sync {
    /// What kind of effect it has, and so how downstream makes it happen once.
    fn guarantee(&self) -> Guarantee;

    /// Runs for one notification. [`Notification::id`] is the idempotency key. It must end by the deadline: it is given
    /// up then.
    ///
    /// # Errors
    /// [`ActionError`] says whether the effect happened, and whether it may be tried again.
    fn run(
        &self,
        notification: &Notification,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Effect, ActionError>> + Send;
}

/// What kind of effect an action has, and how often it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// **Exactly once.** The effect is writes to DynamoDB: [`Effect::writes`] and DONE are one transaction. The action
    /// itself must have no other effect.
    Transactional,
    /// **At least once, and once for a receiver that dedupes** by the notification id, which the action must pass on. It
    /// runs before DONE, and again where the process dies between the two.
    Idempotent {
        /// The longest that one call can take. A call starts only where this much time is left until the deadline, because
        /// the outcome of one that the deadline cuts off is unknown. The function's timeout must be a few seconds longer.
        timeout: Duration,
    },
    /// **At most once**, for a receiver that cannot dedupe. The notification is claimed before the call; where the outcome of
    /// the call is unknown, the notification becomes IN_DOUBT and is never run again by itself.
    ///
    /// [`Action::run`] must send its call at most once for each time it is run. A client that retries by itself can make the
    /// effect happen twice:
    /// - The AWS SDK retries a call whose answer was lost. Use a client made from `Function::sdk_without_retries`.
    /// - An HTTP client may retry, too. For `reqwest`, set `retry(reqwest::retry::never())` and `pool_max_idle_per_host(0)`, as
    ///   the webhook does: a pooled connection may have been closed while Lambda froze the process, and the call that finds
    ///   it closed is IN_DOUBT.
    AtMostOnce {
        /// As for [`Self::Idempotent`]; here, a call that the deadline cuts off is IN_DOUBT.
        timeout: Duration,
    },
}

impl Guarantee {
    /// The time that must be left until the deadline for the action to start.
    #[must_use]
    pub const fn timeout(self) -> Duration {
        match self {
            Self::Transactional => Duration::ZERO,
            Self::Idempotent { timeout } | Self::AtMostOnce { timeout } => timeout,
        }
    }
}

/// What an action did, or wants to be written in the same transaction as DONE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effect {
    /// Stored with DONE, for the audit.
    pub outcome: Option<Outcome>,
    /// Items to put together with DONE: all or nothing. Only for [`Guarantee::Transactional`].
    pub writes: Vec<Put>,
}

/// One new item of another table. It is put only where its key does not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The table's name.
    pub table: String,
    /// The attribute that is the table's partition key; its value is among the attributes.
    pub key: &'static str,
    /// Names and values.
    pub attributes: Vec<(&'static str, String)>,
}

impl Put {
    /// Size of the item in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.attributes.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// Why an action did not succeed. Its text is stored or logged: it must not hold payload or secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// The business says no: FAILED, with this reason. The effect did not happen.
    #[error("rejected: {0}")]
    Rejected(String),
    /// It surely did not happen, and may work later.
    #[error("to be retried: {0}")]
    Retry(String),
    /// It may have happened: the answer was lost. Tried again by an idempotent action, IN_DOUBT for one at most once.
    #[error("may have happened: {0}")]
    MayHaveHappened(String),
}

impl From<ActionError> for Failure {
    fn from(error: ActionError) -> Self {
        let kind = match error {
            ActionError::Rejected(_) => FailureKind::Permanent,
            ActionError::Retry(_) => FailureKind::Retryable,
            ActionError::MayHaveHappened(_) => FailureKind::MayHaveHappened,
        };
        Self { kind, reason: error.to_string() }
    }
}

/// What an action returns for the audit: JSON, stored with DONE, at most [`limits::OUTCOME_MAX_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome(Box<str>);

impl Outcome {
    /// Makes an outcome. One that is too large is replaced by a note of its size, because the effect has happened and
    /// must not fail for its description.
    #[must_use]
    pub fn new(value: &serde_json::Value) -> Self {
        let text = value.to_string();
        if text.len() <= limits::OUTCOME_MAX_BYTES {
            return Self(text.into());
        }
        let note = serde_json::json!({"omitted": "the outcome is too large to keep", "bytes": text.len()});
        Self(note.to_string().into())
    }

    /// The outcome as JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The action that has no effect but the DONE itself: the notification is recorded.
#[derive(Debug, Clone, Copy, Default)]
pub struct MarkDone;

impl Action for MarkDone {
    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }

    async fn run(&self, _: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        Ok(Effect::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_kept_as_it_is_up_to_its_limit_and_noted_beyond() {
        let fits = serde_json::Value::from("x".repeat(limits::OUTCOME_MAX_BYTES - 2));
        assert_eq!(Outcome::new(&fits).as_str(), fits.to_string());
        let large = serde_json::Value::from("x".repeat(limits::OUTCOME_MAX_BYTES - 1));
        let note: serde_json::Value = serde_json::from_str(Outcome::new(&large).as_str()).unwrap();
        assert_eq!(note, serde_json::json!({"bytes": 4097, "omitted": "the outcome is too large to keep"}));
    }

    #[test]
    fn the_size_of_a_write_is_that_of_its_names_and_values() {
        let attributes = vec![("id", "rfd-1".to_owned()), ("amount", "19.99".to_owned())];
        assert_eq!(Put { table: "ledger".into(), key: "id", attributes }.bytes(), 2 + 5 + 6 + 5);
        assert_eq!(Put { table: "ledger".into(), key: "id", attributes: vec![] }.bytes(), 0);
    }

    #[test]
    fn each_error_of_an_action_says_whether_its_effect_happened_and_whether_it_is_tried_again() {
        let kind = |error| Failure::from(error).kind;
        assert_eq!(kind(ActionError::Rejected("no".into())), FailureKind::Permanent);
        assert_eq!(kind(ActionError::Retry("later".into())), FailureKind::Retryable);
        assert_eq!(kind(ActionError::MayHaveHappened("?".into())), FailureKind::MayHaveHappened);
        assert_eq!(Failure::from(ActionError::Rejected("no".into())).reason, "rejected: no");
    }
}
