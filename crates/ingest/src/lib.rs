//! ingest: SQS → table. Its only side effect is the conditional put of a notification with status INIT.
//!
//! Layers: [`Envelope`] → per message ([`message`]) → parse → decide (here). What failed is hidden until it is worth another
//! receive (`retry`).

pub mod message;
mod retry;

use aws_lambda_events::sqs::SqsBatchResponse;
use message::Message;
use notification::batch::{by_count, call_in_batches};
use notification::ports::{Clock, IngestTable, Insertion, Queue, Stored};
use notification::report::{BatchResponse, MissingIdentifier, SqsResult};
use notification::{Deadline, Envelope, Failure, Notification, NotificationId, Status, Timestamp, content, limits};
use std::collections::{HashMap, HashSet};

/// The handler, over a table, a queue and a clock.
#[derive(Debug)]
pub struct Ingest<T, Q, C> {
    table: T,
    queue: Q,
    clock: C,
}

/// What became of one message that needs no repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// The notification is in the table now.
    Inserted,
    /// It was there already, with the same content.
    Duplicate,
}

/// Why a message is reported as failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("malformed: {0}")]
    Malformed(Failure),
    #[error(
        "conflict: the table has this id with other content (source, type, subject, datacontenttype, dataschema or data); nothing was written"
    )]
    Conflict,
    #[error("{0}")]
    Failed(Failure),
}

/// What the function answers SQS: the report, in the type of `aws_lambda_events`.
#[must_use]
pub fn answer(report: &BatchResponse) -> SqsBatchResponse {
    let mut answer = SqsBatchResponse::default();
    answer.set_failures(report.identifiers());
    answer
}

impl<T: IngestTable, Q: Queue, C: Clock> Ingest<T, Q, C> {
    /// The handler over these ports.
    pub fn new(table: T, queue: Q, clock: C) -> Self {
        Self { table, queue, clock }
    }

    /// Handles one batch and reports each message that must come again, after having it hidden for a while.
    ///
    /// # Errors
    /// [`MissingIdentifier`] where a message has no `messageId`; nothing was written then.
    pub async fn handle(&self, envelope: Envelope, deadline: Deadline) -> Result<BatchResponse, MissingIdentifier> {
        let messages = envelope.records.iter().map(|record| Message::read(record)).collect::<Result<Vec<_>, _>>()?;
        let results = self.insert_all(&messages, retry::earlier(deadline, self.clock.now(), messages.len())).await;
        let inserted = results.iter().filter(|result| matches!(result, Ok(Accepted::Inserted))).count();
        if inserted > 0 {
            metrics::counter!("Inserted").increment(inserted as u64);
        }
        let reported = messages.iter().zip(&results).map(|(message, result)| {
            log_and_count(message, result);
            SqsResult {
                message_id: &message.message_id,
                fifo_group: message.fifo_group.as_deref(),
                failed: result.is_err(),
            }
        });
        let response = BatchResponse::for_sqs(reported);
        self.hide_failed(&envelope, &messages, &results, deadline).await;
        Ok(response)
    }

    /// Inserts the notifications of a batch, each id once, and tells for each message what became of it.
    async fn insert_all(&self, messages: &[Message], deadline: Deadline) -> Vec<Result<Accepted, Refused>> {
        let candidates = candidates(messages);

        // The first message of each id is inserted; the others of that id are compared with what is then in the table.
        let mut first_of_id = HashMap::with_capacity(messages.len());
        let mut firsts: Vec<&Notification> = Vec::with_capacity(messages.len());
        for notification in candidates.iter().flatten() {
            first_of_id.entry(notification.id()).or_insert_with(|| {
                firsts.push(notification);
                firsts.len() - 1
            });
        }
        let stored = self.insert_or_read(&firsts, deadline).await;

        let mut inserted: HashSet<usize> =
            (0..firsts.len()).filter(|&first| matches!(stored[first], Ok(None))).collect();
        let result = |candidate: Result<&Notification, Refused>| {
            let notification = candidate?;
            let first = first_of_id[notification.id()];
            let event = match &stored[first] {
                // Inserted from this batch: by the first message of the id, which takes the place.
                Ok(None) if inserted.remove(&first) => return Ok(Accepted::Inserted),
                Ok(None) => firsts[first].event(),
                Ok(Some(stored)) => &*stored.event,
                Err(failure) => return Err(Refused::Failed(failure.clone())),
            };
            if content::same(notification.event(), event) { Ok(Accepted::Duplicate) } else { Err(Refused::Conflict) }
        };
        candidates.into_iter().map(result).collect()
    }

    /// Inserts notifications with different ids. `None`: inserted. `Some`: what the table had already.
    async fn insert_or_read(
        &self,
        notifications: &[&Notification],
        deadline: Deadline,
    ) -> Vec<Result<Option<Stored>, Failure>> {
        let received_at: Timestamp = self.clock.now();
        let ranges = by_count(notifications.len(), limits::BATCH_EXECUTE_STATEMENT_MAX);
        let insert = |batch: Vec<_>| async move { self.table.insert(&batch, received_at).await };
        let insertions = call_in_batches(&self.clock, deadline, notifications, ranges, insert).await;

        // Only where an answer lacked the old item is it read, all such together.
        let lacks_old = |insertion: &Result<_, _>| matches!(insertion, Ok(Insertion::Exists(None)));
        let unknown: Vec<&NotificationId> = notifications
            .iter()
            .zip(&insertions)
            .filter_map(|(notification, insertion)| lacks_old(insertion).then_some(notification.id()))
            .collect();
        let ranges = by_count(unknown.len(), limits::BATCH_GET_ITEM_MAX);
        let read = |batch: Vec<_>| async move { self.table.read(&batch).await };
        let mut reads = call_in_batches(&self.clock, deadline, &unknown, ranges, read).await.into_iter();

        let gone = || Failure::retryable("the item was there a moment ago and is gone; it will be inserted next time");
        let mut results = Vec::with_capacity(notifications.len());
        for (notification, insertion) in notifications.iter().zip(insertions) {
            let existing = match insertion {
                Ok(Insertion::Inserted) => Ok(None),
                Ok(Insertion::Exists(Some(stored))) => Ok(Some(stored)),
                Ok(Insertion::Exists(None)) => {
                    reads.next().unwrap_or_else(|| Err(gone())).and_then(|stored| stored.ok_or_else(gone).map(Some))
                }
                Err(failure) => Err(failure),
            };
            let is_ours = |stored: &Stored| is_own_insert(notification, stored, received_at);
            results.push(existing.map(|existing| existing.filter(|stored| !is_ours(stored))));
        }
        results
    }
}

/// Whether an item that exists is the one that was put just now: the reply was lost, and the put was repeated.
fn is_own_insert(notification: &Notification, stored: &Stored, received_at: Timestamp) -> bool {
    stored.status == Some(Status::Init)
        && stored.since.is_some_and(|since| since.as_millisecond() == received_at.as_millisecond())
        && &*stored.event == notification.event()
}

/// The notification of each message that may be inserted. In a FIFO queue, nothing of a group is written behind a
/// message of it that cannot be read, because it will be reported as failed.
fn candidates<'a>(messages: &'a [Message]) -> Vec<Result<&'a Notification, Refused>> {
    let mut stopped_groups = HashSet::new();
    let candidate = |message: &'a Message| {
        let Message { fifo_group, notification, .. } = message;
        if fifo_group.as_deref().is_some_and(|group| stopped_groups.contains(group)) {
            return Err(Refused::Failed(Failure::retryable("an earlier message of its group failed")));
        }
        notification.as_ref().map_err(|failure| {
            stopped_groups.extend(fifo_group.as_deref());
            Refused::Malformed(failure.clone())
        })
    };
    messages.iter().map(candidate).collect()
}

/// What was inserted is counted for the whole batch; all else is rare.
fn log_and_count(message: &Message, result: &Result<Accepted, Refused>) {
    let receive_count = message.receive_count;
    match result {
        Ok(Accepted::Inserted) => message.debug("inserted"),
        Ok(Accepted::Duplicate) => {
            metrics::counter!("Duplicates").increment(1);
            message
                .span()
                .in_scope(|| tracing::info!("duplicate: the same content is in the table; nothing was written"));
        }
        Err(refused) => {
            match refused {
                Refused::Malformed(_) => metrics::counter!("Malformed").increment(1),
                Refused::Conflict => metrics::counter!("Conflicts").increment(1),
                Refused::Failed(_) => metrics::counter!("Retried").increment(1),
            }
            message.span().in_scope(
                || tracing::error!(reason = %refused, receive_count, "not accepted; the message stays in the queue"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notification::report::Identifier;

    #[test]
    fn rule_3_an_answer_has_the_shape_that_lambda_expects_and_every_identifier_of_the_report() {
        let id = Identifier::parse(Some("m0")).unwrap();
        let json = |report| serde_json::to_string(&answer(&report)).unwrap();
        let failed = SqsResult { message_id: &id, fifo_group: None, failed: true };
        assert_eq!(json(BatchResponse::for_sqs([failed])), r#"{"batchItemFailures":[{"itemIdentifier":"m0"}]}"#);
        assert_eq!(json(BatchResponse::default()), r#"{"batchItemFailures":[]}"#);
    }
}
