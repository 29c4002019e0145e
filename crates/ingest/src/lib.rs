//! ingest: SQS → table. Its only side effect is the conditional put of a notification with status INIT.
//!
//! Layers: [`Envelope`] → per message ([`message`]) → parse → decide (here). A failed message is hidden until another
//! receive makes sense (`retry`).

pub mod message;
mod retry;

use message::Message;
use notification::batch::Attempts;
use notification::distinct::Distinct;
use notification::ports::{Queue, Table};
use notification::report::{BatchResponse, MissingIdentifier, SqsResult};
use notification::write::{Answer, write_all};
use notification::{Change, Clock, Deadline, Envelope, Failure, Notification, content};
use std::collections::HashSet;

/// The reason with which a refused insert is retried.
const GONE: &str = "the item existed but has been deleted since; the retry will insert it";

/// The handler, over a table, a queue and a clock.
#[derive(Debug)]
pub struct Ingest<T, Q, C> {
    table: T,
    queue: Q,
    clock: C,
}

/// What became of a message that needs no retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// The notification was inserted.
    Inserted,
    /// The table already has it, with the same content.
    Duplicate,
}

/// Why a message is reported as failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("malformed: {0}")]
    Malformed(Failure),
    #[error(
        "conflict: the table has this id with different content (source, type, subject, datacontenttype, dataschema or data); nothing was written"
    )]
    Conflict,
    #[error("{0}")]
    Failed(Failure),
}

impl<T: Table, Q: Queue, C: Clock> Ingest<T, Q, C> {
    /// The handler over these ports.
    pub fn new(table: T, queue: Q, clock: C) -> Self {
        Self { table, queue, clock }
    }

    /// Handles one batch and reports each message that must be retried, after hiding it for a while.
    ///
    /// # Errors
    /// [`MissingIdentifier`] if a message has no `messageId`; then nothing was written.
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

    /// Inserts the notifications of a batch, each id once, and returns the result of each message.
    ///
    /// This makes ingest an *idempotent consumer*: the conditional insert recognises a message that it has seen before. A
    /// refused message stays in the queue until SQS moves it to the *dead-letter queue*.
    async fn insert_all(&self, messages: &[Message], deadline: Deadline) -> Vec<Result<Accepted, Refused>> {
        let candidates = candidates(messages);
        let notifications = candidates.iter().map(|candidate| candidate.as_ref().ok().copied());
        let distinct = Distinct::of(notifications.map(|notification| notification.map(|it| (it.id(), it))));
        let changes: Vec<Change<'_>> = distinct.firsts.iter().copied().map(Change::insert).collect();
        let answers = write_all(&self.table, &self.clock, &changes, Attempts::Limited, deadline).await;

        // The first message of each id is inserted; the others of that id are compared with what is then in the table.
        let mut is_taken = vec![false; answers.len()];
        let mut results = Vec::with_capacity(messages.len());
        for (candidate, first) in candidates.into_iter().zip(distinct.first_at) {
            results.push(match (candidate, first) {
                (Ok(notification), Some(first)) => {
                    let is_first = !std::mem::replace(&mut is_taken[first], true);
                    accepted(notification, &answers[first], distinct.firsts[first], is_first)
                }
                (Err(refused), _) => Err(refused),
                (Ok(_), None) => Err(Refused::Failed(Failure::retryable("not inserted"))),
            });
        }
        results
    }
}

/// The result of a message, given the result of the first message with its id.
fn accepted(
    notification: &Notification,
    answer: &Result<Answer, Failure>,
    first: &Notification,
    is_first: bool,
) -> Result<Accepted, Refused> {
    let event = match answer {
        Ok(Answer::Made) if is_first => return Ok(Accepted::Inserted),
        Ok(Answer::Made) => first.event(),
        Ok(Answer::NotAsExpected(stored)) => &*stored.event,
        Ok(Answer::Absent) => return Err(Refused::Failed(Failure::retryable(GONE))),
        Err(failure) => return Err(Refused::Failed(failure.clone())),
    };
    if content::same(notification.event(), event) { Ok(Accepted::Duplicate) } else { Err(Refused::Conflict) }
}

/// The notification of each message that may be inserted. In a FIFO queue, no message is inserted after a malformed one of its
/// group, because it will also be reported as failed.
fn candidates(messages: &[Message]) -> Vec<Result<&Notification, Refused>> {
    let mut stopped_groups = HashSet::new();
    let mut candidates = Vec::with_capacity(messages.len());
    for Message { fifo_group, notification, .. } in messages {
        let group = fifo_group.as_deref();
        candidates.push(match notification {
            _ if group.is_some_and(|group| stopped_groups.contains(group)) => {
                Err(Refused::Failed(Failure::retryable("an earlier message of its group failed")))
            }
            Ok(notification) => Ok(notification),
            Err(failure) => {
                stopped_groups.extend(group);
                Err(Refused::Malformed(failure.clone()))
            }
        });
    }
    candidates
}

/// Logs and counts the result of a message. Inserted messages are counted per batch; every other result is rare.
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
