//! Changes that own their parts: a request that was sent takes effect even if its caller is gone.

use notification::change::{After, Before, Commit};
use notification::{Change, Claim, Notification, NotificationId, Outcome, Put};

/// A [`Change`] that owns its parts, by its constructor.
#[derive(Debug, Clone)]
pub(crate) enum OwnedChange {
    Insert(Notification),
    Done(NotificationId, Box<str>, Option<Outcome>),
    Fail(NotificationId, Box<str>, String),
    NoteUnknownCall(NotificationId, Box<str>),
    Doubt(NotificationId, Box<str>, String),
    Claim(NotificationId, Box<str>, Claim),
    DoneClaimed(NotificationId, Claim, Option<Outcome>),
    FailClaimed(NotificationId, Claim, String),
    Release(NotificationId, Claim),
    DoubtClaimed(NotificationId, Claim, String),
}

/// A [`Commit`] that owns its parts.
#[derive(Debug, Clone)]
pub(crate) struct OwnedCommit {
    pub(crate) change: OwnedChange,
    pub(crate) puts: Vec<Put>,
}

impl OwnedChange {
    /// Copies a change of a function. Operators change nothing in a run.
    pub(crate) fn of(change: &Change<'_>) -> Self {
        let id = change.id().clone();
        match (change.from(), change.to()) {
            (_, After::Inserted(notification)) => Self::Insert(notification.clone()),
            (Before::Claim(claim), After::Done(outcome)) => Self::DoneClaimed(id, claim.clone(), outcome.cloned()),
            (Before::Claim(claim), After::Failed(reason)) => Self::FailClaimed(id, claim.clone(), reason.to_owned()),
            (Before::Claim(claim), After::InDoubt(reason)) => Self::DoubtClaimed(id, claim.clone(), reason.to_owned()),
            (Before::Claim(claim), _) => Self::Release(id, claim.clone()),
            (from, to) => Self::of_init(id, from.event().unwrap_or_default().into(), to),
        }
    }

    fn of_init(id: NotificationId, event: Box<str>, to: After<'_>) -> Self {
        match to {
            After::Done(outcome) => Self::Done(id, event, outcome.cloned()),
            After::Failed(reason) => Self::Fail(id, event, reason.to_owned()),
            After::InDoubt(reason) => Self::Doubt(id, event, reason.to_owned()),
            After::Claimed(claim) => Self::Claim(id, event, claim.clone()),
            _ => Self::NoteUnknownCall(id, event),
        }
    }

    pub(crate) fn change(&self) -> Change<'_> {
        match self {
            Self::Insert(notification) => Change::insert(notification),
            Self::Done(id, event, outcome) => Change::done(id, event, outcome.as_ref()),
            Self::Fail(id, event, reason) => Change::fail(id, event, reason),
            Self::NoteUnknownCall(id, event) => Change::note_unknown_call(id, event),
            Self::Doubt(id, event, reason) => Change::doubt(id, event, reason),
            Self::Claim(id, event, claim) => Change::claim(id, event, claim),
            Self::DoneClaimed(id, claim, outcome) => Change::done_claimed(id, claim, outcome.as_ref()),
            Self::FailClaimed(id, claim, reason) => Change::fail_claimed(id, claim, reason),
            Self::Release(id, claim) => Change::release(id, claim),
            Self::DoubtClaimed(id, claim, reason) => Change::doubt_claimed(id, claim, reason),
        }
    }
}

impl OwnedCommit {
    pub(crate) fn of(commit: &Commit<'_>) -> Self {
        Self { change: OwnedChange::of(&commit.change), puts: commit.puts.to_vec() }
    }

    pub(crate) fn commit(&self) -> Commit<'_> {
        Commit { change: self.change.change(), puts: &self.puts }
    }
}
