//! At-most-once actions: a claim first, then the call, then DONE if the claim still holds. If the outcome of the call is
//! unknown, the notification becomes IN_DOUBT, and only an operator can run it again.

use crate::ended::{Becomes, Called, Doubtful, Ended, Problem, Progress, RecordResult, Settled, Task};
use crate::standing::{Standing, absent, not_as_expected};
use crate::{Downstream, too_late};
use notification::batch::Attempts;
use notification::ports::DownstreamTable;
use notification::write::Answer;
use notification::{
    Action, Change, Claim, Clock, Deadline, Failure, FailureKind, Invocation, Status, Stored, Timestamp, limits,
};
use std::time::Duration;

/// The reason with which a notification is not called although it is INIT.
const CALLED_BEFORE: &str = "an earlier call, made while the action was idempotent, has an unknown outcome; at-most-once effects are not repeated";

/// The reason with which a notification that an operator moved back to INIT is not called again.
const CALLED_AFTER_EXPIRY: &str =
    "its call ended after its claim had expired and an operator had moved it back to INIT";

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    pub(crate) async fn at_most_once<'a>(
        &self,
        tasks: Vec<Task<'a>>,
        timeout: Duration,
        invocation: &Invocation,
    ) -> Vec<Ended<'a>> {
        let deadline = invocation.deadline;
        let claim = Claim {
            // A retry by Lambda may have the same request id. With the time, no two invocations have the same owner.
            owner: format!("{}:{}", invocation.request_id, self.clock.now().as_nanosecond()).into(),
            lease_until: deadline.later(limits::LEASE_BEYOND_DEADLINE),
        };
        let mut progress = Progress::default();
        let mut to_claim = Vec::with_capacity(tasks.len());
        for (task, standing) in self.read_each(tasks, deadline).await {
            match standing {
                Standing::Init => to_claim.push(task),
                Standing::UnknownCall => {
                    progress.ended.push(task.end(Err(doubt(CALLED_BEFORE))));
                }
                Standing::Other(result) => progress.ended.push(task.end(result)),
            }
        }

        // A few at a time: if the process dies, every claimed notification becomes IN_DOUBT, even if it was not called yet.
        for tasks in to_claim.chunks(limits::BATCH_EXECUTE_STATEMENT_MAX) {
            let claimed = self.claim_all(tasks.to_vec(), &claim, timeout, deadline, &mut progress).await;
            let called = self.act_all(claimed, deadline).await;
            self.settle(called, &claim, Attempts::Limited, deadline, &mut progress).await;
        }
        // Only this process knows the outcomes that could not be written. Nothing else is left that they could delay.
        let open = std::mem::take(&mut progress.open);
        self.settle(open, &claim, Attempts::UntilDeadline, deadline, &mut progress).await;
        progress.ended
    }

    /// Claims notifications, if there is time for their calls, and returns those that are claimed. If the outcome of a claim is
    /// unknown, no call is made, and the claim is released later.
    async fn claim_all<'a>(
        &self,
        tasks: Vec<Task<'a>>,
        claim: &Claim,
        timeout: Duration,
        deadline: Deadline,
        progress: &mut Progress<'a>,
    ) -> Vec<Task<'a>> {
        let deadline = deadline.earlier(limits::ACT_BEFORE_DEADLINE);
        if !deadline.allows(self.clock.now(), timeout) {
            progress.ended.extend(tasks.into_iter().map(|task| task.end_failed(&too_late(timeout))));
            return vec![];
        }
        let tasks = tasks.into_iter().map(|task| (task, claim)).collect();
        let answers = self.write_each(tasks, claiming, Attempts::Limited, deadline).await;
        let now = self.clock.now();
        let mut claimed = Vec::with_capacity(answers.len());
        for ((task, _), answer) in answers {
            match answer {
                Ok(Answer::Made) => claimed.push(task),
                Ok(Answer::Absent) => progress.ended.push(task.end(Err(absent()))),
                Ok(Answer::NotAsExpected(stored)) => {
                    progress.ended.push(task.end(not_as_expected(task.subject(), &stored, now)));
                }
                Err(failure) if failure.kind.may_have_happened() => {
                    let acted = Err(Failure::retryable(format!("not called: {failure}")));
                    progress.open.push(Called { task, acted });
                }
                Err(failure) => progress.ended.push(task.end(Err(failure.into()))),
            }
        }
        claimed
    }

    /// Settles claimed notifications by the outcomes of their calls, each only if the claim still holds.
    async fn settle<'a>(
        &self,
        called: Vec<Called<'a>>,
        claim: &Claim,
        attempts: Attempts,
        deadline: Deadline,
        progress: &mut Progress<'a>,
    ) {
        let called = called.into_iter().map(|called| (called, claim)).collect();
        let answers = self.write_each(called, settling, attempts, deadline).await;
        let now = self.clock.now();
        for (settling, answer) in answers {
            let was_made = attempts == Attempts::UntilDeadline && is_made(&settling, &answer);
            let (called, _) = settling;
            let result = match answer {
                Err(_) if attempts == Attempts::Limited => {
                    progress.open.push(called);
                    continue;
                }
                Err(failure) => Err(failure.into()),
                Ok(_) if was_made => settled(&called, Answer::Made, now),
                Ok(answer) => settled(&called, answer, now),
            };
            progress.ended.push(called.task.end(result));
        }
    }
}

fn claiming<'a>((task, claim): &'a (Task<'_>, &Claim)) -> Change<'a> {
    Change::claim(task.id(), task.subject().event, claim)
}

/// The change of a claimed notification, by the outcome of its call.
fn settling<'a>((Called { task, acted }, claim): &'a (Called<'_>, &Claim)) -> Change<'a> {
    let id = task.id();
    match acted {
        Ok(effect) => Change::done_claimed(id, claim, effect.outcome.as_ref()),
        Err(failure) => match failure.kind {
            FailureKind::Permanent => Change::fail_claimed(id, claim, failure.as_reason()),
            // The call did not happen: the claim is released, and the record is retried.
            FailureKind::Retryable => Change::release(id, claim, task.note(failure)),
            FailureKind::MayHaveHappened => Change::doubt_claimed(id, claim, failure.as_reason()),
        },
    }
}

/// Whether an earlier attempt, whose reply was lost, made this change: nobody else settles a claimed notification before its
/// claim expires.
fn is_made(called: &(Called<'_>, &Claim), answer: &Result<Answer, Failure>) -> bool {
    let Ok(Answer::NotAsExpected(stored)) = answer else { return false };
    let is_in_time = stored.since.is_some_and(|since| since < called.1.lease_until);
    is_in_time && stored.status == Some(settling(called).to().status())
}

/// The result of a claimed task, by the outcome of its call and the answer to the write of that outcome.
fn settled(Called { task, acted }: &Called<'_>, answer: Answer, now: Timestamp) -> RecordResult {
    match (answer, acted) {
        (Answer::Made, Ok(_)) => Ok(task.done(now)),
        (Answer::Made, Err(failure)) => match failure.kind {
            FailureKind::Permanent => Ok(Settled::Failed(failure.clone())),
            FailureKind::Retryable => Err(Problem::Retry(failure.clone())),
            FailureKind::MayHaveHappened => Ok(Settled::InDoubt(failure.clone())),
        },
        (Answer::Absent, _) => Err(absent()),
        (Answer::NotAsExpected(stored), Err(failure)) if !failure.kind.may_have_happened() => {
            not_as_expected(task.subject(), &stored, now)
        }
        // Fenced: the claim expired during the call and no longer holds.
        (Answer::NotAsExpected(stored), acted) => fenced(&stored, acted.is_ok()),
    }
}

/// An INIT notification must become IN_DOUBT, because a call may have happened.
fn doubt(reason: &str) -> Problem {
    Problem::MustBecome(Becomes::InDoubt(Doubtful::Init), Failure::may_have_happened(reason))
}

/// The result if a call happened, or may have, and its claim no longer holds.
fn fenced(stored: &Stored, has_happened: bool) -> RecordResult {
    match stored.status {
        // It must not be called again.
        Some(Status::Init) => Err(doubt(CALLED_AFTER_EXPIRY)),
        Some(status @ (Status::Claimed | Status::Failed)) => Ok(Settled::LateEffect(status)),
        Some(status @ Status::InDoubt) if has_happened => Ok(Settled::LateEffect(status)),
        status => Ok(Settled::Before(status)),
    }
}
