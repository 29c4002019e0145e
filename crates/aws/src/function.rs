//! The process of a function: telemetry and the SDK at start, then one invocation after the other.

use crate::environment::Environment;
use crate::telemetry::{self, Metrics};
use crate::{SdkConfig, config};
use aws_smithy_types::retry::RetryConfig;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use notification::Deadline;
use serde::{Serialize, de::DeserializeOwned};
use std::future::Future;

/// The process of a function. It is made first, so that a wrong setting of an action is logged as well.
#[derive(Clone)]
pub struct Function {
    environment: Environment,
    sdk: SdkConfig,
    metrics: Metrics,
}

/// One invocation of a function.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// When Lambda ends it.
    pub deadline: Deadline,
    /// Lambda's id of it. A retry may have the same.
    pub request_id: String,
}

impl Function {
    /// Sets up telemetry and the SDK from the environment of this process.
    ///
    /// # Errors
    /// Where `AWS_REGION` is missing, or telemetry was set up before.
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

    /// The same settings, but each call is sent once. An action with [`notification::Guarantee::AtMostOnce`] must make its
    /// call with a client of these: the SDK retries a call whose answer was lost, and the effect could happen twice.
    #[must_use]
    pub fn sdk_without_retries(&self) -> SdkConfig {
        without_retries(&self.sdk)
    }

    /// Handles invocations for as long as Lambda keeps the process, and writes the metrics of each.
    ///
    /// # Errors
    /// Where the Lambda runtime cannot go on.
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
    async fn an_sdk_without_retries_sends_a_call_once_and_is_otherwise_the_same() {
        let sdk = config::sdk(&Environment::from([("AWS_REGION", "eu-central-1")])).await.unwrap();
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
