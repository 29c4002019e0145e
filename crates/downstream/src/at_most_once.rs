//! At-most-once actions: a claim first, then the call, then DONE if the claim is still its own. Where the outcome of the
//! call is unknown, the notification becomes IN_DOUBT and is never run again by itself.

use crate::record::Task;
use crate::standing::{Standing, absent};
use crate::{Downstream, Invocation, Problem, Result, Settled};
use notification::change::{Answer, Persistence};
use notification::ports::{After, Before, Change, Claim, Clock, DownstreamTable, Stored};
use notification::{Action, Deadline, Effect, Failure, FailureKind, Status, limits};
use std::time::Duration;

/// Why a notification is not called although it is INIT.
const CALLED_BEFORE: &str = "an earlier call, made while the action was idempotent, has an unknown outcome; at most once, it is not called again";

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    pub(crate) async fn at_most_once(
        &self,
        tasks: &[Task<'_>],
        timeout: Duration,
        invocation: Invocation<'_>,
    ) -> Vec<Result> {
        let ids: Vec<_> = tasks.iter().map(Task::id).collect();
        let mut reads = self.read_all(&ids, invocation.deadline).await.into_iter();
        let claim = Claim {
            // Lambda may use a request id again for a repeat; with the time, no two invocations have the same owner.
            owner: format!("{}:{}", invocation.request_id, self.clock.now().as_nanosecond()).into(),
            lease_until: invocation.deadline.later(limits::LEASE_BEYOND_DEADLINE),
        };
        // A few at a time: what is claimed and not begun when the process dies is in doubt.
        let mut results = Vec::with_capacity(tasks.len());
        for batch in tasks.chunks(limits::BATCH_EXECUTE_STATEMENT_MAX) {
            let reads: Vec<_> = reads.by_ref().take(batch.len()).collect();
            results.extend(self.claim_and_act(batch, &reads, &claim, timeout, invocation.deadline).await);
        }
        results
    }

    async fn claim_and_act(
        &self,
        tasks: &[Task<'_>],
        reads: &[std::result::Result<Option<Stored>, Failure>],
        claim: &Claim,
        timeout: Duration,
        deadline: Deadline,
    ) -> Vec<Result> {
        let mut results: Vec<Option<Result>> = Vec::with_capacity(tasks.len());
        for (task, read) in tasks.iter().zip(reads) {
            results.push(self.not_to_claim(*task, read, timeout, deadline).await);
        }
        let to_claim: Vec<usize> = (0..tasks.len()).filter(|&place| results[place].is_none()).collect();
        let wanted: Vec<Task<'_>> = to_claim.iter().map(|&place| tasks[place]).collect();
        for (place, result) in to_claim.iter().zip(self.claim_all(&wanted, claim, deadline).await) {
            results[*place] = result.err();
        }

        let mine: Vec<usize> = (0..tasks.len()).filter(|&place| results[place].is_none()).collect();
        let claimed: Vec<Task<'_>> = mine.iter().map(|&place| tasks[place]).collect();
        let acted = self.act_all(&claimed, deadline).await;
        for (place, result) in mine.iter().zip(self.settle_mine(&claimed, &acted, claim, deadline).await) {
            results[*place] = Some(result);
        }
        let unsettled = || Err(Problem::retry("not settled"));
        results.into_iter().map(|result| result.unwrap_or_else(unsettled)).collect()
    }

    /// The result of a task that is not claimed. `None`: claim it.
    async fn not_to_claim(
        &self,
        task: Task<'_>,
        read: &std::result::Result<Option<Stored>, Failure>,
        timeout: Duration,
        deadline: Deadline,
    ) -> Option<Result> {
        let stored = match read {
            Ok(stored) => stored.as_ref(),
            Err(failure) => return Some(Err(failure.clone().into())),
        };
        match Standing::of(task, stored, self.clock.now()) {
            Standing::Init { unknown_call: true } => {
                Some(self.in_doubt(task, Before::Status(Status::Init), CALLED_BEFORE, deadline).await)
            }
            Standing::Init { unknown_call: false } => {
                let has_time = deadline.earlier(limits::ACT_BEFORE_DEADLINE).allows(self.clock.now(), timeout);
                (!has_time).then(|| Err(too_late(timeout).into()))
            }
            standing => Some(self.settled_or_held(task, standing, deadline).await),
        }
    }

    /// Claims notifications. `Ok`: it is ours. `Err`: its result.
    async fn claim_all(
        &self,
        tasks: &[Task<'_>],
        claim: &Claim,
        deadline: Deadline,
    ) -> Vec<std::result::Result<(), Result>> {
        let changes: Vec<Change<'_>> = tasks
            .iter()
            .map(|task| Change { id: task.id(), from: Before::Untouched, to: After::Claimed(claim) })
            .collect();
        let deadline_to_claim = deadline.earlier(limits::ACT_BEFORE_DEADLINE);
        let answers = self.change_all(&changes, Persistence::Usual, deadline_to_claim).await;
        let mut claimed = Vec::with_capacity(tasks.len());
        for (task, answer) in tasks.iter().zip(answers) {
            claimed.push(match answer {
                Ok(Answer::Made) => Ok(()),
                Ok(Answer::Absent) => Err(Err(absent())),
                Ok(Answer::NotAsExpected(stored)) => Err(self.not_as_expected(*task, &stored, deadline).await),
                Err(failure) => Err(Err(failure.into())),
            });
        }
        claimed
    }

    /// Settles what was claimed, by what the call came to: each only if the claim is still ours. Only this process knows
    /// what that was, so it tries until the deadline.
    async fn settle_mine(
        &self,
        tasks: &[Task<'_>],
        acted: &[std::result::Result<Effect, Failure>],
        claim: &Claim,
        deadline: Deadline,
    ) -> Vec<Result> {
        let changes: Vec<Change<'_>> = tasks
            .iter()
            .zip(acted)
            .map(|(task, acted)| Change { id: task.id(), from: Before::Claim(claim), to: after(acted) })
            .collect();
        let answers = self.change_all(&changes, Persistence::UntilDeadline, deadline).await;
        acted.iter().zip(answers).map(|(acted, answer)| settled(acted, answer)).collect()
    }
}

/// Why a call does not start.
pub(crate) fn too_late(timeout: Duration) -> Failure {
    Failure::retryable(format!(
        "not started: a call may take {timeout:?}, and less is left of the invocation; if this never passes, the \
         function's timeout is too short for the action"
    ))
}

/// What a claimed notification becomes, by what its call came to.
fn after(acted: &std::result::Result<Effect, Failure>) -> After<'_> {
    match acted {
        Ok(effect) => After::Done(effect.outcome.as_ref()),
        Err(failure) => match failure.kind {
            FailureKind::Permanent => After::Failed(&failure.reason),
            // It surely did not happen: the claim is given back, and the record is retried.
            FailureKind::Retryable => After::Init,
            FailureKind::MayHaveHappened => After::InDoubt(&failure.reason),
        },
    }
}

/// The result of a claimed task, by what its call came to and what became of writing that down.
fn settled(acted: &std::result::Result<Effect, Failure>, answer: std::result::Result<Answer, Failure>) -> Result {
    match (answer?, acted) {
        (Answer::Made, Ok(_)) => Ok(Settled::Done),
        (Answer::Made, Err(failure)) => match failure.kind {
            FailureKind::Permanent => Ok(Settled::Failed(failure.reason.clone())),
            FailureKind::Retryable => Err(Problem::Retry(failure.clone())),
            FailureKind::MayHaveHappened => Ok(Settled::InDoubt(failure.reason.clone())),
        },
        // Fenced: the claim lapsed while the call ran, and is no longer ours.
        (Answer::NotAsExpected(Stored { status: Some(status), .. }), Ok(_)) if !status.is_pending() => {
            Ok(Settled::LateSuccess(status))
        }
        (Answer::NotAsExpected(Stored { status, .. }), _) => match status {
            // Somebody else has it: this record is retried, to see what becomes of it.
            Some(status) if status.is_pending() => Err(Problem::retry(format!("the notification is {status} by now"))),
            _ => Ok(Settled::Before(status)),
        },
        (Answer::Absent, _) => Err(absent()),
    }
}
