//! The sweep: what is still pending after a while is published again, so that nothing stays stuck when a stream record is
//! lost: older than the stream's 24 hours, given up on after its retries, or its mapping deleted. The table is the one
//! thing that must survive. Publishing again is harmless: downstream finds its work done.

use crate::Publisher;
use notification::batch::{by_count, call_in_batches};
use notification::ports::{Clock, Cursor, PendingKey, PendingTable, Publication, Stored, Stream};
use notification::{Deadline, Failure, NotificationId, Status, Timestamp, limits};
use serde::Serialize;
use std::time::Duration;

/// The sweep over a table.
#[derive(Debug)]
pub struct Sweep<T> {
    table: T,
    age: Duration,
}

/// What one sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Swept {
    /// Notifications published again.
    pub published: usize,
    /// Notifications that were to be published and could not be; the next sweep tries them.
    pub failed: usize,
    /// Age of the oldest pending notification, in seconds; 0 where none is pending.
    pub oldest_pending_seconds: u64,
    /// Whether it came to the end; if not, the next sweep goes on from there.
    pub complete: bool,
    /// Read capacity units that the index cost.
    pub index_read_units: f64,
}

impl<T: PendingTable> Sweep<T> {
    /// A sweep of what is pending for longer than an age.
    pub fn new(table: T, age: Duration) -> Self {
        Self { table, age }
    }

    /// Publishes again what is pending for too long, as far as the deadline allows.
    ///
    /// # Errors
    /// A failure of the index; what was published is published.
    pub async fn run<S: Stream, C: Clock>(
        &self,
        publisher: &Publisher<S, C>,
        deadline: Deadline,
    ) -> Result<Swept, Failure> {
        let clock = &publisher.clock;
        let now = clock.now();
        let until = now.checked_sub(self.age).unwrap_or(Timestamp::MIN);
        let mut swept = Swept::default();
        let shards = self.shards_with_work(now, until, &mut swept).await?;

        // Where the last sweep stopped, this one goes on to the end; the next begins again. So what stays stuck at the
        // beginning never keeps the sweep from the rest.
        let mut cursor = self.table.cursor().await?;
        let had_cursor = cursor.is_some();
        let first = cursor.as_ref().map_or(0, |cursor| cursor.shard);
        swept.complete = true;
        for shard in shards.into_iter().filter(|&shard| shard >= first) {
            let after = cursor.take().filter(|cursor| cursor.shard == shard).and_then(|cursor| cursor.after);
            if let Some(stopped) = self.sweep_shard(publisher, shard, until, after, deadline, &mut swept).await? {
                self.table.save_cursor(Some(&stopped)).await?;
                swept.complete = false;
                break;
            }
        }
        if swept.complete && had_cursor {
            self.table.save_cursor(None).await?;
        }
        metrics::counter!("Swept").increment(swept.published as u64);
        #[allow(clippy::cast_precision_loss, reason = "an age in seconds is far below 2^52")]
        // A histogram is written when it is recorded; a gauge would be written again with every batch from then on.
        metrics::histogram!("OldestPendingAge").record(swept.oldest_pending_seconds as f64);
        tracing::info!(?swept, "swept");
        Ok(swept)
    }

    /// Asks each partition for its oldest key: for the metric, and to know where there is work.
    async fn shards_with_work(&self, now: Timestamp, until: Timestamp, swept: &mut Swept) -> Result<Vec<u64>, Failure> {
        let mut shards = Vec::new();
        for shard in 0..limits::PENDING_SHARDS {
            let page = self.table.pending(shard, now, None, 1).await?;
            swept.index_read_units += page.read_units;
            let Some(oldest) = page.keys.first() else { continue };
            let age = Duration::try_from(now.duration_since(oldest.since)).unwrap_or_default();
            swept.oldest_pending_seconds = swept.oldest_pending_seconds.max(age.as_secs());
            if oldest.since <= until {
                shards.push(shard);
            }
        }
        Ok(shards)
    }

    /// Sweeps one partition; where the deadline stops it, it says where.
    async fn sweep_shard<S: Stream, C: Clock>(
        &self,
        publisher: &Publisher<S, C>,
        shard: u64,
        until: Timestamp,
        mut after: Option<PendingKey>,
        deadline: Deadline,
        swept: &mut Swept,
    ) -> Result<Option<Cursor>, Failure> {
        loop {
            if !deadline.earlier(limits::ACT_BEFORE_DEADLINE).allows_new_work(publisher.clock.now()) {
                return Ok(Some(Cursor { shard, after }));
            }
            let page = self.table.pending(shard, until, after.as_ref(), limits::SWEEP_PAGE).await?;
            swept.index_read_units += page.read_units;
            let started = publisher.clock.now();
            let published = self.publish(publisher, &page.keys, deadline, swept).await;

            // Its own time counts: what is left of the page's share of a second is waited for.
            let share =
                Duration::from_secs(1) * u32::try_from(published).unwrap_or(u32::MAX) / limits::SWEEP_PER_SECOND;
            let taken = Duration::try_from(publisher.clock.now().duration_since(started)).unwrap_or_default();
            publisher.clock.sleep(share.saturating_sub(taken)).await;
            match page.keys.into_iter().next_back() {
                Some(last) if page.more => after = Some(last),
                _ => return Ok(None),
            }
        }
    }

    /// Publishes those that are pending still, by a consistent read: the index can lag behind.
    async fn publish<S: Stream, C: Clock>(
        &self,
        publisher: &Publisher<S, C>,
        keys: &[PendingKey],
        deadline: Deadline,
        swept: &mut Swept,
    ) -> usize {
        let ids: Vec<&NotificationId> = keys.iter().map(|key| &key.id).collect();
        let read = |batch: Vec<_>| async move { self.table.read(&batch).await };
        let ranges = by_count(ids.len(), limits::BATCH_GET_ITEM_MAX);
        let stored = call_in_batches(&publisher.clock, deadline, &ids, ranges, read).await;
        let now = publisher.clock.now();
        let publications: Vec<Publication<'_>> = ids
            .iter()
            .zip(&stored)
            .filter_map(|(&id, stored)| {
                let stored = stored.as_ref().ok()?.as_ref()?;
                is_stuck(stored, now).then_some(Publication { id, event: &stored.event })
            })
            .collect();
        let results = publisher.publish_all(&publications, deadline).await;
        let published = results.iter().filter(|result| result.is_ok()).count();
        let unread = stored.iter().filter(|stored| stored.is_err()).count();
        swept.published += published;
        swept.failed += results.len() - published + unread;
        for (publication, result) in publications.iter().zip(&results) {
            match result {
                Ok(()) => tracing::info!(id = %publication.id, "pending for too long; published again"),
                Err(reason) => tracing::warn!(id = %publication.id, %reason, "pending for too long; not published"),
            }
        }
        published
    }
}

/// INIT, or CLAIMED by a worker that is gone: downstream takes that for in doubt.
fn is_stuck(stored: &Stored, now: Timestamp) -> bool {
    let has_event = !stored.event.is_empty();
    has_event
        && match stored.status {
            Some(Status::Init) => true,
            Some(Status::Claimed) => stored.claim.as_ref().is_some_and(|claim| claim.lease_until <= now),
            _ => false,
        }
}
