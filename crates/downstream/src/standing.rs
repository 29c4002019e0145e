//! What the table says about a record's notification, and what follows from it. Every guarantee goes through here, so a
//! claim is honoured and settled whatever guarantee the action has by now.

use crate::outcome::{Doubtful, Problem, Result, Settled};
use crate::record::Subject;
use notification::ports::Stored;
use notification::{Status, Timestamp};

/// Why a record is not acted on.
const ABSENT: &str = "the table has no notification with this id";
const OTHER_EVENT: &str = "the table has another event under this id";

/// Why a claim is in doubt.
const LAPSED: &str = "its claim lapsed: the worker that held it ended before it wrote down what came of the call";
const UNREADABLE: &str = "its claim cannot be read: something else wrote the item";

/// Where a record's notification stands.
#[derive(Debug)]
pub(crate) enum Standing {
    /// INIT, and no call of its action has an unknown outcome.
    Init,
    /// INIT, and a call of its action has an unknown outcome.
    UnknownCall,
    /// There is nothing to act on: the record's result.
    Other(Result),
}

impl Standing {
    pub(crate) fn of(subject: Subject<'_>, stored: Option<&Stored>, now: Timestamp) -> Self {
        let Some(stored) = stored else { return Self::Other(Err(absent())) };
        // Publisher sends the event byte for byte.
        if &*stored.event != subject.event {
            return Self::Other(Err(Problem::Foreign(OTHER_EVENT.to_owned())));
        }
        match (stored.status, &stored.claim) {
            (Some(Status::Init), _) if stored.unknown_call => Self::UnknownCall,
            (Some(Status::Init), _) => Self::Init,
            (Some(Status::Claimed), None) => Self::doubt(Doubtful::UnreadableClaim, UNREADABLE),
            (Some(Status::Claimed), Some(claim)) if claim.lease_until <= now => {
                Self::doubt(Doubtful::Claim(claim.clone()), LAPSED)
            }
            (Some(Status::Claimed), Some(claim)) => Self::Other(Err(Problem::retry(format!(
                "another worker holds the notification, until {:.3} at the latest",
                claim.lease_until
            )))),
            (status, _) => Self::Other(Ok(Settled::Before(status))),
        }
    }

    fn doubt(from: Doubtful, reason: &str) -> Self {
        Self::Other(Err(Problem::InDoubt { from, reason: reason.to_owned() }))
    }
}

/// What follows for a record whose notification is not as a change expected it.
pub(crate) fn not_as_expected(subject: Subject<'_>, stored: &Stored, now: Timestamp) -> Result {
    match Standing::of(subject, Some(stored), now) {
        Standing::Init | Standing::UnknownCall => {
            Err(Problem::retry("another worker has changed the notification, and it is INIT again"))
        }
        Standing::Other(result) => result,
    }
}

/// What follows where the table has no such notification.
pub(crate) fn absent() -> Problem {
    Problem::Foreign(ABSENT.to_owned())
}
