//! Allocations per notification, by a counting allocator: parsing the payload, the handler, the adapters, the SDK and HTTP.
//! The Lambda runtime and the backend's thread are not counted.

use crate::backend::Behaviour;
use crate::error::Error;
use crate::events;
use crate::in_process::{self, InProcess};
use crate::measure::pairs;
use crate::output::{self, mebibytes, thousands};
use crate::subject::Function;
use actions::ledger::Ledger;
use allocation_counter::AllocationInfo;
use aws::{ConfigError, DynamoTable, KinesisStream, SqsQueue, SystemClock};
use downstream::{Downstream, Invocation};
use ingest::Ingest;
use notification::{Deadline, Envelope, MarkDone, Timestamp};
use publisher::Publisher;
use serde::Serialize;

/// Figures per notification, apart from the last.
#[derive(Debug, Serialize)]
struct Row {
    function: Function,
    batch: usize,
    allocations: f64,
    bytes: f64,
    /// Largest number of bytes allocated at once, for the whole batch.
    peak_bytes: f64,
}

pub(crate) fn run(functions: &[Function], batches: &[usize], json: bool) -> Result<(), Error> {
    // Spans allocate, so they must be configured as in a function.
    aws::telemetry::init(&in_process::environment()).map_err(|error| Error::Handler(error.to_string()))?;
    let process = InProcess::start(Behaviour::default())?;
    let handlers = Handlers::new(&process).map_err(|error| Error::Handler(error.to_string()))?;
    let mut rows = Vec::new();
    for (function, batch) in pairs(functions, batches) {
        let event = events::batch(function, batch);
        let handle = || process.runtime.block_on(handlers.handle(function, &event));
        // The first invocation makes connections and everything else that is made once.
        let warmed_up = handle();
        let mut handled = Ok(());
        let counted = allocation_counter::measure(|| handled = handle());
        warmed_up.and(handled).map_err(|error| Error::Handler(error.to_string()))?;
        rows.push(Row::of(function, batch, &counted));
    }
    if json {
        output::json(&rows);
        return Ok(());
    }
    let headers =
        ["", "batch", "allocations for\na notification", "bytes for\na notification", "peak MiB of\nthe batch"];
    output::table("Allocations, without the Lambda runtime", &headers, rows.iter().map(Row::cells));
    Ok(())
}

/// The handlers, with the adapters that they are deployed with.
struct Handlers {
    ingest: Ingest<DynamoTable, SqsQueue, SystemClock>,
    publisher: Publisher<KinesisStream, SystemClock>,
    downstream: Downstream<DynamoTable, SystemClock, MarkDone>,
    ledger: Downstream<DynamoTable, SystemClock, Ledger>,
}

impl Handlers {
    fn new(process: &InProcess) -> Result<Self, ConfigError> {
        let table = DynamoTable::new(aws_sdk_dynamodb::Client::new(&process.sdk), "notifications".to_owned());
        let stream = KinesisStream::new(aws_sdk_kinesis::Client::new(&process.sdk), "notifications".to_owned());
        let queue = SqsQueue::new(aws_sdk_sqs::Client::new(&process.sdk), "https://queue".to_owned());
        let ledger = Ledger::from_environment(&in_process::environment())?;
        Ok(Self {
            ingest: Ingest::new(table.clone(), queue, SystemClock),
            publisher: Publisher::new(stream, SystemClock),
            downstream: Downstream::new(table.clone(), SystemClock, MarkDone),
            ledger: Downstream::new(table, SystemClock, ledger),
        })
    }

    /// From the bytes of the payload to the bytes of the answer.
    async fn handle(&self, function: Function, event: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
        let envelope: Envelope = serde_json::from_slice(event)?;
        let deadline = Deadline::at(Timestamp::MAX);
        let invocation = Invocation { deadline, request_id: "measured" };
        let response = match function {
            Function::Ingest => serde_json::to_vec(&ingest::answer(&self.ingest.handle(envelope, deadline).await?)),
            Function::Publisher => {
                serde_json::to_vec(&publisher::answer(&self.publisher.handle(envelope, deadline).await?))
            }
            Function::Downstream => {
                serde_json::to_vec(&downstream::answer(&self.downstream.handle(envelope, invocation).await?))
            }
            Function::Ledger => {
                serde_json::to_vec(&downstream::answer(&self.ledger.handle(envelope, invocation).await?))
            }
        };
        if response? == br#"{"batchItemFailures":[]}"# {
            return Ok(());
        }
        Err("records failed".into())
    }
}

impl Row {
    #[expect(clippy::cast_precision_loss, reason = "the counts are far below 2^52")]
    fn of(function: Function, batch: usize, counted: &AllocationInfo) -> Self {
        let notifications = batch as f64;
        Self {
            function,
            batch,
            allocations: counted.count_total as f64 / notifications,
            bytes: counted.bytes_total as f64 / notifications,
            peak_bytes: counted.bytes_max as f64,
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.function.words().to_owned(),
            thousands(self.batch),
            format!("{:.1}", self.allocations),
            format!("{:.0}", self.bytes),
            format!("{:.2}", mebibytes(self.peak_bytes)),
        ]
    }
}
