//! The settings of the webhook in the environment.

use aws::{ConfigError, Environment};
use notification::{Guarantee, limits};
use reqwest::Url;

pub(super) const URL: &str = "WEBHOOK_URL";
pub(super) const SECRET_ID: &str = "WEBHOOK_SECRET_ID";
const GUARANTEE: &str = "WEBHOOK_GUARANTEE";

/// Where to deliver, and with which guarantee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub(super) url: Url,
    pub(super) guarantee: Guarantee,
    /// The name or ARN of the signing secret in Secrets Manager.
    pub secret_id: String,
}

impl Settings {
    /// Reads `WEBHOOK_URL`, `WEBHOOK_GUARANTEE` (`idempotent`, the default, or `at-most-once`) and `WEBHOOK_SECRET_ID`.
    ///
    /// # Errors
    /// [`ConfigError`] if one is missing or invalid. The URL must be https, or http with a loopback address.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        let text = environment.required(URL, "the URL to deliver notifications to")?;
        let url = Url::parse(&text).map_err(|error| ConfigError::wrong(URL, error.to_string()))?;
        let is_loopback = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        match url.scheme() {
            "https" => {}
            "http" if is_loopback => {}
            _ => return Err(ConfigError::wrong(URL, "it is not https")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ConfigError::wrong(URL, "it contains credentials, which belong in Secrets Manager"));
        }
        let guarantee = match environment.get(GUARANTEE) {
            None | Some("idempotent") => Guarantee::Idempotent { timeout: limits::WEBHOOK_TIMEOUT },
            Some("at-most-once") => Guarantee::AtMostOnce { timeout: limits::WEBHOOK_TIMEOUT },
            Some(_) => {
                return Err(ConfigError::wrong(GUARANTEE, "it is neither \"idempotent\" nor \"at-most-once\""));
            }
        };
        let secret_id = environment.required(SECRET_ID, "the name or ARN of the signing secret in Secrets Manager")?;
        Ok(Self { url, guarantee, secret_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Result<Settings, String> {
        let environment = Environment::from_iter([("WEBHOOK_URL", url), ("WEBHOOK_SECRET_ID", "s")]);
        Settings::from_environment(&environment).map_err(|error| error.to_string())
    }

    #[test]
    fn a_url_must_be_https_except_on_loopback_and_contain_no_credentials() {
        for good in ["https://example.com/hook?x=1", "http://127.0.0.1:8080/", "http://localhost/", "http://[::1]/"] {
            assert!(settings(good).is_ok(), "{good}");
        }
        for bad in
            ["http://example.com", "ftp://example.com", "http://127.0.0.1.example.com", "http://localhost.evil.com"]
        {
            assert!(settings(bad).unwrap_err().contains("WEBHOOK_URL is invalid: it is not https"), "{bad}");
        }
        for credentials in ["me:secret", "me", ":secret"] {
            assert!(settings(&format!("https://{credentials}@example.com")).unwrap_err().contains("credentials"));
        }
        assert!(settings("no URL").unwrap_err().contains("WEBHOOK_URL is invalid"));
        assert!(settings("").unwrap_err().contains("WEBHOOK_URL is missing"));
        let no_secret = Settings::from_environment(&Environment::from_iter([("WEBHOOK_URL", "https://example.com")]));
        assert!(no_secret.unwrap_err().to_string().contains("WEBHOOK_SECRET_ID is missing"));
    }
}
