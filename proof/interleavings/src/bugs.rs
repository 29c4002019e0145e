//! Known bugs, put back one at a time: a search is only worth the bugs that it finds. Everything that a bug changes is in this
//! file, and the others ask it. Deployed code has no switch.

use jiff::Timestamp;
use notification::change::Run;
use notification::ports::{Committed, Written};
use notification::testing::{Entries, Item, OwnedChange};
use notification::{ActionError, Deadline, Effect, Failure, FailureKind, Status, Stored};
use std::time::Duration;

/// A bug that is known, and where the search finds it.
#[derive(Debug)]
pub struct Known {
    /// The bug.
    pub bug: Bug,
    /// The bug in words.
    pub words: &'static str,
    /// The place where it would be.
    pub place: &'static str,
    /// The name of the scenario that shows it with the fewest faults.
    pub scenario: &'static str,
    /// How many faults that takes.
    pub faults: usize,
}

macro_rules! bugs {
    ($($name:ident: $words:literal in $place:literal, $faults:literal in $scenario:literal;)*) => {
        /// A bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug {
            $(#[doc = $words] $name,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Known] = &[$(Known {
                bug: Self::$name,
                words: $words,
                place: $place,
                scenario: $scenario,
                faults: $faults,
            },)*];
        }
    };
}

// Each bug in words, and its place; the fewest faults that show it, and the scenario.
bugs! {
    DoneBeforeEffect: "DONE before the effect" in "downstream, idempotent", 0 in "idempotent: INIT";
    DoneNotConditional: "DONE not conditional" in "table", 0 in "idempotent: INIT";
    TransactionSplit: "effect and DONE in two writes" in "downstream, transactional", 0 in "transactional: INIT";
    ClaimNotFenced: "a claim not fenced" in "table", 2 in "at most once: INIT";
    ExpiredClaimTakenOver: "an expired claim taken over" in "downstream, at most once", 0 in "at most once: an expired claim: not called";
    LeaseByWrongClock: "a lease judged by a clock that is two minutes fast" in "downstream", 0 in "at most once: INIT";
    UnknownCallNotNoted: "a call with an unknown outcome not noted" in "downstream, idempotent", 1 in "idempotent: a receiver that rejects repeats";
    FailedInSpiteOfNote: "FAILED in spite of such a note" in "table", 1 in "idempotent: a receiver that rejects repeats";
    ClaimedInSpiteOfNote: "CLAIMED in spite of such a note" in "downstream, at most once", 0 in "at most once: INIT, and a call with an unknown outcome";
    DoubtNotWritten: "IN_DOUBT not written" in "downstream", 0 in "at most once: an expired claim: called";
    MayHaveHappenedTakenForRetryable: "“may have happened” taken for “did not”" in "downstream, at most once", 1 in "at most once: INIT";
    RetryableTakenForMayHaveHappened: "“did not” taken for “may have happened”" in "downstream, at most once", 1 in "at most once: INIT";
    NoAnswerTakenForSuccess: "no answer taken for success" in "action", 1 in "idempotent: INIT";
    NoAnswerTakenForRejection: "no answer taken for a rejection" in "action", 1 in "idempotent: INIT";
    RetryableTakenForPermanent: "retryable taken for permanent" in "classifier", 1 in "transactional: INIT";
    PermanentTakenForRetryable: "permanent taken for retryable" in "classifier", 0 in "transactional: a receiver that rejects";
    RefusedTakenForMade: "a refused change taken for made" in "downstream", 0 in "at most once: INIT";
    OwnWriteNotRecognised: "its own write not recognised after a lost reply" in "write", 1 in "transactional: FAILED, and a redrive";
    EventNotCompared: "the event not compared" in "table", 0 in "transactional: INIT, and another event under the same id";
    StaleRejection: "a rejection from before a redrive written after it" in "table", 0 in "idempotent: a receiver that rejects until a redrive";
    OperatorNotConditional: "an operator's change not conditional" in "table", 1 in "at most once: IN_DOUBT: not happened";
    NoteOverwritten: "a note overwritten by an operator's change" in "table", 2 in "idempotent: FAILED, and a redrive";
    OperatorMeetsLaterState: "an operator's change meets a later state" in "table", 2 in "at most once: IN_DOUBT: not happened";
    PartialFailureReportedAsSuccess: "success reported for a failed record" in "report", 0 in "at most once: INIT";
    DeadlineIgnored: "deadline ignored" in "downstream", 1 in "transactional: INIT";
}

// The table.

/// The change that is made for one, with a condition less, or another status.
pub(crate) fn change(bug: Option<Bug>, mut change: OwnedChange) -> OwnedChange {
    match (bug, change.from, change.to) {
        (Some(Bug::ClaimNotFenced), Some(Status::Claimed), _) => change.if_claim = None,
        (Some(Bug::FailedInSpiteOfNote), _, Status::Failed) | (Some(Bug::ClaimedInSpiteOfNote), _, Status::Claimed) => {
            change.if_untouched = false;
        }
        (Some(Bug::EventNotCompared), ..) => change.if_event = None,
        (Some(Bug::StaleRejection), _, Status::Failed) => change.if_run = Run::Any,
        (Some(Bug::OperatorMeetsLaterState), ..) => change.if_since = None,
        (Some(Bug::MayHaveHappenedTakenForRetryable), Some(Status::Claimed), Status::InDoubt) => {
            (change.to, change.reason) = (Status::Init, None);
        }
        _ => {}
    }
    change
}

/// Whether a change of this item is made whatever it expects.
pub(crate) fn ignores_condition(bug: Option<Bug>, item: &Item, change: &OwnedChange, now: Timestamp) -> bool {
    match bug {
        Some(Bug::DoneNotConditional) => change.to == Status::Done,
        Some(Bug::ExpiredClaimTakenOver) => change.to == Status::Claimed && is_expired(item.claim.as_ref(), now),
        Some(Bug::OperatorNotConditional) => is_operators(change),
        Some(Bug::NoteOverwritten) => is_operators(change) && item.status == Status::Init && item.unknown_call,
        _ => false,
    }
}

/// Whether only an operator makes such a change.
const fn is_operators(change: &OwnedChange) -> bool {
    matches!(change.from, Some(Status::Failed | Status::InDoubt))
}

fn is_expired(claim: Option<&notification::Claim>, now: Timestamp) -> bool {
    claim.is_some_and(|claim| claim.lease_until <= now)
}

/// Whether a change is not made, and its caller is told that it was.
pub(crate) fn is_lost(bug: Option<Bug>, change: &OwnedChange) -> bool {
    match bug {
        Some(Bug::UnknownCallNotNoted) => change.unknown_call,
        Some(Bug::DoubtNotWritten) => change.to == Status::InDoubt,
        _ => false,
    }
}

/// How a worker reads the answer to a change.
pub(crate) fn answer(bug: Option<Bug>, written: Written) -> Written {
    let Written::Refused(stored) = written else { return written };
    let later = |time: Option<Timestamp>| time.map(|time| time + Duration::from_secs(1));
    match bug {
        Some(Bug::RefusedTakenForMade) => Written::Yes,
        Some(Bug::OwnWriteNotRecognised) => {
            let owner = |claim| notification::Claim { owner: "somebody".into(), ..claim };
            let (since, put_back_at) = (later(stored.since), later(stored.put_back_at));
            Written::Refused(Stored { since, put_back_at, claim: stored.claim.map(owner), ..stored })
        }
        _ => Written::Refused(stored),
    }
}

/// How a worker reads the answer to a transaction.
pub(crate) fn committed(bug: Option<Bug>, committed: Entries<Committed>) -> Entries<Committed> {
    let read = |committed: Committed| match committed {
        Committed::Written(written) => Committed::Written(answer(bug, written)),
        Committed::HeldUp => Committed::HeldUp,
    };
    committed.into_iter().map(|committed| committed.map(read)).collect()
}

/// How a worker reads an item.
pub(crate) fn seen(bug: Option<Bug>, stored: Stored, now: Timestamp) -> Stored {
    match bug {
        Some(Bug::ExpiredClaimTakenOver) if is_expired(stored.claim.as_ref(), now) => {
            Stored { status: Some(Status::Init), claim: None, ..stored }
        }
        Some(Bug::ClaimedInSpiteOfNote) => Stored { unknown_call: false, ..stored },
        _ => stored,
    }
}

// The function.

/// How a request is refused.
pub(crate) fn refusal(bug: Option<Bug>) -> Failure {
    match bug {
        Some(Bug::RetryableTakenForPermanent) => Failure::permanent("throttled"),
        _ => Failure::retryable("throttled"),
    }
}

/// How fast the clock of a worker is.
pub(crate) fn clock_is_fast_by(bug: Option<Bug>, actor: usize) -> Duration {
    let is_fast = bug == Some(Bug::LeaseByWrongClock) && actor == 1;
    if is_fast { Duration::from_mins(2) } else { Duration::ZERO }
}

/// The deadline that the function keeps to.
pub(crate) fn deadline(bug: Option<Bug>, deadline: Deadline) -> Deadline {
    match bug {
        Some(Bug::DeadlineIgnored) => Deadline::at(deadline.later(Duration::from_hours(1))),
        _ => deadline,
    }
}

/// Whether the function's report says that its record failed.
pub(crate) fn reports(bug: Option<Bug>, has_failed: bool) -> bool {
    has_failed && bug != Some(Bug::PartialFailureReportedAsSuccess)
}

// The action.

/// Whether the action writes DONE itself before its effect.
pub(crate) fn writes_done_first(bug: Option<Bug>) -> bool {
    bug == Some(Bug::DoneBeforeEffect)
}

/// Whether effect and DONE are two writes.
pub(crate) fn splits_transactions(bug: Option<Bug>) -> bool {
    bug == Some(Bug::TransactionSplit)
}

/// What the action returns for a notification that the business rejects.
pub(crate) fn rejection(bug: Option<Bug>, reason: String) -> ActionError {
    match bug {
        Some(Bug::PermanentTakenForRetryable) => ActionError::Retry(reason),
        _ => ActionError::Rejected(reason),
    }
}

/// What the action returns for an answer of the receiver.
pub(crate) fn acted(bug: Option<Bug>, answer: Result<Effect, Failure>) -> Result<Effect, ActionError> {
    let Failure { kind, reason, .. } = match answer {
        Ok(effect) => return Ok(effect),
        Err(failure) => failure,
    };
    match (kind, bug) {
        (FailureKind::MayHaveHappened, Some(Bug::NoAnswerTakenForSuccess)) => Ok(Effect::default()),
        (FailureKind::MayHaveHappened, Some(Bug::NoAnswerTakenForRejection)) => Err(ActionError::Rejected(reason)),
        (FailureKind::MayHaveHappened, _) | (FailureKind::Retryable, Some(Bug::RetryableTakenForMayHaveHappened)) => {
            Err(ActionError::MayHaveHappened(reason))
        }
        (FailureKind::Retryable, _) => Err(ActionError::Retry(reason)),
        (FailureKind::Permanent, _) => Err(rejection(bug, reason)),
    }
}
