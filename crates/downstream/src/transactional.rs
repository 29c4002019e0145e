//! Transactional actions: the effect and DONE in one `TransactWriteItems`, many notifications grouped in each. A crash
//! leaves all of a group or nothing of it. An effect without writes needs no transaction: DONE alone is atomic.

use crate::record::Task;
use crate::standing::{absent, not_as_expected};
use crate::{Downstream, Problem, Result, Settled};
use notification::batch::call_in_batches;
use notification::change::{Answer, Persistence};
use notification::ports::{
    After, Answers, Before, Change, Clock, Commit, DownstreamTable, NotCommitted, Refused, Stored,
};
use notification::{Action, Deadline, Effect, Failure, FailureKind, Timestamp, limits};
use std::ops::Range;

/// What became of one notification's part of a transaction.
#[derive(Debug, Clone)]
enum Committed {
    /// It is written.
    Yes,
    /// The notification is not INIT, or has another event. What it is, where the answer said.
    NotAsExpected(Option<Stored>),
}

/// A task whose effect has writes.
struct WithWrites<'a> {
    place: usize,
    commit: Commit<'a>,
    size: Size,
}

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    pub(crate) async fn transactional(&self, tasks: &[Task<'_>], deadline: Deadline) -> Vec<Result> {
        let acted = self.act_all(tasks, deadline).await;
        let mut results: Vec<Result> = Vec::with_capacity(tasks.len());
        let (mut plain, mut with_writes) = (Vec::new(), Vec::new());
        for (place, (task, acted)) in tasks.iter().zip(&acted).enumerate() {
            results.push(Err(Problem::retry("not settled")));
            match acted {
                Err(failure) => results[place] = Err(Problem::of_action(failure)),
                Ok(effect) if effect.writes.is_empty() => plain.push((place, effect)),
                Ok(effect) => with_writes.push(WithWrites {
                    place,
                    commit: Commit { id: task.id(), event: task.notification.event(), effect },
                    size: Size::of(*task, effect),
                }),
            }
        }
        for (place, result) in self.mark_done(tasks, &plain, deadline).await {
            results[place] = result;
        }
        for (place, result) in self.commit_all(tasks, &with_writes, deadline).await {
            results[place] = result;
        }
        results
    }

    /// Moves those whose effect is DONE itself from INIT to DONE.
    async fn mark_done(
        &self,
        tasks: &[Task<'_>],
        plain: &[(usize, &Effect)],
        deadline: Deadline,
    ) -> Vec<(usize, Result)> {
        let changes: Vec<Change<'_>> = plain
            .iter()
            .map(|(place, effect)| Change {
                id: tasks[*place].id(),
                from: Before::Event(tasks[*place].notification.event()),
                to: After::Done(effect.outcome.as_ref()),
            })
            .collect();
        let answers = self.change_all(&changes, Persistence::Usual, deadline).await;
        let now = self.clock.now();
        let mut results = Vec::with_capacity(plain.len());
        for ((place, _), answer) in plain.iter().zip(answers) {
            let result = match answer {
                Err(failure) => Err(failure.into()),
                Ok(Answer::Made) => Ok(Settled::Done),
                Ok(Answer::Absent) => Err(absent()),
                Ok(Answer::NotAsExpected(stored)) => not_as_expected(tasks[*place].subject(), &stored, now),
            };
            results.push((*place, result));
        }
        results
    }

    async fn commit_all(
        &self,
        tasks: &[Task<'_>],
        with_writes: &[WithWrites<'_>],
        deadline: Deadline,
    ) -> Vec<(usize, Result)> {
        let done_at = self.clock.now();
        let commits: Vec<Commit<'_>> = with_writes.iter().map(|with_writes| with_writes.commit).collect();
        let groups = groups(with_writes.iter().map(|with_writes| &with_writes.size));
        let commit = |group: Vec<_>| async move { self.commit_group(group, done_at).await };
        let committed = call_in_batches(&self.clock, deadline, &commits, groups, commit).await;

        let unknown = commits.iter().zip(&committed).filter(|(_, committed)| is_unknown(committed));
        let unknown: Vec<_> = unknown.map(|(commit, _)| commit.id).collect();
        let mut reads = self.read_all(&unknown, deadline).await.into_iter();
        let now = self.clock.now();
        let mut results = Vec::with_capacity(with_writes.len());
        for (WithWrites { place, commit, .. }, committed) in with_writes.iter().zip(committed) {
            let stored = match &committed {
                Ok(Committed::NotAsExpected(Some(stored))) => Some(Ok(Some(stored.clone()))),
                committed if is_unknown(committed) => reads.next(),
                _ => None,
            };
            results.push((*place, result(tasks[*place], commit, done_at, committed, stored, now)));
        }
        results
    }

    /// Commits a group. Those that are refused leave it, they alone, and the others are committed without them.
    async fn commit_group(&self, group: Vec<Commit<'_>>, done_at: Timestamp) -> Answers<Committed> {
        let mut results: Vec<std::result::Result<Committed, Failure>> =
            group.iter().map(|_| Ok(Committed::Yes)).collect();
        let mut left: Vec<usize> = (0..group.len()).collect();
        while !left.is_empty() {
            let commits: Vec<Commit<'_>> = left.iter().map(|&place| group[place]).collect();
            let refusals = match self.table.commit(&commits, done_at).await {
                Ok(()) => break,
                Err(NotCommitted::Refused(refusals)) if refusals.iter().any(Option::is_some) => refusals,
                Err(NotCommitted::Refused(_)) => {
                    return Err(Failure::retryable("the transaction was refused without a reason"));
                }
                Err(NotCommitted::Failed(failure)) if left.len() == group.len() => return Err(failure),
                Err(NotCommitted::Failed(failure)) => {
                    // One of several may be the cause. The next attempt, without those that left, splits them.
                    let kind = if failure.kind.may_have_happened() { failure.kind } else { FailureKind::Retryable };
                    for &place in &left {
                        results[place] = Err(Failure { kind, reason: failure.reason.clone() });
                    }
                    break;
                }
            };
            let mut refusals = refusals.into_iter();
            left.retain(|&place| match refusals.next().flatten() {
                None => true,
                Some(Refused::NotAsExpected(stored)) => {
                    results[place] = Ok(Committed::NotAsExpected(stored));
                    false
                }
                Some(Refused::Failed(failure)) => {
                    results[place] = Err(failure);
                    false
                }
            });
        }
        Ok(results)
    }
}

/// What became of one notification: by its answer and, where that leaves it open, by what the table has.
fn result(
    task: Task<'_>,
    commit: &Commit<'_>,
    done_at: Timestamp,
    committed: std::result::Result<Committed, Failure>,
    stored: Option<std::result::Result<Option<Stored>, Failure>>,
    now: Timestamp,
) -> Result {
    let to = After::Done(commit.effect.outcome.as_ref());
    let done = Change { id: commit.id, from: Before::Event(commit.event), to };
    match (committed, stored) {
        (Ok(Committed::Yes), _) => Ok(Settled::Done),
        // The reply was lost.
        (_, Some(Ok(Some(stored)))) if done.has_made(&stored, done_at) => Ok(Settled::Done),
        // All or nothing, and it was nothing: what the transaction refuses for good cannot have happened.
        (Err(failure), _) => Err(Problem::of_action(&failure)),
        (Ok(Committed::NotAsExpected(_)), Some(Ok(Some(stored)))) => not_as_expected(task.subject(), &stored, now),
        (Ok(Committed::NotAsExpected(_)), Some(Ok(None))) => Err(absent()),
        (Ok(Committed::NotAsExpected(_)), Some(Err(failure))) => Err(failure.into()),
        (Ok(Committed::NotAsExpected(_)), None) => Err(Problem::retry("the item was not read")),
    }
}

/// Whether only a read can tell what became of a notification's part.
fn is_unknown(committed: &std::result::Result<Committed, Failure>) -> bool {
    match committed {
        Ok(Committed::NotAsExpected(stored)) => stored.is_none(),
        Ok(Committed::Yes) => false,
        Err(failure) => failure.kind.may_have_happened(),
    }
}

/// What one notification takes of a transaction's limits.
struct Size {
    actions: usize,
    bytes: usize,
}

impl Size {
    fn of(task: Task<'_>, effect: &Effect) -> Self {
        let effect_bytes: usize = effect.writes.iter().map(notification::Put::bytes).sum();
        // The notification's own item counts, although only its status changes.
        let item_bytes = task.record.data.len() + limits::ITEM_RESERVED_BYTES;
        Self { actions: 1 + effect.writes.len(), bytes: item_bytes + effect_bytes }
    }
}

/// Cuts notifications into groups that keep to a transaction's limits.
fn groups<'a>(sizes: impl IntoIterator<Item = &'a Size>) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let (mut actions, mut bytes) = (0, 0);
    for (place, size) in sizes.into_iter().enumerate() {
        actions += size.actions;
        bytes += size.bytes;
        match groups.last_mut() {
            Some(group)
                if actions <= limits::TRANSACT_WRITE_ITEMS_MAX && bytes <= limits::TRANSACT_WRITE_ITEMS_MAX_BYTES =>
            {
                group.end = place + 1;
            }
            _ => {
                groups.push(place..place + 1);
                (actions, bytes) = (size.actions, size.bytes);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_11_groups_keep_to_the_actions_and_bytes_of_a_transaction() {
        let sizes = |count, actions, bytes| (0..count).map(|_| Size { actions, bytes }).collect::<Vec<_>>();
        assert_eq!(groups(&sizes(101, 2, 1)), [0..50, 50..100, 100..101]);
        assert_eq!(groups(&sizes(5, 2, 2 * 1024 * 1024)), [0..2, 2..4, 4..5]);
        assert_eq!(groups(&sizes(3, 2, 5 * 1024 * 1024)), [0..1, 1..2, 2..3]);
        assert!(groups(&[]).is_empty());
    }
}
