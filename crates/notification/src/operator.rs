//! An operator's decisions: run a FAILED notification again, or settle one that is IN_DOUBT.
//!
//! Each is a read and a conditional write. The write expects the time since which the notification has had the status that
//! the read showed: what the operator knows is about that state, and not about one that follows.

use crate::batch::Attempts;
use crate::change::{Change, Claim, Stored};
use crate::clock::Clock;
use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::id::NotificationId;
use crate::limits;
use crate::ports::Table;
use crate::reason::{Reason, ReasonCode};
use crate::status::Status;
use crate::write::{Answer, read_all, write_all_at};
use jiff::Timestamp;

/// Why a claim becomes IN_DOUBT before it is resolved.
const EXPIRED: Reason<'_> =
    Reason { code: ReasonCode::ClaimExpired, text: "its claim expired; an operator resolves it" };

/// What an operator decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// FAILED → INIT: run it again.
    Redrive,
    /// IN_DOUBT → INIT: the effect has not happened, run it again.
    ResolveRetry,
    /// IN_DOUBT → DONE: the effect has happened.
    ResolveDone,
}

/// What became of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// The notification is changed.
    Changed {
        /// Its status before. CLAIMED if its claim had expired.
        from: Status,
        /// Its status now.
        to: Status,
    },
    /// Nothing was changed: the notification does not have the status that the decision is for.
    NotExpected {
        /// The status that the decision is for.
        expected: Status,
        /// The status that it has; `None` if the item has none, or an unknown one.
        status: Option<Status>,
    },
    /// Nothing was changed: the notification is not as the operator saw it when they decided.
    Overtaken {
        /// The status that it has; `None` if the item has none, or an unknown one.
        status: Option<Status>,
    },
    /// Nothing was changed: a worker may still hold the notification until this time, even if the clocks differ.
    Held {
        /// When its claim expires.
        lease_until: Timestamp,
        /// From when on it can be resolved.
        until: Timestamp,
    },
    /// The table has no such notification.
    Absent,
}

impl Decision {
    /// The status that it is for.
    #[must_use]
    pub const fn expected(self) -> Status {
        match self {
            Self::Redrive => Status::Failed,
            Self::ResolveRetry | Self::ResolveDone => Status::InDoubt,
        }
    }

    /// The change of a notification that has had the expected status since `since`. Operators have put it back before at the
    /// times `earlier`.
    const fn change<'a>(self, id: &'a NotificationId, since: Timestamp, earlier: &'a [Timestamp]) -> Change<'a> {
        match self {
            Self::Redrive => Change::redrive(id, since, earlier),
            Self::ResolveRetry => Change::resolve_retry(id, since, earlier),
            Self::ResolveDone => Change::resolve_done(id, since),
        }
    }
}

/// The time by which an operator who looks at a notification knows its state again: since when it has had its status, or when
/// its claim expires; `None` if the item says neither.
#[must_use]
pub fn seen(stored: &Stored) -> Option<Timestamp> {
    match stored.status {
        Some(Status::Claimed) => stored.claim.as_ref().map(|claim| claim.lease_until),
        _ => stored.since,
    }
}

/// Carries out a decision. A notification that is CLAIMED by a worker that is gone becomes IN_DOUBT first.
///
/// `as_seen` is what [`seen`] returned when the operator looked at the notification and asked the receiver. Without it, the
/// decision applies to the state that the first read finds, even if a call has been made since the operator asked.
///
/// # Errors
/// A call failed. If its outcome is unknown, the decision may have taken effect, or still may, and the pipeline may have gone
/// on: look at the notification before you decide again.
pub async fn decide(
    table: &impl Table,
    clock: &impl Clock,
    id: &NotificationId,
    decision: Decision,
    as_seen: Option<Timestamp>,
) -> Result<Decided, Failure> {
    let Some(stored) = read(table, clock, id).await? else { return Ok(Decided::Absent) };
    let millis = |time: Timestamp| time.as_millisecond();
    if as_seen.is_some() && as_seen.map(millis) != seen(&stored).map(millis) {
        return Ok(Decided::Overtaken { status: stored.status });
    }
    let expected = decision.expected();
    match stored.status {
        Some(Status::Claimed) if expected == Status::InDoubt => {
            decide_on_claimed(table, clock, id, decision, &stored).await
        }
        status if status != Some(expected) => Ok(Decided::NotExpected { expected, status }),
        _ => {
            let since = stored.since.ok_or_else(|| {
                Failure::permanent(format!(
                    "the item does not say since when it has been {expected}: another program wrote it"
                ))
            })?;
            make(table, clock, decision, decision.change(id, since, &stored.put_backs()), expected).await
        }
    }
}

/// Decides on a notification that is CLAIMED, if its claim has expired: it becomes IN_DOUBT first.
async fn decide_on_claimed(
    table: &impl Table,
    clock: &impl Clock,
    id: &NotificationId,
    decision: Decision,
    stored: &Stored,
) -> Result<Decided, Failure> {
    let in_doubt = match &stored.claim {
        Some(claim) if clock.now() < held_until(claim) => {
            return Ok(Decided::Held { lease_until: claim.lease_until, until: held_until(claim) });
        }
        Some(claim) => Change::doubt_claimed(id, claim, EXPIRED),
        // No worker can present a claim that cannot be read.
        None => Change::doubt_unreadable_claim(id, EXPIRED),
    };
    let at = clock.now();
    match write(table, clock, in_doubt, at).await? {
        // What the operator knows is about this claim. Meanwhile, another decision may have run the notification again, and it
        // may be IN_DOUBT anew: so this change expects exactly the result of the first one.
        Answer::Made => {
            make(table, clock, decision, decision.change(id, at, &stored.put_backs()), Status::Claimed).await
        }
        Answer::NotAsExpected(stored) => Ok(not_as_seen(decision.expected(), stored.status)),
        Answer::Absent => Ok(Decided::Absent),
    }
}

/// Makes the change of a decision. `from` is the status that the notification had at first.
async fn make(
    table: &impl Table,
    clock: &impl Clock,
    decision: Decision,
    change: Change<'_>,
    from: Status,
) -> Result<Decided, Failure> {
    Ok(match write(table, clock, change, clock.now()).await? {
        Answer::Made => Decided::Changed { from, to: change.to().status() },
        Answer::NotAsExpected(stored) => not_as_seen(decision.expected(), stored.status),
        Answer::Absent => Decided::Absent,
    })
}

/// The result if a notification has this status, and not the expected one, or has it since another time.
fn not_as_seen(expected: Status, status: Option<Status>) -> Decided {
    if status == Some(expected) { Decided::Overtaken { status } } else { Decided::NotExpected { expected, status } }
}

/// The time at which a claim has expired even if this machine's clock is fast.
fn held_until(claim: &Claim) -> Timestamp {
    claim.lease_until.saturating_add(limits::OPERATOR_CLOCK_SKEW).unwrap_or(Timestamp::MAX)
}

/// An operator has no deadline. The attempts are limited.
const NO_DEADLINE: Deadline = Deadline::at(Timestamp::MAX);

async fn read(table: &impl Table, clock: &impl Clock, id: &NotificationId) -> Result<Option<Stored>, Failure> {
    read_all(table, clock, &[id], NO_DEADLINE).await.pop().unwrap_or(Ok(None))
}

async fn write(table: &impl Table, clock: &impl Clock, change: Change<'_>, at: Timestamp) -> Result<Answer, Failure> {
    let answer = write_all_at(table, clock, &[change], at, Attempts::Limited, NO_DEADLINE).await.pop();
    answer.unwrap_or(Ok(Answer::Absent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{Answers, TableReader, Written};
    use crate::testing::{Call, Fault, Memory, TestClock};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    const NOW: i64 = 1_000_000;

    async fn decide(memory: &Memory, decision: Decision) -> Result<Decided, Failure> {
        let id = NotificationId::parse("a").unwrap();
        super::decide(&memory, &TestClock::at_millis(NOW), &id, decision, None).await
    }

    fn with(status: Status) -> Memory {
        Memory::default().with("a", status, "").since("a", 1)
    }

    fn claimed(lease_until_millis: i64) -> Memory {
        let lease_until = Timestamp::from_millisecond(lease_until_millis).unwrap();
        Memory::default().with("a", Status::Init, "").with_claim("a", Claim { owner: "w".into(), lease_until })
    }

    const ALL: [Decision; 3] = [Decision::Redrive, Decision::ResolveRetry, Decision::ResolveDone];

    #[tokio::test]
    async fn a_decision_changes_the_status_that_it_is_for_and_no_other() {
        for decision in ALL {
            for status in [Status::Init, Status::Done, Status::Failed, Status::InDoubt] {
                let (memory, expected) = (with(status), decision.expected());
                let decided = decide(&memory, decision).await.unwrap();
                if status == expected {
                    let to = if decision == Decision::ResolveDone { Status::Done } else { Status::Init };
                    assert_eq!(decided, Decided::Changed { from: status, to });
                    assert_eq!(memory.item("a").unwrap().status, to);
                } else {
                    assert_eq!(decided, Decided::NotExpected { expected, status: Some(status) });
                    assert_eq!(memory.item("a").unwrap().status, status);
                }
            }
            assert_eq!(decide(&Memory::default(), decision).await, Ok(Decided::Absent));
        }
    }

    #[tokio::test]
    async fn a_claim_is_resolved_only_when_even_a_fast_clock_shows_that_it_has_expired() {
        let skew = i64::try_from(limits::OPERATOR_CLOCK_SKEW.as_millis()).unwrap();
        let live = claimed(NOW - skew + 1);
        let held = decide(&live, Decision::ResolveDone).await.unwrap();
        assert!(matches!(held, Decided::Held { .. }), "{held:?}");
        assert_eq!(live.item("a").unwrap().writes, 1);
        for (decision, to) in [(Decision::ResolveDone, Status::Done), (Decision::ResolveRetry, Status::Init)] {
            let expired = claimed(NOW - skew);
            assert_eq!(decide(&expired, decision).await, Ok(Decided::Changed { from: Status::Claimed, to }));
            assert_eq!(expired.item("a").unwrap().status, to);
        }
        let redriven = decide(&claimed(0), Decision::Redrive).await.unwrap();
        assert_eq!(redriven, Decided::NotExpected { expected: Status::Failed, status: Some(Status::Claimed) });
    }

    #[tokio::test]
    async fn a_decision_about_a_state_that_the_operator_did_not_see_changes_nothing() {
        let id = &NotificationId::parse("a").unwrap();
        let at = |millis| Some(Timestamp::from_millisecond(millis).unwrap());
        for decision in ALL {
            let (memory, clock) = (with(decision.expected()), TestClock::at_millis(NOW));
            let overtaken = super::decide(&&memory, &clock, id, decision, at(2)).await;
            assert_eq!(overtaken, Ok(Decided::Overtaken { status: Some(decision.expected()) }));
            assert_eq!(memory.item("a").unwrap().writes, 1);
            let decided = super::decide(&&memory, &clock, id, decision, at(1)).await;
            assert!(matches!(decided, Ok(Decided::Changed { .. })), "{decided:?}");
        }
        let expired = claimed(0);
        let by_claim = async |millis| {
            super::decide(&&expired, &TestClock::at_millis(NOW), id, Decision::ResolveRetry, at(millis)).await
        };
        assert_eq!(by_claim(1).await, Ok(Decided::Overtaken { status: Some(Status::Claimed) }), "another claim");
        assert_eq!(by_claim(0).await, Ok(Decided::Changed { from: Status::Claimed, to: Status::Init }));
    }

    /// A table in which, right after the first write, another operator runs the notification again, and it is IN_DOUBT anew.
    struct Overtaken<'a> {
        memory: &'a Memory,
        writes: AtomicUsize,
    }

    impl TableReader for Overtaken<'_> {
        async fn read(&self, ids: &[&NotificationId]) -> Answers<Option<Stored>> {
            self.memory.read(ids).await
        }
    }

    impl Table for Overtaken<'_> {
        async fn write(&self, changes: &[Change<'_>], at: Timestamp) -> Answers<Written> {
            let written = self.memory.write(changes, at).await;
            if self.writes.fetch_add(1, Ordering::Relaxed) == 0 {
                let (id, later) = (changes[0].id(), |millis| at + Duration::from_millis(millis));
                for (change, at) in
                    [(Change::resolve_retry(id, at, &[]), later(1)), (Change::doubt(id, "", EXPIRED), later(2))]
                {
                    assert_eq!(self.memory.write(&[change], at).await, Ok(vec![Ok(Written::Yes)]));
                }
            }
            written
        }
    }

    #[tokio::test]
    async fn a_decision_about_a_claim_is_not_made_about_what_became_of_it_meanwhile() {
        let id = &NotificationId::parse("a").unwrap();
        for decision in [Decision::ResolveRetry, Decision::ResolveDone] {
            let memory = claimed(0);
            let table = Overtaken { memory: &memory, writes: AtomicUsize::new(0) };
            let decided = super::decide(&table, &TestClock::at_millis(NOW), id, decision, None).await;
            assert_eq!(decided, Ok(Decided::Overtaken { status: Some(Status::InDoubt) }));
            assert_eq!(memory.item("a").unwrap().since.unwrap().as_millisecond(), NOW + 2);
        }
    }

    #[tokio::test]
    async fn a_decision_whose_reply_was_lost_is_recognised() {
        for decision in ALL {
            let lost = |call: &Call| (call.method == "write").then_some(Fault::LostReply);
            let memory = Memory::failing(lost).with("a", decision.expected(), "").since("a", 1);
            assert!(matches!(decide(&memory, decision).await, Ok(Decided::Changed { .. })));
        }
    }

    #[tokio::test]
    async fn an_item_without_the_time_of_its_status_is_left_alone() {
        for decision in ALL {
            let memory = Memory::default().with("a", decision.expected(), "");
            let failure = decide(&memory, decision).await.unwrap_err();
            assert!(failure.reason.contains("another program wrote it"), "{failure}");
            assert_eq!(memory.item("a").unwrap().writes, 1);
        }
    }
}
