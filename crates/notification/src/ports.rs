//! What the functions need from outside, in domain terms. Each batch method is one backend call; how calls are batched,
//! bounded, repeated and timed is decided once, in [`crate::batch`]. `aws` implements the ports for real,
//! [`crate::testing`] in memory and failing.

use crate::action::{Effect, Outcome};
use crate::event::Notification;
use crate::failure::Failure;
use crate::id::NotificationId;
use crate::report::Identifier;
use crate::status::Status;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

/// The answer of one backend call for several entries: a result for each entry, in the order of the entries; or one
/// failure of the call as a whole.
pub type Answers<R> = Result<Vec<Result<R, Failure>>, Failure>;

/// Reading the table.
pub trait TableReader: Send + Sync {
    /// Reads up to [`crate::limits::BATCH_GET_ITEM_MAX`] items consistently; `None` where there is no such item.
    fn read(&self, ids: &[&NotificationId]) -> impl Future<Output = Answers<Option<Stored>>> + Send;
}

/// The queue that messages come from.
pub trait Queue: Send + Sync {
    /// Hides up to [`crate::limits::SQS_BATCH_MAX`] messages that were received: each can be received again after its wait,
    /// and not before.
    fn hide(&self, messages: &[Hide<'_>]) -> impl Future<Output = Answers<()>> + Send;
}

/// The table as ingest uses it.
pub trait IngestTable: TableReader {
    /// Puts up to [`crate::limits::BATCH_EXECUTE_STATEMENT_MAX`] notifications with status INIT, each only where its id
    /// does not exist yet.
    fn insert(
        &self,
        notifications: &[&Notification],
        received_at: Timestamp,
    ) -> impl Future<Output = Answers<Insertion>> + Send;
}

/// Changes of a notification's status.
pub trait StatusTable: TableReader {
    /// Makes up to [`crate::limits::BATCH_EXECUTE_STATEMENT_MAX`] changes, each only where the notification is as the
    /// change expects it.
    fn change(&self, changes: &[Change<'_>], at: Timestamp) -> impl Future<Output = Answers<Changed>> + Send;
}

/// The table as downstream uses it.
pub trait DownstreamTable: StatusTable {
    /// Writes effects and DONE in one transaction of up to [`crate::limits::TRANSACT_WRITE_ITEMS_MAX`] actions: all of
    /// it, or nothing.
    fn commit(&self, group: &[Commit<'_>], done_at: Timestamp)
    -> impl Future<Output = Result<(), NotCommitted>> + Send;

    /// Keeps a record that belongs to no notification as a FAILED item of its own, unless it is kept already.
    fn keep(
        &self,
        record: Orphan<'_>,
        reason: &str,
        failed_at: Timestamp,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The table as the sweep uses it: the index of pending notifications, the index of unresolved ones, and the one item
/// that keeps how far the sweep is. Both indexes are sparse: an item is in them only while it has that status.
pub trait PendingTable: TableReader {
    /// One page of a partition of the pending index: what has been pending since `until` or longer, oldest first, behind
    /// `after`.
    fn pending(
        &self,
        shard: u64,
        until: Timestamp,
        after: Option<&IndexKey>,
        limit: usize,
    ) -> impl Future<Output = Result<PendingPage, Failure>> + Send;

    /// Counts the items of a partition of the unresolved index that have been FAILED or IN_DOUBT since `since` or later.
    /// It stops counting at `limit`.
    fn count_unresolved(
        &self,
        status: Status,
        shard: u64,
        since: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<UnresolvedCount, Failure>> + Send;

    /// Takes the sweep's lease and returns how far the sweep is (the default where nothing was saved). `None`: another run
    /// has the lease. A lease that was over by `now` is free.
    fn begin_sweep(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> impl Future<Output = Result<Option<SweepState>, Failure>> + Send;

    /// Saves how far the sweep is and gives the lease back, unless another run has it by now.
    fn end_sweep(&self, state: &SweepState, lease_until: Timestamp)
    -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The stream between publisher and downstream.
pub trait Stream: Send + Sync {
    /// Puts up to [`crate::limits::PUT_RECORDS_MAX_ENTRIES`] records, [`crate::limits::PUT_RECORDS_MAX_BYTES`] together.
    fn put(&self, publications: &[Publication<'_>]) -> impl Future<Output = Answers<()>> + Send;
}

/// Time, so that tests and simulations have their own.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Waits.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// What the table holds of a notification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its status; `None` where the item has none that is known.
    pub status: Option<Status>,
    /// Its event; empty where the item has none.
    pub event: Box<str>,
    /// Who has it, while it is CLAIMED.
    pub claim: Option<Claim>,
    /// Since when it has been INIT, DONE, FAILED or IN_DOUBT, to the millisecond; `None` where the item does not say.
    pub since: Option<Timestamp>,
    /// Whether a call of its action ended with an unknown outcome.
    pub unknown_call: bool,
    /// When an operator last put it back to INIT, to the millisecond; it keeps that through later statuses.
    pub put_back_at: Option<Timestamp>,
}

/// A worker's right to make the one call for a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The invocation that has it. No two invocations have the same.
    pub owner: Box<str>,
    /// When it lapses: its owner is surely gone then.
    pub lease_until: Timestamp,
}

/// A message that is to be hidden for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hide<'a> {
    /// What SQS knows this receive of it by.
    pub receipt_handle: &'a str,
    /// For how long, from now on; SQS counts in seconds.
    pub wait: Duration,
}

/// What became of one conditional put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Insertion {
    /// The id was new: the item is there now.
    Inserted,
    /// The id exists, and nothing was written. The old item, where the answer held it.
    Exists(Option<Stored>),
}

/// One conditional change of a notification's status.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// Its id.
    pub id: &'a NotificationId,
    /// As it must be for the change to be made.
    pub from: Before<'a>,
    /// As it is then.
    pub to: After<'a>,
}

impl Change<'_> {
    /// Whether the table is as this change, made at this time, leaves it. A change whose reply was lost is repeated, and the
    /// repeat is refused by its own result.
    #[must_use]
    pub fn has_made(&self, stored: &Stored, at: Timestamp) -> bool {
        let is_now = |time: Option<Timestamp>| time.is_some_and(|time| time.as_millisecond() == at.as_millisecond());
        let is_as_left = match self.to {
            // The pipeline may have gone on with it since.
            After::Init if !matches!(self.from, Before::Claim(_)) => return is_now(stored.put_back_at),
            After::Claimed(claim) => stored.claim.as_ref() == Some(claim),
            After::UnknownCall => stored.unknown_call,
            // A claim that was given back leaves the notification pending since when it was.
            After::Init => true,
            After::Done(_) | After::Failed(_) | After::InDoubt(_) => is_now(stored.since),
        };
        let is_ours = !matches!(self.from, Before::Event(event) | Before::Untouched(event) if event != &*stored.event);
        is_ours && is_as_left && stored.status == Some(self.to.status())
    }
}

/// What a change expects.
#[derive(Debug, Clone, Copy)]
pub enum Before<'a> {
    /// This status.
    Status(Status),
    /// INIT, with this event, byte for byte: what the change makes of it was worked out from that.
    Event(&'a str),
    /// The same, and no call of its action has an unknown outcome: nothing has happened yet, for certain.
    Untouched(&'a str),
    /// CLAIMED, by exactly this claim: a later one of somebody else is not touched.
    Claim(&'a Claim),
}

/// What a change makes of a notification.
#[derive(Debug, Clone, Copy)]
pub enum After<'a> {
    /// INIT, and pending from now on.
    Init,
    /// INIT as before, with the note that a call of its action ended with an unknown outcome.
    UnknownCall,
    /// CLAIMED.
    Claimed(&'a Claim),
    /// DONE, with what the action returned.
    Done(Option<&'a Outcome>),
    /// FAILED, with the reason.
    Failed(&'a str),
    /// IN_DOUBT, with the reason.
    InDoubt(&'a str),
}

impl Before<'_> {
    /// The status that is expected.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::Status(status) => *status,
            Self::Event(_) | Self::Untouched(_) => Status::Init,
            Self::Claim(_) => Status::Claimed,
        }
    }
}

impl After<'_> {
    /// The status that it has then.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::Init | Self::UnknownCall => Status::Init,
            Self::Claimed(_) => Status::Claimed,
            Self::Done(_) => Status::Done,
            Self::Failed(_) => Status::Failed,
            Self::InDoubt(_) => Status::InDoubt,
        }
    }
}

/// What became of one conditional change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// It is made.
    Yes,
    /// The notification was not as expected, and nothing was written. What it is, where the answer held it.
    No(Option<Stored>),
}

/// One notification's part of a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Commit<'a> {
    /// Its id.
    pub id: &'a NotificationId,
    /// Its event, byte for byte as the table must have it: the effect was made from it.
    pub event: &'a str,
    /// What its action returned.
    pub effect: &'a Effect,
}

/// Why nothing of a transaction was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotCommitted {
    /// Some notifications were refused; the others, `None`, may be committed without them.
    Refused(Vec<Option<Refused>>),
    /// The call failed as a whole.
    Failed(Failure),
}

/// Why one notification cannot be part of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It is not INIT, or has another event. What it is, where the answer held it.
    NotAsExpected(Option<Stored>),
    /// One of its writes was refused, or it is in another transaction just now.
    Failed(Failure),
}

/// One record for the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication<'a> {
    /// The partition key.
    pub id: &'a NotificationId,
    /// The data: the event, byte for byte.
    pub event: &'a str,
}

/// A Kinesis record that belongs to no notification.
#[derive(Debug, Clone, Copy)]
pub struct Orphan<'a> {
    /// Its shard, e.g. `shardId-000000000000`.
    pub shard: &'a str,
    /// Its sequence number in the shard.
    pub sequence_number: &'a Identifier,
    /// Its bytes.
    pub raw: &'a [u8],
}

impl Orphan<'_> {
    /// The id of the item that keeps it: the same record always has the same id, so that keeping it twice is harmless.
    #[must_use]
    pub fn item_id(&self) -> String {
        format!("{}{}:{}", crate::id::QUARANTINE_PREFIX, self.shard, self.sequence_number.as_str())
    }
}

/// A notification in the index of pending ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingKey {
    /// Its id.
    pub id: NotificationId,
    /// Since when it is pending.
    pub since: Timestamp,
}

/// The key of an entry of the pending index exactly as the index has it. It may belong to an item that is not a
/// notification.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexKey {
    /// Its time.
    pub since: Box<str>,
    /// Its id.
    pub id: Box<str>,
}

/// One page of the pending index.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PendingPage {
    /// The notifications on it, oldest first.
    pub keys: Vec<PendingKey>,
    /// Its entries that are not a notification's: the id or the time is not valid.
    pub unreadable: Vec<IndexKey>,
    /// The key that the next page follows; `None` on the last page.
    pub next: Option<IndexKey>,
    /// Read capacity units that the page cost.
    pub read_units: f64,
}

/// How many items of a partition are unresolved.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct UnresolvedCount {
    /// How many were counted.
    pub count: usize,
    /// Whether there are more than that.
    pub more: bool,
    /// Read capacity units that counting cost.
    pub read_units: f64,
}

/// How far the sweep is, from one run to the next. A partition in its initial state is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweepState {
    /// The partition that the next run begins with.
    pub next_shard: u64,
    /// The partitions by their numbers.
    pub shards: BTreeMap<u64, ShardState>,
}

/// How far the sweep is in one partition of the pending index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardState {
    /// Everything that was due by then has been published; `None` where that is not known.
    pub published_until: Option<Timestamp>,
    /// The pass through the partition that the last run did not finish.
    pub unfinished: Option<Pass>,
}

/// One pass through a partition, which may take several runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// When it began. It publishes what was due by then.
    pub began: Timestamp,
    /// The last entry that it has dealt with; `None` at its beginning.
    pub after: Option<IndexKey>,
    /// Whether everything that was due so far could be published.
    pub all_published: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_recognises_what_it_made_itself_and_nothing_else() {
        let (id, at) =
            (NotificationId::parse("a").unwrap(), Timestamp::from_microsecond(1_700_000_000_123_456).unwrap());
        let stored = |status| Stored {
            status: Some(status),
            since: Some(Timestamp::from_millisecond(1_700_000_000_123).unwrap()),
            ..Stored::default()
        };
        let (mine, theirs) = ["mine", "theirs"].map(|owner| Claim { owner: owner.into(), lease_until: at }).into();
        let check = |from, to, stored: Stored, expected| {
            assert_eq!(Change { id: &id, from, to }.has_made(&stored, at), expected, "{from:?} → {to:?}: {stored:?}");
        };
        let init = Before::Status(Status::Init);
        check(init, After::Failed("no"), stored(Status::Failed), true);
        check(init, After::Failed("no"), stored(Status::Done), false);
        check(
            init,
            After::Failed("no"),
            Stored { since: Some(at + Duration::from_millis(1)), ..stored(Status::Failed) },
            false,
        );
        check(init, After::Failed("no"), Stored { since: None, ..stored(Status::Failed) }, false);
        let with_event = Stored { event: "mine".into(), ..stored(Status::Done) };
        check(Before::Event("mine"), After::Done(None), with_event.clone(), true);
        check(Before::Event("theirs"), After::Done(None), with_event, false);
        let put_back = |status| Stored { put_back_at: Some(at), ..stored(status) };
        check(Before::Status(Status::Failed), After::Init, put_back(Status::Init), true);
        check(Before::Status(Status::Failed), After::Init, put_back(Status::Done), true);
        check(Before::Status(Status::Failed), After::Init, stored(Status::Init), false);
        check(Before::Claim(&mine), After::Init, Stored { since: None, ..stored(Status::Init) }, true);
        check(
            Before::Claim(&mine),
            After::Init,
            Stored { claim: Some(theirs.clone()), ..stored(Status::Claimed) },
            false,
        );
        check(init, After::Claimed(&mine), Stored { claim: Some(mine.clone()), ..stored(Status::Claimed) }, true);
        check(init, After::Claimed(&mine), Stored { claim: Some(theirs.clone()), ..stored(Status::Claimed) }, false);
        check(init, After::UnknownCall, Stored { unknown_call: true, ..stored(Status::Init) }, true);
        check(init, After::UnknownCall, stored(Status::Init), false);
    }

    #[test]
    fn an_unreadable_record_is_kept_under_its_shard_and_sequence_number() {
        let sequence_number = &Identifier::parse(Some("42")).unwrap();
        let record = Orphan { shard: "shardId-000000000001", sequence_number, raw: b"?" };
        assert_eq!(record.item_id(), "kinesis:shardId-000000000001:42");
        assert!(NotificationId::parse(&record.item_id()).is_err(), "no notification can have this id");
    }
}
