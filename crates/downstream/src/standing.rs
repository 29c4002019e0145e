//! The state of a record's notification in the table, and its consequences. Every guarantee uses it, so a claim is respected
//! and settled even after the action's guarantee has changed.

use crate::Downstream;
use crate::ended::{Becomes, Doubtful, Problem, RecordResult, Settled, Task};
use crate::record::Subject;
use notification::ports::DownstreamTable;
use notification::write::{Answer, read_all, write_all};
use notification::{Action, Change, Clock, Deadline, Failure, ReasonCode, Status, Stored, Timestamp, batch::Attempts};

/// The reasons with which a record is an orphan.
const ABSENT: &str = "the table has no notification with this id";
const OTHER_EVENT: &str = "the table has another event under this id";

/// The reasons with which a claimed notification becomes IN_DOUBT.
const EXPIRED: &str = "its claim expired: the worker that held it ended before it wrote the outcome of the call";
const UNREADABLE: &str = "its claim cannot be read: another program wrote the item";

/// The state of a record's notification.
#[derive(Debug)]
pub(crate) enum Standing {
    /// INIT, and no call of its action has an unknown outcome.
    Init,
    /// INIT, and a call of its action has an unknown outcome.
    UnknownCall,
    /// There is nothing to act on. Contains the record's result.
    Other(RecordResult),
}

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    /// Reads the notifications of tasks, and returns each task, with what its notification says of earlier calls, and the state
    /// of its notification.
    pub(crate) async fn read_each<'a>(&self, tasks: Vec<Task<'a>>, deadline: Deadline) -> Vec<(Task<'a>, Standing)> {
        let ids: Vec<_> = tasks.iter().map(Task::id).collect();
        let reads = read_all(&self.table, &self.clock, &ids, deadline).await;
        let now = self.clock.now();
        let mut standings = Vec::with_capacity(tasks.len());
        for (task, read) in tasks.into_iter().zip(reads) {
            let task = match &read {
                Ok(Some(stored)) => task.with(stored, now),
                Ok(None) | Err(_) => task,
            };
            standings.push((task, Standing::read(task.subject(), read, now)));
        }
        standings
    }

    /// Makes one change for each of `items`, and returns each with its answer.
    pub(crate) async fn write_each<I>(
        &self,
        items: Vec<I>,
        change: impl Fn(&I) -> Change<'_>,
        attempts: Attempts,
        deadline: Deadline,
    ) -> Vec<(I, Result<Answer, Failure>)> {
        let changes: Vec<Change<'_>> = items.iter().map(change).collect();
        let answers = write_all(&self.table, &self.clock, &changes, attempts, deadline).await;
        items.into_iter().zip(answers).collect()
    }
}

impl Standing {
    /// By the item that was read.
    pub(crate) fn read(subject: Subject<'_>, read: Result<Option<Stored>, Failure>, now: Timestamp) -> Self {
        match read {
            Ok(Some(stored)) => Self::of(subject, &stored, now),
            Ok(None) => Self::Other(Err(absent())),
            Err(failure) => Self::Other(Err(failure.into())),
        }
    }

    pub(crate) fn of(subject: Subject<'_>, stored: &Stored, now: Timestamp) -> Self {
        // Publisher sends the event byte for byte.
        if &*stored.event != subject.event {
            return Self::Other(Err(Problem::Orphan(OTHER_EVENT.to_owned())));
        }
        match (stored.status, &stored.claim) {
            (Some(Status::Init), _) if stored.unknown_call => Self::UnknownCall,
            (Some(Status::Init), _) => Self::Init,
            (Some(Status::Claimed), None) => {
                Self::doubt(Doubtful::UnreadableClaim, ReasonCode::ClaimUnreadable, UNREADABLE)
            }
            (Some(Status::Claimed), Some(claim)) if claim.lease_until <= now => {
                Self::doubt(Doubtful::Claim(claim.clone()), ReasonCode::ClaimExpired, EXPIRED)
            }
            (Some(Status::Claimed), Some(claim)) => Self::Other(Err(Problem::retry(format!(
                "another worker has claimed the notification, until {:.3} at the latest",
                claim.lease_until
            )))),
            (status, _) => Self::Other(Ok(Settled::Before(status))),
        }
    }

    fn doubt(from: Doubtful, code: ReasonCode, reason: &str) -> Self {
        let failure = Failure::may_have_happened(reason).with_code(code);
        Self::Other(Err(Problem::MustBecome(Becomes::InDoubt(from), failure)))
    }
}

/// The result of a record whose notification is not as a change expected it.
pub(crate) fn not_as_expected(subject: Subject<'_>, stored: &Stored, now: Timestamp) -> RecordResult {
    match Standing::of(subject, stored, now) {
        Standing::Init | Standing::UnknownCall => {
            Err(Problem::retry("another worker has changed the notification, and it is INIT again"))
        }
        Standing::Other(result) => result,
    }
}

/// The result of a record if the table has no such notification.
pub(crate) fn absent() -> Problem {
    Problem::Orphan(ABSENT.to_owned())
}
