//! The sweep publishes notifications again that have been pending for too long, so that none is stuck if its stream record is
//! lost: because the record is older than the stream's 24 hours, or Lambda gave up its retries, or the event source mapping
//! was deleted. Only the table must survive. Publishing again is harmless: downstream finds the work done.
//!
//! A notification is published again at ages that double (`due`). The sweep stores one time for each partition of the
//! index, `published_until`: everything that was due by then has been published. A pass through a partition that begins at
//! `t` publishes the notifications that became due after `published_until` and by `t`. If it reaches the end and everything
//! was published, `published_until` becomes `t`. So a due time is never lost, whatever happens to a run:
//!
//! - Only one run sweeps at a time: it holds a lease, which outlasts its deadline. Schedules deliver at least once, and the
//!   next run can begin before this one has ended.
//! - A run that its deadline stops saves its position, and the next one continues the same pass.
//! - A run that fails or dies leaves `published_until` as it was, and the next one publishes the same again.
//! - A run that cannot take the lease publishes nothing. If a run dies, its lease expires.
//! - A future time in the state counts as "nothing has been published".
//!
//! At worst, a notification is published more often than necessary.

pub mod due;
mod index;

use crate::Publisher;
use index::Look;
use notification::batch::isolate_future;
use notification::ports::{IndexKey, Pass, PendingKey, PendingTable, Publication, ShardState, Stream, SweepState};
use notification::write::read_all;
use notification::{Clock, Deadline, Failure, NotificationId, Status, Stored, Timestamp, Trace, limits};
use serde::Serialize;
use std::time::Duration;

/// The sweep over a table.
#[derive(Debug)]
pub struct Sweep<T> {
    table: T,
    age: Duration,
}

/// The result of one run of the sweep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Swept {
    /// Notifications published again.
    pub published: usize,
    /// Notifications that were due but could not be published. The next run tries again.
    pub failed: usize,
    /// Notifications that have been pending for too long but are not due.
    pub not_due: usize,
    /// Invalid entries of the index, and items in it that are not notifications. The log names them.
    pub invalid: usize,
    /// Age of the oldest pending notification in seconds; 0 if none is pending, and `None` if a partition could not be read.
    pub oldest_pending_seconds: Option<u64>,
    /// At least this many items are IN_DOUBT; `None` if none was found and not every partition could be read.
    pub in_doubt: Option<usize>,
    /// At least this many items became FAILED within [`limits::RECENTLY_FAILED`]; `None` as for `in_doubt`.
    pub recently_failed: Option<usize>,
    /// Partitions of the index that could not be read to the end. The log names them.
    pub failed_shards: usize,
    /// Whether it reached the end of every partition. If not, the next run continues.
    pub complete: bool,
    /// Whether it published nothing because another run holds the lease.
    pub skipped: bool,
    /// Read capacity units that it consumed on the indexes.
    pub index_read_units: f64,
}

impl<T: PendingTable> Sweep<T> {
    /// A sweep of the notifications that have been pending for longer than `age`.
    pub fn new(table: T, age: Duration) -> Self {
        Self { table, age }
    }

    /// Publishes the due notifications again, as far as the deadline allows.
    ///
    /// # Errors
    /// A failure of the index if no partition could be read.
    pub async fn run<S: Stream, C: Clock>(
        &self,
        publisher: &Publisher<S, C>,
        deadline: Deadline,
    ) -> Result<Swept, Failure> {
        let mut run = Run::new(self, publisher, deadline);
        let looks = run.look().await;
        run.count_unresolved().await;
        let looks = looks.inspect_err(|_| run.swept.record())?;

        run.swept.complete = run.swept.failed_shards == 0;
        if run.has_work(&looks) {
            run.sweep_alone(&looks, deadline).await;
        }
        run.swept.record();
        Ok(run.swept)
    }
}

impl Swept {
    #[allow(clippy::cast_precision_loss, reason = "ages in seconds and counts of items are far below 2^52")]
    fn record(&self) {
        metrics::counter!("Swept").increment(self.published as u64);
        if self.invalid > 0 {
            metrics::counter!("Unpublishable").increment(self.invalid as u64);
        }
        // A histogram is written once when it is recorded; a gauge would be written again with every later batch.
        if let Some(age) = self.oldest_pending_seconds {
            metrics::histogram!("OldestPendingAge").record(age as f64);
        }
        if let Some(in_doubt) = self.in_doubt {
            metrics::histogram!("InDoubtItems").record(in_doubt as f64);
        }
        if let Some(failed) = self.recently_failed {
            metrics::histogram!("RecentlyFailed").record(failed as f64);
        }
        tracing::info!(swept = ?self, "swept");
    }
}

/// One run.
struct Run<'a, T, S, C> {
    table: &'a T,
    publisher: &'a Publisher<S, C>,
    age: Duration,
    /// When it began.
    now: Timestamp,
    /// When it must stop, to have time to save its state.
    deadline: Deadline,
    /// The time for one query.
    patience: Duration,
    /// Whether it has tried to publish a page. A page that a whole run is too short for must not hold up the others.
    has_published_a_page: bool,
    swept: Swept,
}

/// How a pass through a partition ends.
enum End {
    Complete,
    Stopped,
}

impl<'a, T: PendingTable, S: Stream, C: Clock> Run<'a, T, S, C> {
    fn new(sweep: &'a Sweep<T>, publisher: &'a Publisher<S, C>, deadline: Deadline) -> Self {
        let now = publisher.clock.now();
        let deadline = deadline.earlier(limits::ACT_BEFORE_DEADLINE);
        let time = Duration::try_from(deadline.time().duration_since(now)).unwrap_or_default();
        let patience = limits::SWEEP_QUERY_TIMEOUT.min(time / limits::SWEEP_QUERY_SHARE);
        Self {
            table: &sweep.table,
            publisher,
            age: sweep.age,
            now,
            deadline,
            patience,
            has_published_a_page: false,
            swept: Swept::default(),
        }
    }

    fn has_work(&self, looks: &[Result<Look, Failure>]) -> bool {
        let until = self.old_since(self.now);
        looks.iter().flatten().any(|look| look.has_work(until))
    }

    /// Sweeps while it holds the lease, which only one run can hold.
    async fn sweep_alone(&mut self, looks: &[Result<Look, Failure>], deadline: Deadline) {
        // A local runtime has no deadlines, but its process can also die.
        let ends = deadline.time().min(Deadline::at(self.now).later(limits::LAMBDA_TIMEOUT_MAX));
        let lease_until = Deadline::at(ends).later(limits::LEASE_BEYOND_DEADLINE);
        let mut state = match self.query(self.deadline, self.table.begin_sweep(self.now, lease_until)).await {
            Ok(Some(state)) => state,
            Ok(None) => {
                (self.swept.complete, self.swept.skipped) = (false, true);
                return;
            }
            Err(reason) => {
                self.swept.complete = false;
                tracing::error!(%reason, "the lease of the sweep could not be taken; the next run tries again");
                return;
            }
        };
        self.sweep(looks, &mut state).await;
        let save = isolate_future(self.table.end_sweep(&state, lease_until));
        let saving = deadline.bound(&self.publisher.clock, save).await;
        if let Err(reason) = saving.and_then(|saved| saved) {
            tracing::error!(%reason, "the state of the sweep could not be saved; a later run publishes the same again");
        }
    }

    /// Passes through every partition that has work. It begins where the last run stopped, so that each partition gets its turn.
    async fn sweep(&mut self, looks: &[Result<Look, Failure>], state: &mut SweepState) {
        let until = self.old_since(self.now);
        let first = std::mem::take(&mut state.next_shard) % limits::PENDING_SHARDS;
        for shard in (first..limits::PENDING_SHARDS).chain(0..first) {
            let Some(Ok(look)) = usize::try_from(shard).ok().and_then(|place| looks.get(place)) else { continue };
            let mut shard_state = state.shards.remove(&shard).unwrap_or_default();
            if !look.has_work(until) {
                // Nothing is old enough to be due, so there is nothing to remember.
                continue;
            }
            let end = self.pass(shard, &mut shard_state).await;
            if shard_state != ShardState::default() {
                state.shards.insert(shard, shard_state);
            }
            match end {
                Ok(End::Complete) => {}
                Ok(End::Stopped) => {
                    state.next_shard = shard;
                    self.swept.complete = false;
                    return;
                }
                Err(failure) => {
                    self.shard_failed(shard, &failure);
                    self.swept.complete = false;
                }
            }
        }
    }

    /// Passes through one partition, or continues a pass that an earlier run began.
    async fn pass(&mut self, shard: u64, state: &mut ShardState) -> Result<End, Failure> {
        let published_until = state.published_until.filter(|until| *until <= self.now);
        let begin = || Pass { began: self.now, after: None, all_published: true };
        let mut pass = state.unfinished.take().filter(|pass| pass.began <= self.now).unwrap_or_else(begin);
        let until = self.old_since(pass.began);
        loop {
            if !self.deadline.allows_new_work(self.publisher.clock.now()) {
                state.unfinished = pass.after.is_some().then_some(pass);
                return Ok(End::Stopped);
            }
            let page = self.table.pending(shard, until, pass.after.as_ref(), limits::SWEEP_PAGE);
            let page = match self.query(self.deadline, page).await {
                Ok(page) => page,
                Err(failure) => {
                    // If the index refuses the position, the next run begins a new pass.
                    state.unfinished = (failure.kind.is_retryable() && pass.after.is_some()).then_some(pass);
                    return Err(failure);
                }
            };
            self.swept.index_read_units += page.read_units;
            for IndexKey { id, since } in &page.invalid {
                self.count_invalid(|| {
                    tracing::warn!(
                        ?id,
                        ?since,
                        shard,
                        "an entry of the pending index is not a notification's; fix its item or delete it"
                    );
                });
            }
            let is_due = |key: &&PendingKey| due::is_due(key.since, self.age, published_until, pass.began);
            let due: Vec<&NotificationId> = page.keys.iter().filter(is_due).map(|key| &key.id).collect();
            self.swept.not_due += page.keys.len() - due.len();
            let all_published = self.publish_at_rate(&due).await;
            if !all_published && self.has_published_a_page && !self.deadline.allows_new_work(self.publisher.clock.now())
            {
                // The deadline cut the page off, so the next run begins with it.
                state.unfinished = pass.after.is_some().then_some(pass);
                return Ok(End::Stopped);
            }
            self.has_published_a_page |= !due.is_empty();
            pass.all_published &= all_published;
            if page.next.is_none() {
                if pass.all_published {
                    state.published_until = Some(pass.began);
                }
                return Ok(End::Complete);
            }
            pass.after = page.next;
        }
    }

    /// Publishes, and then waits to stay within the rate. Returns whether nothing failed.
    async fn publish_at_rate(&mut self, ids: &[&NotificationId]) -> bool {
        if ids.is_empty() {
            return true;
        }
        let clock = &self.publisher.clock;
        let (before, started) = (self.swept, clock.now());
        self.publish(ids).await;
        let published = self.swept.published - before.published;
        let share = Duration::from_secs(1) * u32::try_from(published).unwrap_or(u32::MAX) / limits::SWEEP_PER_SECOND;
        let taken = Duration::try_from(clock.now().duration_since(started)).unwrap_or_default();
        clock.sleep(share.saturating_sub(taken)).await;
        self.swept.failed == before.failed
    }

    /// Publishes the notifications that are still pending by a consistent read, because the index can lag behind.
    async fn publish(&mut self, ids: &[&NotificationId]) {
        let (publisher, table) = (self.publisher, self.table);
        let stored = read_all(table, &publisher.clock, ids, self.deadline).await;
        let now = publisher.clock.now();
        let mut publications = Vec::with_capacity(ids.len());
        for (&id, stored) in ids.iter().zip(&stored) {
            match stored.as_ref().map(|stored| stored.as_ref().map(|stored| (stored, Found::of(stored, now)))) {
                Ok(Some((stored, Found::Stuck))) => publications.push(Publication { id, event: &stored.event }),
                Ok(Some((_, Found::Invalid))) => self.count_invalid(|| {
                    tracing::warn!(%id, "a pending item lacks its event, or its status is unknown; fix it or delete it");
                }),
                Ok(Some((_, Found::NotStuck)) | None) => {}
                Err(reason) => {
                    self.swept.failed += 1;
                    tracing::warn!(%id, %reason, "pending for too long; could not be read");
                }
            }
        }
        let results = publisher.publish_all(&publications, self.deadline).await;
        for (Publication { id, event }, result) in publications.iter().zip(&results) {
            let trace = Trace::of(event);
            let trace_id = trace.as_ref().map(Trace::id);
            match result {
                Ok(()) => {
                    self.swept.published += 1;
                    tracing::info!(%id, trace_id, "pending for too long; published again");
                }
                Err(reason) => {
                    self.swept.failed += 1;
                    tracing::warn!(%id, trace_id, %reason, "pending for too long; not published");
                }
            }
        }
    }

    /// Counts something that is not a notification. The log names only the first ones.
    fn count_invalid(&mut self, name: impl FnOnce()) {
        if self.swept.invalid < limits::SWEEP_INVALID_NAMED {
            name();
        }
        self.swept.invalid += 1;
    }

    fn shard_failed(&mut self, shard: u64, reason: &Failure) {
        self.swept.failed_shards += 1;
        tracing::error!(shard, %reason, "a partition of the pending index could not be read; the next run tries again");
    }

    /// Since when a notification must have been pending to be old enough at a time.
    fn old_since(&self, at: Timestamp) -> Timestamp {
        at.checked_sub(self.age).unwrap_or(Timestamp::MIN)
    }
}

/// The item of an index entry.
enum Found {
    /// INIT, or CLAIMED by a claim that has expired: downstream makes that IN_DOUBT.
    Stuck,
    /// Already settled, or claimed by a worker.
    NotStuck,
    /// Not a notification: another program wrote it.
    Invalid,
}

impl Found {
    fn of(stored: &Stored, now: Timestamp) -> Self {
        match stored.status {
            None => Self::Invalid,
            Some(Status::Init | Status::Claimed) if stored.event.is_empty() => Self::Invalid,
            Some(Status::Init) => Self::Stuck,
            Some(Status::Claimed) if stored.claim.as_ref().is_none_or(|claim| claim.lease_until <= now) => Self::Stuck,
            Some(_) => Self::NotStuck,
        }
    }
}
