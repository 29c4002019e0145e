//! What one run asks of the table's indexes before it publishes: how old the oldest pending notification of each partition
//! is, and how many items are unresolved. Partitions are asked several at once, and each fails by itself.

use super::Run;
use futures_util::stream::{self, StreamExt};
use notification::batch::isolate_future;
use notification::ports::{PendingTable, Stream};
use notification::{Clock, Deadline, Failure, Status, Timestamp, limits};
use std::future::Future;
use std::time::Duration;

/// What stands at the beginning of a partition of the pending index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Look {
    pub(super) oldest: Oldest,
    /// Whether an entry that is not a notification's stands before it.
    pub(super) has_invalid: bool,
    read_units: f64,
}

/// The oldest notification of a partition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Oldest {
    /// There is none.
    Nothing,
    /// It is pending since then.
    Since(Timestamp),
    /// Too many entries that are not a notification's stand before it.
    Unknown,
}

impl Look {
    /// Whether a sweep of what is pending since `until` finds anything in the partition.
    pub(super) fn has_work(&self, until: Timestamp) -> bool {
        self.has_invalid
            || match self.oldest {
                Oldest::Nothing => false,
                Oldest::Since(since) => since <= until,
                Oldest::Unknown => true,
            }
    }
}

impl<T: PendingTable, S: Stream, C: Clock> Run<'_, T, S, C> {
    /// Looks at the beginning of every partition.
    ///
    /// # Errors
    /// The failure of the first one, where all failed.
    pub(super) async fn look(&mut self) -> Result<Vec<Result<Look, Failure>>, Failure> {
        let this = &*self;
        let by = this.phase();
        let looks = ask_every_shard(|shard| this.look_at(shard, by)).await;
        for (shard, look) in (0..).zip(&looks) {
            match look {
                Ok(look) => self.swept.index_read_units += look.read_units,
                Err(failure) => self.shard_failed(shard, failure),
            }
        }
        if let Some(Err(failure)) = looks.first()
            && looks.iter().all(Result::is_err)
        {
            return Err(failure.clone());
        }
        self.swept.oldest_pending_seconds = self.oldest_pending_seconds(&looks);
        Ok(looks)
    }

    async fn look_at(&self, shard: u64, by: Deadline) -> Result<Look, Failure> {
        let mut look = Look { oldest: Oldest::Unknown, has_invalid: false, read_units: 0.0 };
        let (mut after, mut limit) = (None, 1);
        loop {
            let page = match self.query(by, self.table.pending(shard, self.now, after.as_ref(), limit)).await {
                Ok(page) => page,
                Err(_) if look.has_invalid => return Ok(look),
                Err(failure) => return Err(failure),
            };
            look.read_units += page.read_units;
            look.has_invalid |= !page.invalid.is_empty();
            if let Some(oldest) = page.keys.first() {
                return Ok(Look { oldest: Oldest::Since(oldest.since), ..look });
            }
            if page.next.is_none() {
                return Ok(Look { oldest: Oldest::Nothing, ..look });
            }
            (after, limit) = (page.next, limits::SWEEP_SKIP_PAGE);
        }
    }

    /// The age of the oldest pending notification; 0 where none is pending, and `None` where it is not known.
    fn oldest_pending_seconds(&self, looks: &[Result<Look, Failure>]) -> Option<u64> {
        let mut oldest = Duration::ZERO;
        for look in looks {
            match look.as_ref().ok()?.oldest {
                Oldest::Nothing => {}
                Oldest::Since(since) => {
                    oldest = oldest.max(Duration::try_from(self.now.duration_since(since)).unwrap_or_default());
                }
                Oldest::Unknown => return None,
            }
        }
        Some(oldest.as_secs())
    }

    /// Counts what is IN_DOUBT, and what became FAILED recently, at least: a partition that cannot be read hides no others.
    pub(super) async fn count_unresolved(&mut self) {
        self.swept.in_doubt = self.count(Status::InDoubt, Timestamp::MIN).await;
        let recently = self.now.checked_sub(limits::RECENTLY_FAILED).unwrap_or(Timestamp::MIN);
        self.swept.recently_failed = self.count(Status::Failed, recently).await;
    }

    async fn count(&mut self, status: Status, since: Timestamp) -> Option<usize> {
        let this = &*self;
        let by = this.phase();
        let counts = ask_every_shard(|shard| {
            this.query(by, this.table.count_unresolved(status, shard, since, limits::UNRESOLVED_COUNTED))
        })
        .await;
        let mut total = 0;
        let (mut is_complete, mut is_known) = (true, true);
        for (shard, count) in (0..).zip(&counts) {
            match count {
                Ok(count) => {
                    total += count.count;
                    is_complete &= !count.more;
                    self.swept.index_read_units += count.read_units;
                }
                Err(reason) => {
                    let shard: u64 = shard;
                    tracing::error!(%status, shard, %reason, "unresolved items of a partition could not be counted");
                    is_known = false;
                }
            }
        }
        if !is_complete {
            tracing::warn!(%status, at_least = total, "there are more unresolved items than are counted");
        }
        // Nothing found, and not everywhere looked, says nothing.
        (is_known || total > 0).then_some(total)
    }

    /// Makes one query: it is given up in time for the others, and a panic is its failure.
    pub(super) async fn query<R>(
        &self,
        by: Deadline,
        query: impl Future<Output = Result<R, Failure>>,
    ) -> Result<R, Failure> {
        let clock = &self.publisher.clock;
        Deadline::at(by.time().min(self.after(1))).bound(clock, isolate_future(query)).await?
    }

    /// When a round of queries to all partitions must be over: the time of two queries that are not answered.
    fn phase(&self) -> Deadline {
        Deadline::at(self.deadline.time().min(self.after(2)))
    }

    /// The time of so many unanswered queries from now.
    fn after(&self, queries: u32) -> Timestamp {
        // No call starts shortly before a deadline.
        let time = self.patience * queries + limits::STOP_BEFORE_DEADLINE;
        self.publisher.clock.now().checked_add(time).unwrap_or(Timestamp::MAX)
    }
}

/// Asks every partition; the answers are in the order of the partitions.
async fn ask_every_shard<R, F: Future<Output = R>>(ask: impl Fn(u64) -> F) -> Vec<R> {
    let asked = (0..limits::PENDING_SHARDS).map(|shard| {
        let answer = ask(shard);
        async move { (shard, answer.await) }
    });
    // Unordered, so that one that does not answer keeps no other from being asked.
    let mut answers: Vec<(u64, R)> = stream::iter(asked).buffer_unordered(limits::CALLS_IN_FLIGHT).collect().await;
    answers.sort_by_key(|(shard, _)| *shard);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
