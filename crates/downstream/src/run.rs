//! The wiring to Lambda and AWS, the same for every action.

use crate::{Downstream, Invocation};
use aws::config::{self, Environment, Process};
use aws::telemetry::Metrics;
use aws::{DynamoTable, SdkConfig, SystemClock};
use aws_sdk_dynamodb::Client;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use notification::{Action, Deadline, Envelope};

/// What the process of the function has: telemetry and the SDK's settings. Made first, so that a wrong setting of an
/// action is logged as well.
#[derive(Clone)]
pub struct Wiring {
    metrics: Metrics,
    sdk: SdkConfig,
}

impl Wiring {
    /// Sets up telemetry and the SDK.
    ///
    /// # Errors
    /// Where `AWS_REGION` is missing, or telemetry was set up before.
    pub async fn new() -> Result<Self, Error> {
        let metrics = aws::telemetry::init(&Process)?;
        Ok(Self { metrics, sdk: config::sdk(&Process).await? })
    }

    /// The SDK's settings, for an action that calls AWS.
    #[must_use]
    pub fn sdk(&self) -> &SdkConfig {
        &self.sdk
    }

    /// The environment that settings are read from.
    #[must_use]
    pub fn environment(&self) -> &impl Environment {
        &Process
    }
}

/// Runs downstream with an action, for as long as Lambda keeps the process. `main` is this and no more.
///
/// # Errors
/// Where a setting is missing or wrong, by its name.
pub async fn run(wiring: Wiring, action: impl Action) -> Result<(), Error> {
    let environment = wiring.environment();
    let table_name = config::table_name(environment)?;
    let writes = config::table_writes(environment)?;
    let done_retention_days = config::done_retention_days(environment)?;
    let table = DynamoTable::new(Client::new(wiring.sdk()), table_name)
        .with_writes(writes)
        .with_done_retention(done_retention_days);
    let downstream = &Downstream::new(table, SystemClock, action);
    let metrics = wiring.metrics;

    lambda_runtime::run(service_fn(|event: LambdaEvent<Envelope>| async move {
        let deadline = Deadline::from_epoch_millis(event.context.deadline);
        let invocation = Invocation { deadline, request_id: &event.context.request_id };
        let response = downstream.handle(event.payload, invocation).await;
        metrics.flush();
        response.map_err(Error::from)
    }))
    .await
}
