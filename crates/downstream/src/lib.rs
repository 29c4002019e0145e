//! downstream: Kinesis → the action → the table. Its only side effect is the action's effect together with the
//! conditional change from INIT to DONE.
//!
//! Layers: [`Envelope`] → per record ([`record`]) → parse → act → settle (here, [`quarantine`]).

mod quarantine;
pub mod record;

use futures_util::stream::{self, StreamExt};
use notification::batch::{by_count, call_in_batches, isolate_future};
use notification::ports::{Clock, Done, DownstreamTable, Settlement, Stored};
use notification::report::{BatchResponse, MissingIdentifier};
use notification::{Action, ActionError, Deadline, Envelope, Failure, Notification, NotificationId, Outcome, limits};
use record::{Content, Record};
use std::collections::HashMap;

/// The handler, over a table, a clock and the action.
#[derive(Debug)]
pub struct Downstream<T, C, A> {
    table: T,
    clock: C,
    action: A,
}

/// What became of one record that needs no repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// The action ran and the notification is DONE.
    Done,
    /// It was settled before: this record is a repeat.
    Before,
    /// It failed permanently and is kept as FAILED, with its reason.
    Failed,
}

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    /// The handler over these ports.
    pub fn new(table: T, clock: C, action: A) -> Self {
        Self { table, clock, action }
    }

    /// Handles one batch and reports the sequence number from which it must come again.
    ///
    /// # Errors
    /// [`MissingIdentifier`] where a record has no sequence number; nothing was done then.
    pub async fn handle(&self, envelope: Envelope, deadline: Deadline) -> Result<BatchResponse, MissingIdentifier> {
        let records = envelope.records.iter().map(|record| Record::read(record)).collect::<Result<Vec<_>, _>>()?;

        // One record for each id is worked on, and the others of that id share its result: producers' retries give
        // duplicates new sequence numbers, so the notification id alone tells them.
        let mut worked_on = Vec::new();
        let mut first_of_id: HashMap<&NotificationId, usize> = HashMap::new();
        let places: Vec<usize> = records
            .iter()
            .map(|record| {
                let place = *record
                    .content
                    .id()
                    .map_or(&mut worked_on.len(), |id| first_of_id.entry(id).or_insert(worked_on.len()));
                if place == worked_on.len() {
                    worked_on.push(record);
                }
                place
            })
            .collect();

        let results = self.settle_all(&worked_on, deadline).await;
        let come_again = records.iter().zip(&places).map(|(record, &place)| {
            let repeated = !std::ptr::eq(record, worked_on[place]);
            log_and_count(record, &results[place], repeated);
            (&record.sequence_number, results[place].is_err())
        });
        Ok(BatchResponse::for_stream(come_again))
    }

    /// Acts on records of different ids and settles them: DONE, or kept as FAILED. A failure must come again.
    async fn settle_all(&self, records: &[&Record], deadline: Deadline) -> Vec<Result<Settled, Failure>> {
        let acted = stream::iter(records)
            .map(|record| self.act(record, deadline))
            .buffered(limits::ACTIONS_IN_FLIGHT)
            .collect::<Vec<_>>()
            .await;

        let done: Vec<Done<'_>> = records
            .iter()
            .zip(&acted)
            .filter_map(|(record, acted)| {
                Some(Done { id: record.content.id()?, outcome: acted.as_ref().ok()?.as_ref() })
            })
            .collect();
        let mut completed = self.complete(&done, deadline).await.into_iter();
        let mut results: Vec<Result<Settled, Failure>> = acted
            .iter()
            .map(|acted| match acted {
                Ok(_) => completed.next().unwrap_or_else(|| Err(Failure::retryable("not completed"))),
                Err(failure) => Err(failure.clone()),
            })
            .collect();

        // What failed permanently is kept and passed: reported, it would block its shard.
        let (places, poison): (Vec<usize>, Vec<_>) = results
            .iter()
            .enumerate()
            .filter_map(|(place, result)| Some((place, result.as_ref().err()?)))
            .filter(|(_, failure)| !failure.kind.is_retryable())
            .map(|(place, failure)| (place, (records[place], failure.reason.as_str())))
            .unzip();
        let kept = self.quarantine_all(&poison, deadline).await;
        for (place, kept) in places.into_iter().zip(kept) {
            results[place] = kept;
        }
        results
    }

    /// Runs the action for one record.
    async fn act(&self, record: &Record, deadline: Deadline) -> Result<Option<Outcome>, Failure> {
        let notification: &Notification = match &record.content {
            Content::Notification(notification) => notification,
            Content::Malformed { failure, .. } => return Err(failure.clone()),
        };
        let run = isolate_future(async {
            self.action.run(notification).await.map_err(|error| match error {
                ActionError::Rejected(_) => Failure::permanent(error.to_string()),
                ActionError::Retry(_) => Failure::retryable(error.to_string()),
            })
        });
        deadline.bound(&self.clock, run).await?
    }

    /// Moves notifications from INIT to DONE.
    async fn complete(&self, done: &[Done<'_>], deadline: Deadline) -> Vec<Result<Settled, Failure>> {
        let done_at = self.clock.now();
        let ranges = by_count(done.len(), limits::BATCH_EXECUTE_STATEMENT_MAX);
        let complete = |batch: Vec<_>| async move { self.table.complete(&batch, done_at).await };
        let settlements = call_in_batches(&self.clock, deadline, done, ranges, complete).await;

        // Where an answer did not say why the condition failed, the items are read, all such together.
        let unknown: Vec<&NotificationId> = done
            .iter()
            .zip(&settlements)
            .filter_map(|(done, settlement)| matches!(settlement, Ok(Settlement::NotInit)).then_some(done.id))
            .collect();
        let ranges = by_count(unknown.len(), limits::BATCH_GET_ITEM_MAX);
        let read = |batch: Vec<_>| async move { self.table.read(&batch).await };
        let mut reads = call_in_batches(&self.clock, deadline, &unknown, ranges, read).await.into_iter();

        let settled = |settlement| match settlement? {
            Settlement::Settled => Ok(Settled::Done),
            Settlement::Already(_) => Ok(Settled::Before),
            Settlement::NotInit => settled_before(reads.next().unwrap_or_else(|| Err(Failure::retryable("not read")))?),
        };
        settlements.into_iter().map(settled).collect()
    }
}

/// What an item that was not INIT a moment ago says about its notification.
fn settled_before(stored: Option<Stored>) -> Result<Settled, Failure> {
    match stored {
        Some(stored) if stored.status.is_some_and(notification::Status::is_pending) => {
            Err(Failure::retryable("the notification became INIT again a moment ago"))
        }
        Some(_) => Ok(Settled::Before),
        None => Err(Failure::permanent("the table has no notification with this id")),
    }
}

fn log_and_count(record: &Record, result: &Result<Settled, Failure>, repeated: bool) {
    let _in_span = record.span.enter();
    match result {
        Ok(Settled::Done) if !repeated => {
            metrics::counter!("Done").increment(1);
            tracing::debug!("done");
        }
        Ok(Settled::Failed) if !repeated => {
            metrics::counter!("Failed").increment(1);
        }
        Ok(_) => {
            metrics::counter!("Repeated").increment(1);
            tracing::debug!("settled before; nothing was written");
        }
        Err(failure) => {
            metrics::counter!("Retried").increment(1);
            tracing::warn!(reason = %failure, "not settled; the record comes again");
        }
    }
}
