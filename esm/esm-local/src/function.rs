//! One invocation of a function, through Lambda's Invoke API.

use crate::limits::{ERROR_SHOWN_CHARS, START_ALLOWANCE};
use crate::mapping::Mapping;
use aws_config::SdkConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::StalledStreamProtectionConfig;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::primitives::Blob;
use event_source::Answer;
use serde_json::Value;
use stream_reader::CallError;

/// A function.
#[derive(Debug)]
pub(crate) struct Function {
    client: Client,
    arn: String,
}

/// The result of an invocation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It returned this payload.
    Returned(Vec<u8>),
    /// It failed, timed out, or its process ended; with the error.
    Failed(String),
    /// It was not run; with the reason.
    NotRun(String),
}

impl Function {
    pub(crate) fn of(mapping: &Mapping, config: &SdkConfig) -> Self {
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(mapping.timeout + START_ALLOWANCE).build();
        let config = aws_sdk_lambda::config::Builder::from(config)
            .timeout_config(timeouts)
            // The engine decides what to retry, and when.
            .retry_config(RetryConfig::disabled())
            // A function sends nothing until it has finished.
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
            // It ran for longer than its timeout.
            Err(SdkError::TimeoutError(_)) => Outcome::Failed("no answer in time".to_owned()),
            // It had begun to answer, so it did run.
            Err(error @ SdkError::ResponseError(_)) => Outcome::Failed(CallError::of("Invoke")(error).to_string()),
            // It was throttled, or the service failed or is unreachable.
            Err(error) => Outcome::NotRun(CallError::of("Invoke")(error).to_string()),
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
    one_line.chars().filter(|character| !character.is_control()).take(ERROR_SHOWN_CHARS).collect()
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
        assert_eq!(words("Unhandled", long.as_bytes()).len(), ERROR_SHOWN_CHARS);
    }
}
