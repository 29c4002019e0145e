//! What became of a record, and what is logged and counted of it: each outcome in one place, so that none is forgotten.

use crate::record::Record;
use notification::ports::Claim;
use notification::{Failure, FailureKind, Status};

/// What became of one record that needs no retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The effect has happened and the notification is DONE.
    Done,
    /// It was settled before: this record is a repeat. The status, where it is known.
    Before(Option<Status>),
    /// It failed permanently and is FAILED now, for this reason.
    Failed(String),
    /// The outcome of a call is unknown, for this reason: an operator must look.
    InDoubt(String),
    /// The effect has happened, or may have, and the notification had this status by then.
    LateEffect(Status),
    /// The record belongs to no notification and is kept.
    Kept {
        /// The id of the item that keeps it.
        item: String,
        /// What is wrong with the record.
        reason: String,
    },
}

/// Why a record is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It is retried.
    Retry(Failure),
    /// It failed permanently and had no effect: the notification is to become FAILED, for this reason.
    Refused(String),
    /// The outcome of a call is unknown, for this reason: the notification is to become IN_DOUBT.
    InDoubt {
        /// As the notification is.
        from: Doubtful,
        /// Why.
        reason: String,
    },
    /// The record is not the table's notification, for this reason: it is to be kept, and the notification left alone.
    Foreign(String),
}

/// What a notification is like that is to become IN_DOUBT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doubtful {
    /// INIT.
    Init,
    /// CLAIMED, by a worker that is gone.
    Claim(Claim),
    /// CLAIMED, by a claim that cannot be read.
    UnreadableClaim,
}

/// What became of a record.
pub(crate) type Result<T = Settled> = std::result::Result<T, Problem>;

impl Problem {
    /// A retryable failure.
    pub(crate) fn retry(reason: impl Into<String>) -> Self {
        Self::Retry(Failure::retryable(reason))
    }

    /// What a failure of the action, or of its transaction, means for the record.
    pub(crate) fn of_action(failure: &Failure) -> Self {
        match failure.kind {
            FailureKind::Permanent => Self::Refused(failure.reason.clone()),
            FailureKind::Retryable | FailureKind::MayHaveHappened => Self::Retry(failure.clone()),
        }
    }
}

/// A failure of the table, of whichever kind, says nothing against the notification.
impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Retry(failure)
    }
}

/// Counts for the whole batch what most records become; all else is rare.
pub(crate) fn count_done(results: &[Result]) {
    let done = results.iter().filter(|result| matches!(result, Ok(Settled::Done))).count();
    if done > 0 {
        metrics::counter!("Done").increment(done as u64);
    }
}

/// Logs and counts what became of a record.
pub(crate) fn log_and_count(record: &Record, result: &Result) {
    let span = || record.span().entered();
    match result {
        Ok(Settled::Done) => record.debug("done"),
        Ok(Settled::Before(status)) => repeated(record, *status),
        Ok(Settled::Failed(reason)) => {
            metrics::counter!("Failed").increment(1);
            let _span = span();
            tracing::error!(reason, "failed for good; the notification is FAILED");
        }
        Ok(Settled::InDoubt(reason)) => {
            metrics::counter!("InDoubt").increment(1);
            let _span = span();
            tracing::error!(reason, "IN_DOUBT: an operator must resolve it");
        }
        Ok(Settled::LateEffect(status)) => {
            metrics::counter!("LateEffect").increment(1);
            let _span = span();
            tracing::error!(%status, "a call happened, or may have, and its notification was changed before; an operator must investigate");
        }
        Ok(Settled::Kept { item, reason }) => {
            metrics::counter!("Failed").increment(1);
            let _span = span();
            tracing::error!(reason, item, "the record belongs to no notification; kept as FAILED");
        }
        Err(Problem::Retry(failure)) => {
            metrics::counter!("Retried").increment(1);
            let _span = span();
            tracing::warn!(reason = %failure, "not settled; the record is retried");
        }
        Err(Problem::Refused(reason) | Problem::InDoubt { reason, .. } | Problem::Foreign(reason)) => {
            metrics::counter!("Retried").increment(1);
            let _span = span();
            tracing::warn!(reason, "not written down; the record is retried");
        }
    }
}

/// Logs and counts a record that is equal to another one of its batch, and shares its result.
pub(crate) fn log_and_count_repeat(record: &Record, result: &Result) {
    match result {
        Ok(_) => repeated(record, None),
        Err(_) => log_and_count(record, result),
    }
}

fn repeated(record: &Record, status: Option<Status>) {
    metrics::counter!("Repeated").increment(1);
    match status {
        // It may be the repeat of a write whose reply was lost, so it is named once more.
        Some(Status::Failed | Status::InDoubt) => {
            let status = status.map(Status::as_str);
            record.span().in_scope(|| tracing::warn!(status, "settled before; nothing was written"));
        }
        _ => record.debug("settled before; nothing was written"),
    }
}
