//! Every port in memory.

use super::faulty::{Call, Fault, Faulty};
use super::lock;
use super::table::{Item, Table};
use crate::change::{Change, Claim, Commit, Stored};
use crate::failure::Failure;
use crate::id::NotificationId;
use crate::ports::{
    self, Answers, Committed, DownstreamTable, Hide, IndexKey, Orphan, PendingPage, PendingTable, Publication, Queue,
    Stream, SweepState, TableReader, UnresolvedCount, Written,
};
use crate::status::Status;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// A table, a stream and a queue in memory.
#[derive(Debug, Default)]
pub struct InMemory {
    table: Mutex<Table>,
    records: Mutex<Vec<(String, String)>>,
    hidden: Mutex<BTreeMap<String, Duration>>,
}

/// [`InMemory`] whose calls are noted, and fail as a plan says.
pub type Memory = Faulty<InMemory>;

impl InMemory {
    /// An item of the table.
    #[must_use]
    pub fn item(&self, id: &str) -> Option<Item> {
        lock(&self.table).items().get(id).cloned()
    }

    /// Every item of the table by id.
    #[must_use]
    pub fn items(&self) -> BTreeMap<String, Item> {
        lock(&self.table).items().clone()
    }

    /// What actions put in transactions, by table and key.
    #[must_use]
    pub fn effects(&self) -> BTreeMap<String, Vec<(&'static str, String)>> {
        lock(&self.table).others().clone()
    }

    /// The state that the sweep saved last.
    #[must_use]
    pub fn saved_sweep_state(&self) -> SweepState {
        lock(&self.table).sweep_state().clone()
    }

    /// The stream's records in order: partition key and data.
    #[must_use]
    pub fn records(&self) -> Vec<(String, String)> {
        lock(&self.records).clone()
    }

    /// How long each message is hidden, by its receipt handle.
    #[must_use]
    pub fn hidden(&self) -> BTreeMap<String, Duration> {
        lock(&self.hidden).clone()
    }
}

impl Memory {
    /// A backend in which each call fails as `plan` says.
    #[must_use]
    pub fn failing(plan: impl Fn(&Call) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self::new(InMemory::default(), plan)
    }

    fn change_item(self, id: &str, change: impl FnOnce(&mut Item)) -> Self {
        lock(&self.table).change_item(id, change);
        self
    }

    /// Puts an item with a status, as if the pipeline had written it. It is pending since the Unix epoch.
    #[must_use]
    pub fn with(self, id: &str, status: Status, event: &str) -> Self {
        lock(&self.table).insert(id, Item::new(status, event));
        self.pending_since(id, 0)
    }

    /// Gives an item a claim, as if a worker had claimed it.
    #[must_use]
    pub fn with_claim(self, id: &str, claim: Claim) -> Self {
        self.change_item(id, |item| (item.status, item.claim) = (Status::Claimed, Some(claim)))
    }

    /// Sets since when a pending item is pending, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn pending_since(self, id: &str, millis: i64) -> Self {
        let since = Timestamp::from_millisecond(millis).ok();
        self.change_item(id, |item| item.pending_since = since.filter(|_| item.status.is_pending()))
    }

    /// Sets since when an item has its status, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn since(self, id: &str, millis: i64) -> Self {
        self.change_item(id, |item| item.since = Timestamp::from_millisecond(millis).ok())
    }

    /// Puts an entry into the pending index that is not a notification's, as if somebody had written its item by hand.
    #[must_use]
    pub fn with_invalid_entry(self, shard: u64, id: &str, since: &str) -> Self {
        lock(&self.table).add_invalid(shard, IndexKey { since: since.into(), id: id.into() });
        self
    }

    /// Decides whether the answers of refused conditions lack the old item.
    pub fn hide_old_items(&self, hidden: bool) {
        lock(&self.table).hide_old_items(hidden);
    }
}

fn each<T, R>(entries: &[T], answer: impl FnMut(&T) -> R) -> Vec<Result<R, Failure>> {
    entries.iter().map(answer).map(Ok).collect()
}

impl TableReader for InMemory {
    async fn read(&self, ids: &[&NotificationId]) -> Answers<Option<Stored>> {
        Ok(each(ids, |id| lock(&self.table).read(id.as_str())))
    }
}

impl ports::Table for InMemory {
    async fn write(&self, changes: &[Change<'_>], at: Timestamp) -> Answers<Written> {
        let mut table = lock(&self.table);
        let mut answers = Vec::with_capacity(changes.len());
        for change in changes {
            answers.push(Ok(table.write(change, at)));
            table.update_index(change.id().as_str());
        }
        Ok(answers)
    }
}

impl DownstreamTable for InMemory {
    async fn commit(&self, group: &[Commit<'_>], at: Timestamp) -> Answers<Committed> {
        let mut table = lock(&self.table);
        let committed = table.commit(group, at);
        for commit in group {
            table.update_index(commit.change.id().as_str());
        }
        committed
    }

    async fn quarantine(&self, orphan: Orphan<'_>, reason: &str, failed_at: Timestamp) -> Result<(), Failure> {
        lock(&self.table).quarantine(&orphan.item_id(), orphan.raw, reason, failed_at);
        Ok(())
    }
}

impl PendingTable for InMemory {
    async fn pending(
        &self,
        shard: u64,
        until: Timestamp,
        after: Option<&IndexKey>,
        limit: usize,
    ) -> Result<PendingPage, Failure> {
        Ok(lock(&self.table).pending(shard, until, after, limit))
    }

    async fn count_unresolved(
        &self,
        status: Status,
        shard: u64,
        since: Timestamp,
        limit: usize,
    ) -> Result<UnresolvedCount, Failure> {
        Ok(lock(&self.table).count_unresolved(status, shard, since, limit))
    }

    async fn begin_sweep(&self, now: Timestamp, lease_until: Timestamp) -> Result<Option<SweepState>, Failure> {
        Ok(lock(&self.table).begin_sweep(now, lease_until))
    }

    async fn end_sweep(&self, state: &SweepState, lease_until: Timestamp) -> Result<(), Failure> {
        lock(&self.table).end_sweep(state, lease_until)
    }
}

impl Stream for InMemory {
    async fn put(&self, publications: &[Publication<'_>]) -> Answers<()> {
        let mut records = lock(&self.records);
        let put = |put: &Publication<'_>| records.push((put.id.to_string(), put.event.to_owned()));
        Ok(each(publications, put))
    }
}

impl Queue for InMemory {
    async fn hide(&self, messages: &[Hide<'_>]) -> Answers<()> {
        let mut hidden = lock(&self.hidden);
        hidden.extend(messages.iter().map(|message| (message.receipt_handle.to_owned(), message.wait)));
        Ok(each(messages, |_| ()))
    }
}
