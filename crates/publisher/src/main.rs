//! Wires publisher to Lambda.

use aws::config::{self, Process};
use aws::{DynamoTable, KinesisStream, SystemClock};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use mimalloc::MiMalloc;
use notification::Deadline;
use publisher::sweep::Sweep;
use publisher::{Event, Publisher};

/// Cheaper than the C library's (docs/PERFORMANCE.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let metrics = aws::telemetry::init(&Process)?;
    let stream_name = config::stream_name(&Process)?;
    let table_name = config::table_name(&Process)?;
    let sweep_age = config::sweep_age(&Process)?;
    let sdk = config::sdk(&Process).await?;
    let stream = KinesisStream::new(aws_sdk_kinesis::Client::new(&sdk), stream_name);
    let publisher = &Publisher::new(stream, SystemClock);
    let sweep = &Sweep::new(DynamoTable::new(aws_sdk_dynamodb::Client::new(&sdk), table_name), sweep_age);

    lambda_runtime::run(service_fn(|event: LambdaEvent<Event>| async move {
        let deadline = Deadline::from_epoch_millis(event.context.deadline);
        let response = publisher::handle(publisher, sweep, event.payload, deadline).await;
        metrics.flush();
        response.map_err(Error::from)
    }))
    .await
}
