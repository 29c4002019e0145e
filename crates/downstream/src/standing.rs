//! What the table says about a record's notification, and what follows from it. Every guarantee goes through here, so a
//! claim is honoured and settled whatever guarantee the action has by now.

use crate::record::Task;
use crate::{Downstream, Problem, Result, Settled};
use notification::change::{Answer, Persistence};
use notification::ports::{After, Before, Change, Claim, Clock, DownstreamTable, Stored};
use notification::{Action, Deadline, Failure, Status, Timestamp};

/// Why a claim that has lapsed is in doubt.
const LAPSED: &str = "its claim lapsed: the worker that held it ended before it wrote down what came of the call";

/// Why a record is not acted on.
const ABSENT: &str = "the table has no notification with this id";
const OTHER_CONTENT: &str = "the table has another event under this id";

/// Where a record's notification stands.
#[derive(Debug)]
pub(crate) enum Standing<'a> {
    /// INIT: its effect is still to come.
    Init {
        /// Whether a call of its action ended with an unknown outcome.
        unknown_call: bool,
    },
    /// Another worker holds it.
    Held(&'a Claim),
    /// It is CLAIMED, and its worker is gone.
    Lapsed(&'a Claim),
    /// There is nothing to do.
    Settled(Option<Status>),
    /// The record is not the table's notification.
    Foreign(&'static str),
}

impl<'a> Standing<'a> {
    pub(crate) fn of(task: Task<'_>, stored: Option<&'a Stored>, now: Timestamp) -> Self {
        let Some(stored) = stored else { return Self::Foreign(ABSENT) };
        // Publisher sends the event byte for byte.
        if &*stored.event != task.notification.event() {
            return Self::Foreign(OTHER_CONTENT);
        }
        match (stored.status, &stored.claim) {
            (Some(Status::Init), _) => Self::Init { unknown_call: stored.unknown_call },
            (Some(Status::Claimed), Some(claim)) if claim.lease_until <= now => Self::Lapsed(claim),
            (Some(Status::Claimed), Some(claim)) => Self::Held(claim),
            (status, _) => Self::Settled(status),
        }
    }
}

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    /// What follows for a record whose notification is not as a change expected it.
    pub(crate) async fn not_as_expected(&self, task: Task<'_>, stored: &Stored, deadline: Deadline) -> Result {
        match Standing::of(task, Some(stored), self.clock.now()) {
            Standing::Init { .. } => Err(Problem::retry("the notification is INIT again, by another worker")),
            standing => self.settled_or_held(task, standing, deadline).await,
        }
    }

    /// What follows where nothing is to be done for a record but, perhaps, to settle what another worker left behind.
    pub(crate) async fn settled_or_held(&self, task: Task<'_>, standing: Standing<'_>, deadline: Deadline) -> Result {
        match standing {
            Standing::Foreign(why) => Err(Problem::Foreign(why.to_owned())),
            Standing::Settled(status) => Ok(Settled::Before(status)),
            Standing::Held(claim) => Err(Problem::retry(format!(
                "another worker holds the notification, until {:.3} at the latest",
                claim.lease_until
            ))),
            Standing::Lapsed(claim) => self.in_doubt(task, Before::Claim(claim), LAPSED, deadline).await,
            Standing::Init { .. } => Err(Problem::retry("the notification is INIT")),
        }
    }

    /// Makes a notification IN_DOUBT.
    pub(crate) async fn in_doubt(&self, task: Task<'_>, from: Before<'_>, reason: &str, deadline: Deadline) -> Result {
        let change = Change { id: task.id(), from, to: After::InDoubt(reason) };
        let answer = self.change_all(&[change], Persistence::Usual, deadline).await.pop();
        match answer.unwrap_or_else(|| Err(Failure::retryable("no answer")))? {
            Answer::Made => Ok(Settled::InDoubt(reason.to_owned())),
            Answer::Absent => Err(Problem::Foreign(ABSENT.to_owned())),
            // Another worker was faster.
            Answer::NotAsExpected(stored) => match Standing::of(task, Some(&stored), self.clock.now()) {
                Standing::Settled(status) => Ok(Settled::Before(status)),
                _ => Err(Problem::retry("another worker changes the notification")),
            },
        }
    }
}

/// What follows where the table has no such notification.
pub(crate) fn absent() -> Problem {
    Problem::Foreign(ABSENT.to_owned())
}
