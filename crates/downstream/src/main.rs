//! Wires downstream to Lambda. The action is chosen here.

use aws::config::{self, Process};
use aws::{DynamoTable, SystemClock};
use aws_sdk_dynamodb::Client;
use downstream::Downstream;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use notification::{Deadline, Envelope, Record};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let metrics = aws::telemetry::init(&Process)?;
    let table_name = config::table_name(&Process)?;
    let done_retention_days = config::done_retention_days(&Process)?;
    let writes = config::table_writes(&Process)?;
    let sdk = config::sdk(&Process).await?;
    let table =
        DynamoTable::new(Client::new(&sdk), table_name).with_writes(writes).with_done_retention(done_retention_days);
    let downstream = &Downstream::new(table, SystemClock, Record);

    lambda_runtime::run(service_fn(|event: LambdaEvent<Envelope>| async move {
        let response = downstream.handle(event.payload, Deadline::from_epoch_millis(event.context.deadline)).await;
        metrics.flush();
        response.map_err(Error::from)
    }))
    .await
}
