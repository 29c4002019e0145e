//! Secrets, read from Secrets Manager and kept in memory only.

use aws::SdkConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use notification::Failure;

/// A source of the text of one secret.
pub trait SecretSource: Send + Sync {
    /// Reads the current value of the secret. The text of a failure never contains it.
    fn read(&self) -> impl Future<Output = Result<String, Failure>> + Send;
}

/// One secret in Secrets Manager.
#[derive(Debug)]
pub struct SecretsManager {
    client: Client,
    secret_id: String,
}

impl SecretsManager {
    /// The secret with this name or ARN.
    #[must_use]
    pub fn new(sdk: &SdkConfig, secret_id: String) -> Self {
        Self { client: Client::new(sdk), secret_id }
    }
}

impl SecretSource for SecretsManager {
    async fn read(&self) -> Result<String, Failure> {
        let id = &self.secret_id;
        match self.client.get_secret_value().secret_id(id).send().await {
            Ok(answer) => {
                answer.secret_string.ok_or_else(|| Failure::retryable(format!("the secret {id} contains no text")))
            }
            Err(error) => {
                let code = error.code().unwrap_or("no answer");
                Err(Failure::retryable(format!("the secret {id} cannot be read from Secrets Manager: {code}")))
            }
        }
    }
}
