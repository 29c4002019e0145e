//! The queries of one run before it publishes: how old the oldest pending notification of each partition is, and how many
//! items are unresolved. Several partitions are queried at once, and each fails alone.

use super::Run;
use futures_util::stream::{self, StreamExt};
use notification::batch::isolate_future;
use notification::ports::{PendingTable, Stream};
use notification::{Clock, Deadline, Failure, Status, Timestamp, limits};
use std::future::Future;
use std::time::Duration;

/// The beginning of a partition of the pending index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Look {
    pub(super) oldest: Oldest,
    /// Whether an invalid entry precedes it.
    pub(super) has_invalid: bool,
    read_units: f64,
}

/// The oldest notification of a partition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Oldest {
    /// There is none.
    Nothing,
    /// It has been pending since then.
    Since(Timestamp),
    /// Too many invalid entries precede it.
    Unknown,
}

impl Look {
    /// Whether the partition has an entry that has been pending since `until` or longer.
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
    /// Reads the beginning of every partition.
    ///
    /// # Errors
    /// The failure of the first one, if all failed.
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

    /// The age of the oldest pending notification; 0 if none is pending, and `None` if it is not known.
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

    /// Counts the items that are IN_DOUBT or recently became FAILED. The counts are lower bounds if a partition cannot be read.
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
        // If nothing was found, but not every partition was read, the count is unknown.
        (is_known || total > 0).then_some(total)
    }

    /// Makes one query, with a timeout that leaves time for the others. A panic is a failure of the query.
    pub(super) async fn query<R>(
        &self,
        by: Deadline,
        query: impl Future<Output = Result<R, Failure>>,
    ) -> Result<R, Failure> {
        let clock = &self.publisher.clock;
        Deadline::at(by.time().min(self.after(1))).bound(clock, isolate_future(query)).await?
    }

    /// When a round of queries to all partitions must end: it has the time of two unanswered queries.
    fn phase(&self) -> Deadline {
        Deadline::at(self.deadline.time().min(self.after(2)))
    }

    /// When this many unanswered queries in a row would time out.
    fn after(&self, queries: u32) -> Timestamp {
        // No call starts shortly before a deadline.
        let time = self.patience * queries + limits::STOP_BEFORE_DEADLINE;
        self.publisher.clock.now().checked_add(time).unwrap_or(Timestamp::MAX)
    }
}

/// Queries every partition; the answers are in the order of the partitions.
async fn ask_every_shard<R, F: Future<Output = R>>(ask: impl Fn(u64) -> F) -> Vec<R> {
    let asked = (0..limits::PENDING_SHARDS).map(|shard| {
        let answer = ask(shard);
        async move { (shard, answer.await) }
    });
    // Unordered, so that a partition that does not answer delays no other.
    let mut answers: Vec<(u64, R)> = stream::iter(asked).buffer_unordered(limits::CALLS_IN_FLIGHT).collect().await;
    answers.sort_by_key(|(shard, _)| *shard);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
