//! Wires ingest to Lambda.

use aws::config::{self, Process};
use aws::{DynamoTable, SystemClock};
use aws_sdk_dynamodb::Client;
use ingest::Ingest;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use notification::{Deadline, Envelope};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let metrics = aws::telemetry::init(&Process)?;
    let table_name = config::table_name(&Process)?;
    let writes = config::table_writes(&Process)?;
    let sdk = config::sdk(&Process).await?;
    let table = DynamoTable::new(Client::new(&sdk), table_name).with_writes(writes);
    let ingest = &Ingest::new(table, SystemClock);

    lambda_runtime::run(service_fn(|event: LambdaEvent<Envelope>| async move {
        let response = ingest.handle(event.payload, Deadline::from_epoch_millis(event.context.deadline)).await;
        metrics.flush();
        response.map_err(Error::from)
    }))
    .await
}
