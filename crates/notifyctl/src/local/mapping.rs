//! Which event source mappings there are, and their settings, as they are deployed.

use crate::error::Error;
use crate::local::source::arn_part;
use aws::SdkConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use event_source::settings::StreamSettings;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Properties that are numbers.
const NUMBERS: [&str; 5] = [
    "BatchSize",
    "MaximumBatchingWindowInSeconds",
    "ParallelizationFactor",
    "MaximumRetryAttempts",
    "MaximumRecordAgeInSeconds",
];

/// Time for one invocation of a function that tells none: Lambda's default.
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html>
const DEFAULT_TIMEOUT_SECONDS: i32 = 3;

/// A mapping of a stream to a function.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// The function with its version or alias, if the mapping names one.
    pub(crate) function_arn: String,
    /// The role that the function runs under.
    pub(crate) role_arn: String,
    /// Time for one invocation.
    pub(crate) timeout: Duration,
    pub(crate) stream_arn: String,
    pub(crate) settings: StreamSettings,
    /// What the mapping asks for and does not get here.
    pub(crate) not_supported: Vec<String>,
}

impl Mapping {
    /// The function's name, for people.
    pub(crate) fn function(&self) -> &str {
        arn_part(&self.function_arn, 6)
    }

    /// The SDK's settings with the credentials of the function's role. Sessions are renewed before they expire.
    pub(crate) async fn with_role(&self, config: &SdkConfig) -> Result<SdkConfig, Error> {
        let provider = AssumeRoleProvider::builder(&self.role_arn).session_name(self.function()).configure(config);
        let provider = provider.build().await;
        // Tried here: a call that finds no credentials does not say why.
        provider.provide_credentials().await.map_err(|error| Error::Role {
            function: self.function().to_owned(),
            role: self.role_arn.clone(),
            cause: root_cause(&error),
        })?;
        let provider = SharedCredentialsProvider::new(provider);
        Ok(config.to_builder().credentials_provider(provider).build())
    }
}

/// What is at the bottom of an error.
fn root_cause(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error).to_string()
}

/// The mappings of streams that functions have.
pub(crate) async fn of_functions(config: &SdkConfig, functions: &[String]) -> Result<Vec<Mapping>, Error> {
    let lambda = Client::new(config);
    let mut mappings = Vec::new();
    for function in functions {
        let before = mappings.len();
        for properties in list(&lambda, function).await? {
            let text = |name: &str| properties[name].as_str().unwrap_or_default().to_owned();
            let (stream_arn, function_arn) = (text("EventSourceArn"), text("FunctionArn"));
            if !matches!(arn_part(&stream_arn, 2), "dynamodb" | "kinesis") {
                continue;
            }
            let settings = StreamSettings::from_properties(&properties).map_err(|cause| Error::Mapping {
                function: function.clone(),
                stream: stream_arn.clone(),
                cause,
            })?;
            let function = lambda.get_function_configuration().function_name(&function_arn).send().await;
            let function = function.map_err(Error::aws("GetFunctionConfiguration"))?;
            let seconds = function.timeout().unwrap_or(DEFAULT_TIMEOUT_SECONDS);
            mappings.push(Mapping {
                function_arn,
                role_arn: function.role.unwrap_or_default(),
                timeout: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
                stream_arn,
                not_supported: not_supported(&properties, &settings),
                settings,
            });
        }
        if mappings.len() == before {
            return Err(Error::NoMapping { function: function.clone() });
        }
    }
    Ok(mappings)
}

/// The properties of all event source mappings of a function, by the names that the Lambda API gives them.
async fn list(lambda: &Client, function: &str) -> Result<Vec<Value>, Error> {
    let mut mappings = Vec::new();
    let mut marker = None;
    loop {
        let body = Body::default();
        let call = lambda.list_event_source_mappings().function_name(function).set_marker(marker);
        let sent = call.customize().interceptor(body.clone()).send().await;
        // MiniStack has text for some numbers: what the SDK cannot read is an answer all the same.
        let Some(mut answer) = body.json() else {
            return sent.map(|_| mappings).map_err(Error::aws("ListEventSourceMappings"));
        };
        if let Value::Array(page) = answer["EventSourceMappings"].take() {
            mappings.extend(page.into_iter().map(with_numbers));
        }
        marker = answer["NextMarker"].as_str().filter(|marker| !marker.is_empty()).map(str::to_owned);
        if marker.is_none() {
            return Ok(mappings);
        }
    }
}

/// Makes numbers of what should be one and is text: MiniStack keeps what came from a template's parameter as it came.
fn with_numbers(mut properties: Value) -> Value {
    for name in NUMBERS {
        if let Some(value) = properties.get_mut(name)
            && let Some(number) = value.as_str().and_then(|text| text.parse::<i64>().ok())
        {
            *value = number.into();
        }
    }
    properties
}

fn not_supported(properties: &Value, settings: &StreamSettings) -> Vec<String> {
    let mut found = Vec::new();
    if properties["TumblingWindowInSeconds"].as_i64().is_some_and(|seconds| seconds > 0) {
        found.push("TumblingWindowInSeconds: there are no tumbling windows here".to_owned());
    }
    if let Some(arn) = settings.on_failure.as_deref().filter(|arn| arn_part(arn, 2) != "sqs") {
        found.push(format!("{arn}: what is given up is shown here, and only an SQS queue gets the message"));
    }
    found
}

/// The body of a good answer, as it came.
#[derive(Debug, Clone, Default)]
struct Body(Arc<Mutex<Option<Value>>>);

impl Body {
    fn json(&self) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Intercept for Body {
    fn name(&self) -> &'static str {
        "Body"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = Some(context.response()).filter(|answer| answer.status().is_success());
        let bytes = answer.and_then(|answer| answer.body().bytes());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            bytes.and_then(|bytes| serde_json::from_slice(bytes).ok());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_source::settings::StartingPosition;
    use serde_json::json;

    /// As MiniStack answers for the stack's own mapping.
    fn properties() -> Value {
        json!({
            "UUID": "99e1722d", "EventSourceArn": "arn:aws:kinesis:us-east-1:000000000000:stream/s",
            "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:f", "Qualifier": null, "State": "Enabled",
            "BatchSize": 200, "MaximumBatchingWindowInSeconds": 0, "LastModified": 1_795_410_995,
            "StartingPosition": "TRIM_HORIZON", "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:000000000000:q"}},
            "ParallelizationFactor": "2", "MaximumRetryAttempts": 6, "MaximumRecordAgeInSeconds": "21600",
            "BisectBatchOnFunctionError": true,
        })
    }

    #[test]
    fn settings_are_read_from_what_the_api_answers_also_where_numbers_are_text() {
        let settings = StreamSettings::from_properties(&with_numbers(properties())).unwrap();
        assert_eq!(settings.starting_position, StartingPosition::TrimHorizon);
        assert_eq!((settings.batch_size, settings.parallelization_factor), (200, 2));
        assert_eq!(settings.maximum_retry_attempts, Some(6));
        assert_eq!(settings.maximum_record_age, Some(Duration::from_hours(6)));
        assert!(settings.reports_batch_item_failures && settings.bisect_batch_on_function_error);
        assert_eq!(settings.on_failure.as_deref(), Some("arn:aws:sqs:us-east-1:000000000000:q"));
        assert!(not_supported(&properties(), &settings).is_empty());
    }

    #[test]
    fn what_a_mapping_asks_for_and_does_not_get_is_named() {
        let mut properties = properties();
        properties["TumblingWindowInSeconds"] = 30.into();
        properties["DestinationConfig"]["OnFailure"]["Destination"] = "arn:aws:sns:us-east-1:000000000000:t".into();
        let settings = StreamSettings::from_properties(&with_numbers(properties.clone())).unwrap();
        let [window, destination] = not_supported(&properties, &settings).try_into().unwrap();
        assert!(window.contains("tumbling") && destination.contains(":sns:"));
    }
}
