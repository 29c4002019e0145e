//! A task and its result. Every result is logged and counted here, so that none is missed.

use crate::record::{Record, Subject};
use notification::change::Run;
use notification::reason::Note;
use notification::{
    Claim, Effect, Failure, FailureKind, Notification, NotificationId, ReasonCode, Status, Stored, Timestamp,
};

/// A record with a notification, on its way through the function.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task<'a> {
    /// Its place in the batch.
    pub(crate) place: usize,
    pub(crate) record: &'a Record,
    pub(crate) notification: &'a Notification,
    pub(crate) known: Known,
}

/// What is known of a task's notification from its item.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// Whether the table has a note that an earlier call of the action has an unknown outcome.
    pub(crate) has_unknown_call: bool,
    /// The run of the action that the notification was in when it was read; any, if it was not read.
    pub(crate) run: Run,
    /// The number that the next note of a failure has.
    next_failure: u32,
    /// Whether a failure of the action is to be noted.
    is_note_due: bool,
    /// Since when the notification is pending; `None` if it was not read.
    pending_since: Option<Timestamp>,
}

impl Known {
    /// The item was not read.
    const NOTHING: Self =
        Self { has_unknown_call: false, run: Run::Any, next_failure: 1, is_note_due: false, pending_since: None };

    fn of(stored: &Stored, now: Timestamp) -> Self {
        Self {
            has_unknown_call: stored.unknown_call,
            run: stored.run(),
            next_failure: stored.next_failure(),
            is_note_due: stored.is_note_due(now),
            pending_since: stored.since.filter(|_| stored.status == Some(Status::Init)),
        }
    }
}

/// A task whose action has run, with the action's answer.
pub(crate) struct Called<'a> {
    pub(crate) task: Task<'a>,
    pub(crate) acted: Result<Effect, Failure>,
}

/// The tasks that have ended, and the calls whose outcomes are not written yet.
#[derive(Default)]
pub(crate) struct Progress<'a> {
    pub(crate) ended: Vec<Ended<'a>>,
    pub(crate) open: Vec<Called<'a>>,
}

impl<'a> Task<'a> {
    /// The task of a record whose notification was not read yet.
    pub(crate) fn unread(place: usize, record: &'a Record, notification: &'a Notification) -> Self {
        Self { place, record, notification, known: Known::NOTHING }
    }

    /// The task of a record whose notification was read.
    pub(crate) fn with(self, stored: &Stored, now: Timestamp) -> Self {
        Self { known: Known::of(stored, now), ..self }
    }

    pub(crate) fn id(&self) -> &'a NotificationId {
        self.notification.id()
    }

    pub(crate) fn subject(&self) -> Subject<'a> {
        Subject { id: self.notification.id(), event: self.notification.event() }
    }

    /// The meaning of a failure of the action, or of its transaction, for the record.
    pub(crate) fn problem(self, failure: &Failure) -> Problem {
        match failure.kind {
            FailureKind::Permanent => Problem::MustBecome(Becomes::Failed(self.known.run), failure.clone()),
            FailureKind::Retryable | FailureKind::MayHaveHappened => Problem::Retry(failure.clone()),
        }
    }

    /// The note of a failure of the action.
    pub(crate) fn note<'f>(&self, failure: &'f Failure) -> Note<'f> {
        Note { reason: failure.as_reason(), failures: self.known.next_failure }
    }

    /// The result if its notification has become DONE.
    pub(crate) fn done(self, at: Timestamp) -> Settled {
        Settled::Done(Done { at, pending_since: self.known.pending_since })
    }

    /// The record, with its result.
    pub(crate) fn end(self, result: RecordResult) -> Ended<'a> {
        Ended { place: self.place, record: self.record, result, to_note: None }
    }

    /// The record, with the failure of its action.
    pub(crate) fn end_failed(self, failure: &Failure) -> Ended<'a> {
        let to_note = Some(self).filter(|task| task.known.is_note_due && failure.kind.is_retryable());
        Ended { to_note, ..self.end(Err(self.problem(failure))) }
    }
}

/// A record that was processed in this invocation, with its result.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    /// Its place in the batch.
    pub(crate) place: usize,
    pub(crate) record: &'a Record,
    pub(crate) result: RecordResult,
    /// The task, if its action failed and a note of that is due.
    pub(crate) to_note: Option<Task<'a>>,
}

/// The result of a record that needs no retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The effect has happened and the notification is DONE.
    Done(Done),
    /// It was settled before: this record is a duplicate. Contains the status, if it is known.
    Before(Option<Status>),
    /// It failed permanently and is now FAILED.
    Failed(Failure),
    /// The outcome of a call is unknown: an operator must resolve it.
    InDoubt(Failure),
    /// The effect has happened, or may have, but the notification had this status by then.
    LateEffect(Status),
    /// The record is an orphan and is quarantined.
    Quarantined {
        /// The id of its item.
        item: String,
        /// What is wrong with the record.
        reason: String,
    },
}

/// A notification that has become DONE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Done {
    /// When this function knew it.
    pub(crate) at: Timestamp,
    /// Since when it had been pending; `None` if it was not read.
    pub(crate) pending_since: Option<Timestamp>,
}

/// Why a record is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It is retried.
    Retry(Failure),
    /// Its notification must become FAILED or IN_DOUBT, for this reason.
    MustBecome(Becomes, Failure),
    /// The record is an orphan, for this reason: it must be quarantined, and the notification left alone.
    Orphan(String),
}

/// The status that a notification must get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Becomes {
    /// FAILED: it failed permanently in this run, and had no effect. If an operator has begun another run meanwhile, that one
    /// decides.
    Failed(Run),
    /// IN_DOUBT: the outcome of a call is unknown.
    InDoubt(Doubtful),
}

/// The state of a notification before it becomes IN_DOUBT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doubtful {
    /// INIT.
    Init,
    /// CLAIMED, by a claim that has expired.
    Claim(Claim),
    /// CLAIMED, by a claim that cannot be read.
    UnreadableClaim,
}

/// The result of a record.
pub(crate) type RecordResult = Result<Settled, Problem>;

impl Problem {
    /// A retryable failure.
    pub(crate) fn retry(reason: impl Into<String>) -> Self {
        Self::Retry(Failure::retryable(reason))
    }
}

/// A failure of the table, whatever its kind, is not the notification's fault.
impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Retry(failure)
    }
}

/// Counts the DONE records per batch. Every other result is rare and counted one by one.
pub(crate) fn count_done(ended: &[Ended<'_>]) {
    let done = ended.iter().filter(|ended| matches!(ended.result, Ok(Settled::Done(_)))).count();
    if done > 0 {
        metrics::counter!("Done").increment(done as u64);
    }
}

/// Logs and counts the result of a record.
pub(crate) fn log_and_count(record: &Record, result: &RecordResult) {
    let counter = match result {
        Ok(Settled::Done(_)) => return record.debug("done"),
        Ok(Settled::Before(status)) => return log_and_count_duplicate(record, *status),
        Ok(Settled::Failed(_) | Settled::Quarantined { .. }) => "Failed",
        Ok(Settled::InDoubt(_)) => "InDoubt",
        Ok(Settled::LateEffect(_)) => "LateEffect",
        Err(_) => "Retried",
    };
    metrics::counter!(counter).increment(1);
    let _span = record.span().entered();
    match result {
        Ok(Settled::Done(_) | Settled::Before(_)) => {}
        Ok(Settled::Failed(failure)) => tracing::error!(
            reason_code = failure.code.as_str(),
            reason = failure.reason,
            "failed permanently; the notification is FAILED"
        ),
        Ok(Settled::InDoubt(failure)) => tracing::error!(
            reason_code = failure.code.as_str(),
            reason = failure.reason,
            "IN_DOUBT: an operator must resolve it"
        ),
        Ok(Settled::LateEffect(status)) => tracing::error!(
            %status,
            "a call happened, or may have, after the status of its notification changed; an operator must investigate"
        ),
        Ok(Settled::Quarantined { item, reason }) => {
            let reason_code = ReasonCode::Orphan.as_str();
            tracing::error!(reason_code, reason, item, "the record belongs to no notification; quarantined as FAILED");
        }
        Err(Problem::Retry(failure)) => tracing::warn!(
            reason_code = failure.code.as_str(), reason = %failure, "not settled; the record is retried"
        ),
        Err(Problem::MustBecome(_, failure)) => {
            tracing::warn!(reason = failure.reason, "its new status could not be written; the record is retried");
        }
        Err(Problem::Orphan(reason)) => {
            tracing::warn!(reason, "its new status could not be written; the record is retried");
        }
    }
}

/// Logs and counts a record that equals another one in its batch and shares its result.
pub(crate) fn log_and_count_repeat(record: &Record, result: &RecordResult) {
    match result {
        Ok(_) => log_and_count_duplicate(record, None),
        Err(_) => log_and_count(record, result),
    }
}

fn log_and_count_duplicate(record: &Record, status: Option<Status>) {
    metrics::counter!("Repeated").increment(1);
    match status {
        // It may be the repeat of a write whose reply was lost, so it is logged again.
        Some(Status::Failed | Status::InDoubt) => {
            let status = status.map(Status::as_str);
            record.span().in_scope(|| tracing::warn!(status, "settled before; nothing was written"));
        }
        _ => record.debug("settled before; nothing was written"),
    }
}
