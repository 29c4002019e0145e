//! The statuses of a notification in the table, and the transitions between them.

use std::fmt;
use std::str::FromStr;

/// The status of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Accepted by ingest; its effect is still to happen.
    Init,
    /// Claimed by a worker for its one call to an outside system that cannot dedupe.
    Claimed,
    /// Its effect has happened.
    Done,
    /// Its effect will not happen: it is malformed, or the action rejected it. The item has the reason.
    Failed,
    /// Its effect may have happened, and the outcome is unknown: an operator must find out.
    InDoubt,
}

/// Who changes a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// The function `ingest`.
    Ingest,
    /// The function `downstream`.
    Downstream,
    /// A person, by `notifyctl`.
    Operator,
}

/// Every transition: [`crate::change::Change`] can make these and no others. Each is one conditional write, so a repeat changes
/// nothing. `docs/SEMANTICS.md` has the same table, and a test compares them.
pub const TRANSITIONS: &[Transition] = &[
    Transition::new(None, Status::Init, Writer::Ingest, "the id is new"),
    Transition::new(Some(Status::Init), Status::Done, Writer::Downstream, "the effect has happened"),
    Transition::new(Some(Status::Init), Status::Failed, Writer::Downstream, "malformed, or rejected by the action"),
    Transition::new(Some(Status::Init), Status::Claimed, Writer::Downstream, "before an at-most-once call"),
    Transition::new(
        Some(Status::Init),
        Status::Init,
        Writer::Downstream,
        "its action, or its transaction, failed: why is noted, and whether the outcome of its call is unknown; it is retried",
    ),
    Transition::new(
        Some(Status::Init),
        Status::InDoubt,
        Writer::Downstream,
        "an earlier call has an unknown outcome, and its repeat was rejected or is not allowed",
    ),
    Transition::new(
        Some(Status::Claimed),
        Status::Done,
        Writer::Downstream,
        "the call succeeded, and the claim still holds",
    ),
    Transition::new(
        Some(Status::Claimed),
        Status::Failed,
        Writer::Downstream,
        "the call was rejected, and the claim still holds",
    ),
    Transition::new(
        Some(Status::Claimed),
        Status::Init,
        Writer::Downstream,
        "the call did not happen, and the claim still holds",
    ),
    Transition::new(
        Some(Status::Claimed),
        Status::InDoubt,
        Writer::Downstream,
        "the call may have happened, or the claim has expired",
    ),
    Transition::new(None, Status::Failed, Writer::Downstream, "a Kinesis record that belongs to no notification"),
    Transition::new(Some(Status::Failed), Status::Init, Writer::Operator, "`notifyctl redrive`"),
    Transition::new(
        Some(Status::Claimed),
        Status::InDoubt,
        Writer::Operator,
        "`notifyctl resolve` of an expired claim, before its decision",
    ),
    Transition::new(
        Some(Status::InDoubt),
        Status::Init,
        Writer::Operator,
        "`notifyctl resolve --retry`: it did not happen",
    ),
    Transition::new(Some(Status::InDoubt), Status::Done, Writer::Operator, "`notifyctl resolve --done`: it did happen"),
];

/// One change of status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The status before; `None` if there is no item yet.
    pub from: Option<Status>,
    /// The status after.
    pub to: Status,
    /// Who writes it.
    pub by: Writer,
    /// When.
    pub when: &'static str,
}

impl Transition {
    const fn new(from: Option<Status>, to: Status, by: Writer, when: &'static str) -> Self {
        Self { from, to, by, when }
    }
}

impl Status {
    /// All statuses, in the order of a notification's life.
    pub const ALL: [Self; 5] = [Self::Init, Self::Claimed, Self::Done, Self::Failed, Self::InDoubt];

    /// The status as it is stored in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Claimed => "CLAIMED",
            Self::Done => "DONE",
            Self::Failed => "FAILED",
            Self::InDoubt => "IN_DOUBT",
        }
    }

    /// Whether the pipeline still has to process the notification.
    #[must_use]
    pub const fn is_pending(self) -> bool {
        matches!(self, Self::Init | Self::Claimed)
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingest => "ingest",
            Self::Downstream => "downstream",
            Self::Operator => "operator",
        })
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

/// The text is not a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a status: expected INIT, CLAIMED, DONE, FAILED or IN_DOUBT")]
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
    fn a_writer_has_its_name() {
        let names = [Writer::Ingest, Writer::Downstream, Writer::Operator].map(|writer| writer.to_string());
        assert_eq!(names, ["ingest", "downstream", "operator"]);
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

    #[test]
    fn only_an_operator_changes_a_settled_status() {
        for transition in TRANSITIONS {
            let settled = transition.from.is_some_and(|from| !from.is_pending());
            assert!(!settled || transition.by == Writer::Operator, "{transition:?}");
        }
    }
}
