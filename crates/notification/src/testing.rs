//! The ports in memory, and failing: for tests of the functions without any backend.

use crate::change::{After, Change, Claim, Commit, Stored};
use crate::clock::Clock;
use crate::failure::Failure;
use crate::id::NotificationId;
use crate::ports::{
    Answers, Committed, DownstreamTable, Hide, IndexKey, Orphan, PendingKey, PendingPage, PendingTable, Publication,
    Queue, Stream, SweepState, Table, TableReader, UnresolvedCount, Written,
};
use crate::status::Status;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test may panic inside a call on purpose; what was written before stands.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A clock that moves only when something sleeps: sleeping takes no time.
#[derive(Debug)]
pub struct TestClock(Mutex<Timestamp>);

impl TestClock {
    /// A clock that stands at a time, in milliseconds since the Unix epoch.
    ///
    /// # Panics
    /// Where that is no time that a [`Timestamp`] can hold.
    #[must_use]
    #[allow(clippy::expect_used, reason = "a test helper")]
    pub fn at_millis(millis: i64) -> Self {
        Self(Mutex::new(Timestamp::from_millisecond(millis).expect("a time")))
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *lock(&self.0)
    }

    async fn sleep(&self, duration: Duration) {
        // Others get their turn first, so that work which is ready wins over a wait.
        futures_util::future::poll_fn({
            let mut polls = 0;
            move |context| {
                polls += 1;
                if polls > 3 {
                    return std::task::Poll::Ready(());
                }
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            }
        })
        .await;
        *lock(&self.0) += duration;
    }
}

/// What goes wrong with one call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The call fails before anything is written.
    Before(Failure),
    /// Everything is written, then the answer is lost.
    LostReply,
    /// Everything is written, the answer is lost, and the SDK repeats the call: the repeat is answered.
    Repeated,
    /// The entries of these ids fail, the others are written.
    Entries(Vec<&'static str>, Failure),
    /// The code panics before anything is written.
    Panic,
    /// No answer ever comes; nothing is written.
    Hang,
}

type Plan = Box<dyn Fn(&Call) -> Option<Fault> + Send + Sync>;

/// One call that was made: the port's method and the ids of its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// How many calls were made before it.
    pub number: usize,
    /// The port's method.
    pub method: &'static str,
    /// Its entries.
    pub ids: Vec<String>,
}

/// One item of [`Memory`]'s table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its status.
    pub status: Status,
    /// Its event.
    pub event: String,
    /// Why it is FAILED.
    pub reason: Option<String>,
    /// What its action returned.
    pub outcome: Option<String>,
    /// The bytes of an unreadable record.
    pub raw: Vec<u8>,
    /// Who has it, while it is CLAIMED.
    pub claim: Option<Claim>,
    /// Since when it is pending, in milliseconds since the Unix epoch.
    pub pending_since: i64,
    /// Since when it has its status, where something changed it.
    pub since: Option<Timestamp>,
    /// Whether a call ended with an unknown outcome.
    pub unknown_call: bool,
    /// When it was last put back.
    pub put_back_at: Option<Timestamp>,
    /// How often it was written.
    pub writes: usize,
}

impl Item {
    fn new(status: Status, event: &str) -> Self {
        let event = event.to_owned();
        Self {
            status,
            event,
            reason: None,
            outcome: None,
            raw: vec![],
            claim: None,
            pending_since: 0,
            since: None,
            unknown_call: false,
            put_back_at: None,
            writes: 1,
        }
    }

    fn stored(&self) -> Stored {
        Stored {
            status: Some(self.status),
            event: self.event.as_str().into(),
            claim: self.claim.clone(),
            since: self.since,
            unknown_call: self.unknown_call,
            put_back_at: self.put_back_at,
        }
    }
}

/// A table and a stream in memory. It counts its calls, and fails as its plan says.
#[derive(Default)]
pub struct Memory {
    items: Mutex<BTreeMap<String, Item>>,
    effects: Mutex<BTreeMap<String, Vec<(&'static str, String)>>>,
    records: Mutex<Vec<(String, String)>>,
    hidden: Mutex<BTreeMap<String, Duration>>,
    sweep_state: Mutex<SweepState>,
    sweep_lease: Mutex<Option<Timestamp>>,
    unreadable: Mutex<Vec<(u64, IndexKey)>>,
    calls: Mutex<Vec<Call>>,
    plan: Option<Plan>,
    /// Whether a failed condition answers with the old item, as `ALL_OLD` asks.
    pub hides_old_items: bool,
}

impl Memory {
    /// A backend in which each call fails as `plan` says.
    #[must_use]
    pub fn failing(plan: impl Fn(&Call) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self { plan: Some(Box::new(plan)), ..Self::default() }
    }

    /// Puts an item with a status, as if the pipeline had written it.
    #[must_use]
    pub fn with(self, id: &str, status: Status, event: &str) -> Self {
        lock(&self.items).insert(id.into(), Item::new(status, event));
        self
    }

    /// Gives an item a claim, as if a worker had claimed it.
    #[must_use]
    pub fn with_claim(self, id: &str, claim: Claim) -> Self {
        if let Some(item) = lock(&self.items).get_mut(id) {
            item.status = Status::Claimed;
            item.claim = Some(claim);
        }
        self
    }

    /// Sets since when an item is pending, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn pending_since(self, id: &str, millis: i64) -> Self {
        if let Some(item) = lock(&self.items).get_mut(id) {
            item.pending_since = millis;
        }
        self
    }

    /// Sets since when an item has its status, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn since(self, id: &str, millis: i64) -> Self {
        if let Some(item) = lock(&self.items).get_mut(id) {
            item.since = Timestamp::from_millisecond(millis).ok();
        }
        self
    }

    /// Puts an entry into the pending index that is not a notification's, as if somebody had written its item by hand.
    #[must_use]
    pub fn with_unreadable_entry(self, shard: u64, id: &str, since: &str) -> Self {
        lock(&self.unreadable).push((shard, IndexKey { since: since.into(), id: id.into() }));
        self
    }

    /// What the sweep saved last.
    #[must_use]
    pub fn saved_sweep_state(&self) -> SweepState {
        lock(&self.sweep_state).clone()
    }

    /// What actions wrote in transactions, by table and key.
    #[must_use]
    pub fn effects(&self) -> BTreeMap<String, Vec<(&'static str, String)>> {
        lock(&self.effects).clone()
    }

    /// An item of the table.
    #[must_use]
    pub fn item(&self, id: &str) -> Option<Item> {
        lock(&self.items).get(id).cloned()
    }

    /// Every item of the table by id.
    #[must_use]
    pub fn items(&self) -> BTreeMap<String, Item> {
        lock(&self.items).clone()
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

    /// The calls that were made of one method.
    #[must_use]
    pub fn calls(&self, method: &str) -> Vec<Call> {
        lock(&self.calls).iter().filter(|call| call.method == method).cloned().collect()
    }

    /// Makes one call: notes it, fails as planned, and writes each entry with `write`.
    async fn call<T, R>(
        &self,
        method: &'static str,
        entries: &[T],
        id: impl Fn(&T) -> &str,
        mut write: impl FnMut(&T) -> R,
    ) -> Answers<R> {
        let ids = entries.iter().map(|entry| id(entry).to_owned()).collect();
        let call = {
            let mut calls = lock(&self.calls);
            let call = Call { number: calls.len(), method, ids };
            calls.push(call.clone());
            call
        };
        let fault = self.plan.as_ref().and_then(|plan| plan(&call));
        let mut write_all = |except: &[&str], failure: &Failure| {
            let result = |entry: &T| if except.contains(&id(entry)) { Err(failure.clone()) } else { Ok(write(entry)) };
            entries.iter().map(result).collect()
        };
        match fault {
            None => Ok(write_all(&[], &Failure::permanent(""))),
            Some(Fault::Before(failure)) => Err(failure),
            Some(Fault::LostReply) => {
                drop::<Vec<_>>(write_all(&[], &Failure::permanent("")));
                Err(Failure::may_have_happened("the answer was lost"))
            }
            Some(Fault::Repeated) => {
                drop::<Vec<_>>(write_all(&[], &Failure::permanent("")));
                Ok(write_all(&[], &Failure::permanent("")))
            }
            Some(Fault::Entries(ids, failure)) => Ok(write_all(&ids, &failure)),
            #[allow(clippy::panic, reason = "the fault that was asked for")]
            Some(Fault::Panic) => panic!("planned"),
            Some(Fault::Hang) => std::future::pending().await,
        }
    }

    /// Makes one change where the item is as it is expected.
    fn write_one(&self, change: &Change<'_>, at: Timestamp) -> Written {
        let mut items = lock(&self.items);
        let stored = items.get(change.id().as_str()).map(Item::stored);
        if !change.from().holds(stored.as_ref()) {
            return stored.filter(|_| !self.hides_old_items).map_or(Written::RefusedUnseen, Written::Refused);
        }
        let new = || Item { writes: 0, ..Item::new(Status::Init, "") };
        let item = items.entry(change.id().to_string()).or_insert_with(new);
        item.status = change.to().status();
        item.claim = None;
        item.since = Some(at);
        item.writes += 1;
        match change.to() {
            After::Inserted(notification) => item.event = notification.event().to_owned(),
            After::Released => {}
            After::PutBack => (item.unknown_call, item.put_back_at) = (false, Some(at)),
            After::UnknownCall => item.unknown_call = true,
            After::Claimed(claim) => item.claim = Some(claim.clone()),
            After::Done(outcome) => item.outcome = outcome.map(|outcome| outcome.as_str().to_owned()),
            After::Failed(reason) | After::InDoubt(reason) => item.reason = Some(reason.to_owned()),
        }
        Written::Yes
    }
}

impl TableReader for &Memory {
    async fn read(&self, ids: &[&NotificationId]) -> Answers<Option<Stored>> {
        self.call("read", ids, |id| id.as_str(), |id| lock(&self.items).get(id.as_str()).map(Item::stored)).await
    }
}

impl Queue for &Memory {
    async fn hide(&self, messages: &[Hide<'_>]) -> Answers<()> {
        let hide = |message: &Hide<'_>| {
            lock(&self.hidden).insert(message.receipt_handle.to_owned(), message.wait);
        };
        self.call("hide", messages, |message| message.receipt_handle, hide).await
    }
}

impl Table for &Memory {
    async fn write(&self, changes: &[Change<'_>], at: Timestamp) -> Answers<Written> {
        self.call("write", changes, |change| change.id().as_str(), |change| self.write_one(change, at)).await
    }
}

impl DownstreamTable for &Memory {
    async fn commit(&self, group: &[Commit<'_>], at: Timestamp) -> Answers<Committed> {
        let actions: usize = group.iter().map(|commit| 1 + commit.puts.len()).sum();
        assert!(actions <= crate::limits::TRANSACT_WRITE_ITEMS_MAX, "{actions} actions in one transaction");
        // Nothing is written where one is refused, and what a lost reply leaves is all of it or nothing.
        let refusals: Vec<_> = group.iter().map(|commit| self.refusal(commit)).collect();
        if refusals.iter().all(Option::is_none) {
            let write = |commit: &Commit<'_>| Committed::Written(self.commit_one(commit, at));
            return self.call("commit", group, |commit| commit.change.id().as_str(), write).await;
        }
        self.call("commit", group, |commit| commit.change.id().as_str(), |_| ()).await?;
        Ok(refusals.into_iter().map(|refusal| refusal.unwrap_or(Ok(Committed::HeldUp))).collect())
    }

    async fn quarantine(&self, orphan: Orphan<'_>, reason: &str, _: Timestamp) -> Result<(), Failure> {
        let put = |id: &String| {
            lock(&self.items).entry(id.clone()).or_insert_with(|| Item {
                reason: Some(reason.to_owned()),
                raw: orphan.raw.to_vec(),
                ..Item::new(Status::Failed, "")
            });
        };
        self.call("quarantine", &[orphan.item_id()], String::as_str, put).await?.remove(0)
    }
}

fn key_of(put: &crate::action::Put) -> String {
    let value = put.attributes.iter().find(|(name, _)| *name == put.key).map(|(_, value)| value.clone());
    format!("{}/{}", put.table, value.unwrap_or_default())
}

impl Memory {
    /// Why a part of a transaction is refused, if it is.
    fn refusal(&self, commit: &Commit<'_>) -> Option<Result<Committed, Failure>> {
        let stored = lock(&self.items).get(commit.change.id().as_str()).map(Item::stored);
        if !commit.change.from().holds(stored.as_ref()) {
            let stored = stored.filter(|_| !self.hides_old_items);
            return Some(Ok(Committed::Written(stored.map_or(Written::RefusedUnseen, Written::Refused))));
        }
        let exists = commit.puts.iter().any(|put| lock(&self.effects).contains_key(&key_of(put)));
        exists.then(|| Err(Failure::permanent("the effect's item exists already")))
    }

    fn commit_one(&self, commit: &Commit<'_>, at: Timestamp) -> Written {
        for put in commit.puts {
            lock(&self.effects).insert(key_of(put), put.attributes.clone());
        }
        self.write_one(&commit.change, at)
    }
}

impl Memory {
    /// The entries of a partition of the pending index, in their order.
    fn index(&self, shard: u64) -> Vec<(IndexKey, Option<PendingKey>)> {
        let items = lock(&self.items);
        let pending = items.iter().filter(|(_, item)| item.status.is_pending()).filter_map(|(id, item)| {
            let id = NotificationId::parse(id).ok()?;
            let since = Timestamp::from_millisecond(item.pending_since).ok()?;
            let written = IndexKey { since: format!("{since:.3}").into(), id: id.as_str().into() };
            (id.pending_shard() == shard).then_some((written, Some(PendingKey { id, since })))
        });
        let unreadable = lock(&self.unreadable);
        let unreadable = unreadable.iter().filter(|(of, _)| *of == shard).map(|(_, key)| (key.clone(), None));
        let mut entries: Vec<_> = pending.chain(unreadable).collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        entries
    }
}

impl PendingTable for &Memory {
    async fn pending(
        &self,
        shard: u64,
        until: Timestamp,
        after: Option<&IndexKey>,
        limit: usize,
    ) -> Result<PendingPage, Failure> {
        let until = format!("{until:.3}");
        let page = |_: &String| {
            let mut page = PendingPage { read_units: 0.5, ..PendingPage::default() };
            let is_asked_for = |key: &IndexKey| *key.since <= *until && after.is_none_or(|after| key > after);
            let mut entries = self.index(shard).into_iter().filter(|(key, _)| is_asked_for(key)).peekable();
            for (written, key) in entries.by_ref().take(limit) {
                page.next = Some(written.clone());
                match key {
                    Some(key) => page.keys.push(key),
                    None => page.unreadable.push(written),
                }
            }
            page.next = page.next.filter(|_| entries.peek().is_some());
            page
        };
        self.call("pending", &[shard.to_string()], String::as_str, page).await?.remove(0)
    }

    async fn count_unresolved(
        &self,
        status: Status,
        shard: u64,
        since: Timestamp,
        limit: usize,
    ) -> Result<UnresolvedCount, Failure> {
        let counted = |_: &String| {
            let items = lock(&self.items);
            let is_counted = |(id, item): &(&String, &Item)| {
                item.status == status && crate::id::index_shard(id) == shard && item.since.is_none_or(|at| at >= since)
            };
            let count = items.iter().filter(is_counted).count();
            UnresolvedCount { count: count.min(limit), more: count > limit, read_units: 0.5 }
        };
        self.call("count_unresolved", &[format!("{status}#{shard}")], String::as_str, counted).await?.remove(0)
    }

    async fn begin_sweep(&self, now: Timestamp, lease_until: Timestamp) -> Result<Option<SweepState>, Failure> {
        let begin = |_: &&str| {
            let mut lease = lock(&self.sweep_lease);
            let is_free = lease.is_none_or(|until| until <= now);
            is_free.then(|| {
                *lease = Some(lease_until);
                lock(&self.sweep_state).clone()
            })
        };
        self.call("begin_sweep", &[crate::id::SWEEP_CURSOR_ID], |id| id, begin).await?.remove(0)
    }

    async fn end_sweep(&self, state: &SweepState, lease_until: Timestamp) -> Result<(), Failure> {
        let end = |_: &&str| {
            let mut lease = lock(&self.sweep_lease);
            let is_ours = lease.is_none_or(|until| until == lease_until);
            if is_ours {
                *lease = None;
                *lock(&self.sweep_state) = state.clone();
            }
            is_ours
        };
        let is_ours = self.call("end_sweep", &[crate::id::SWEEP_CURSOR_ID], |id| id, end).await?.remove(0)?;
        if is_ours { Ok(()) } else { Err(Failure::permanent("another run has the lease")) }
    }
}

impl Stream for &Memory {
    async fn put(&self, publications: &[Publication<'_>]) -> Answers<()> {
        self.call(
            "put",
            publications,
            |publication| publication.id.as_str(),
            |publication| {
                lock(&self.records).push((publication.id.to_string(), publication.event.to_owned()));
            },
        )
        .await
    }
}
