//! Known bugs of such pipelines, put back one at a time: a simulation is only worth the bugs that it finds. Everything that a
//! bug changes is in this file, and the others ask it. Deployed code has no switch.

use crate::aws::lambda::Ended;
use crate::judge;
use crate::scenario::Scenario;
use crate::template::Deployed;
use actions::webhook::NoAnswer;
use event_source::settings::StartingPosition;
use event_source::stream::Record;
use jiff::Timestamp;
use notification::ports::{PendingPage, SweepState, Written};
use notification::testing::{Call, Captured, Entries, Item, OwnedChange, OwnedCommit};
use notification::{ActionError, Claim, Deadline, Failure, FailureKind, Guarantee, Status, Stored, limits};
use std::sync::Arc;
use std::time::Duration;

macro_rules! mutants {
    ($($name:ident: $bug:literal in $place:literal,)*) => {
        const COUNT: usize = [$(Mutant::$name),*].len();

        /// A bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $(#[doc = $bug] $name,)*
        }

        impl Mutant {
            /// All of them: the bug in words, and the place where it would be.
            pub const ALL: [(Self, &'static str, &'static str); COUNT] = [$((Self::$name, $bug, $place),)*];
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
    ExpiredClaimLooksFree: "an expired claim looks free, and is taken over" in "downstream, at most once",
    DoneWithoutClaim: "DONE is written without the claim" in "table",
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
    ShorterBoundStated: "calls start without their full time left: the action states a shorter bound" in "action",
    InProgressTakenForRejection: "409, “in progress”, taken for a rejection" in "webhook, idempotent",
    UnknownCallForgotten: "a call with an unknown outcome is not noted" in "downstream, idempotent",
    OwnWriteNotRecognised: "one's own write is not recognised after its reply was lost" in "table",
    SubjectNotCompared: "`subject` not compared" in "ingest",
    PartitionStopsSweep: "one failing partition of the index stops the sweep" in "publisher, sweep",
    FailedReadTakenForAbsence: "a read that failed is taken for “there is no such notification”" in "downstream",
    SecretKept: "a new signing secret is not read" in "webhook",
    BodyAwaited: "a 2xx is a success only when its body has arrived" in "webhook",
    WaitMisread: "`Retry-After` is misread as a shorter wait" in "webhook",
    ClientRepeatsCalls: "the client repeats a call that must be made once" in "webhook, at most once",
    OtherEventChanges: "a record with another event changes the notification" in "table",
    StopsForWrites: "answers are not taken while DONE is written" in "downstream, idempotent",
    DoneGivenUp: "a throttled write of an outcome is given up at once" in "downstream",
    ClaimKeptByOtherGuarantees: "an expired claim settled only where the action is at most once" in "downstream",
    OperatorExpectsNoTime: "an operator's change does not expect the time that the operator saw" in "table",
    LiveClaimResolved: "`resolve` takes a live claim" in "notifyctl",
    SecondPageNeverRead: "the second page of the index is never read" in "table, sweep",
    SweepPositionLost: "a sweep begins from the start each time" in "table, sweep",
    SweepTimesLost: "everything pending is published again at each sweep" in "table, sweep",
    InvalidEntryHidesPartition: "an index entry that is no notification hides its partition" in "table, sweep",
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
        Some(Mutant::ExpiredClaimLooksFree) => {
            let is_expired = item.claim.as_ref().is_some_and(|claim| claim.lease_until <= now);
            item.status == Status::Claimed && to == Status::Claimed && is_expired
        }
        Some(Mutant::DoneWithoutClaim) => change.from == Some(Status::Claimed) && to == Status::Done,
        _ => false,
    }
}

/// How ingest reads the answer to its put.
pub(crate) fn inserted(mutant: Option<Mutant>, written: Written, event: &str) -> Written {
    let Written::Refused(old) = written else { return written };
    let is_same = judge::same(&old.event, event);
    let event = match mutant {
        Some(Mutant::DuplicatesTakenForConflicts) if is_same => "{}".into(),
        Some(Mutant::ConflictsTakenForDuplicates) => event.into(),
        Some(Mutant::SubjectNotCompared) if judge::same(&without_subject(&old.event), &without_subject(event)) => {
            event.into()
        }
        _ => return Written::Refused(old),
    };
    Written::Refused(Stored { event, ..old })
}

fn without_subject(event: &str) -> String {
    ["\"order/1\"", "\"urn:other\""].iter().fold(event.to_owned(), |event, subject| {
        event.replace(&format!("\"subject\":{subject},"), "").replace(&format!(",\"subject\":{subject}"), "")
    })
}

/// How a worker reads an item: an expired claim looks free, or the time of a change is another one.
pub(crate) fn seen(mutant: Option<Mutant>, stored: Stored, now: Timestamp) -> Stored {
    let is_expired = stored.claim.as_ref().is_some_and(|claim| claim.lease_until <= now);
    match mutant {
        Some(Mutant::ExpiredClaimLooksFree) if is_expired => {
            Stored { status: Some(Status::Init), claim: None, ..stored }
        }
        Some(Mutant::OwnWriteNotRecognised) => Stored { since: None, ..stored },
        _ => stored,
    }
}

/// The answers to a read of several items.
pub(crate) fn read_answers(mutant: Option<Mutant>, answers: Entries<Option<Stored>>) -> Entries<Option<Stored>> {
    match mutant {
        Some(Mutant::FailedReadTakenForAbsence) => answers.into_iter().map(|answer| answer.or(Ok(None))).collect(),
        _ => answers,
    }
}

/// Whether a change is acknowledged and not made.
pub(crate) fn forgets(mutant: Option<Mutant>, change: &OwnedChange) -> bool {
    mutant == Some(Mutant::UnknownCallForgotten) && change.unknown_call
}

/// The changes of a transaction as they are made.
pub(crate) fn commits(mutant: Option<Mutant>, group: &[OwnedCommit]) -> Vec<OwnedCommit> {
    let mut group = group.to_vec();
    if mutant == Some(Mutant::OtherEventChanges) {
        for commit in &mut group {
            commit.change.if_event = None;
        }
    }
    group
}

/// Who reads an item.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reader {
    /// Downstream, with an action of this guarantee.
    Downstream(Guarantee),
    /// An operator.
    Operator,
    /// Another function.
    Other,
}

/// How the claim on an item is read: it seems to last for ever, or to be over.
pub(crate) fn claim_seen(mutant: Option<Mutant>, stored: Stored, reader: Reader) -> Stored {
    let Some(claim) = &stored.claim else { return stored };
    let is_once = matches!(reader, Reader::Downstream(Guarantee::AtMostOnce { .. }));
    let lease_until = match (mutant, reader) {
        (Some(Mutant::ClaimKeptByOtherGuarantees), Reader::Downstream(_)) if !is_once => Timestamp::MAX,
        (Some(Mutant::LiveClaimResolved), Reader::Operator) => Timestamp::UNIX_EPOCH,
        _ => return stored,
    };
    Stored { claim: Some(Claim { lease_until, ..claim.clone() }), ..stored }
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

/// How a call is refused.
pub(crate) fn refused(mutant: Option<Mutant>, call: &Call) -> Failure {
    let writes_outcome = call.changes.iter().any(|(from, to)| from.is_some() && *to != Status::Claimed);
    match mutant {
        Some(Mutant::DoneGivenUp) if writes_outcome => Failure::permanent("throttled"),
        _ => refusal(mutant),
    }
}

/// How an entry of a call is refused.
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

/// Whether an action writes DONE itself before its effect.
pub(crate) fn writes_done_first(mutant: Option<Mutant>) -> bool {
    mutant == Some(Mutant::DoneBeforeEffect)
}

/// Whether effect and DONE are two writes.
pub(crate) fn splits_transactions(mutant: Option<Mutant>) -> bool {
    mutant == Some(Mutant::TransactionSplit)
}

/// The change that is made of this item for one: a claimed notification whose effect may have happened becomes INIT, or a
/// condition is left out.
pub(crate) fn change(mutant: Option<Mutant>, item: Option<&Item>, change: OwnedChange) -> OwnedChange {
    match (mutant, change.from, change.to) {
        (Some(Mutant::OperatorExpectsNoTime), ..) => OwnedChange { if_since: None, ..change },
        // The claim was not read as it is. Its owner identifies it.
        (Some(Mutant::LiveClaimResolved), Some(Status::Claimed), _) => {
            let same = |claim: &&Claim| change.if_claim.as_ref().is_some_and(|expected| expected.owner == claim.owner);
            let if_claim = item.and_then(|item| item.claim.as_ref()).filter(same).cloned();
            OwnedChange { if_claim: if_claim.or(change.if_claim), ..change }
        }
        (Some(Mutant::MayHaveHappenedTakenForRetryable), Some(Status::Claimed), Status::InDoubt) => {
            OwnedChange { to: Status::Init, reason: None, ..change }
        }
        (Some(Mutant::OtherEventChanges), Some(Status::Init), _) => OwnedChange { if_event: None, ..change },
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

/// What an action returns when its write failed.
pub(crate) fn action_error(failure: Failure) -> ActionError {
    match failure.kind {
        FailureKind::Retryable => ActionError::Retry(failure.reason),
        FailureKind::MayHaveHappened => ActionError::MayHaveHappened(failure.reason),
        FailureKind::Permanent => ActionError::Rejected(failure.reason),
    }
}

// The webhook and its receiver.

/// The guarantee that the action states.
pub(crate) fn stated(mutant: Option<Mutant>, guarantee: Guarantee) -> Guarantee {
    let timeout = Duration::from_millis(300);
    match (mutant, guarantee) {
        (Some(Mutant::ShorterBoundStated), Guarantee::Idempotent { .. }) => Guarantee::Idempotent { timeout },
        (Some(Mutant::ShorterBoundStated), Guarantee::AtMostOnce { .. }) => Guarantee::AtMostOnce { timeout },
        _ => guarantee,
    }
}

/// How the webhook reads that there was no connection.
pub(crate) fn not_connected(mutant: Option<Mutant>) -> NoAnswer {
    match mutant {
        Some(Mutant::RetryableTakenForMayHaveHappened) => NoAnswer::Broken,
        _ => NoAnswer::NotConnected,
    }
}

/// The status with which the webhook sees a rejection.
pub(crate) fn rejection_status(mutant: Option<Mutant>) -> u16 {
    if mutant == Some(Mutant::PermanentTakenForRetryable) { 429 } else { 422 }
}

/// The status with which the webhook sees that an earlier call is in progress.
pub(crate) fn in_progress_status(mutant: Option<Mutant>) -> u16 {
    if mutant == Some(Mutant::InProgressTakenForRejection) { 422 } else { 409 }
}

/// The wait that the webhook sees.
pub(crate) fn retry_after(mutant: Option<Mutant>, text: String) -> String {
    if mutant == Some(Mutant::WaitMisread) { "1".to_owned() } else { text }
}

/// Whether the webhook waits for the body of a 2xx answer.
pub(crate) fn waits_for_bodies(mutant: Option<Mutant>) -> bool {
    mutant == Some(Mutant::BodyAwaited)
}

/// Whether no answer is taken while the worker writes.
pub(crate) fn stops_for_writes(mutant: Option<Mutant>) -> bool {
    mutant == Some(Mutant::StopsForWrites)
}

/// Whether a process keeps the secret with which it started.
pub(crate) fn keeps_secrets(mutant: Option<Mutant>) -> bool {
    mutant == Some(Mutant::SecretKept)
}

/// Whether a client repeats a call that must be made once.
pub(crate) fn repeats_calls(mutant: Option<Mutant>) -> bool {
    mutant == Some(Mutant::ClientRepeatsCalls)
}

/// Whether every query of the index fails where one partition fails.
pub(crate) fn fails_with_any_partition(mutant: Option<Mutant>) -> bool {
    mutant == Some(Mutant::PartitionStopsSweep)
}
