//! The action: the business code that downstream runs for each notification, and the guarantee that it gives.

use crate::deadline::Deadline;
use crate::event::Notification;
use crate::failure::{Failure, FailureKind};
use crate::limits;
use crate::reason::ReasonCode;
use std::future::Future;
use std::time::Duration;

/// The business code that downstream runs for one notification.
pub trait Action: Send + Sync {
    /// How often its effect happens. Downstream runs it accordingly.
    fn guarantee(&self) -> Guarantee;

    /// Runs for one notification. [`Notification::id`] is the idempotency key. It must end before the deadline, because
    /// downstream stops waiting for it then.
    ///
    /// # Errors
    /// [`ActionError`] says whether the effect may have happened, and whether to retry.
    fn run(
        &self,
        notification: &Notification,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Effect, ActionError>> + Send;
}

/// How often the effect of an action happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// **Exactly once.** The effect consists of writes to DynamoDB: [`Effect::writes`] and DONE are one transaction. The
    /// action must have no other effect.
    Transactional,
    /// **At least once, and once for a receiver that dedupes** by the notification id, which the action must pass on. The
    /// action runs before DONE is written, and runs again if the process dies in between.
    Idempotent {
        /// The longest time that one call can take. A call starts only if this much time is left until the deadline, because
        /// the outcome of a call that the deadline cuts off is unknown. The function's timeout must be a few seconds longer.
        timeout: Duration,
    },
    /// **At most once**, for a receiver that cannot dedupe. The notification is claimed before the call. If the outcome of the
    /// call is unknown, the notification becomes IN_DOUBT, and the pipeline never runs it again.
    ///
    /// [`Action::run`] must send its call at most once each time it runs. A client that retries can make the effect happen
    /// twice:
    /// - The AWS SDK retries a call whose answer was lost. Use a client made from `Function::sdk_without_retries`.
    /// - An HTTP client may also retry. For `reqwest`, set `retry(reqwest::retry::never())` and `pool_max_idle_per_host(0)`, as
    ///   the webhook does: a pooled connection may have been closed while Lambda froze the process, and a call on a closed
    ///   connection ends IN_DOUBT.
    AtMostOnce {
        /// As for [`Self::Idempotent`], except that a call that the deadline cuts off ends IN_DOUBT.
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

/// The result of an action, and the items to write in the same transaction as DONE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effect {
    /// Stored with DONE, for audits.
    pub outcome: Option<Outcome>,
    /// Items to put together with DONE: all or nothing. Only for [`Guarantee::Transactional`].
    pub writes: Vec<Put>,
}

/// One new item of another table. It is put only if its key does not exist yet.
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

/// Why an action did not succeed. The text is stored or logged, so it must not contain payload or secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// The receiver or the business code rejects the notification. It becomes FAILED with this reason. The effect did not
    /// happen.
    #[error("rejected: {0}")]
    Rejected(String),
    /// The receiver asks for fewer calls. The effect did not happen, and the action can succeed later.
    #[error("throttled: {0}")]
    Throttled(String),
    /// The receiver cannot be reached. The effect did not happen, and the action can succeed later.
    #[error("receiver unavailable: {0}")]
    Unavailable(String),
    /// For any other reason, the effect did not happen, and the action can succeed later.
    #[error("retryable: {0}")]
    Retry(String),
    /// The effect may have happened: the answer was lost. An idempotent action is retried; an at-most-once notification
    /// becomes IN_DOUBT.
    #[error("may have happened: {0}")]
    MayHaveHappened(String),
}

impl From<ActionError> for Failure {
    fn from(error: ActionError) -> Self {
        let (kind, code) = match error {
            ActionError::Rejected(_) => (FailureKind::Permanent, ReasonCode::Rejected),
            ActionError::Throttled(_) => (FailureKind::Retryable, ReasonCode::Throttled),
            ActionError::Unavailable(_) => (FailureKind::Retryable, ReasonCode::ReceiverUnavailable),
            ActionError::Retry(_) => (FailureKind::Retryable, ReasonCode::Retry),
            ActionError::MayHaveHappened(_) => (FailureKind::MayHaveHappened, ReasonCode::OutcomeUnknown),
        };
        Self { kind, code, reason: error.to_string() }
    }
}

/// The outcome of an action: JSON of at most [`limits::OUTCOME_MAX_BYTES`], stored with DONE for audits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome(Box<str>);

impl Outcome {
    /// Makes an outcome. If it is too large, a note of its size replaces it: the effect has happened, so its description must
    /// not make it fail.
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

/// The action `mark-done`, whose only effect is the status DONE.
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
    fn an_outcome_is_stored_up_to_its_limit_and_replaced_by_a_note_beyond_it() {
        let fits = serde_json::Value::from("x".repeat(limits::OUTCOME_MAX_BYTES - 2));
        assert_eq!(Outcome::new(&fits).as_str(), fits.to_string());
        let large = serde_json::Value::from("x".repeat(limits::OUTCOME_MAX_BYTES - 1));
        let note: serde_json::Value = serde_json::from_str(Outcome::new(&large).as_str()).unwrap();
        assert_eq!(note, serde_json::json!({"bytes": 4097, "omitted": "the outcome is too large to keep"}));
    }

    #[test]
    fn the_size_of_a_put_is_that_of_its_names_and_values() {
        let attributes = vec![("id", "rfd-1".to_owned()), ("amount", "19.99".to_owned())];
        assert_eq!(Put { table: "ledger".into(), key: "id", attributes }.bytes(), 2 + 5 + 6 + 5);
        assert_eq!(Put { table: "ledger".into(), key: "id", attributes: vec![] }.bytes(), 0);
    }

    #[test]
    fn each_error_of_an_action_says_whether_its_effect_happened_and_whether_it_is_retried() {
        let kind = |error| Failure::from(error).kind;
        assert_eq!(kind(ActionError::Rejected("no".into())), FailureKind::Permanent);
        for error in [ActionError::Throttled, ActionError::Unavailable, ActionError::Retry] {
            assert_eq!(kind(error("later".into())), FailureKind::Retryable);
        }
        assert_eq!(kind(ActionError::MayHaveHappened("?".into())), FailureKind::MayHaveHappened);
        assert_eq!(Failure::from(ActionError::Rejected("no".into())).reason, "rejected: no");
    }

    #[test]
    fn each_error_of_an_action_has_its_code() {
        let code = |error: fn(String) -> ActionError| Failure::from(error("?".into())).code.as_str();
        assert_eq!(code(ActionError::Rejected), "rejected");
        assert_eq!(code(ActionError::Throttled), "throttled");
        assert_eq!(code(ActionError::Unavailable), "receiver_unavailable");
        assert_eq!(code(ActionError::Retry), "retry");
        assert_eq!(code(ActionError::MayHaveHappened), "outcome_unknown");
    }
}
