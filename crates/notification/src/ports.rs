//! What the functions need from outside, in domain terms. Each batch method is one backend call; how calls are batched,
//! bounded, repeated and timed is decided once, in [`crate::batch`]. `aws` implements the ports for real,
//! [`crate::testing`] in memory and failing.

use crate::action::Outcome;
use crate::event::Notification;
use crate::failure::Failure;
use crate::id::NotificationId;
use crate::report::Identifier;
use crate::status::Status;
use jiff::Timestamp;
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

/// The table as downstream uses it.
pub trait DownstreamTable: TableReader {
    /// Moves up to [`crate::limits::BATCH_EXECUTE_STATEMENT_MAX`] notifications from INIT to DONE.
    fn complete(&self, done: &[Done<'_>], done_at: Timestamp) -> impl Future<Output = Answers<Settlement>> + Send;

    /// Moves one notification from INIT to FAILED.
    fn fail(
        &self,
        id: &NotificationId,
        reason: &str,
        failed_at: Timestamp,
    ) -> impl Future<Output = Result<Settlement, Failure>> + Send;

    /// Keeps a record that belongs to no notification as a FAILED item of its own, unless it is kept already.
    fn keep(
        &self,
        record: Unreadable<'_>,
        reason: &str,
        failed_at: Timestamp,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its status; `None` where the item has none that is known.
    pub status: Option<Status>,
    /// Its event; empty where the item has none.
    pub event: Box<str>,
}

/// What became of one conditional put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Insertion {
    /// The id was new: the item is there now.
    Inserted,
    /// The id exists, and nothing was written. The old item, where the answer held it.
    Exists(Option<Stored>),
}

/// What became of one conditional change from INIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It was INIT and is changed.
    Settled,
    /// It had this status already, and nothing was written.
    Already(Status),
    /// The condition did not hold, and the answer did not say why: settled already, or no such item.
    NotInit,
}

/// One notification that is done.
#[derive(Debug, Clone, Copy)]
pub struct Done<'a> {
    /// Its id.
    pub id: &'a NotificationId,
    /// What its action returned.
    pub outcome: Option<&'a Outcome>,
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
pub struct Unreadable<'a> {
    /// Its shard, e.g. `shardId-000000000000`.
    pub shard: &'a str,
    /// Its sequence number in the shard.
    pub sequence_number: &'a Identifier,
    /// Its bytes.
    pub raw: &'a [u8],
}

impl Unreadable<'_> {
    /// The id of the item that keeps it: the same record always has the same id, so that keeping it twice is harmless.
    #[must_use]
    pub fn item_id(&self) -> String {
        format!("{}{}:{}", crate::id::QUARANTINE_PREFIX, self.shard, self.sequence_number.as_str())
    }
}
