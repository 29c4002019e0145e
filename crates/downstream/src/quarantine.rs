//! Poison: what fails permanently is kept as FAILED, with its reason, by one write, and passed. It neither blocks its
//! shard nor vanishes.

use crate::record::Record;
use crate::{Downstream, Settled, settled_before};
use notification::batch::{by_count, call_in_batches};
use notification::ports::{Clock, DownstreamTable, Settlement, Unreadable};
use notification::{Action, Deadline, Failure};

/// A record, and why it failed.
pub(crate) type Poison<'a> = (&'a Record, &'a str);

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    /// Keeps each as FAILED. A failure of that, of whichever kind, must come again: the record would vanish otherwise.
    pub(crate) async fn quarantine_all(
        &self,
        poison: &[Poison<'_>],
        deadline: Deadline,
    ) -> Vec<Result<Settled, Failure>> {
        let quarantine = |batch: Vec<_>| async move {
            let mut results = Vec::with_capacity(batch.len());
            for (record, reason) in batch {
                results.push(self.quarantine(record, reason).await);
            }
            Ok(results)
        };
        call_in_batches(&self.clock, deadline, poison, by_count(poison.len(), 1), quarantine).await
    }

    async fn quarantine(&self, record: &Record, reason: &str) -> Result<Settled, Failure> {
        let failed_at = self.clock.now();
        if let Some(id) = record.content.id() {
            let settled = match self.table.fail(id, reason, failed_at).await? {
                Settlement::Settled => Ok(Settled::Failed),
                Settlement::Already(_) => Ok(Settled::Before),
                Settlement::NotInit => {
                    let mut stored = self.table.read(&[id]).await?;
                    settled_before(stored.pop().unwrap_or_else(|| Err(Failure::retryable("not read")))?)
                }
            };
            match settled {
                Ok(Settled::Failed) => {
                    record.span.in_scope(|| tracing::error!(reason, "failed for good; the notification is FAILED"));
                    return settled;
                }
                Err(failure) if !failure.kind.is_retryable() => {} // The table has no such notification.
                settled => return settled,
            }
        }
        let unreadable =
            Unreadable { shard: &record.shard, sequence_number: &record.sequence_number, raw: &record.data };
        self.table.keep(unreadable, reason, failed_at).await?;
        let item = unreadable.item_id();
        record.span.in_scope(|| tracing::error!(reason, item, "the record belongs to no notification; kept as FAILED"));
        Ok(Settled::Failed)
    }
}
