//! publisher: the table's stream → Kinesis. Its only side effect is PutRecords, with the notification id as the
//! partition key.
//!
//! Layers: [`Envelope`] → per record ([`record`]) → parse → decide (here).

pub mod record;
pub mod sweep;

use aws_lambda_events::streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse};
use notification::batch::{by_count_and_bytes, call_in_batches};
use notification::ports::{Clock, PendingTable, Publication, Stream};
use notification::report::{BatchResponse, MissingIdentifier};
use notification::{Deadline, Envelope, Failure, envelope, limits};
use record::{Image, Record};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::collections::HashMap;
use sweep::{Sweep, Swept};

/// What the function is invoked with: a batch of the table's stream, or the schedule's `{"sweep": true}`.
#[derive(Debug)]
pub struct Event {
    records: Option<Vec<Box<RawValue>>>,
    sweep: bool,
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let unknown = InvocationError::UnknownEvent;
        let envelope::Event { records, others } = envelope::Event::unquoted(deserializer, &unknown)?;
        let sweep = others.get("sweep").map(|sweep| serde_json::from_str(sweep.get())).transpose();
        Ok(Self { records, sweep: sweep.map_err(|_| D::Error::custom(unknown))?.unwrap_or_default() })
    }
}

/// What it answers.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Response {
    /// To a batch.
    Batch(DynamoDbEventResponse),
    /// To the schedule.
    Sweep(Swept),
}

/// An invocation that could not be carried out as a whole: it is repeated, or comes again with the next schedule.
#[derive(Debug, thiserror::Error)]
pub enum InvocationError {
    /// A record of the batch has no sequence number.
    #[error(transparent)]
    MissingIdentifier(#[from] MissingIdentifier),
    /// The sweep could not read the index.
    #[error("the sweep ended early: {0}")]
    Sweep(#[from] Failure),
    /// The event is neither a batch nor the schedule's.
    #[error("the event has neither Records nor sweep")]
    UnknownEvent,
}

/// Carries out one invocation.
///
/// # Errors
/// [`InvocationError`] where nothing can be reported.
pub async fn handle<S: Stream, T: PendingTable, C: Clock>(
    publisher: &Publisher<S, C>,
    sweep: &Sweep<T>,
    event: Event,
    deadline: Deadline,
) -> Result<Response, InvocationError> {
    match event {
        Event { records: Some(records), .. } => {
            Ok(Response::Batch(answer(&publisher.handle(Envelope { records }, deadline).await?)))
        }
        // In a box, so that its future is not part of that of every batch.
        Event { sweep: true, .. } => Ok(Response::Sweep(Box::pin(sweep.run(publisher, deadline)).await?)),
        Event { .. } => Err(InvocationError::UnknownEvent),
    }
}

/// What the function answers to a batch: the report, in the type of `aws_lambda_events`.
#[must_use]
pub fn answer(report: &BatchResponse) -> DynamoDbEventResponse {
    let mut answer = DynamoDbEventResponse::default();
    answer.batch_item_failures.extend(report.identifiers().map(|identifier| {
        let mut failure = DynamoDbBatchItemFailure::default();
        failure.item_identifier = Some(identifier.to_owned());
        failure
    }));
    answer
}

/// The handler, over a stream and a clock.
#[derive(Debug)]
pub struct Publisher<S, C> {
    stream: S,
    clock: C,
}

impl<S: Stream, C: Clock> Publisher<S, C> {
    /// The handler over these ports.
    pub fn new(stream: S, clock: C) -> Self {
        Self { stream, clock }
    }

    /// The time, as the publisher sees it.
    pub fn now(&self) -> notification::Timestamp {
        self.clock.now()
    }

    /// Handles one batch and reports the sequence number from which it must come again.
    ///
    /// # Errors
    /// [`MissingIdentifier`] where a record has no sequence number; nothing was published then.
    pub async fn handle(&self, envelope: Envelope, deadline: Deadline) -> Result<BatchResponse, MissingIdentifier> {
        let records = envelope.records.iter().map(|record| Record::read(record)).collect::<Result<Vec<_>, _>>()?;

        // One publication for an id, however often it stands in the batch: downstream acts once for it anyway.
        let mut publications = Vec::with_capacity(records.len());
        let mut first_of_id = HashMap::with_capacity(records.len());
        let mut places = Vec::with_capacity(records.len());
        for record in &records {
            let Image::Init { id, event } = &record.image else {
                places.push(None);
                continue;
            };
            let next = publications.len();
            let place = *first_of_id.entry(id).or_insert(next);
            if place == next {
                publications.push(Publication { id, event });
            }
            places.push(Some(place));
        }
        let results = self.publish_all(&publications, deadline).await;

        let must_come_again = |(record, place): (&Record, Option<usize>)| match (&record.image, place) {
            (Image::Unpublishable(failure), _) => failed(record, &Err(failure.clone())),
            (_, Some(place)) => failed(record, &results[place]),
            (_, None) => false,
        };
        let come_again: Vec<_> = records.iter().zip(places).map(must_come_again).collect();
        Ok(BatchResponse::for_stream(records.iter().map(|record| &record.sequence_number).zip(come_again)))
    }

    /// Publishes, and tells for each what became of it.
    async fn publish_all(&self, publications: &[Publication<'_>], deadline: Deadline) -> Vec<Result<(), Failure>> {
        let sizes = publications.iter().map(|publication| publication.id.as_str().len() + publication.event.len());
        let ranges = by_count_and_bytes(sizes, limits::PUT_RECORDS_MAX_ENTRIES, limits::PUT_RECORDS_MAX_BYTES);
        let put = |batch: Vec<_>| async move { self.stream.put(&batch).await };
        let results = call_in_batches(&self.clock, deadline, publications, ranges, put).await;
        metrics::counter!("Published").increment(results.iter().filter(|result| result.is_ok()).count() as u64);
        results
    }
}

/// Whether a record must come again. One that failed permanently is passed: it would block its shard. It is named in
/// the log and counted, and its notification stays INIT in the table, where it is seen.
fn failed(record: &Record, result: &Result<(), Failure>) -> bool {
    match result {
        Ok(()) => {
            record.debug("published");
            false
        }
        Err(failure) if failure.kind.is_retryable() => {
            metrics::counter!("Retried").increment(1);
            record.span().in_scope(|| tracing::warn!(reason = %failure, "not published; the record comes again"));
            true
        }
        Err(failure) => {
            metrics::counter!("Unpublishable").increment(1);
            record.span().in_scope(
                || tracing::error!(reason = %failure, "cannot be published; the notification stays INIT in the table"),
            );
            false
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
        assert_eq!(
            json(BatchResponse::for_stream([(&id, true)])),
            r#"{"batchItemFailures":[{"itemIdentifier":"m0"}]}"#
        );
        assert_eq!(json(BatchResponse::default()), r#"{"batchItemFailures":[]}"#);
    }
}
