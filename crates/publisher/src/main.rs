//! Wires publisher to Lambda and AWS.

use aws::{DynamoTable, Function, KinesisStream, SystemClock, config};
use lambda_runtime::Error;
use mimalloc::MiMalloc;
use publisher::sweep::Sweep;
use publisher::{Payload, Publisher};

/// It uses less CPU time than the C library's allocator (docs/PERFORMANCE.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let function = Function::start().await?;
    let stream_name = config::stream_name(function.environment())?;
    let table_name = config::table_name(function.environment())?;
    let sweep_age = config::sweep_age(function.environment())?;
    let stream = KinesisStream::new(aws_sdk_kinesis::Client::new(function.sdk()), stream_name);
    let publisher = &Publisher::new(stream, SystemClock);
    let table = DynamoTable::new(aws_sdk_dynamodb::Client::new(function.sdk()), table_name);
    let sweep = &Sweep::new(table, sweep_age);

    function
        .serve(|payload: Payload, invocation| publisher::handle(publisher, sweep, payload, invocation.deadline))
        .await
}
