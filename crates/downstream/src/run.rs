//! The wiring to Lambda and AWS, the same for every action.

use crate::Downstream;
use aws::{DynamoTable, Function, SystemClock, config};
use lambda_runtime::Error;
use notification::{Action, Envelope};

/// Runs downstream with an action until Lambda ends the process. Your `main` only creates the action and calls this.
///
/// # Errors
/// Names a setting that is missing or invalid.
pub async fn run(function: Function, action: impl Action) -> Result<(), Error> {
    let table_name = config::table_name(function.environment())?;
    let done_retention_days = config::done_retention_days(function.environment())?;
    let table = DynamoTable::new(aws_sdk_dynamodb::Client::new(function.sdk()), table_name)
        .with_done_retention(done_retention_days);
    let downstream = &Downstream::new(table, SystemClock, action);

    function.serve(|batch: Envelope, invocation| downstream.handle(batch, invocation)).await
}
