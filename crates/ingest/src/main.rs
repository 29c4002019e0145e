//! Wires ingest to Lambda.

use aws::config::{self, Process};
use aws::{DynamoTable, SqsQueue, SystemClock};
use ingest::Ingest;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use notification::{Deadline, Envelope};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let metrics = aws::telemetry::init(&Process)?;
    let table_name = config::table_name(&Process)?;
    let queue_url = config::queue_url(&Process)?;
    let sdk = config::sdk(&Process).await?;
    let table = DynamoTable::new(aws_sdk_dynamodb::Client::new(&sdk), table_name);
    let queue = SqsQueue::new(aws_sdk_sqs::Client::new(&sdk), queue_url);
    let ingest = &Ingest::new(table, queue, SystemClock);

    lambda_runtime::run(service_fn(|event: LambdaEvent<Envelope>| async move {
        let response = ingest.handle(event.payload, Deadline::from_epoch_millis(event.context.deadline)).await;
        metrics.flush();
        response.map(|report| ingest::answer(&report)).map_err(Error::from)
    }))
    .await
}
