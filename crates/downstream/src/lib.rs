//! downstream: Kinesis → the action → the table. Its only side effect is the action's effect together with the
//! conditional change to DONE.
//!
//! Layers: [`Envelope`] → per record ([`record`]) → parse → act and settle, by the guarantee of the action.
//!
//! | file | concern |
//! |---|---|
//! | `transactional`, `idempotent`, `at_most_once` | how each guarantee is made true |
//! | `settle` | changes of status, and what a refused one says |
//! | `quarantine` | poison: kept and passed |
//! | `run` | the wiring to Lambda and AWS, with the feature `lambda` |

mod at_most_once;
mod idempotent;
mod quarantine;
pub mod record;
#[cfg(feature = "lambda")]
mod run;
mod settle;
mod transactional;

#[cfg(feature = "lambda")]
pub use run::{Wiring, run};

use futures_util::stream::{self, StreamExt};
use notification::batch::isolate_future;
use notification::ports::{Clock, DownstreamTable};
use notification::report::{BatchResponse, MissingIdentifier};
use notification::{Action, Deadline, Effect, Envelope, Failure, Guarantee, NotificationId, limits};
use record::{Content, Record};
use std::collections::HashMap;

/// The handler, over a table, a clock and the action.
#[derive(Debug)]
pub struct Downstream<T, C, A> {
    table: T,
    clock: C,
    action: A,
}

/// One invocation of the function.
#[derive(Debug, Clone, Copy)]
pub struct Invocation<'a> {
    /// When Lambda ends it.
    pub deadline: Deadline,
    /// Lambda's id of it.
    pub request_id: &'a str,
}

/// What became of one record that needs no repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// The effect has happened and the notification is DONE.
    Done,
    /// It was settled before: this record is a repeat.
    Before,
    /// It failed permanently and is kept as FAILED, with its reason.
    Failed,
    /// Nobody can tell whether the effect has happened: an operator must look.
    InDoubt,
}

/// What became of a record: settled, or a failure. A retryable one must come again, a permanent one is quarantined.
type Result<T = Settled> = std::result::Result<T, Failure>;

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    /// The handler over these ports.
    pub fn new(table: T, clock: C, action: A) -> Self {
        Self { table, clock, action }
    }

    /// Handles one batch and reports the sequence number from which it must come again.
    ///
    /// # Errors
    /// [`MissingIdentifier`] where a record has no sequence number; nothing was done then.
    pub async fn handle(
        &self,
        envelope: Envelope,
        invocation: Invocation<'_>,
    ) -> std::result::Result<BatchResponse, MissingIdentifier> {
        let read = envelope.records.iter().map(|record| Record::read(record));
        let records = read.collect::<std::result::Result<Vec<_>, _>>()?;

        // One record for each id is worked on, and the others of that id share its result: producers' retries give
        // duplicates new sequence numbers, so the notification id alone tells them.
        let mut worked_on: Vec<&Record> = Vec::new();
        let mut first_of_id: HashMap<&NotificationId, usize> = HashMap::with_capacity(records.len());
        let mut places = Vec::with_capacity(records.len());
        for record in &records {
            let next = worked_on.len();
            let place = record.content.id().map_or(next, |id| *first_of_id.entry(id).or_insert(next));
            if place == next {
                worked_on.push(record);
            }
            places.push(place);
        }

        let results = self.settle_all(&worked_on, invocation).await;
        let done = results.iter().filter(|result| matches!(result, Ok(Settled::Done))).count();
        if done > 0 {
            metrics::counter!("Done").increment(done as u64);
        }
        for (record, &place) in records.iter().zip(&places) {
            log_and_count(record, &results[place], !std::ptr::eq(record, worked_on[place]));
        }
        let come_again = places.iter().map(|&place| results[place].is_err());
        Ok(BatchResponse::for_stream(records.iter().map(|record| &record.sequence_number).zip(come_again)))
    }

    /// Acts on records of different ids and settles them: DONE, or kept as FAILED. A failure must come again.
    async fn settle_all(&self, records: &[&Record], invocation: Invocation<'_>) -> Vec<Result> {
        let mut results = match self.action.guarantee() {
            Guarantee::Transactional => self.transactional(records, invocation.deadline).await,
            Guarantee::Idempotent => self.idempotent(records, invocation.deadline).await,
            Guarantee::AtMostOnce => self.at_most_once(records, invocation).await,
        };

        // What failed permanently is kept and passed: reported, it would block its shard.
        let (places, poison): (Vec<usize>, Vec<_>) = results
            .iter()
            .enumerate()
            .filter_map(|(place, result)| Some((place, result.as_ref().err()?)))
            .filter(|(_, failure)| !failure.kind.is_retryable())
            .map(|(place, failure)| (place, (records[place], failure.reason.as_str())))
            .unzip();
        let kept = self.quarantine_all(&poison, invocation.deadline).await;
        for (place, kept) in places.into_iter().zip(kept) {
            results[place] = kept;
        }
        results
    }

    /// Runs the action for records, several at once. It ends early enough for what it did to be written down.
    async fn act_all(&self, records: &[&Record], deadline: Deadline) -> Vec<Result<Effect>> {
        let deadline = deadline.earlier(limits::ACT_BEFORE_DEADLINE);
        // Made first and polled later: so the compiler sees that the whole handler can move between threads.
        let acts: Vec<_> = records.iter().map(|record| self.act(record, deadline)).collect();
        stream::iter(acts).buffered(limits::ACTIONS_IN_FLIGHT).collect().await
    }

    pub(crate) async fn act(&self, record: &Record, deadline: Deadline) -> Result<Effect> {
        let notification = match &record.content {
            Content::Notification(notification) => notification,
            Content::Malformed { failure, .. } => return Err(failure.clone()),
        };
        let run = isolate_future(async { self.action.run(notification, deadline).await.map_err(Failure::from) });
        deadline.bound(&self.clock, run).await?
    }
}

/// What is DONE now is counted for the whole batch; all else is rare.
fn log_and_count(record: &Record, result: &Result, repeated: bool) {
    match result {
        Ok(Settled::Done) if !repeated => record.debug("done"),
        Ok(Settled::Failed) if !repeated => metrics::counter!("Failed").increment(1),
        Ok(Settled::InDoubt) if !repeated => metrics::counter!("InDoubt").increment(1),
        Ok(_) => {
            metrics::counter!("Repeated").increment(1);
            record.debug("settled before; nothing was written");
        }
        Err(failure) => {
            metrics::counter!("Retried").increment(1);
            record.span().in_scope(|| tracing::warn!(reason = %failure, "not settled; the record comes again"));
        }
    }
}
