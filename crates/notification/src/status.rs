//! The statuses of a notification in the table, and the transitions between them.

use std::fmt;
use std::str::FromStr;

/// Where a notification stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Accepted by ingest, its effect still to come.
    Init,
    /// Its effect has happened.
    Done,
    /// It will not happen: malformed, or refused by the action, with a reason.
    Failed,
}

/// Who moves a notification from which status to which; `None` is "no such item". Nothing else is allowed, and each is
/// one conditional write, so that a repeat changes nothing.
pub const TRANSITIONS: &[Transition] = &[
    Transition { from: None, to: Status::Init, by: "ingest" },
    Transition { from: Some(Status::Init), to: Status::Done, by: "downstream" },
    Transition { from: Some(Status::Init), to: Status::Failed, by: "downstream" },
    Transition { from: None, to: Status::Failed, by: "downstream" },
];

/// One allowed change of status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The status before, or `None` where there is no item yet.
    pub from: Option<Status>,
    /// The status after.
    pub to: Status,
    /// The function that writes it.
    pub by: &'static str,
}

impl Status {
    /// All statuses, in the order of a notification's life.
    pub const ALL: [Self; 3] = [Self::Init, Self::Done, Self::Failed];

    /// The status as it stands in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Done => "DONE",
            Self::Failed => "FAILED",
        }
    }

    /// Whether the pipeline still has to do something about it.
    #[must_use]
    pub const fn is_pending(self) -> bool {
        matches!(self, Self::Init)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus)
    }
}

/// The text is none of the statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the status is none of INIT, DONE and FAILED")]
pub struct UnknownStatus;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_back_as_it_was_written() {
        for status in Status::ALL {
            assert_eq!(status.to_string().parse(), Ok(status));
        }
        assert_eq!("init".parse::<Status>(), Err(UnknownStatus));
    }

    #[test]
    fn nothing_leaves_done() {
        assert!(TRANSITIONS.iter().all(|transition| transition.from != Some(Status::Done)));
    }

    #[test]
    fn every_pending_status_can_be_left() {
        for status in Status::ALL.into_iter().filter(|status| status.is_pending()) {
            assert!(TRANSITIONS.iter().any(|transition| transition.from == Some(status)), "{status}");
        }
    }
}
