//! Allocations per notification, by a counting allocator: parsing the payload, the handler, the adapters, the SDK and HTTP.
//! The Lambda runtime and the backend's thread are not counted.

use crate::backend::{Backend, Behaviour};
use crate::cli::Options;
use crate::error::Error;
use crate::events;
use crate::output::{self, MEBIBYTE, thousands};
use crate::subject::Function;
use actions::ledger::Ledger;
use aws::{ConfigError, DynamoTable, Environment, KinesisStream, SdkConfig, SqsQueue, SystemClock};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use downstream::Downstream;
use ingest::Ingest;
use notification::{Deadline, Envelope, Invocation, MarkDone, Timestamp};
use publisher::Publisher;
use serde::Serialize;
use serde_json::to_vec;
use tokio::runtime::Builder;

/// What failed before anything was counted.
const RUN: &str = "run the handlers";

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

#[expect(clippy::cast_precision_loss, reason = "the counts are far below 2^52")]
pub(crate) fn run(options: &Options, json: bool) -> Result<(), Error> {
    let variables =
        [("AWS_REGION", "us-east-1"), ("AWS_LAMBDA_FUNCTION_NAME", "measured"), ("LEDGER_TABLE_NAME", "ledger")];
    let environment = Environment::from(variables);
    // Spans allocate, so they must be configured as in a function.
    aws::telemetry::init(&environment).map_err(Error::cannot(RUN))?;
    // The backend has its own thread. It has no TLS, because which certificates are trusted is set for a whole process.
    let backend_runtime =
        Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(Error::cannot(RUN))?;
    let backend = backend_runtime.block_on(async { Backend::start(Behaviour::default(), None) });
    let backend = backend.map_err(Error::cannot(RUN))?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::cannot(RUN))?;
    let sdk = runtime
        .block_on(aws::config::sdk(&environment))
        .map_err(Error::cannot(RUN))?
        .into_builder()
        .endpoint_url(format!("http://{}", backend.server.address))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "bench")))
        .build();
    let handlers = Handlers::new(&sdk, &environment).map_err(Error::cannot(RUN))?;
    let mut rows = Vec::new();
    for (function, batch) in options.pairs() {
        let event = events::batch(function, batch);
        let handle = || runtime.block_on(handlers.handle(function, &event));
        // The first invocation makes connections and everything else that is made once.
        let warmed_up = handle();
        let mut handled = Ok(());
        let counted = allocation_counter::measure(|| handled = handle());
        warmed_up.and(handled).map_err(Error::cannot(RUN))?;
        let notifications = batch as f64;
        rows.push(Row {
            function,
            batch,
            allocations: counted.count_total as f64 / notifications,
            bytes: counted.bytes_total as f64 / notifications,
            peak_bytes: counted.bytes_max as f64,
        });
    }
    let headers =
        ["", "batch", "allocations for\na notification", "bytes for\na notification", "peak MiB of\nthe batch"];
    if json {
        output::json(&rows);
    } else {
        output::table("Allocations, without the Lambda runtime", &headers, rows.iter().map(cells));
    }
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
    fn new(sdk: &SdkConfig, environment: &Environment) -> Result<Self, ConfigError> {
        let table = DynamoTable::new(aws_sdk_dynamodb::Client::new(sdk), "notifications".to_owned());
        let stream = KinesisStream::new(aws_sdk_kinesis::Client::new(sdk), "notifications".to_owned());
        let queue = SqsQueue::new(aws_sdk_sqs::Client::new(sdk), "https://queue".to_owned());
        let ledger = Ledger::from_environment(environment)?;
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
        let invocation = Invocation { deadline, request_id: "measured".to_owned() };
        let response = match function {
            Function::Ingest => to_vec(&self.ingest.handle(envelope, deadline).await?),
            Function::Publisher => to_vec(&self.publisher.handle(envelope, deadline).await?),
            Function::Downstream => to_vec(&self.downstream.handle(envelope, invocation).await?),
            Function::Ledger => to_vec(&self.ledger.handle(envelope, invocation).await?),
        };
        let is_complete = response? == br#"{"batchItemFailures":[]}"#;
        if is_complete { Ok(()) } else { Err("records failed".into()) }
    }
}

fn cells(row: &Row) -> Vec<String> {
    vec![
        row.function.words().to_owned(),
        thousands(row.batch),
        format!("{:.1}", row.allocations),
        format!("{:.0}", row.bytes),
        format!("{:.2}", row.peak_bytes / MEBIBYTE),
    ]
}
