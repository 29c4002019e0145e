//! Every port in memory, with faults.

use super::change::{OwnedChange, OwnedCommit};
use super::item::Item;
use super::lock;
use super::ports::{Backend, Call, Calls, Entries, Refused, each};
use super::table::Table;
use crate::change::{Claim, Stored};
use crate::failure::Failure;
use crate::ports::{Answers, Committed, IndexKey, SweepState, Written};
use crate::status::Status;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// What goes wrong with one call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The call fails before anything is written.
    Before(Failure),
    /// Everything is written, then the reply is lost.
    LostReply,
    /// Everything is written, the reply is lost, and the SDK repeats the call. The repeat is answered.
    Repeated,
    /// The entries with these ids fail, the others are written.
    Entries(Vec<&'static str>, Failure),
    /// The code panics before anything is written.
    Panic,
    /// No reply ever comes, and nothing is written.
    Hang,
}

type Plan = Box<dyn Fn(&Call) -> Option<Fault> + Send + Sync>;

/// A table, a stream and a queue in memory. Each call takes effect at once, is recorded, and fails according to a plan.
#[derive(Default)]
pub struct Memory {
    backend: Mutex<InMemory>,
    plan: Option<Plan>,
    calls: Mutex<Vec<Call>>,
}

/// A table, a stream and a queue.
#[derive(Debug, Default)]
pub struct InMemory {
    table: Table,
    records: Vec<(String, String)>,
    hidden: BTreeMap<String, Duration>,
}

impl Memory {
    /// A backend in which each call has the fault that `plan` returns for it.
    #[must_use]
    pub fn failing(plan: impl Fn(&Call) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self { plan: Some(Box::new(plan)), ..Self::default() }
    }

    /// The calls that were made of one method.
    #[must_use]
    pub fn calls(&self, method: &str) -> Vec<Call> {
        lock(&self.calls).iter().filter(|call| call.method == method).cloned().collect()
    }

    /// An item of the table.
    #[must_use]
    pub fn item(&self, id: &str) -> Option<Item> {
        lock(&self.backend).table.items().get(id).cloned()
    }

    /// Every item of the table by id.
    #[must_use]
    pub fn items(&self) -> BTreeMap<String, Item> {
        lock(&self.backend).table.items().clone()
    }

    /// What actions put in transactions, by table and key.
    #[must_use]
    pub fn effects(&self) -> BTreeMap<String, Vec<(&'static str, String)>> {
        lock(&self.backend).table.others().clone()
    }

    /// The state that the sweep saved last.
    #[must_use]
    pub fn saved_sweep_state(&self) -> SweepState {
        lock(&self.backend).table.sweep_state().clone()
    }

    /// The stream's records in order: partition key and data.
    #[must_use]
    pub fn records(&self) -> Vec<(String, String)> {
        lock(&self.backend).records.clone()
    }

    /// How long each message is hidden, by its receipt handle.
    #[must_use]
    pub fn hidden(&self) -> BTreeMap<String, Duration> {
        lock(&self.backend).hidden.clone()
    }

    fn change_item(self, id: &str, change: impl FnOnce(&mut Item)) -> Self {
        lock(&self.backend).table.change_item(id, change);
        self
    }

    /// Puts an item with a status, as if the pipeline had written it. It is pending since the Unix epoch.
    #[must_use]
    pub fn with(self, id: &str, status: Status, event: &str) -> Self {
        lock(&self.backend).table.insert(id, Item::new(status, event));
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
        lock(&self.backend).table.add_invalid(shard, IndexKey { since: since.into(), id: id.into() });
        self
    }

    /// Decides whether the answers of refused conditions lack the old item.
    pub fn hide_old_items(&self, hidden: bool) {
        lock(&self.backend).table.hide_old_items(hidden);
    }
}

impl Calls for &Memory {
    type Backend = InMemory;

    async fn call<R: Send + 'static>(
        &self,
        mut call: Call,
        mut effect: impl FnMut(&mut InMemory, Refused<'_>) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, Failure> {
        {
            let mut calls = lock(&self.calls);
            call.number = calls.len();
            calls.push(call.clone());
        }
        let mut apply = |refused: Refused<'_>| effect(&mut lock(&self.backend), refused);
        match self.plan.as_ref().and_then(|plan| plan(&call)) {
            None => apply(&|_| None),
            Some(Fault::Before(failure)) => Err(failure),
            Some(Fault::LostReply) => {
                drop(apply(&|_| None));
                Err(Failure::may_have_happened("the answer was lost"))
            }
            Some(Fault::Repeated) => {
                drop(apply(&|_| None));
                apply(&|_| None)
            }
            Some(Fault::Entries(failing, failure)) => {
                apply(&|place| failing.contains(&call.ids[place].as_str()).then(|| failure.clone()))
            }
            #[allow(clippy::panic, reason = "the fault that was asked for")]
            Some(Fault::Panic) => panic!("planned"),
            Some(Fault::Hang) => std::future::pending().await,
        }
    }
}

impl InMemory {
    /// Lets the index follow the table.
    fn index(&mut self) {
        for captured in self.table.take_captured() {
            self.table.update_index(&captured.id);
        }
    }
}

impl Backend for InMemory {
    fn table(&mut self) -> &mut Table {
        &mut self.table
    }

    fn read(&mut self, ids: &[String], refused: Refused<'_>) -> Entries<Option<Stored>> {
        each(ids, refused, |id| Ok(self.table.read(id)))
    }

    fn write(&mut self, changes: &[OwnedChange], at: Timestamp, refused: Refused<'_>) -> Entries<Written> {
        let written = each(changes, refused, |change| Ok(self.table.write(change, at)));
        self.index();
        written
    }

    fn commit(&mut self, group: &[OwnedCommit], at: Timestamp) -> Answers<Committed> {
        let committed = self.table.commit(group, at);
        self.index();
        committed
    }

    fn quarantine(&mut self, id: &str, raw: &[u8], reason: &str, at: Timestamp) {
        self.table.quarantine(id, raw, reason, at);
    }

    fn begin_sweep(&mut self, now: Timestamp, lease_until: Timestamp) -> Option<SweepState> {
        self.table.begin_sweep(now, lease_until)
    }

    fn put(&mut self, records: &[(String, String)], refused: Refused<'_>) -> Entries<()> {
        each(records, refused, |record| {
            self.records.push(record.clone());
            Ok(())
        })
    }

    fn hide(&mut self, messages: &[(String, Duration)], refused: Refused<'_>) -> Entries<()> {
        each(messages, refused, |(handle, wait)| {
            self.hidden.insert(handle.clone(), *wait);
            Ok(())
        })
    }
}
