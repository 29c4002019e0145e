//! At-most-once actions: a claim first, then the call, then DONE if the claim is still its own. Where the outcome of the
//! call is unknown, the notification becomes IN_DOUBT and is never run again by itself.

use crate::outcome::Doubtful;
use crate::record::Task;
use crate::standing::{Standing, absent, not_as_expected};
use crate::{Acted, Downstream, Invocation, Problem, Result, Settled, too_late};
use notification::change::{Answer, Persistence};
use notification::ports::{After, Before, Change, Claim, Clock, DownstreamTable, Stored};
use notification::{Action, Deadline, Failure, FailureKind, Status, Timestamp, limits};
use std::time::Duration;

/// Why a notification is not called although it is INIT.
const CALLED_BEFORE: &str = "an earlier call, made while the action was idempotent, has an unknown outcome; at most once, it is not called again";

/// Why a notification that was put back is not called again.
const CALLED_ALL_THE_SAME: &str = "its call ended after its claim had lapsed and it had been put back";

/// A claimed notification whose call has ended, or that needs no call.
struct Mine<'a> {
    place: usize,
    task: Task<'a>,
    acted: Acted,
}

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    pub(crate) async fn at_most_once(
        &self,
        tasks: &[Task<'_>],
        timeout: Duration,
        invocation: Invocation<'_>,
    ) -> Vec<Result> {
        let deadline = invocation.deadline;
        let claim = Claim {
            // Lambda may use a request id again for a repeat; with the time, no two invocations have the same owner.
            owner: format!("{}:{}", invocation.request_id, self.clock.now().as_nanosecond()).into(),
            lease_until: deadline.later(limits::LEASE_BEYOND_DEADLINE),
        };
        let ids: Vec<_> = tasks.iter().map(Task::id).collect();
        let reads = self.read_all(&ids, deadline).await;
        let now = self.clock.now();
        let mut results: Vec<Result> = Vec::with_capacity(tasks.len());
        let mut to_claim = Vec::with_capacity(tasks.len());
        for (place, (task, read)) in tasks.iter().zip(reads).enumerate() {
            let unsettled = || Err(Problem::retry("not settled"));
            results.push(match read.map(|stored| Standing::of(task.subject(), stored.as_ref(), now)) {
                Err(failure) => Err(failure.into()),
                Ok(Standing::Other(result)) => result,
                Ok(Standing::UnknownCall) => {
                    Err(Problem::InDoubt { from: Doubtful::Init, reason: CALLED_BEFORE.to_owned() })
                }
                Ok(Standing::Init) => {
                    to_claim.push(place);
                    unsettled()
                }
            });
        }

        // A few at a time: what is claimed and not begun when the process dies is in doubt.
        let mut open = Vec::new();
        for places in to_claim.chunks(limits::BATCH_EXECUTE_STATEMENT_MAX) {
            let (claimed, unknown) = self.claim_all(tasks, places, &claim, timeout, deadline, &mut results).await;
            open.extend(unknown);
            let claimed_tasks: Vec<Task<'_>> = claimed.iter().map(|&place| tasks[place]).collect();
            let acted = self.act_all(&claimed_tasks, deadline).await;
            let mine = claimed.into_iter().zip(acted).map(|(place, acted)| Mine { place, task: tasks[place], acted });
            open.extend(self.settle(mine.collect(), &claim, Persistence::Usual, deadline, &mut results).await);
        }
        // What could not be written keeps nobody waiting. Only this process knows what came of it.
        self.settle(open, &claim, Persistence::UntilDeadline, deadline, &mut results).await;
        results
    }

    /// Claims notifications, if there is time for their calls. Returns the places of those that are ours, and those of
    /// which nobody knows whether they are: no call is made for these, so their claim is given back.
    async fn claim_all<'a>(
        &self,
        tasks: &[Task<'a>],
        places: &[usize],
        claim: &Claim,
        timeout: Duration,
        deadline: Deadline,
        results: &mut [Result],
    ) -> (Vec<usize>, Vec<Mine<'a>>) {
        let deadline = deadline.earlier(limits::ACT_BEFORE_DEADLINE);
        let (mut claimed, mut unknown) = (Vec::with_capacity(places.len()), Vec::new());
        if !deadline.allows(self.clock.now(), timeout) {
            for &place in places {
                results[place] = Err(too_late(timeout).into());
            }
            return (claimed, unknown);
        }
        let mut changes = Vec::with_capacity(places.len());
        for &place in places {
            let from = Before::Untouched(tasks[place].subject().event);
            changes.push(Change { id: tasks[place].id(), from, to: After::Claimed(claim) });
        }
        let answers = self.change_all(&changes, Persistence::Usual, deadline).await;
        let now = self.clock.now();
        for (&place, answer) in places.iter().zip(answers) {
            let task = tasks[place];
            match answer {
                Ok(Answer::Made) => claimed.push(place),
                Ok(Answer::Absent) => results[place] = Err(absent()),
                Ok(Answer::NotAsExpected(stored)) => results[place] = not_as_expected(task.subject(), &stored, now),
                Err(failure) if failure.kind.may_have_happened() => {
                    let acted = Err(Failure::retryable(format!("not called: {failure}")));
                    unknown.push(Mine { place, task, acted });
                }
                Err(failure) => results[place] = Err(failure.into()),
            }
        }
        (claimed, unknown)
    }

    /// Settles what was claimed, by what the call came to: each only if the claim is still ours. Returns what could not be
    /// written.
    async fn settle<'a>(
        &self,
        mine: Vec<Mine<'a>>,
        claim: &Claim,
        persistence: Persistence,
        deadline: Deadline,
        results: &mut [Result],
    ) -> Vec<Mine<'a>> {
        let mut changes = Vec::with_capacity(mine.len());
        for Mine { task, acted, .. } in &mine {
            changes.push(Change { id: task.id(), from: Before::Claim(claim), to: after(acted) });
        }
        let answers = self.change_all(&changes, persistence, deadline).await;
        let now = self.clock.now();
        let mut open = Vec::new();
        for (mine, answer) in mine.into_iter().zip(answers) {
            match answer {
                Err(_) if persistence == Persistence::Usual => open.push(mine),
                Err(failure) => results[mine.place] = Err(failure.into()),
                Ok(answer) => results[mine.place] = settled(&mine, answer, now),
            }
        }
        open
    }
}

/// What a claimed notification becomes, by what its call came to.
fn after(acted: &Acted) -> After<'_> {
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
fn settled(Mine { task, acted, .. }: &Mine<'_>, answer: Answer, now: Timestamp) -> Result {
    match (answer, acted) {
        (Answer::Made, Ok(_)) => Ok(Settled::Done),
        (Answer::Made, Err(failure)) => match failure.kind {
            FailureKind::Permanent => Ok(Settled::Failed(failure.reason.clone())),
            FailureKind::Retryable => Err(Problem::Retry(failure.clone())),
            FailureKind::MayHaveHappened => Ok(Settled::InDoubt(failure.reason.clone())),
        },
        (Answer::Absent, _) => Err(absent()),
        (Answer::NotAsExpected(stored), Err(failure)) if !failure.kind.may_have_happened() => {
            not_as_expected(task.subject(), &stored, now)
        }
        // Fenced: the claim lapsed while the call ran, and is no longer ours.
        (Answer::NotAsExpected(stored), acted) => fenced(&stored, acted.is_ok()),
    }
}

/// What follows where a call happened, or may have, and its notification is somebody else's by now.
fn fenced(stored: &Stored, has_happened: bool) -> Result {
    match stored.status {
        // It must not be called again.
        Some(Status::Init) => Err(Problem::InDoubt { from: Doubtful::Init, reason: CALLED_ALL_THE_SAME.to_owned() }),
        Some(status @ (Status::Claimed | Status::Failed)) => Ok(Settled::LateEffect(status)),
        Some(status @ Status::InDoubt) if has_happened => Ok(Settled::LateEffect(status)),
        status => Ok(Settled::Before(status)),
    }
}
