//! Every port, once: a method of a port is a call, and carries along what the call does to its backend. Who makes the calls
//! decides when each takes effect, how often, and what its caller is told.

use super::change::{OwnedChange, OwnedCommit};
use super::table::Table;
use crate::change::{Change, Commit, Stored};
use crate::failure::Failure;
use crate::id::{NotificationId, SWEEP_CURSOR_ID};
use crate::ports::{
    self, Answers, Committed, DownstreamTable, Hide, IndexKey, Orphan, PendingPage, PendingTable, Publication, Queue,
    Stream, SweepState, TableReader, UnresolvedCount, Written,
};
use crate::status::Status;
use jiff::Timestamp;
use std::fmt::Debug;
use std::time::Duration;

/// One call that was made: the port's method and the ids of its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// How many calls were made before it.
    pub number: usize,
    /// The port's method.
    pub method: &'static str,
    /// Its entries.
    pub ids: Vec<String>,
    /// The statuses before and after each change that it writes.
    pub changes: Vec<(Option<Status>, Status)>,
}

/// Makes calls: the failing part of every port.
pub trait Calls: Send + Sync {
    /// What is called.
    type Backend: Backend;

    /// Makes a call. `effect` may take place at any time, more than once, or not at all, whether or not the caller still
    /// waits. It leaves out the entries that are refused. The answer can be shown, so that a driver can compare what callers
    /// were told.
    fn call<R: Debug + Send + 'static>(
        &self,
        call: Call,
        effect: impl FnMut(&mut Self::Backend, Refused<'_>) -> Result<R, Failure> + Send + 'static,
    ) -> impl Future<Output = Result<R, Failure>> + Send;
}

/// Why the entry at a place of a call is refused; `None` if it is not.
pub type Refused<'a> = &'a dyn Fn(usize) -> Option<Failure>;

/// A result for each entry of a call.
pub type Entries<R> = Vec<Result<R, Failure>>;

/// A backend in memory.
pub trait Backend {
    /// Its table.
    fn table(&mut self) -> &mut Table;

    /// Reads items.
    fn read(&mut self, ids: &[String], refused: Refused<'_>) -> Entries<Option<Stored>>;

    /// Makes changes.
    fn write(&mut self, changes: &[OwnedChange], at: Timestamp, refused: Refused<'_>) -> Entries<Written>;

    /// Makes changes and puts their items in one transaction.
    ///
    /// # Errors
    /// The transaction is invalid.
    fn commit(&mut self, group: &[OwnedCommit], at: Timestamp) -> Answers<Committed>;

    /// Puts an orphan, unless it is there already.
    fn quarantine(&mut self, id: &str, raw: &[u8], reason: &str, at: Timestamp);

    /// One page of a partition of the index of pending notifications.
    fn pending(&mut self, shard: u64, until: Timestamp, after: Option<&IndexKey>, limit: usize) -> PendingPage {
        self.table().pending(shard, until, after, limit)
    }

    /// Gives the sweep's lease to a run.
    fn begin_sweep(&mut self, now: Timestamp, lease_until: Timestamp) -> Option<SweepState>;

    /// Puts records into the stream: ids and events.
    fn put(&mut self, records: &[(String, String)], refused: Refused<'_>) -> Entries<()>;

    /// Hides messages, by their receipt handles.
    fn hide(&mut self, messages: &[(String, Duration)], refused: Refused<'_>) -> Entries<()>;
}

/// Lets each entry of a call take effect that is not refused.
pub fn each<T, R>(entries: &[T], refused: Refused<'_>, mut effect: impl FnMut(&T) -> Result<R, Failure>) -> Entries<R> {
    let mut results = Vec::with_capacity(entries.len());
    for (place, entry) in entries.iter().enumerate() {
        results.push(refused(place).map_or_else(|| effect(entry), Err));
    }
    results
}

impl Call {
    /// A call of a method for entries with these ids.
    pub fn new(method: &'static str, ids: impl IntoIterator<Item = impl ToString>) -> Self {
        let ids = ids.into_iter().map(|id| id.to_string()).collect();
        Self { number: 0, method, ids, changes: vec![] }
    }
}

impl<C: Calls> TableReader for C {
    async fn read(&self, ids: &[&NotificationId]) -> Answers<Option<Stored>> {
        let call = Call::new("read", ids);
        let ids = call.ids.clone();
        self.call(call, move |backend, refused| Ok(backend.read(&ids, refused))).await
    }
}

impl<C: Calls> ports::Table for C {
    async fn write(&self, changes: &[Change<'_>], at: Timestamp) -> Answers<Written> {
        let mut call = Call::new("write", changes.iter().map(Change::id));
        call.changes = changes.iter().map(|change| (change.from().status(), change.to().status())).collect();
        let changes: Vec<OwnedChange> = changes.iter().map(OwnedChange::from).collect();
        self.call(call, move |backend, refused| Ok(backend.write(&changes, at, refused))).await
    }
}

impl<C: Calls> DownstreamTable for C {
    async fn commit(&self, group: &[Commit<'_>], at: Timestamp) -> Answers<Committed> {
        let call = Call::new("commit", group.iter().map(|commit| commit.change.id()));
        let group: Vec<OwnedCommit> = group.iter().map(OwnedCommit::from).collect();
        self.call(call, move |backend, refused| {
            // All of a transaction is written, or nothing.
            let held_up = each(&group, refused, |_| Ok(Committed::HeldUp));
            if held_up.iter().any(Result::is_err) { Ok(held_up) } else { backend.commit(&group, at) }
        })
        .await
    }

    async fn quarantine(&self, orphan: Orphan<'_>, reason: &str, failed_at: Timestamp) -> Result<(), Failure> {
        let (id, raw, reason) = (orphan.item_id(), orphan.raw.to_vec(), reason.to_owned());
        let call = Call::new("quarantine", [&id]);
        self.call(call, move |backend, refused| {
            one(refused)?;
            backend.quarantine(&id, &raw, &reason, failed_at);
            Ok(())
        })
        .await
    }
}

impl<C: Calls> PendingTable for C {
    async fn pending(
        &self,
        shard: u64,
        until: Timestamp,
        after: Option<&IndexKey>,
        limit: usize,
    ) -> Result<PendingPage, Failure> {
        let after = after.cloned();
        let call = Call::new("pending", [shard]);
        self.call(call, move |backend, refused| {
            one(refused).map(|()| backend.pending(shard, until, after.as_ref(), limit))
        })
        .await
    }

    async fn count_unresolved(
        &self,
        status: Status,
        shard: u64,
        since: Timestamp,
        limit: usize,
    ) -> Result<UnresolvedCount, Failure> {
        let call = Call::new("count_unresolved", [format!("{status}#{shard}")]);
        self.call(call, move |backend, refused| {
            one(refused).map(|()| backend.table().count_unresolved(status, shard, since, limit))
        })
        .await
    }

    async fn begin_sweep(&self, now: Timestamp, lease_until: Timestamp) -> Result<Option<SweepState>, Failure> {
        let call = Call::new("begin_sweep", [SWEEP_CURSOR_ID]);
        self.call(call, move |backend, refused| one(refused).map(|()| backend.begin_sweep(now, lease_until))).await
    }

    async fn end_sweep(&self, state: &SweepState, lease_until: Timestamp) -> Result<(), Failure> {
        let state = state.clone();
        let call = Call::new("end_sweep", [SWEEP_CURSOR_ID]);
        self.call(call, move |backend, refused| {
            one(refused).and_then(|()| backend.table().end_sweep(&state, lease_until))
        })
        .await
    }
}

impl<C: Calls> Stream for C {
    async fn put(&self, publications: &[Publication<'_>]) -> Answers<()> {
        let call = Call::new("put", publications.iter().map(|publication| publication.id));
        let records: Vec<_> = publications.iter().map(|put| (put.id.to_string(), put.event.to_owned())).collect();
        self.call(call, move |backend, refused| Ok(backend.put(&records, refused))).await
    }
}

impl<C: Calls> Queue for C {
    async fn hide(&self, messages: &[Hide<'_>]) -> Answers<()> {
        let call = Call::new("hide", messages.iter().map(|message| message.receipt_handle));
        let messages: Vec<_> = messages.iter().map(|hide| (hide.receipt_handle.to_owned(), hide.wait)).collect();
        self.call(call, move |backend, refused| Ok(backend.hide(&messages, refused))).await
    }
}

/// Whether the only entry of a call is refused.
fn one(refused: Refused<'_>) -> Result<(), Failure> {
    refused(0).map_or(Ok(()), Err)
}
