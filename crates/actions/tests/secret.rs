//! A secret in Secrets Manager, with AWS's endpoint on a loopback port.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "webhook/receiver.rs"]
#[allow(dead_code, reason = "this test uses a part of it")]
mod receiver;

use actions::secret::{SecretSource, SecretsManager};
use aws::{Environment, config};
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::{Credentials, SharedCredentialsProvider};
use notification::Failure;
use receiver::{Answer, Receiver};

const ID: &str = "arn:aws:secretsmanager:eu-central-1:1:secret:signing";

/// Reads the secret, for which Secrets Manager has this answer.
async fn read(status: u16, body: &str) -> Result<String, Failure> {
    let answer = Answer::whole(status, "Content-Type: application/x-amz-json-1.1\r\n", body);
    let receiver = Receiver::start([answer]).await;
    let environment = Environment::from_iter([("AWS_REGION", "eu-central-1"), ("AWS_ENDPOINT_URL", &receiver.url)]);
    let credentials = Credentials::new("key", "secret", None, None, "test");
    let sdk = config::sdk(&environment).await.unwrap().into_builder();
    let sdk = sdk.credentials_provider(SharedCredentialsProvider::new(credentials));
    let sdk = sdk.retry_config(RetryConfig::disabled()).build();
    let read = SecretsManager::new(&sdk, ID.to_owned()).read().await;
    let request = &receiver.requests()[0];
    assert_eq!(request.headers["x-amz-target"], "secretsmanager.GetSecretValue");
    assert_eq!(request.body, format!(r#"{{"SecretId":"{ID}"}}"#));
    read
}

#[tokio::test]
async fn a_secret_is_read_by_its_id() {
    assert_eq!(read(200, r#"{"SecretString":"whsec_b2xk"}"#).await, Ok("whsec_b2xk".to_owned()));
}

#[tokio::test]
async fn a_secret_without_text_is_a_failure_that_an_operator_can_fix() {
    let failure = Failure::retryable(format!("the secret {ID} contains no text"));
    assert_eq!(read(200, r#"{"SecretBinary":"b2xk"}"#).await, Err(failure));
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_a_failure_with_the_code_and_without_the_text_of_the_answer() {
    let refused = r#"{"__type":"AccessDeniedException","Message":"quoted"}"#;
    let reason = format!("the secret {ID} cannot be read from Secrets Manager: AccessDeniedException");
    assert_eq!(read(400, refused).await, Err(Failure::retryable(reason)));
    let reason = format!("the secret {ID} cannot be read from Secrets Manager: no answer");
    assert_eq!(read(200, "not JSON").await, Err(Failure::retryable(reason)));
}
