//! Known bugs of such pipelines, put back one at a time: a simulation is only worth the bugs that it finds. Everything that a
//! bug changes is in this file, and the others ask it. Deployed code has no switch.

use crate::aws::lambda::Ended;
use crate::scenario::Scenario;
use crate::template::Deployed;
use event_source::settings::StartingPosition;
use event_source::stream::Record;
use jiff::Timestamp;
use notification::ports::{PendingPage, SweepState, Written};
use notification::testing::{Call, Captured, Entries, Item, OwnedChange};
use notification::{ActionError, Deadline, Failure, FailureKind, Status, Stored, content, limits};
use std::sync::Arc;
use std::time::Duration;

macro_rules! mutants {
    ($($name:ident: $bug:literal in $place:literal,)*) => {
        /// A bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $(#[doc = $bug] $name,)*
        }

        impl Mutant {
            /// All of them: the bug in words, and the place where it would be.
            pub const ALL: [(Self, &'static str, &'static str); 34] = [$((Self::$name, $bug, $place),)*];
        }
    };
}

mutants! {
    DoneBeforeEffect: "DONE before the effect" in "downstream, idempotent",
    DoneNotConditional: "DONE not conditional" in "table",
    InsertNotConditional: "the put of ingest not conditional" in "table",
    NoInitFilter: "no INIT filter, at the mapping and in the code" in "template and publisher",
    PartialFailureIgnored: "PutRecords' partial failure ignored" in "stream",
    FailuresJoinedWrongly: "PutRecords' failures joined to the wrong entries" in "stream",
    HighestCheckpoint: "the highest instead of the lowest checkpoint" in "publisher and downstream, report",
    PartialFailureReportedAsSuccess: "whole-batch success on a partial failure" in "report",
    EmptyIdentifier: "an empty identifier" in "report",
    ClaimNotFenced: "a claim not fenced" in "table",
    ExpiryTooShort: "TTL (1 day) shorter than redelivery" in "template",
    RetryableTakenForPermanent: "retryable taken for permanent" in "classifier",
    PermanentTakenForRetryable: "permanent taken for retryable" in "classifier",
    LatestForTrimHorizon: "LATEST for TRIM_HORIZON" in "template",
    RandomPartitionKey: "random instead of id partition key" in "stream",
    NoSweep: "no sweep" in "template",
    DuplicatesTakenForConflicts: "duplicates taken for conflicts" in "ingest",
    ConflictsTakenForDuplicates: "conflicts taken for duplicates" in "ingest",
    DeadlineIgnored: "deadline ignored" in "every function",
    TransactionSplit: "effect and DONE in two writes" in "downstream, transactional",
    RetryableTakenForMayHaveHappened: "“did not” taken for “may have happened”" in "downstream, at most once",
    ContentChanged: "what is published is not what was accepted" in "publisher",
    NothingHidden: "a refused message not hidden" in "ingest",
    SweepsOverlap: "the sweep's lease not looked at" in "table",
    MayHaveHappenedTakenForRetryable: "“may have happened” taken for “did not”" in "downstream, at most once",
    SecondPageNeverRead: "the second page of the index is never read" in "table, sweep",
    SweepPositionLost: "a sweep begins from the start each time" in "table, sweep",
    SweepTimesLost: "everything pending is published again at each sweep" in "table, sweep",
    InvalidEntryHidesPartition: "an index entry that is no notification hides its partition" in "table, sweep",
    FailedPartitionStopsSweep: "one failing partition stops the sweep" in "sweep",
    LaterFailuresJoinedToFirst: "failures of a later call joined to the entries of the first" in "stream",
    NestedRetries: "repeats inside repeats multiply the attempts" in "table",
    WriteForEachRejection: "a write for each rejection" in "downstream, quarantine",
    RestAcknowledged: "the rest of a batch after its deadline is acknowledged" in "downstream, report",
}

impl Mutant {
    /// Whether only a large run shows it: work that takes several calls, pages or invocations.
    #[must_use]
    pub const fn is_large(self) -> bool {
        matches!(
            self,
            Self::SecondPageNeverRead
                | Self::SweepPositionLost
                | Self::SweepTimesLost
                | Self::InvalidEntryHidesPartition
                | Self::FailedPartitionStopsSweep
                | Self::LaterFailuresJoinedToFirst
                | Self::NestedRetries
                | Self::WriteForEachRejection
                | Self::RestAcknowledged
        )
    }

    /// The bugs of the template, and what a run needs to show them.
    pub(crate) fn change_template(self, deployed: &mut Deployed, scenario: &mut Scenario) {
        match self {
            Self::NoInitFilter => deployed.publisher.filter = None,
            Self::NoSweep => deployed.sweep_every = Duration::MAX,
            Self::ExpiryTooShort => {
                deployed.done_retention = Duration::from_hours(24);
                scenario.runs_until_expiry = true;
            }
            Self::LatestForTrimHorizon => {
                deployed.publisher.starting_position = StartingPosition::Latest;
                deployed.downstream.starting_position = StartingPosition::Latest;
            }
            _ => {}
        }
    }
}

// The table.

/// Whether a change of this item is made whatever it expects.
pub(crate) fn ignores_condition(mutant: Option<Mutant>, item: &Item, change: &OwnedChange, now: Timestamp) -> bool {
    let to = change.to;
    match mutant {
        Some(Mutant::InsertNotConditional) => change.from.is_none(),
        Some(Mutant::DoneNotConditional) => to == Status::Done,
        Some(Mutant::ClaimNotFenced) => {
            let is_expired = item.claim.as_ref().is_some_and(|claim| claim.lease_until <= now);
            item.status == Status::Claimed && (to == Status::Done || (to == Status::Claimed && is_expired))
        }
        _ => false,
    }
}

/// How ingest reads the answer to its put.
pub(crate) fn inserted(mutant: Option<Mutant>, written: Written, event: &str) -> Written {
    let Written::Refused(old) = written else { return written };
    let is_same = content::same(&old.event, event);
    let event = match mutant {
        Some(Mutant::DuplicatesTakenForConflicts) if is_same => "{}".into(),
        Some(Mutant::ConflictsTakenForDuplicates) => event.into(),
        _ => return Written::Refused(old),
    };
    Written::Refused(Stored { event, ..old })
}

/// How a worker reads an item: an expired claim looks free.
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

/// How a sweep reads a page of the pending index.
pub(crate) fn page(mutant: Option<Mutant>, page: PendingPage) -> PendingPage {
    match mutant {
        Some(Mutant::SecondPageNeverRead) => PendingPage { next: None, ..page },
        Some(Mutant::InvalidEntryHidesPartition) if !page.invalid.is_empty() => PendingPage::default(),
        _ => page,
    }
}

/// How a sweep reads its state.
pub(crate) fn sweep_state(mutant: Option<Mutant>, mut state: SweepState) -> SweepState {
    for shard in state.shards.values_mut() {
        match mutant {
            Some(Mutant::SweepPositionLost) => shard.unfinished = None,
            Some(Mutant::SweepTimesLost) => shard.published_until = None,
            _ => {}
        }
    }
    state
}

/// Whether a query of the pending index fails, because another one has failed.
pub(crate) fn stops_at_a_failed_query(mutant: Option<Mutant>, has_failed: bool) -> bool {
    mutant == Some(Mutant::FailedPartitionStopsSweep) && has_failed
}

/// How often the adapter makes a call some of whose entries are refused.
pub(crate) fn attempts_of_a_call(mutant: Option<Mutant>) -> u32 {
    if mutant == Some(Mutant::NestedRetries) { limits::ENTRY_ATTEMPTS } else { 1 }
}

/// How many calls the adapter makes for one.
pub(crate) fn calls_of(mutant: Option<Mutant>, call: &Call) -> usize {
    let is_rejection = |(_, to): &(Option<Status>, Status)| *to == Status::Failed;
    let splits = mutant == Some(Mutant::WriteForEachRejection) && call.changes.iter().any(is_rejection);
    if splits { call.ids.len() } else { 1 }
}

// Streams and the queue.

/// How publisher reads a record of the table stream: every image is a new notification.
pub(crate) fn captured(mutant: Option<Mutant>, captured: Captured) -> Captured {
    if mutant != Some(Mutant::NoInitFilter) {
        return captured;
    }
    Captured { old: None, new: captured.new.map(|(_, event)| (Status::Init, event)), ..captured }
}

/// The partition key of a notification.
pub(crate) fn partition_key(mutant: Option<Mutant>, id: &str, now: Timestamp) -> String {
    match mutant {
        Some(Mutant::RandomPartitionKey) => format!("{id}#{now}"),
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

/// How publisher reads the answer of `PutRecords`.
pub(crate) fn put_answers(mutant: Option<Mutant>, mut answers: Entries<()>, is_later_chunk: bool) -> Entries<()> {
    match mutant {
        // The first call has been answered, so nothing is left of them.
        Some(Mutant::LaterFailuresJoinedToFirst) if is_later_chunk => answers.fill(Ok(())),
        Some(Mutant::PartialFailureIgnored) => answers.fill(Ok(())),
        Some(Mutant::FailuresJoinedWrongly) => answers.rotate_right(1),
        _ => {}
    }
    answers
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

/// What downstream reports of a batch for which it had not enough time.
pub(crate) fn response(mutant: Option<Mutant>, response: String, is_late: bool) -> String {
    if mutant == Some(Mutant::RestAcknowledged) && is_late { "{}".to_owned() } else { response }
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
    match (mutant, change.from, change.to) {
        (Some(Mutant::MayHaveHappenedTakenForRetryable), Some(Status::Claimed), Status::InDoubt) => {
            OwnedChange { to: Status::Init, reason: None, ..change }
        }
        _ => change,
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
