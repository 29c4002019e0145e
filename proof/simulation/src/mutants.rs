//! Known bugs of such pipelines, to be put back one at a time: the simulation is worth what it catches. Everything that a bug
//! changes is here, and the other files ask for it: what is deployed has no switch.

use crate::aws::captured::Captured;
use crate::aws::change::OwnedChange;
use crate::aws::lambda::Ended;
use crate::template::Deployed;
use event_source::settings::StartingPosition;
use event_source::stream::Record;
use jiff::Timestamp;
use notification::ports::{Answers, Written};
use notification::testing::Item;
use notification::{ActionError, Change, Deadline, Failure, FailureKind, Notification, Status, Stored, content};
use std::sync::Arc;
use std::time::Duration;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// DONE is written before the effect.
    DoneBeforeEffect,
    /// DONE is written whatever the status is.
    DoneNotConditional,
    /// The put of ingest is not conditional.
    InsertNotConditional,
    /// Every image is published, by the mapping and by the code.
    NoInitFilter,
    /// The failed entries of a successful `PutRecords` are ignored.
    PartialFailureIgnored,
    /// The failures of `PutRecords` are joined to the wrong entries.
    FailuresJoinedWrongly,
    /// The highest failed sequence number is reported.
    HighestCheckpoint,
    /// A partial failure is reported as a success.
    PartialFailureReportedAsSuccess,
    /// An empty identifier is reported.
    EmptyIdentifier,
    /// An expired claim is taken over, and DONE is written without checking the claim.
    ClaimNotFenced,
    /// DONE items expire before the last redelivery.
    ExpiryTooShort,
    /// A retryable failure is treated as permanent.
    RetryableTakenForPermanent,
    /// A permanent failure is retried.
    PermanentTakenForRetryable,
    /// The mappings start at the newest record.
    LatestForTrimHorizon,
    /// The partition key is random.
    RandomPartitionKey,
    /// The sweep does not run.
    NoSweep,
    /// A duplicate is treated as a conflict.
    DuplicatesTakenForConflicts,
    /// A conflict is treated as a duplicate.
    ConflictsTakenForDuplicates,
    /// The deadline is ignored.
    DeadlineIgnored,
    /// Effect and DONE are two writes.
    TransactionSplit,
    /// A call that may have happened is treated as one that did not.
    MayHaveHappenedTakenForRetryable,
    /// A call that did not happen is treated as one that may have happened.
    RetryableTakenForMayHaveHappened,
    /// The published event differs from the accepted one.
    ContentChanged,
    /// A failed message is received again when the visibility timeout of the queue ends.
    NothingHidden,
    /// Every run of the sweep gets the lease.
    SweepsOverlap,
}

impl Mutant {
    /// All of them: the bug in words, and the place where it would be.
    pub const ALL: [(Self, &'static str, &'static str); 25] = [
        (Self::DoneBeforeEffect, "DONE before the effect", "downstream, idempotent"),
        (Self::DoneNotConditional, "DONE not conditional", "table"),
        (Self::InsertNotConditional, "the put of ingest not conditional", "table"),
        (Self::NoInitFilter, "no INIT filter, at the mapping and in the code", "template and publisher"),
        (Self::PartialFailureIgnored, "PutRecords' partial failure ignored", "stream"),
        (Self::FailuresJoinedWrongly, "PutRecords' failures joined to the wrong entries", "stream"),
        (Self::HighestCheckpoint, "the highest instead of the lowest checkpoint", "publisher and downstream, report"),
        (Self::PartialFailureReportedAsSuccess, "whole-batch success on a partial failure", "report"),
        (Self::EmptyIdentifier, "an empty identifier", "report"),
        (Self::ClaimNotFenced, "a claim not fenced", "table"),
        (Self::ExpiryTooShort, "TTL (1 day) shorter than redelivery", "template"),
        (Self::RetryableTakenForPermanent, "retryable taken for permanent", "classifier"),
        (Self::PermanentTakenForRetryable, "permanent taken for retryable", "classifier"),
        (Self::LatestForTrimHorizon, "LATEST for TRIM_HORIZON", "template"),
        (Self::RandomPartitionKey, "random instead of id partition key", "stream"),
        (Self::NoSweep, "no sweep", "template"),
        (Self::DuplicatesTakenForConflicts, "duplicates taken for conflicts", "ingest"),
        (Self::ConflictsTakenForDuplicates, "conflicts taken for duplicates", "ingest"),
        (Self::DeadlineIgnored, "deadline ignored", "every function"),
        (Self::TransactionSplit, "effect and DONE in two writes", "downstream, transactional"),
        (Self::RetryableTakenForMayHaveHappened, "“did not” taken for “may have happened”", "downstream, at most once"),
        (Self::ContentChanged, "what is published is not what was accepted", "publisher"),
        (Self::NothingHidden, "a refused message not hidden", "ingest"),
        (Self::SweepsOverlap, "the sweep's lease not looked at", "table"),
        (Self::MayHaveHappenedTakenForRetryable, "“may have happened” taken for “did not”", "downstream, at most once"),
    ];

    /// The bugs of the template.
    pub(crate) fn change_template(self, deployed: &mut Deployed) {
        match self {
            Self::NoInitFilter => deployed.publisher.filter = None,
            Self::ExpiryTooShort => deployed.done_retention = Duration::from_hours(24),
            Self::LatestForTrimHorizon => {
                deployed.publisher.starting_position = StartingPosition::Latest;
                deployed.downstream.starting_position = StartingPosition::Latest;
            }
            _ => {}
        }
    }

    pub(crate) fn has_sweep(self) -> bool {
        self != Self::NoSweep
    }

    /// Whether a run must go on until DONE items expire.
    pub(crate) fn needs_expiry(self) -> bool {
        self == Self::ExpiryTooShort
    }
}

// The table.

/// Whether a change of this item is made whatever it expects.
pub(crate) fn ignores_condition(mutant: Option<Mutant>, item: &Item, change: &Change<'_>, now: Timestamp) -> bool {
    let to = change.to().status();
    match mutant {
        Some(Mutant::InsertNotConditional) => change.from().status().is_none(),
        Some(Mutant::DoneNotConditional) => to == Status::Done,
        Some(Mutant::ClaimNotFenced) => {
            let is_expired = item.claim.as_ref().is_some_and(|claim| claim.lease_until <= now);
            item.status == Status::Claimed && (to == Status::Done || (to == Status::Claimed && is_expired))
        }
        _ => false,
    }
}

/// What ingest takes the answer to its put for.
pub(crate) fn inserted(mutant: Option<Mutant>, written: Written, notification: &Notification) -> Written {
    let Written::Refused(old) = written else { return written };
    let is_same = content::same(&old.event, notification.event());
    let event = match mutant {
        Some(Mutant::DuplicatesTakenForConflicts) if is_same => "{}".into(),
        Some(Mutant::ConflictsTakenForDuplicates) => notification.event().into(),
        _ => return Written::Refused(old),
    };
    Written::Refused(Stored { event, ..old })
}

/// What a worker takes an item for: an expired claim looks free.
pub(crate) fn seen(mutant: Option<Mutant>, stored: Stored, now: Timestamp) -> Stored {
    let is_expired = stored.claim.as_ref().is_some_and(|claim| claim.lease_until <= now);
    if mutant == Some(Mutant::ClaimNotFenced) && is_expired {
        return Stored { status: Some(Status::Init), claim: None, ..stored };
    }
    stored
}

/// Whether a run of the sweep gets the lease although another one has it.
pub(crate) fn ignores_lease(mutant: Option<Mutant>) -> bool {
    mutant == Some(Mutant::SweepsOverlap)
}

// Streams and the queue.

/// What publisher takes a record of the table's stream for: every image is a new notification.
pub(crate) fn captured(mutant: Option<Mutant>, captured: Captured) -> Captured {
    if mutant != Some(Mutant::NoInitFilter) {
        return captured;
    }
    Captured { old: None, new: captured.new.map(|(_, event)| (Status::Init, event)), ..captured }
}

/// The partition key of a notification. `unique` is different for each record.
pub(crate) fn partition_key(mutant: Option<Mutant>, id: &str, unique: i128) -> String {
    match mutant {
        Some(Mutant::RandomPartitionKey) => format!("{id}#{unique}"),
        _ => id.to_owned(),
    }
}

/// The event that is published for an accepted one.
pub(crate) fn published(mutant: Option<Mutant>, event: &str) -> String {
    match mutant {
        Some(Mutant::ContentChanged) => event.replace("1.50", "9.50"),
        _ => event.to_owned(),
    }
}

/// What publisher takes the answer of `PutRecords` for.
pub(crate) fn put_answers(mutant: Option<Mutant>, answers: Answers<()>) -> Answers<()> {
    let mut answers = answers?;
    match mutant {
        Some(Mutant::PartialFailureIgnored) => answers.fill(Ok(())),
        Some(Mutant::FailuresJoinedWrongly) => answers.rotate_right(1),
        _ => {}
    }
    Ok(answers)
}

/// Whether ingest hides failed messages.
pub(crate) fn hides(mutant: Option<Mutant>) -> bool {
    mutant != Some(Mutant::NothingHidden)
}

// Classifier and reports.

/// How a call, or an entry of one, is refused.
pub(crate) fn refusal(mutant: Option<Mutant>) -> Failure {
    match mutant {
        Some(Mutant::RetryableTakenForPermanent) => Failure::permanent("throttled"),
        _ => Failure::retryable("throttled"),
    }
}

/// What a function reports of these records.
pub(crate) fn report(mutant: Option<Mutant>, ended: Ended, records: &[Arc<Record>]) -> Ended {
    let Ended::Response(response) = &ended else { return ended };
    if !response.contains("itemIdentifier") {
        return ended;
    }
    let identifier = match mutant {
        Some(Mutant::PartialFailureReportedAsSuccess) => return Ended::Response("{}".to_owned()),
        Some(Mutant::EmptyIdentifier) => "",
        Some(Mutant::HighestCheckpoint) if !records.is_empty() => {
            records.last().map_or("", |record| &record.sequence_number)
        }
        _ => return ended,
    };
    Ended::Response(format!(r#"{{"batchItemFailures":[{{"itemIdentifier":"{identifier}"}}]}}"#))
}

// The functions.

/// The deadline that a function keeps to.
pub(crate) fn deadline(mutant: Option<Mutant>, deadline: Deadline) -> Deadline {
    match mutant {
        Some(Mutant::DeadlineIgnored) => Deadline::at(deadline.later(Duration::from_hours(1))),
        _ => deadline,
    }
}

/// Whether an action gives up a call when its timeout is over.
pub(crate) fn has_timeout(mutant: Option<Mutant>) -> bool {
    mutant != Some(Mutant::DeadlineIgnored)
}

/// Whether an action writes DONE itself before its effect.
pub(crate) fn writes_done_first(mutant: Option<Mutant>) -> bool {
    mutant == Some(Mutant::DoneBeforeEffect)
}

/// Whether effect and DONE are two writes.
pub(crate) fn splits_transactions(mutant: Option<Mutant>) -> bool {
    mutant == Some(Mutant::TransactionSplit)
}

/// The change that is made for one: a claimed notification whose effect may have happened becomes INIT.
pub(crate) fn change(mutant: Option<Mutant>, change: OwnedChange) -> OwnedChange {
    match change {
        OwnedChange::DoubtClaimed(id, claim, _) if mutant == Some(Mutant::MayHaveHappenedTakenForRetryable) => {
            OwnedChange::Release(id, claim)
        }
        change => change,
    }
}

/// What an action returns for a notification that the business refuses.
pub(crate) fn rejection(mutant: Option<Mutant>, reason: String) -> ActionError {
    match mutant {
        Some(Mutant::PermanentTakenForRetryable) => ActionError::Retry(reason),
        _ => ActionError::Rejected(reason),
    }
}

/// What an action returns when its call failed.
pub(crate) fn action_error(mutant: Option<Mutant>, failure: Failure) -> ActionError {
    match failure.kind {
        FailureKind::Retryable if mutant == Some(Mutant::RetryableTakenForMayHaveHappened) => {
            ActionError::MayHaveHappened(failure.reason)
        }
        FailureKind::Retryable => ActionError::Retry(failure.reason),
        FailureKind::MayHaveHappened => ActionError::MayHaveHappened(failure.reason),
        FailureKind::Permanent => ActionError::Rejected(failure.reason),
    }
}
