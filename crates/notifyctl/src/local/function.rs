//! One invocation of a function, through Lambda's Invoke API.

use crate::error::Error;
use crate::local::mapping::Mapping;
use aws::SdkConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::StalledStreamProtectionConfig;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::primitives::Blob;
use event_source::Answer;
use serde_json::Value;
use std::time::Duration;

/// The answer is waited for longer than the function may run: its environment may have to be started first.
const START_ALLOWANCE: Duration = Duration::from_secs(30);

/// Characters of a function's error that are shown.
const ERROR_SHOWN: usize = 200;

/// A function.
#[derive(Debug)]
pub(crate) struct Function {
    client: Client,
    arn: String,
}

/// What came of an invocation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It returned this.
    Returned(Vec<u8>),
    /// It failed, timed out, or its process ended; and what is known of that.
    Failed(String),
    /// It was not run; and why.
    NotRun(String),
}

impl Function {
    pub(crate) fn of(mapping: &Mapping, config: &SdkConfig) -> Self {
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(mapping.timeout + START_ALLOWANCE).build();
        let config = aws_sdk_lambda::config::Builder::from(config)
            .timeout_config(timeouts)
            // One invocation is one: the engine decides what is tried again, and when.
            .retry_config(RetryConfig::disabled())
            // A function that works says nothing for as long as it likes.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Self { client: Client::from_conf(config), arn: mapping.function_arn.clone() }
    }

    /// Invokes it, and waits for its answer.
    pub(crate) async fn invoke(&self, payload: String) -> Outcome {
        match self.client.invoke().function_name(&self.arn).payload(Blob::new(payload)).send().await {
            Ok(answer) => {
                let payload = answer.payload.map(Blob::into_inner).unwrap_or_default();
                match answer.function_error {
                    Some(kind) => Outcome::Failed(words(&kind, &payload)),
                    None => Outcome::Returned(payload),
                }
            }
            // It was given its time, and more.
            Err(SdkError::TimeoutError(_)) => Outcome::Failed("no answer in time".to_owned()),
            // It began to answer, so it was run.
            Err(error @ SdkError::ResponseError(_)) => Outcome::Failed(Error::aws("Invoke")(error).to_string()),
            // Throttled, or the service failed, or cannot be reached.
            Err(error) => Outcome::NotRun(Error::aws("Invoke")(error).to_string()),
        }
    }
}

impl Outcome {
    /// The answer for the engine.
    pub(crate) fn answer(&self) -> Answer<'_> {
        match self {
            Self::Returned(answer) => Answer::Response(answer),
            Self::Failed(_) => Answer::FunctionError,
            Self::NotRun(_) => Answer::Throttled,
        }
    }
}

/// A function's error in one short line.
/// <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_ResponseSyntax>
fn words(kind: &str, payload: &[u8]) -> String {
    let error = serde_json::from_slice::<Value>(payload).unwrap_or_default();
    let text = |name: &str| error[name].as_str().filter(|text| !text.is_empty());
    let words: Vec<_> = [Some(kind), text("errorType"), text("errorMessage")].into_iter().flatten().collect();
    let one_line = words.join(": ").split_whitespace().collect::<Vec<_>>().join(" ");
    one_line.chars().filter(|character| !character.is_control()).take(ERROR_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_functions_error_is_one_short_line() {
        let payload = br#"{"errorType":"Runtime.ExitError","errorMessage":"it\nended \u001b[31m"}"#;
        assert_eq!(words("Unhandled", payload), "Unhandled: Runtime.ExitError: it ended [31m");
        assert_eq!(words("Unhandled", b"no JSON"), "Unhandled");
        let long = format!(r#"{{"errorMessage":"{}"}}"#, "x".repeat(1000));
        assert_eq!(words("Unhandled", long.as_bytes()).len(), ERROR_SHOWN);
    }
}
