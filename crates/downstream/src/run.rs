//! The wiring to Lambda and AWS, the same for every action.

use crate::{Downstream, Invocation};
use aws::config::{self, Environment, Process};
use aws::telemetry::Metrics;
use aws::{DynamoTable, SdkConfig, SystemClock};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
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

    /// The SDK's settings, for an action that calls AWS. The SDK tries a failed call up to
    /// [`notification::limits::SDK_ATTEMPTS`] times.
    #[must_use]
    pub fn sdk(&self) -> &SdkConfig {
        &self.sdk
    }

    /// The same settings, but each call is sent once. An action with [`notification::Guarantee::AtMostOnce`] must make its
    /// call with a client of these: the SDK retries a call whose answer was lost, and the effect could happen twice.
    #[must_use]
    pub fn sdk_without_retries(&self) -> SdkConfig {
        without_retries(&self.sdk)
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
    let done_retention_days = config::done_retention_days(environment)?;
    let table = DynamoTable::new(Client::new(wiring.sdk()), table_name).with_done_retention(done_retention_days);
    let downstream = &Downstream::new(table, SystemClock, action);
    let metrics = wiring.metrics;

    lambda_runtime::run(service_fn(|event: LambdaEvent<Envelope>| async move {
        let deadline = Deadline::from_epoch_millis(event.context.deadline);
        let invocation = Invocation { deadline, request_id: &event.context.request_id };
        let response = downstream.handle(event.payload, invocation).await;
        metrics.flush();
        response.map(|report| crate::answer(&report)).map_err(Error::from)
    }))
    .await
}

fn without_retries(sdk: &SdkConfig) -> SdkConfig {
    sdk.clone().into_builder().retry_config(RetryConfig::disabled()).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Region;

    impl Environment for Region {
        fn get(&self, name: &str) -> Option<String> {
            (name == "AWS_REGION").then(|| "eu-central-1".to_owned())
        }
    }

    #[tokio::test]
    async fn an_sdk_without_retries_sends_a_call_once_and_is_otherwise_the_same() {
        let sdk = config::sdk(&Region).await.unwrap();
        let once = without_retries(&sdk);
        assert_eq!(sdk.retry_config().unwrap().max_attempts(), 3);
        assert_eq!(once.retry_config().unwrap().max_attempts(), 1);
        let client = Client::new(&once);
        assert_eq!(client.config().retry_config().unwrap().max_attempts(), 1);
        assert_eq!(once.region(), sdk.region());
        assert_eq!(format!("{:?}", once.timeout_config()), format!("{:?}", sdk.timeout_config()));
        assert!(once.credentials_provider().is_some() && once.http_client().is_some());
    }
}
