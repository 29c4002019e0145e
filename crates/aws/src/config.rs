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
use std::str::FromStr;
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
    const MIN: u32 = limits::DONE_RETENTION_MIN_DAYS;
    let days = number(environment, NAME, "days", limits::DONE_RETENTION_DEFAULT_DAYS)?;
    if days < MIN {
        let problem = format!("{days} days are too short: a message can be redelivered for {MIN} days");
        return Err(ConfigError::wrong(NAME, problem));
    }
    Ok(days)
}

/// `SWEEP_AGE_SECONDS`: how long a notification must be pending before the sweep publishes it again;
/// [`limits::SWEEP_AGE_DEFAULT`] if not set.
///
/// # Errors
/// [`ConfigError`] if it is not a number.
pub fn sweep_age(environment: &Environment) -> Result<Duration, ConfigError> {
    let default = limits::SWEEP_AGE_DEFAULT.as_secs();
    number(environment, "SWEEP_AGE_SECONDS", "seconds", default).map(Duration::from_secs)
}

/// A whole number of a unit; the default if it is not set.
fn number<N: FromStr>(environment: &Environment, name: &'static str, unit: &str, default: N) -> Result<N, ConfigError> {
    let Some(text) = environment.get(name) else { return Ok(default) };
    text.parse().map_err(|_| ConfigError::wrong(name, format!("{text:?} is not a number of {unit}")))
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

/// `AWS_ENDPOINT_URL_DYNAMODB` and so on for single services, and `AWS_ENDPOINT_URL` for all others.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
#[derive(Debug)]
struct EndpointUrls(Environment);

impl LoadServiceConfig for EndpointUrls {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        let url = self.0.get(&format!("{}_{service}", key.env())).or_else(|| self.0.get(key.env()));
        url.map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_variable_is_named() {
        let empty = Environment::from_iter([("TABLE_NAME", "")]);
        let named = |error: ConfigError| error.to_string();
        assert!(named(table_name(&empty).unwrap_err()).contains("TABLE_NAME is missing"));
        assert!(named(queue_url(&empty).unwrap_err()).contains("QUEUE_URL is missing"));
        assert!(named(stream_name(&empty).unwrap_err()).contains("STREAM_NAME is missing"));
        assert!(named(sdk(&empty).await.unwrap_err()).contains("AWS_REGION is missing"));
        assert_eq!(table_name(&Environment::from_iter([("TABLE_NAME", "t")])), Ok("t".to_owned()));
    }

    #[test]
    fn the_retention_of_done_items_cannot_be_shorter_than_redelivery() {
        let days = |text| done_retention_days(&Environment::from_iter([("DONE_RETENTION_DAYS", text)]));
        assert_eq!(done_retention_days(&Environment::from_iter([("OTHER", "1")])), Ok(90));
        assert_eq!(days("36"), Ok(36));
        assert!(days("35").unwrap_err().to_string().contains("too short"));
        assert!(days("ninety").unwrap_err().to_string().contains("not a number of days"));
    }

    #[test]
    fn a_service_has_its_own_endpoint_or_the_common_one() {
        fn check(variables: &[(&str, &str)], expected: Option<&str>) {
            let urls = EndpointUrls(variables.iter().copied().collect());
            let key = ServiceConfigKey::builder().env("AWS_ENDPOINT_URL").profile("").service_id("DynamoDB").build();
            let url = urls.load_config(key.unwrap());
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
        let age = |text| sweep_age(&Environment::from_iter([("SWEEP_AGE_SECONDS", text)]));
        assert_eq!(sweep_age(&Environment::from_iter([("OTHER", "1")])), Ok(Duration::from_mins(45)));
        assert_eq!(age("0"), Ok(Duration::ZERO));
        assert!(age("soon").unwrap_err().to_string().contains("not a number of seconds"));
    }
}
