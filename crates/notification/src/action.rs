//! The action: the business code that downstream runs for one notification.

use crate::event::Notification;
use crate::limits;
use std::future::Future;

/// The business code that downstream runs for one notification, before it writes DONE.
///
/// An action may run more than once for the same notification: when the process dies, or the answer is lost, between
/// the effect and DONE. Its effect must therefore be **idempotent by notification id**: pass
/// [`Notification::id`] as the idempotency key to whatever it calls.
pub trait Action: Send + Sync {
    /// Runs the effect for one notification.
    ///
    /// # Errors
    /// [`ActionError::Rejected`] ends the notification as FAILED with its reason; [`ActionError::Retry`] brings it back.
    fn run(&self, notification: &Notification) -> impl Future<Output = Result<Option<Outcome>, ActionError>> + Send;
}

/// Why an action did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// The business says no. The reason is stored and logged: it must not hold payload or secrets.
    #[error("rejected: {0}")]
    Rejected(String),
    /// It may work later. The reason is logged: it must not hold payload or secrets.
    #[error("to be retried: {0}")]
    Retry(String),
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
pub struct Record;

impl Action for Record {
    async fn run(&self, _: &Notification) -> Result<Option<Outcome>, ActionError> {
        Ok(None)
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
}
