//! Poison: what fails permanently is kept as FAILED, with its reason, by one write, and passed. It neither blocks its
//! shard nor vanishes.

use crate::idempotent::next;
use crate::record::Record;
use crate::settle::settled_before;
use crate::{Downstream, Result, Settled};
use notification::batch::{by_count, call_in_batches};
use notification::ports::{After, Before, Change, Clock, DownstreamTable, Unreadable};
use notification::{Action, Deadline, Status};

/// A record, and why it failed.
pub(crate) type Poison<'a> = (&'a Record, &'a str);

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    /// Keeps each as FAILED. A failure of that, of whichever kind, must come again: the record would vanish otherwise.
    pub(crate) async fn quarantine_all(&self, poison: &[Poison<'_>], deadline: Deadline) -> Vec<Result> {
        let quarantine = |batch: Vec<_>| async move {
            let mut results = Vec::with_capacity(batch.len());
            for (record, reason) in batch {
                results.push(self.quarantine(record, reason, deadline).await);
            }
            Ok(results)
        };
        call_in_batches(&self.clock, deadline, poison, by_count(poison.len(), 1), quarantine).await
    }

    async fn quarantine(&self, record: &Record, reason: &str, deadline: Deadline) -> Result {
        if let Some(id) = record.content.id() {
            let change = Change { id, from: Before::Status(Status::Init), to: After::Failed(reason) };
            match next(&mut self.change_all(&[change], deadline).await.into_iter()) {
                Ok(None) => {
                    record.span().in_scope(|| tracing::error!(reason, "failed for good; the notification is FAILED"));
                    return Ok(Settled::Failed);
                }
                Ok(Some(stored)) => {
                    let status = stored.status.map_or("unknown", notification::Status::as_str);
                    record
                        .span()
                        .in_scope(|| tracing::warn!(reason, status, "poison for a notification that is not INIT"));
                    return settled_before(&stored);
                }
                Err(failure) if failure.kind.is_retryable() => return Err(failure),
                Err(_) => {} // The table has no such notification.
            }
        }
        let unreadable =
            Unreadable { shard: &record.shard, sequence_number: &record.sequence_number, raw: &record.data };
        self.table.keep(unreadable, reason, self.clock.now()).await?;
        let item = unreadable.item_id();
        record
            .span()
            .in_scope(|| tracing::error!(reason, item, "the record belongs to no notification; kept as FAILED"));
        Ok(Settled::Failed)
    }
}
