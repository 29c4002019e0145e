//! The ports in memory, and failing: for tests of the functions without any backend.

use crate::event::Notification;
use crate::failure::Failure;
use crate::id::NotificationId;
use crate::ports::{
    Answers, Clock, Done, DownstreamTable, IngestTable, Insertion, Publication, Settlement, Stored, Stream,
    TableReader, Unreadable,
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
    /// How often it was written.
    pub writes: usize,
}

/// A table and a stream in memory. It counts its calls, and fails as its plan says.
#[derive(Default)]
pub struct Memory {
    items: Mutex<BTreeMap<String, Item>>,
    records: Mutex<Vec<(String, String)>>,
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
        let item = Item { status, event: event.into(), reason: None, outcome: None, raw: vec![], writes: 1 };
        lock(&self.items).insert(id.into(), item);
        self
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
            Some(Fault::Entries(ids, failure)) => Ok(write_all(&ids, &failure)),
            #[allow(clippy::panic, reason = "the fault that was asked for")]
            Some(Fault::Panic) => panic!("planned"),
            Some(Fault::Hang) => std::future::pending().await,
        }
    }

    fn settle(&self, id: &str, change: impl FnOnce(&mut Item)) -> Settlement {
        match lock(&self.items).get_mut(id) {
            Some(item) if item.status == Status::Init => {
                change(item);
                item.writes += 1;
                Settlement::Settled
            }
            Some(item) if !self.hides_old_items => Settlement::Already(item.status),
            _ => Settlement::NotInit,
        }
    }
}

impl TableReader for &Memory {
    async fn read(&self, ids: &[&NotificationId]) -> Answers<Option<Stored>> {
        self.call(
            "read",
            ids,
            |id| id.as_str(),
            |id| {
                lock(&self.items)
                    .get(id.as_str())
                    .map(|item| Stored { status: Some(item.status), event: item.event.as_str().into() })
            },
        )
        .await
    }
}

impl IngestTable for &Memory {
    async fn insert(&self, notifications: &[&Notification], _: Timestamp) -> Answers<Insertion> {
        self.call(
            "insert",
            notifications,
            |n| n.id().as_str(),
            |n| {
                let mut items = lock(&self.items);
                if let Some(item) = items.get(n.id().as_str()) {
                    let stored = Stored { status: Some(item.status), event: item.event.as_str().into() };
                    return Insertion::Exists((!self.hides_old_items).then_some(stored));
                }
                let item = Item {
                    status: Status::Init,
                    event: n.event().into(),
                    reason: None,
                    outcome: None,
                    raw: vec![],
                    writes: 1,
                };
                items.insert(n.id().as_str().into(), item);
                Insertion::Inserted
            },
        )
        .await
    }
}

impl DownstreamTable for &Memory {
    async fn complete(&self, done: &[Done<'_>], _: Timestamp) -> Answers<Settlement> {
        self.call(
            "complete",
            done,
            |done| done.id.as_str(),
            |done| {
                self.settle(done.id.as_str(), |item| {
                    item.status = Status::Done;
                    item.outcome = done.outcome.map(|outcome| outcome.as_str().to_owned());
                })
            },
        )
        .await
    }

    async fn fail(&self, id: &NotificationId, reason: &str, _: Timestamp) -> Result<Settlement, Failure> {
        let settle = |id: &&NotificationId| {
            self.settle(id.as_str(), |item| {
                item.status = Status::Failed;
                item.reason = Some(reason.to_owned());
            })
        };
        self.call("fail", &[id], |id| id.as_str(), settle).await?.remove(0)
    }

    async fn keep(&self, record: Unreadable<'_>, reason: &str, _: Timestamp) -> Result<(), Failure> {
        let id = record.item_id();
        let keep = |id: &String| {
            lock(&self.items).entry(id.clone()).or_insert_with(|| Item {
                status: Status::Failed,
                event: String::new(),
                reason: Some(reason.to_owned()),
                outcome: None,
                raw: record.raw.to_vec(),
                writes: 1,
            });
        };
        self.call("keep", &[id], String::as_str, keep).await?.remove(0)
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
