//! Changes of status for many notifications, and what a refused change says.

use crate::{Downstream, Result, Settled};
use notification::batch::{by_count, call_in_batches};
use notification::ports::{Change, Changed, Clock, DownstreamTable, Stored};
use notification::{Action, Deadline, Failure, NotificationId, limits};

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    /// Makes changes, in batches. `Ok(None)`: made. `Ok(Some)`: not as expected, and what the table has instead.
    pub(crate) async fn change_all(&self, changes: &[Change<'_>], deadline: Deadline) -> Vec<Result<Option<Stored>>> {
        let at = self.clock.now();
        let ranges = by_count(changes.len(), limits::BATCH_EXECUTE_STATEMENT_MAX);
        let change = |batch: Vec<_>| async move { self.table.change(&batch, at).await };
        let answers = call_in_batches(&self.clock, deadline, changes, ranges, change).await;

        // Where an answer did not hold the old item, the items are read, all such together.
        let unknown: Vec<&NotificationId> = changes
            .iter()
            .zip(&answers)
            .filter_map(|(change, answer)| matches!(answer, Ok(Changed::No(None))).then_some(change.id))
            .collect();
        let mut reads = self.read_all(&unknown, deadline).await.into_iter();
        let found = |answer| match answer? {
            Changed::Yes => Ok(None),
            Changed::No(Some(stored)) => Ok(Some(stored)),
            Changed::No(None) => {
                let stored = reads.next().unwrap_or_else(|| Err(Failure::retryable("not read")))?;
                stored.map(Some).ok_or_else(absent)
            }
        };
        answers.into_iter().map(found).collect()
    }

    /// Reads items, consistently, in batches.
    pub(crate) async fn read_all(&self, ids: &[&NotificationId], deadline: Deadline) -> Vec<Result<Option<Stored>>> {
        let ranges = by_count(ids.len(), limits::BATCH_GET_ITEM_MAX);
        let read = |batch: Vec<_>| async move { self.table.read(&batch).await };
        call_in_batches(&self.clock, deadline, ids, ranges, read).await
    }
}

/// What it means that a notification was not INIT when it should be settled.
pub(crate) fn settled_before(stored: &Stored) -> Result {
    match stored.status {
        Some(status) if status.is_pending() => {
            Err(Failure::retryable(format!("the notification is {status} just now")))
        }
        _ => Ok(Settled::Before),
    }
}

/// A record says that there is a notification, and the table has none.
pub(crate) fn absent() -> Failure {
    Failure::permanent("the table has no notification with this id")
}
