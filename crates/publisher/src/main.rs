//! Wires publisher to Lambda.

use aws::config::{self, Process};
use aws::{KinesisStream, SystemClock};
use aws_sdk_kinesis::Client;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use notification::{Deadline, Envelope};
use publisher::Publisher;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let metrics = aws::telemetry::init(&Process)?;
    let stream_name = config::stream_name(&Process)?;
    let sdk = config::sdk(&Process).await?;
    let publisher = &Publisher::new(KinesisStream::new(Client::new(&sdk), stream_name), SystemClock);

    lambda_runtime::run(service_fn(|event: LambdaEvent<Envelope>| async move {
        let response = publisher.handle(event.payload, Deadline::from_epoch_millis(event.context.deadline)).await;
        metrics.flush();
        response.map_err(Error::from)
    }))
    .await
}
