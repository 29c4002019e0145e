//! publisher: table stream → Kinesis. Its only side effect is `PutRecords`, with the notification id as the partition key.
//!
//! Layers: [`Envelope`] → per record ([`record`]) → parse → decide (here).

mod latency;
pub mod record;
pub mod sweep;

use notification::batch::{Attempts, Size, by_count_and_bytes, call_in_batches};
use notification::distinct::Distinct;
use notification::ports::{PendingTable, Publication, Stream};
use notification::report::{BatchResponse, MissingIdentifier};
use notification::{Clock, Deadline, Envelope, Failure, envelope, limits};
use record::{Image, Record};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use sweep::{Sweep, Swept};

/// The invocation payload: a batch of the table stream, or the schedule's `{"sweep": true}`.
#[derive(Debug)]
pub struct Payload {
    records: Option<Vec<Box<RawValue>>>,
    sweep: bool,
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let unknown = InvocationError::UnknownPayload;
        let envelope::Payload { records, others } = envelope::Payload::unquoted(deserializer, &unknown)?;
        let sweep = others.get("sweep").map(|sweep| serde_json::from_str(sweep.get())).transpose();
        Ok(Self { records, sweep: sweep.map_err(|_| D::Error::custom(unknown))?.unwrap_or_default() })
    }
}

/// The answer of the function.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Response {
    /// To a batch.
    Batch(BatchResponse),
    /// To the schedule.
    Sweep(Swept),
}

/// An invocation that failed as a whole. Lambda retries a batch; the schedule invokes the sweep again anyway.
#[derive(Debug, thiserror::Error)]
pub enum InvocationError {
    /// A record of the batch has no sequence number.
    #[error(transparent)]
    MissingIdentifier(#[from] MissingIdentifier),
    /// The sweep could not read the index.
    #[error("the sweep ended early: {0}")]
    Sweep(#[from] Failure),
    /// The payload is neither a batch nor a sweep.
    #[error("neither a batch nor a sweep: expected an object with a \"Records\" array, or with \"sweep\": true")]
    UnknownPayload,
}

/// Carries out one invocation.
///
/// # Errors
/// [`InvocationError`] if nothing can be reported.
pub async fn handle<S: Stream, T: PendingTable, C: Clock>(
    publisher: &Publisher<S, C>,
    sweep: &Sweep<T>,
    payload: Payload,
    deadline: Deadline,
) -> Result<Response, InvocationError> {
    match payload {
        Payload { records: Some(records), .. } => {
            Ok(Response::Batch(publisher.handle(Envelope { records }, deadline).await?))
        }
        // Boxed, so that its future does not enlarge the future of every batch.
        Payload { sweep: true, .. } => Ok(Response::Sweep(Box::pin(sweep.run(publisher, deadline)).await?)),
        Payload { .. } => Err(InvocationError::UnknownPayload),
    }
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

    /// The time now, by its clock.
    pub fn now(&self) -> notification::Timestamp {
        self.clock.now()
    }

    /// Handles one batch and reports the sequence number from which it must be retried.
    ///
    /// # Errors
    /// [`MissingIdentifier`] if a record has no sequence number; then nothing was published.
    pub async fn handle(&self, envelope: Envelope, deadline: Deadline) -> Result<BatchResponse, MissingIdentifier> {
        let records = envelope.records.iter().map(|record| Record::read(record)).collect::<Result<Vec<_>, _>>()?;

        // Each id is published once, however often it occurs in the batch: downstream acts on it only once anyway.
        let Distinct { firsts, first_at } = Distinct::of(records.iter().map(|record| match &record.image {
            Image::Init { id, event } => Some((id, Publication { id, event })),
            Image::Other | Image::Unpublishable(_) => None,
        }));
        let results = self.publish_all(&firsts, deadline).await;
        let published_at = self.clock.now();
        let mut published = Vec::with_capacity(records.len());
        let mut retried = Vec::with_capacity(records.len());
        for ((record, raw), first) in records.iter().zip(&envelope.records).zip(first_at) {
            retried.push(match (&record.image, first) {
                (Image::Unpublishable(failure), _) => log_and_count(record, Err(failure)),
                (_, Some(first)) => {
                    published.extend(results[first].is_ok().then_some(&**raw));
                    log_and_count(record, results[first].as_ref())
                }
                (_, None) => false,
            });
        }
        latency::record(&published, published_at);
        Ok(BatchResponse::for_stream(records.iter().map(|record| &record.sequence_number).zip(retried)))
    }

    /// Publishes, and returns a result for each publication in order.
    async fn publish_all(&self, publications: &[Publication<'_>], deadline: Deadline) -> Vec<Result<(), Failure>> {
        const MAX: Size = Size { count: limits::PUT_RECORDS_MAX_ENTRIES, bytes: limits::PUT_RECORDS_MAX_BYTES };
        let size = |put: &Publication<'_>| Size { count: 1, bytes: put.id.as_str().len() + put.event.len() };
        let ranges = by_count_and_bytes(publications.iter().map(size), MAX);
        let put = |batch: Vec<_>| async move { self.stream.put(&batch).await };
        let results = call_in_batches(&self.clock, deadline, Attempts::Limited, publications, ranges, put).await;
        metrics::counter!("Published").increment(results.iter().filter(|result| result.is_ok()).count() as u64);
        results
    }
}

/// Logs and counts the result of a record, and returns whether it must be retried. After a permanent failure it is not, because
/// it would block its shard. Its notification stays INIT in the table.
fn log_and_count(record: &Record, result: Result<&(), &Failure>) -> bool {
    let Err(failure) = result else {
        record.debug("published");
        return false;
    };
    let is_retried = failure.kind.is_retryable();
    let _span = record.span().entered();
    if is_retried {
        metrics::counter!("Retried").increment(1);
        tracing::warn!(reason = %failure, "not published; the record is retried");
    } else {
        metrics::counter!("Unpublishable").increment(1);
        tracing::error!(reason = %failure, "cannot be published; the notification stays INIT in the table");
    }
    is_retried
}
