//! What a failure means: can it succeed later, and may its effect have happened anyway?

use crate::reason::{Reason, ReasonCode};

/// The kind of a failure, which decides how it is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// It did not happen and can succeed later: throttling, a refused connection, an in-flight transaction conflict.
    Retryable,
    /// The answer was lost: it may have happened. Every write is conditional, so repeating it is safe.
    MayHaveHappened,
    /// It did not happen and never will: malformed, too large, a conflict, a business rejection.
    Permanent,
}

impl FailureKind {
    /// Whether trying again makes sense.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Retryable | Self::MayHaveHappened)
    }

    /// Whether the effect may have happened although a failure was seen.
    #[must_use]
    pub const fn may_have_happened(self) -> bool {
        matches!(self, Self::MayHaveHappened)
    }
}

/// One failure: its kind, and the reason that says what failed. The text never contains payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What it means.
    pub kind: FailureKind,
    /// The kind of the reason.
    pub code: ReasonCode,
    /// What failed and, if that helps, what to do.
    pub reason: String,
}

impl Failure {
    /// A failure that had no effect and can succeed later.
    pub fn retryable(reason: impl Into<String>) -> Self {
        Self { kind: FailureKind::Retryable, code: ReasonCode::Retry, reason: reason.into() }
    }

    /// A failure whose effect may have happened.
    pub fn may_have_happened(reason: impl Into<String>) -> Self {
        Self { kind: FailureKind::MayHaveHappened, code: ReasonCode::OutcomeUnknown, reason: reason.into() }
    }

    /// A failure that will not succeed later.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self { kind: FailureKind::Permanent, code: ReasonCode::Rejected, reason: reason.into() }
    }

    /// The same failure with this code.
    #[must_use]
    pub fn with_code(self, code: ReasonCode) -> Self {
        Self { code, ..self }
    }

    /// Its reason, as the table stores it.
    #[must_use]
    pub fn as_reason(&self) -> Reason<'_> {
        Reason { code: self.code, text: &self.reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_permanent_failure_is_not_retried_and_only_a_lost_answer_may_have_happened() {
        let table = [
            (FailureKind::Retryable, true, false),
            (FailureKind::MayHaveHappened, true, true),
            (FailureKind::Permanent, false, false),
        ];
        for (kind, retryable, happened) in table {
            assert_eq!((kind.is_retryable(), kind.may_have_happened()), (retryable, happened), "{kind:?}");
        }
    }

    #[test]
    fn a_failure_has_the_code_of_its_kind_or_another_that_it_was_given() {
        let codes = [Failure::retryable("r"), Failure::may_have_happened("r"), Failure::permanent("r")].map(|f| f.code);
        assert_eq!(codes, [ReasonCode::Retry, ReasonCode::OutcomeUnknown, ReasonCode::Rejected]);
        let throttled = Failure::retryable("r").with_code(ReasonCode::Throttled);
        assert_eq!((throttled.kind, throttled.code), (FailureKind::Retryable, ReasonCode::Throttled));
    }

    #[test]
    fn a_failure_shows_its_reason() {
        assert_eq!(Failure::retryable("throttled").to_string(), "throttled");
    }
}
