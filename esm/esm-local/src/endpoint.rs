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
    if config.region().is_some() { Ok(config) } else { Err(Error::NoRegion) }
}

/// The endpoint, if it is on this machine.
fn on_this_machine(endpoint: Option<&str>) -> Result<String, Error> {
    let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.is_empty()) else {
        return Err(Error::NotLocal { found: "not set".to_owned() });
    };
    // The URL may contain a password: only its host is shown.
    let url = Url::parse(endpoint).map_err(|_| Error::NotLocal { found: "not a URL".to_owned() })?;
    let is_loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if is_loopback && matches!(url.scheme(), "http" | "https") {
        Ok(url.into())
    } else {
        Err(Error::NotLocal { found: format!("at {}", url.host_str().unwrap_or("no host")) })
    }
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
