//! Secrets: read from Secrets Manager at start, and kept in memory only.

use aws::SdkConfig;
use aws::config::ConfigError;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;

/// The text of a secret, by its name or ARN.
pub(crate) async fn read(sdk: &SdkConfig, secret_id: &str) -> Result<String, ConfigError> {
    let wrong = |problem: String| ConfigError::Wrong { name: "WEBHOOK_SECRET_ID", problem };
    let answer = Client::new(sdk).get_secret_value().secret_id(secret_id).send().await;
    let answer = answer.map_err(|error| {
        let code = error.code().unwrap_or("no answer");
        wrong(format!("the secret {secret_id} cannot be read from Secrets Manager: {code}"))
    })?;
    answer.secret_string.ok_or_else(|| wrong(format!("the secret {secret_id} holds no text")))
}
