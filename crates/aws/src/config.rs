//! The settings of the functions, and of the SDK.

use crate::environment::{ConfigError, Environment};
use crate::tls;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::SharedCredentialsProvider;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use notification::limits;
use std::time::Duration;

/// `TABLE_NAME`: the DynamoDB table of notifications.
///
/// # Errors
/// [`ConfigError`] if it is missing.
pub fn table_name(environment: &Environment) -> Result<String, ConfigError> {
    environment.required("TABLE_NAME", "the name of the DynamoDB table")
}

/// `QUEUE_URL`: the SQS queue that messages come from.
///
/// # Errors
/// [`ConfigError`] if it is missing.
pub fn queue_url(environment: &Environment) -> Result<String, ConfigError> {
    environment.required("QUEUE_URL", "the URL of the SQS queue that messages come from")
}

/// `STREAM_NAME`: the Kinesis stream between publisher and downstream.
///
/// # Errors
/// [`ConfigError`] if it is missing.
pub fn stream_name(environment: &Environment) -> Result<String, ConfigError> {
    environment.required("STREAM_NAME", "the name of the Kinesis stream")
}

/// `DONE_RETENTION_DAYS`: the retention of DONE items, in days; [`limits::DONE_RETENTION_DEFAULT_DAYS`] if not set.
///
/// # Errors
/// [`ConfigError`] if it is not a number, or too short to outlast every redelivery.
pub fn done_retention_days(environment: &Environment) -> Result<u32, ConfigError> {
    const NAME: &str = "DONE_RETENTION_DAYS";
    let Some(text) = environment.get(NAME) else { return Ok(limits::DONE_RETENTION_DEFAULT_DAYS) };
    match text.parse::<u32>() {
        Ok(days) if days >= limits::DONE_RETENTION_MIN_DAYS => Ok(days),
        Ok(days) => {
            let min = limits::DONE_RETENTION_MIN_DAYS;
            let problem = format!("{days} days are too short: a message can be redelivered for {min} days");
            Err(ConfigError::Wrong { name: NAME, problem })
        }
        Err(_) => Err(ConfigError::Wrong { name: NAME, problem: format!("{text:?} is not a number of days") }),
    }
}

/// `SWEEP_AGE_SECONDS`: how long a notification must be pending before the sweep publishes it again;
/// [`limits::SWEEP_AGE_DEFAULT`] if not set.
///
/// # Errors
/// [`ConfigError`] if it is not a number.
pub fn sweep_age(environment: &Environment) -> Result<Duration, ConfigError> {
    const NAME: &str = "SWEEP_AGE_SECONDS";
    match environment.get(NAME) {
        None => Ok(limits::SWEEP_AGE_DEFAULT),
        Some(text) => text.parse().map(Duration::from_secs).map_err(|_| {
            let problem = format!("{text:?} is not a number of seconds");
            ConfigError::Wrong { name: NAME, problem }
        }),
    }
}

/// The SDK's settings for a function, from its environment only:
///
/// - `AWS_REGION` is required.
/// - Lambda sets the credentials: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
/// - `AWS_ENDPOINT_URL` (also for a single service), `AWS_USE_FIPS_ENDPOINT` and `AWS_USE_DUALSTACK_ENDPOINT` are optional.
/// - The HTTP client uses `HTTPS_PROXY` and `SSL_CERT_FILE`.
///
/// <https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html>
///
/// The SDK's own loader supports many more settings. It also looks for profiles, roles and containers, which a function does
/// not have, and would make the binary larger.
///
/// # Errors
/// [`ConfigError`] if `AWS_REGION` is missing.
#[expect(clippy::unused_async, reason = "callers must not rely on it being synchronous")]
pub async fn sdk(environment: &Environment) -> Result<SdkConfig, ConfigError> {
    let region = environment.required("AWS_REGION", "the AWS region, e.g. eu-central-1")?;
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(limits::CONNECT_TIMEOUT)
        .operation_attempt_timeout(limits::ATTEMPT_TIMEOUT)
        .build();
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(tls::http_client(environment, &region))
        .region(Region::new(region))
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .service_config(EndpointUrls(environment.clone()))
        .use_fips(environment.is_true("AWS_USE_FIPS_ENDPOINT"))
        .use_dual_stack(environment.is_true("AWS_USE_DUALSTACK_ENDPOINT"))
        .timeout_config(timeouts)
        // Each attempt has a timeout, and no body is streamed.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .retry_config(RetryConfig::standard().with_max_attempts(limits::SDK_ATTEMPTS))
        .build();
    Ok(config)
}

/// The endpoint URL of one service, or the one for all services.
fn endpoint_url(environment: &Environment, name: &str, service: &str) -> Option<String> {
    environment.get(&format!("{name}_{service}")).or_else(|| environment.get(name)).map(str::to_owned)
}

/// `AWS_ENDPOINT_URL_DYNAMODB` and so on for single services, and `AWS_ENDPOINT_URL` for all others.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
#[derive(Debug)]
struct EndpointUrls(Environment);

impl LoadServiceConfig for EndpointUrls {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        endpoint_url(&self.0, key.env(), &service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_variable_is_named() {
        let empty = Environment::from([("TABLE_NAME", "")]);
        let named = |error: ConfigError| error.to_string();
        assert!(named(table_name(&empty).unwrap_err()).contains("TABLE_NAME is missing"));
        assert!(named(queue_url(&empty).unwrap_err()).contains("QUEUE_URL is missing"));
        assert!(named(stream_name(&empty).unwrap_err()).contains("STREAM_NAME is missing"));
        assert!(named(sdk(&empty).await.unwrap_err()).contains("AWS_REGION is missing"));
        assert_eq!(table_name(&Environment::from([("TABLE_NAME", "t")])), Ok("t".to_owned()));
    }

    #[test]
    fn the_retention_of_done_items_cannot_be_shorter_than_redelivery() {
        let days = |text| done_retention_days(&Environment::from([("DONE_RETENTION_DAYS", text)]));
        assert_eq!(done_retention_days(&Environment::from([("OTHER", "1")])), Ok(90));
        assert_eq!(days("36"), Ok(36));
        assert!(days("35").unwrap_err().to_string().contains("too short"));
        assert!(days("ninety").unwrap_err().to_string().contains("not a number of days"));
    }

    #[test]
    fn a_service_has_its_own_endpoint_or_the_common_one() {
        fn check(variables: &[(&str, &str)], expected: Option<&str>) {
            let environment = variables.iter().copied().collect();
            let url = endpoint_url(&environment, "AWS_ENDPOINT_URL", "DYNAMODB");
            assert_eq!(url.as_deref(), expected, "{variables:?}");
        }
        let all = ("AWS_ENDPOINT_URL", "http://all");
        check(&[], None);
        check(&[all], Some("http://all"));
        check(&[all, ("AWS_ENDPOINT_URL_DYNAMODB", "http://own")], Some("http://own"));
        check(&[all, ("AWS_ENDPOINT_URL_DYNAMODB", "")], Some("http://all"));
    }

    #[test]
    fn the_sweep_age_is_a_number_of_seconds() {
        let age = |text| sweep_age(&Environment::from([("SWEEP_AGE_SECONDS", text)]));
        assert_eq!(sweep_age(&Environment::from([("OTHER", "1")])), Ok(Duration::from_mins(45)));
        assert_eq!(age("0"), Ok(Duration::ZERO));
        assert!(age("soon").unwrap_err().to_string().contains("not a number of seconds"));
    }
}
