//! Reading notifications and changing their status, many at once. A change whose reply was lost is recognised.

use crate::Downstream;
use notification::batch::{by_count, call_in_batches, call_until_deadline};
use notification::ports::{Change, Changed, Clock, DownstreamTable, Stored};
use notification::{Action, Deadline, Failure, NotificationId, Timestamp, limits};

/// What became of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is made: now, or by an earlier attempt of ours whose reply was lost.
    Made,
    /// The notification is not as the change expects it. Nothing was written; this is what the table has.
    NotAsExpected(Stored),
    /// The table has no notification with this id.
    Absent,
}

/// How long a change is tried that fails retryably.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// A few times: the record is retried otherwise, and that is harmless.
    Usual,
    /// Until the deadline: an effect has happened, and only this process knows what came of it.
    UntilDeadline,
}

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    /// Makes changes, in batches.
    pub(crate) async fn change_all(
        &self,
        changes: &[Change<'_>],
        persistence: Persistence,
        deadline: Deadline,
    ) -> Vec<Result<Answer, Failure>> {
        if changes.is_empty() {
            return vec![];
        }
        let at = self.clock.now();
        let ranges = by_count(changes.len(), limits::BATCH_EXECUTE_STATEMENT_MAX);
        let change = |batch: Vec<_>| async move { self.table.change(&batch, at).await };
        let answers = match persistence {
            Persistence::Usual => call_in_batches(&self.clock, deadline, changes, ranges, change).await,
            Persistence::UntilDeadline => call_until_deadline(&self.clock, deadline, changes, ranges, change).await,
        };
        let unknown = changes.iter().zip(&answers).filter(|(_, answer)| is_unknown(answer)).map(|(change, _)| change.id);
        let mut reads = self.read_all(&unknown.collect::<Vec<_>>(), deadline).await.into_iter();
        let mut results = Vec::with_capacity(changes.len());
        for (change, answer) in changes.iter().zip(answers) {
            let read = if is_unknown(&answer) { reads.next() } else { None };
            results.push(resolve(change, at, answer, read));
        }
        results
    }

    /// Reads items, consistently, in batches.
    pub(crate) async fn read_all(
        &self,
        ids: &[&NotificationId],
        deadline: Deadline,
    ) -> Vec<Result<Option<Stored>, Failure>> {
        let ranges = by_count(ids.len(), limits::BATCH_GET_ITEM_MAX);
        let read = |batch: Vec<_>| async move { self.table.read(&batch).await };
        call_in_batches(&self.clock, deadline, ids, ranges, read).await
    }
}

/// Whether only a read can tell what became of a change.
fn is_unknown(answer: &Result<Changed, Failure>) -> bool {
    match answer {
        Ok(Changed::No(old)) => old.is_none(),
        Ok(Changed::Yes) => false,
        Err(failure) => failure.kind.may_have_happened(),
    }
}

/// What became of a change, by its answer and, where that leaves it open, by what the table has now.
fn resolve(
    change: &Change<'_>,
    at: Timestamp,
    answer: Result<Changed, Failure>,
    read: Option<Result<Option<Stored>, Failure>>,
) -> Result<Answer, Failure> {
    let stored = match (answer, read) {
        (Ok(Changed::Yes), _) => return Ok(Answer::Made),
        (Ok(Changed::No(Some(stored))), _) | (Ok(Changed::No(None)), Some(Ok(Some(stored)))) => stored,
        (Ok(Changed::No(None)), Some(Ok(None))) => return Ok(Answer::Absent),
        (Ok(Changed::No(None)), Some(Err(failure))) => return Err(failure),
        (Ok(Changed::No(None)), None) => return Err(Failure::retryable("the item was not read")),
        // The reply was lost. If the change was not made by now, it may still be: only what is there counts.
        (Err(_), Some(Ok(Some(stored)))) if change.has_made(&stored, at) => return Ok(Answer::Made),
        (Err(failure), _) => return Err(failure),
    };
    Ok(if change.has_made(&stored, at) { Answer::Made } else { Answer::NotAsExpected(stored) })
}
