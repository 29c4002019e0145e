//! What the functions use from outside, in domain terms. Each batch method is one backend call; [`crate::batch`] decides how
//! calls are batched, bounded, repeated and timed. The crate `aws` implements the ports, and [`crate::testing`] has them in
//! memory, with faults.

use crate::change::{Change, Commit, Stored};
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
    /// Reads up to [`crate::limits::BATCH_GET_ITEM_MAX`] items consistently; `None` if there is no such item.
    fn read(&self, ids: &[&NotificationId]) -> impl Future<Output = Answers<Option<Stored>>> + Send;
}

/// The queue that messages come from.
pub trait Queue: Send + Sync {
    /// Hides up to [`crate::limits::SQS_BATCH_MAX`] messages that were received: each can be received again only after its
    /// wait.
    fn hide(&self, messages: &[Hide<'_>]) -> impl Future<Output = Answers<()>> + Send;
}

/// The table as ingest and operators use it: conditional changes of notifications.
///
/// Together with its stream, the table is a *transactional outbox*: one atomic write stores a notification and is what the
/// table stream (*change data capture*) hands to publisher, so neither can happen without the other.
pub trait Table: TableReader {
    /// Makes up to [`crate::limits::BATCH_EXECUTE_STATEMENT_MAX`] changes, each only if the item is as the change expects it.
    fn write(&self, changes: &[Change<'_>], at: Timestamp) -> impl Future<Output = Answers<Written>> + Send;
}

/// The table as downstream uses it.
pub trait DownstreamTable: Table {
    /// Writes changes and the items that belong to them in one transaction of up to
    /// [`crate::limits::TRANSACT_WRITE_ITEMS_MAX`] actions: all of them, or none.
    fn commit(&self, group: &[Commit<'_>], at: Timestamp) -> impl Future<Output = Answers<Committed>> + Send;

    /// Puts an orphan as a FAILED item of its own, unless that exists already.
    fn quarantine(
        &self,
        orphan: Orphan<'_>,
        reason: &str,
        failed_at: Timestamp,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The table as the sweep uses it: the index of pending notifications, the index of unresolved items, and the one item that
/// stores the sweep's state. Both indexes are sparse: they contain an item only while it has such a status.
pub trait PendingTable: TableReader {
    /// One page of a partition of the pending index: the notifications that have been pending since `until` or longer, oldest
    /// first, that follow `after`.
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

    /// Takes the sweep's lease and returns the sweep's state (the default if none was saved), or `None` if another run holds
    /// the lease. A lease that has expired by `now` can be taken.
    fn begin_sweep(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> impl Future<Output = Result<Option<SweepState>, Failure>> + Send;

    /// Saves the sweep's state and releases the lease, unless another run holds it by now.
    fn end_sweep(&self, state: &SweepState, lease_until: Timestamp)
    -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The stream between publisher and downstream.
pub trait Stream: Send + Sync {
    /// Puts up to [`crate::limits::PUT_RECORDS_MAX_ENTRIES`] records, [`crate::limits::PUT_RECORDS_MAX_BYTES`] together.
    fn put(&self, publications: &[Publication<'_>]) -> impl Future<Output = Answers<()>> + Send;
}

/// A message to hide for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hide<'a> {
    /// The handle of this receive.
    pub receipt_handle: &'a str,
    /// For how long, from now on; SQS counts in seconds.
    pub wait: Duration,
}

/// The table's answer to one conditional change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is made.
    Yes,
    /// The item was not as expected, and nothing was written. This is the item.
    Refused(Stored),
    /// The same, but the answer lacks the item.
    RefusedUnseen,
}

/// The table's answer to one notification's part of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// As for a change alone.
    Written(Written),
    /// Nothing was written because another part was refused. This part can be committed without that one.
    HeldUp,
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
    /// The id of its quarantined item. The same record always has the same id, so quarantining it twice is harmless.
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
    /// Since when it has been pending.
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
    /// Its invalid entries, which are not a notification's: the id or the time is not valid.
    pub invalid: Vec<IndexKey>,
    /// The key after which the next page begins; `None` on the last page.
    pub next: Option<IndexKey>,
    /// Read capacity units that the page consumed.
    pub read_units: f64,
}

/// How many items of a partition are unresolved.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct UnresolvedCount {
    /// How many were counted.
    pub count: usize,
    /// Whether there are more.
    pub more: bool,
    /// Read capacity units that counting consumed.
    pub read_units: f64,
}

/// The state of the sweep from one run to the next. A partition in its initial state is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweepState {
    /// The partition that the next run begins with.
    pub next_shard: u64,
    /// The partitions by their numbers.
    pub shards: BTreeMap<u64, ShardState>,
}

/// The state of the sweep in one partition of the pending index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardState {
    /// Everything that was due by then has been published; `None` if that is not known.
    pub published_until: Option<Timestamp>,
    /// The pass through the partition that the last run did not finish.
    pub unfinished: Option<Pass>,
}

/// One pass through a partition, which may take several runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// When it began. It publishes the notifications that were due by then.
    pub began: Timestamp,
    /// The last entry that it has processed; `None` at its beginning.
    pub after: Option<IndexKey>,
    /// Whether everything that was due so far could be published.
    pub all_published: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_quarantined_item_is_the_orphans_shard_and_sequence_number() {
        let sequence_number = &Identifier::parse(Some("42")).unwrap();
        let record = Orphan { shard: "shardId-000000000001", sequence_number, raw: b"?" };
        assert_eq!(record.item_id(), "kinesis:shardId-000000000001:42");
        assert!(NotificationId::parse(&record.item_id()).is_err(), "no notification can have this id");
    }
}
