//! The process of a function: it sets up telemetry and the SDK, and then handles invocations.

use crate::environment::Environment;
use crate::telemetry::{self, Metrics};
use crate::{SdkConfig, config};
use aws_smithy_types::retry::RetryConfig;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use notification::{Deadline, Invocation};
use serde::{Serialize, de::DeserializeOwned};
use std::future::Future;

/// The process of a function. Create it first, so that an invalid setting of an action is also logged.
#[derive(Clone)]
pub struct Function {
    environment: Environment,
    sdk: SdkConfig,
    metrics: Metrics,
}

impl Function {
    /// Sets up telemetry and the SDK from the environment of this process.
    ///
    /// # Errors
    /// If `AWS_REGION` is missing, or telemetry was set up before.
    pub async fn start() -> Result<Self, Error> {
        let environment = Environment::of_process();
        let metrics = telemetry::init(&environment)?;
        let sdk = config::sdk(&environment).await?;
        Ok(Self { environment, sdk, metrics })
    }

    /// The environment that settings are read from.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The SDK's settings. The SDK tries a failed call up to [`notification::limits::SDK_ATTEMPTS`] times.
    #[must_use]
    pub fn sdk(&self) -> &SdkConfig {
        &self.sdk
    }

    /// The same settings, but without retries. An action with [`notification::Guarantee::AtMostOnce`] must make its call with a
    /// client of these settings: otherwise, the SDK retries a call whose answer was lost, and the effect can happen twice.
    #[must_use]
    pub fn sdk_without_retries(&self) -> SdkConfig {
        without_retries(&self.sdk)
    }

    /// Handles invocations until Lambda ends the process, and writes the metrics of each.
    ///
    /// # Errors
    /// If the Lambda runtime cannot continue.
    pub async fn serve<P, R, E, Fut>(self, handle: impl Fn(P, Invocation) -> Fut) -> Result<(), Error>
    where
        P: DeserializeOwned,
        R: Serialize,
        E: std::error::Error + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>>,
    {
        let (handle, metrics) = (&handle, self.metrics);
        lambda_runtime::run(service_fn(|LambdaEvent { payload, context }: LambdaEvent<P>| async move {
            let deadline = Deadline::from_epoch_millis(context.deadline);
            let response = handle(payload, Invocation { deadline, request_id: context.request_id }).await;
            metrics.flush();
            response.map_err(Error::from)
        }))
        .await
    }
}

fn without_retries(sdk: &SdkConfig) -> SdkConfig {
    sdk.clone().into_builder().retry_config(RetryConfig::disabled()).build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::Client;

    #[tokio::test]
    async fn an_sdk_without_retries_sends_each_call_once_and_has_the_same_settings_otherwise() {
        let sdk = config::sdk(&Environment::from_iter([("AWS_REGION", "eu-central-1")])).await.unwrap();
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
