//! Wires ingest to Lambda and AWS.

use aws::{DynamoTable, Function, SqsQueue, SystemClock, config};
use ingest::Ingest;
use lambda_runtime::Error;
use notification::Envelope;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let function = Function::start().await?;
    let table_name = config::table_name(function.environment())?;
    let queue_url = config::queue_url(function.environment())?;
    let table = DynamoTable::new(aws_sdk_dynamodb::Client::new(function.sdk()), table_name);
    let queue = SqsQueue::new(aws_sdk_sqs::Client::new(function.sdk()), queue_url);
    let ingest = &Ingest::new(table, queue, SystemClock);

    function.serve(|batch: Envelope, invocation| ingest.handle(batch, invocation.deadline)).await
}
