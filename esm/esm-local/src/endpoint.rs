//! The SDK's settings, for an endpoint on this machine only. A real account must never be polled by accident.

use crate::error::Error;
use crate::limits::ATTEMPT_TIMEOUT;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use url::{Host, Url};

/// The settings: from the environment and the AWS profile, apart from the endpoint.
pub(crate) async fn config(endpoint: Option<&str>) -> Result<SdkConfig, Error> {
    // Set here, the endpoint also takes precedence over those of single services in the environment and the profile.
    let loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).endpoint_url(on_this_machine(endpoint)?);
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT).build();
    let config = loader.timeout_config(timeouts).load().await;
    config.region().ok_or("no AWS region is set: set AWS_REGION, or a region in the AWS profile")?;
    Ok(config)
}

/// The endpoint, if it is on this machine.
fn on_this_machine(endpoint: Option<&str>) -> Result<String, Error> {
    let found = match endpoint.filter(|endpoint| !endpoint.is_empty()).map(Url::parse) {
        None => "not set".to_owned(),
        Some(Err(_)) => "not a URL".to_owned(),
        Some(Ok(url)) if is_local(&url) => return Ok(url.into()),
        // The URL may contain a password: only its host is shown.
        Some(Ok(url)) => format!("at {}", url.host_str().unwrap_or("no host")),
    };
    Err(format!(
        "esm-local polls only a local AWS: AWS_ENDPOINT_URL must be an address of this machine, such as http://127.0.0.1:4566, but it is {found}"
    )
    .into())
}

fn is_local(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    is_loopback && matches!(url.scheme(), "http" | "https")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_endpoint_on_this_machine_is_polled() {
        for local in ["http://127.0.0.1:4566", "http://localhost:4566", "http://[::1]:4566", "https://127.1.2.3/"] {
            assert!(on_this_machine(Some(local)).is_ok(), "{local}");
        }
        for other in [
            None,
            Some(""),
            Some("127.0.0.1:4566"),
            Some("https://lambda.eu-central-1.amazonaws.com"),
            Some("http://127.0.0.1@example.com"),
            Some("http://localhost.example.com"),
            Some("http://10.0.0.1:4566"),
            Some("http://0.0.0.0:4566"),
            Some("file://localhost/x"),
        ] {
            let error = on_this_machine(other).unwrap_err().to_string();
            assert!(error.contains("AWS_ENDPOINT_URL"), "{error}");
        }
    }
}
