//! Known bugs of such pipelines, to be put back one at a time: what the simulation is worth is what it catches.

use crate::world::Outcome;
use event_source::stream::Record;
use std::sync::Arc;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// DONE is written before the effect.
    DoneBeforeEffect,
    /// DONE is written whatever the status is.
    DoneNotConditional,
    /// The put of ingest is not conditional.
    InsertNotConditional,
    /// Every image is published, at the mapping and in the code.
    NoInitFilter,
    /// `PutRecords`' failures inside a 200 are not looked at.
    PartialFailureIgnored,
    /// The failures of `PutRecords` are joined to the wrong entries.
    FailuresJoinedWrongly,
    /// The highest failed sequence number is reported.
    HighestCheckpoint,
    /// A partial failure is reported as a success.
    PartialFailureReportedAsSuccess,
    /// An empty identifier is reported.
    EmptyIdentifier,
    /// A lapsed claim is taken over, and DONE does not look whose the claim is.
    ClaimNotFenced,
    /// DONE items expire before the last redelivery.
    ExpiryTooShort,
    /// What may pass later is taken for poison.
    RetryableTakenForPermanent,
    /// What never passes is tried again.
    PermanentTakenForRetryable,
    /// The mappings begin at the newest record.
    LatestForTrimHorizon,
    /// The partition key is random.
    RandomPartitionKey,
    /// Nothing looks for what stays pending.
    NoSweep,
    /// A duplicate is taken for a conflict.
    DuplicatesTakenForConflicts,
    /// A conflict is taken for a duplicate.
    ConflictsTakenForDuplicates,
    /// The deadline is not looked at.
    DeadlineIgnored,
    /// Effect and DONE are two writes.
    TransactionSplit,
    /// What may have happened is taken for what did not.
    MayHaveHappenedTakenForRetryable,
    /// What did not happen is taken for what may have happened.
    RetryableTakenForMayHaveHappened,
    /// What is published is not what was accepted.
    ContentChanged,
    /// A message that failed comes again when the queue's visibility timeout ends.
    NothingHidden,
    /// Every run of the sweep gets the lease.
    SweepsOverlap,
}

impl Mutant {
    /// All of them: the bug in words, and where it is.
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

    /// What the bugs in the reports make of an answer.
    #[must_use]
    pub fn rewrite(mutant: Option<Self>, outcome: Outcome, records: &[Arc<Record>]) -> Outcome {
        let Outcome::Response(response) = &outcome else { return outcome };
        if !response.contains("itemIdentifier") {
            return outcome;
        }
        let identifier = match mutant {
            Some(Self::PartialFailureReportedAsSuccess) => return Outcome::Response("{}".to_owned()),
            Some(Self::EmptyIdentifier) => "",
            Some(Self::HighestCheckpoint) if !records.is_empty() => {
                records.last().map_or("", |record| &record.sequence_number)
            }
            _ => return outcome,
        };
        Outcome::Response(format!(r#"{{"batchItemFailures":[{{"itemIdentifier":"{identifier}"}}]}}"#))
    }
}
