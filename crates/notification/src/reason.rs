//! Why a notification is not DONE: a code from a fixed vocabulary, by which operators group notifications, and a text.

use std::fmt;
use std::str::FromStr;

/// The kind of a reason. Its name is stored with the reason and stays the same from release to release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReasonCode {
    /// The event breaks a rule of CloudEvents or of this service.
    Malformed,
    /// The receiver or the business code rejected the notification.
    Rejected,
    /// A Kinesis record belongs to no notification.
    Orphan,
    /// The answer to a call was lost, so its effect may have happened.
    OutcomeUnknown,
    /// A worker claimed the notification and ended before it wrote the outcome of its call.
    ClaimExpired,
    /// The item has no readable claim although it is CLAIMED: another program wrote it.
    ClaimUnreadable,
    /// The receiver asks for fewer calls.
    Throttled,
    /// The receiver cannot be reached.
    ReceiverUnavailable,
    /// The action did not start, because less time was left than it may take.
    NoTime,
    /// The code panicked.
    Panicked,
    /// Any other failure of the action, or of its transaction, that is retried. The text says which.
    Retry,
}

impl ReasonCode {
    /// All codes.
    pub const ALL: [Self; 11] = [
        Self::Malformed,
        Self::Rejected,
        Self::Orphan,
        Self::OutcomeUnknown,
        Self::ClaimExpired,
        Self::ClaimUnreadable,
        Self::Throttled,
        Self::ReceiverUnavailable,
        Self::NoTime,
        Self::Panicked,
        Self::Retry,
    ];

    /// The code as the table, the logs and `notifyctl` have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Rejected => "rejected",
            Self::Orphan => "orphan",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::ClaimExpired => "claim_expired",
            Self::ClaimUnreadable => "claim_unreadable",
            Self::Throttled => "throttled",
            Self::ReceiverUnavailable => "receiver_unavailable",
            Self::NoTime => "no_time",
            Self::Panicked => "panicked",
            Self::Retry => "retry",
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The text is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a reason code")]
pub struct NotACode;

impl FromStr for ReasonCode {
    type Err = NotACode;

    fn from_str(text: &str) -> Result<Self, NotACode> {
        Self::ALL.into_iter().find(|code| code.as_str() == text).ok_or(NotACode)
    }
}

/// Why a notification is FAILED, IN_DOUBT, or INIT for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason<'a> {
    /// Its kind.
    pub code: ReasonCode,
    /// What failed and, if that helps, what to do. It never contains payload.
    pub text: &'a str,
}

/// A note on a pending notification: why its action failed the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note<'a> {
    /// Why.
    pub reason: Reason<'a>,
    /// How many failures have been noted since the notification last became INIT from elsewhere, this one included.
    pub failures: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_read_as_it_is_written() {
        for code in ReasonCode::ALL {
            assert_eq!(code.to_string().parse(), Ok(code));
        }
        assert_eq!("REJECTED".parse::<ReasonCode>(), Err(NotACode));
    }
}
