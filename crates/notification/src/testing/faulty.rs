//! Ports that fail.

use super::lock;
use crate::change::{Change, Commit, Stored};
use crate::failure::Failure;
use crate::id::{NotificationId, SWEEP_CURSOR_ID};
use crate::ports::{
    Answers, Committed, DownstreamTable, Hide, IndexKey, Orphan, PendingPage, PendingTable, Publication, Queue, Stream,
    SweepState, Table, TableReader, UnresolvedCount, Written,
};
use crate::status::Status;
use jiff::Timestamp;
use std::fmt;
use std::ops::Deref;
use std::sync::Mutex;

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

type Plan = Box<dyn Fn(&Call) -> Option<Fault> + Send + Sync>;

/// Wraps a port, records its calls, and fails them according to a plan. It dereferences to the port that it wraps.
#[derive(Default)]
pub struct Faulty<P> {
    port: P,
    plan: Option<Plan>,
    calls: Mutex<Vec<Call>>,
}

impl<P> Faulty<P> {
    /// Wraps a port. Each call has the fault that `plan` returns for it.
    #[must_use]
    pub fn new(port: P, plan: impl Fn(&Call) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self { port, plan: Some(Box::new(plan)), calls: Mutex::default() }
    }

    /// The calls that were made of one method.
    #[must_use]
    pub fn calls(&self, method: &str) -> Vec<Call> {
        lock(&self.calls).iter().filter(|call| call.method == method).cloned().collect()
    }

    /// Notes a call, and returns its fault.
    fn fault(&self, method: &'static str, ids: Vec<String>) -> Option<Fault> {
        let call = {
            let mut calls = lock(&self.calls);
            let call = Call { number: calls.len(), method, ids };
            calls.push(call.clone());
            call
        };
        self.plan.as_ref().and_then(|plan| plan(&call))
    }

    /// Makes a call that fails, if it does, as a whole.
    async fn call<R, F: Future<Output = Result<R, Failure>>>(
        &self,
        method: &'static str,
        id: String,
        call: impl Fn() -> F,
    ) -> Result<R, Failure> {
        match self.fault(method, vec![id]) {
            Some(Fault::Entries(_, failure)) => Err(failure),
            fault => with_fault(fault, call).await,
        }
    }

    /// Makes a call of several entries.
    async fn call_each<T: Copy, R, F: Future<Output = Answers<R>>>(
        &self,
        method: &'static str,
        entries: &[T],
        id: impl Fn(&T) -> &str,
        call: impl Fn(Vec<T>) -> F,
    ) -> Answers<R> {
        let ids = entries.iter().map(|entry| id(entry).to_owned()).collect();
        let (failing, failure) = match self.fault(method, ids) {
            Some(Fault::Entries(failing, failure)) => (failing, failure),
            fault => return with_fault(fault, || call(entries.to_vec())).await,
        };
        let fails = |entry: &T| failing.contains(&id(entry));
        let mut answers = call(entries.iter().copied().filter(|entry| !fails(entry)).collect()).await?.into_iter();
        let mut answer = |entry| if fails(entry) { Some(Err(failure.clone())) } else { answers.next() };
        Ok(entries.iter().filter_map(&mut answer).collect())
    }
}

/// Makes a call with a fault that concerns all of it.
async fn with_fault<R, F: Future<Output = Result<R, Failure>>>(
    fault: Option<Fault>,
    call: impl Fn() -> F,
) -> Result<R, Failure> {
    match fault {
        None | Some(Fault::Entries(..)) => call().await,
        Some(Fault::Before(failure)) => Err(failure),
        Some(Fault::LostReply) => {
            drop(call().await);
            Err(Failure::may_have_happened("the answer was lost"))
        }
        Some(Fault::Repeated) => {
            drop(call().await);
            call().await
        }
        #[allow(clippy::panic, reason = "the fault that was asked for")]
        Some(Fault::Panic) => panic!("planned"),
        Some(Fault::Hang) => std::future::pending().await,
    }
}

impl<P> Deref for Faulty<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.port
    }
}

impl<P: fmt::Debug> fmt::Debug for Faulty<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.port.fmt(f)
    }
}

impl<P: TableReader> TableReader for &Faulty<P> {
    async fn read(&self, ids: &[&NotificationId]) -> Answers<Option<Stored>> {
        let read = |ids: Vec<_>| async move { self.port.read(&ids).await };
        self.call_each("read", ids, |id| id.as_str(), read).await
    }
}

impl<P: Table> Table for &Faulty<P> {
    async fn write(&self, changes: &[Change<'_>], at: Timestamp) -> Answers<Written> {
        let write = |changes: Vec<_>| async move { self.port.write(&changes, at).await };
        self.call_each("write", changes, |change| change.id().as_str(), write).await
    }
}

impl<P: DownstreamTable> DownstreamTable for &Faulty<P> {
    async fn commit(&self, group: &[Commit<'_>], at: Timestamp) -> Answers<Committed> {
        let ids = group.iter().map(|commit| commit.change.id().to_string()).collect();
        let (failing, failure) = match self.fault("commit", ids) {
            Some(Fault::Entries(failing, failure)) => (failing, failure),
            fault => return with_fault(fault, || self.port.commit(group, at)).await,
        };
        // All of a transaction is written, or nothing.
        let fails = |commit: &Commit<'_>| failing.contains(&commit.change.id().as_str());
        Ok(group
            .iter()
            .map(|commit| if fails(commit) { Err(failure.clone()) } else { Ok(Committed::HeldUp) })
            .collect())
    }

    async fn quarantine(&self, orphan: Orphan<'_>, reason: &str, failed_at: Timestamp) -> Result<(), Failure> {
        self.call("quarantine", orphan.item_id(), || self.port.quarantine(orphan, reason, failed_at)).await
    }
}

impl<P: PendingTable> PendingTable for &Faulty<P> {
    async fn pending(
        &self,
        shard: u64,
        until: Timestamp,
        after: Option<&IndexKey>,
        limit: usize,
    ) -> Result<PendingPage, Failure> {
        self.call("pending", shard.to_string(), || self.port.pending(shard, until, after, limit)).await
    }

    async fn count_unresolved(
        &self,
        status: Status,
        shard: u64,
        since: Timestamp,
        limit: usize,
    ) -> Result<UnresolvedCount, Failure> {
        let count = || self.port.count_unresolved(status, shard, since, limit);
        self.call("count_unresolved", format!("{status}#{shard}"), count).await
    }

    async fn begin_sweep(&self, now: Timestamp, lease_until: Timestamp) -> Result<Option<SweepState>, Failure> {
        self.call("begin_sweep", SWEEP_CURSOR_ID.to_owned(), || self.port.begin_sweep(now, lease_until)).await
    }

    async fn end_sweep(&self, state: &SweepState, lease_until: Timestamp) -> Result<(), Failure> {
        self.call("end_sweep", SWEEP_CURSOR_ID.to_owned(), || self.port.end_sweep(state, lease_until)).await
    }
}

impl<P: Stream> Stream for &Faulty<P> {
    async fn put(&self, publications: &[Publication<'_>]) -> Answers<()> {
        let put = |publications: Vec<_>| async move { self.port.put(&publications).await };
        self.call_each("put", publications, |publication| publication.id.as_str(), put).await
    }
}

impl<P: Queue> Queue for &Faulty<P> {
    async fn hide(&self, messages: &[Hide<'_>]) -> Answers<()> {
        let hide = |messages: Vec<_>| async move { self.port.hide(&messages).await };
        self.call_each("hide", messages, |message| message.receipt_handle, hide).await
    }
}
