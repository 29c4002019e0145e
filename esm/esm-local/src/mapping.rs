//! Which event source mappings are deployed, and their settings.

use crate::arn;
use crate::cli::Cli;
use crate::error::Error;
use crate::limits::FUNCTION_TIMEOUT_DEFAULT;
use aws_config::SdkConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use event_source::settings::Settings;
use serde_json::{Map, Value};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use stream_reader::CallError;

/// A mapping, in messages.
const MAPPING: &str = "event source mapping of a DynamoDB or Kinesis stream";

/// A mapping of a stream to a function.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// The ARN of the function, with its version or alias if the mapping names one.
    pub(crate) function_arn: String,
    /// The role that the function runs under.
    pub(crate) role_arn: String,
    /// Time for one invocation.
    pub(crate) timeout: Duration,
    pub(crate) stream_arn: String,
    pub(crate) settings: Settings,
    /// Settings that are not supported here.
    pub(crate) not_supported: Vec<String>,
}

impl Mapping {
    /// The function's name, for people.
    pub(crate) fn function(&self) -> &str {
        arn::function_name(&self.function_arn)
    }

    /// The SDK's settings with the credentials of the function's role. Sessions are renewed before they expire.
    pub(crate) async fn with_role(&self, config: &SdkConfig) -> Result<SdkConfig, Error> {
        let provider = AssumeRoleProvider::builder(&self.role_arn).session_name(self.function()).configure(config);
        let provider = provider.build().await;
        // Tried here, because a call without credentials does not say why there are none.
        provider.provide_credentials().await.map_err(|error| {
            let (function, role, cause) = (self.function(), &self.role_arn, root_cause(&error));
            format!("{function} runs under the role {role}, which cannot be assumed: {cause}; does the role exist?")
        })?;
        let provider = SharedCredentialsProvider::new(provider);
        Ok(config.to_builder().credentials_provider(provider).build())
    }
}

/// The innermost cause of an error.
fn root_cause(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error).to_string()
}

/// The mappings of streams to the selected functions.
pub(crate) async fn find(config: &SdkConfig, cli: &Cli) -> Result<Vec<Mapping>, Error> {
    let lambda = Client::new(config);
    let mut found = list(&lambda).await?;
    found.retain(|properties| matches!(arn::part(text(properties, "EventSourceArn"), 2), "dynamodb" | "kinesis"));
    let functions = match &cli.stack {
        Some(stack) => functions_of(config, stack).await?,
        None => cli.function.clone(),
    };
    let is_mapped = |function: &String| found.iter().any(|mapping| is_of(mapping, function));
    if let Some(function) = cli.function.iter().find(|function| !is_mapped(function)) {
        return Err(format!("the function {function} has no {MAPPING}").into());
    }
    if cli.stack.is_some() || !cli.function.is_empty() {
        found.retain(|mapping| functions.iter().any(|function| is_of(mapping, function)));
    }
    if found.is_empty() {
        let of = cli.stack.as_ref().map_or("of this AWS".to_owned(), |stack| format!("of the stack {stack}"));
        return Err(format!("no function {of} has an {MAPPING}; deploy one first").into());
    }
    let mut mappings = Vec::new();
    for properties in found {
        mappings.push(mapping(&lambda, &properties).await?);
    }
    Ok(mappings)
}

fn text<'a>(properties: &'a Value, name: &str) -> &'a str {
    properties[name].as_str().unwrap_or_default()
}

/// Whether a mapping is of this function, which is given by its name or ARN.
fn is_of(properties: &Value, function: &str) -> bool {
    arn::function_name(text(properties, "FunctionArn")) == arn::function_name(function)
}

/// The names of the functions of a stack.
async fn functions_of(config: &SdkConfig, stack: &str) -> Result<Vec<String>, Error> {
    let cloudformation = aws_sdk_cloudformation::Client::new(config);
    let mut functions = Vec::new();
    let mut pages = cloudformation.list_stack_resources().stack_name(stack).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(CallError::of("ListStackResources"))?;
        let resources = page.stack_resource_summaries.unwrap_or_default().into_iter();
        let of_lambda = resources.filter(|resource| resource.resource_type() == Some("AWS::Lambda::Function"));
        functions.extend(of_lambda.filter_map(|resource| resource.physical_resource_id));
    }
    Ok(functions)
}

/// Reads a mapping, and what it needs to know of its function.
async fn mapping(lambda: &Client, properties: &Value) -> Result<Mapping, Error> {
    let (stream_arn, function_arn) = (text(properties, "EventSourceArn"), text(properties, "FunctionArn"));
    let settings = Settings::of_stream(properties)
        .map_err(|error| format!("the mapping of {stream_arn} to {}: {error}", arn::function_name(function_arn)))?;
    let function = lambda.get_function_configuration().function_name(function_arn).send().await;
    let function = function.map_err(CallError::of("GetFunctionConfiguration"))?;
    let seconds = function.timeout().and_then(|seconds| u64::try_from(seconds).ok());
    Ok(Mapping {
        function_arn: function_arn.to_owned(),
        role_arn: function.role.unwrap_or_default(),
        timeout: seconds.map_or(FUNCTION_TIMEOUT_DEFAULT, Duration::from_secs),
        stream_arn: stream_arn.to_owned(),
        not_supported: not_supported(properties, &settings),
        settings,
    })
}

/// The properties of all event source mappings, by the names that the Lambda API gives them.
async fn list(lambda: &Client) -> Result<Vec<Value>, Error> {
    let mut mappings = Vec::new();
    let mut marker = None;
    loop {
        let body = Body::default();
        let call = lambda.list_event_source_mappings().set_marker(marker).customize().interceptor(body.clone());
        let sent = call.send().await;
        // MiniStack has text for some numbers. The SDK refuses such an answer, but it is one.
        let Some(mut answer) = body.0.get().cloned() else {
            return Ok(sent.map(|_| mappings).map_err(CallError::of("ListEventSourceMappings"))?);
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

/// Turns text into numbers: MiniStack leaves values of template parameters as text. No other property is a number in text.
fn with_numbers(mut properties: Value) -> Value {
    for value in properties.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(number) = value.as_str().and_then(|text| text.parse::<i64>().ok()) {
            *value = number.into();
        }
    }
    properties
}

fn not_supported(properties: &Value, settings: &Settings) -> Vec<String> {
    let mut found = Vec::new();
    if properties["TumblingWindowInSeconds"].as_i64().is_some_and(|seconds| seconds > 0) {
        found.push("TumblingWindowInSeconds: tumbling windows are not supported".to_owned());
    }
    if let Some(arn) = settings.on_failure.as_deref().filter(|arn| arn::part(arn, 2) != "sqs") {
        found.push(format!(
            "{arn}: only an SQS queue is supported as on-failure destination; discarded records are shown here"
        ));
    }
    found
}

/// The body of a successful answer, as the service sent it.
#[derive(Debug, Clone, Default)]
struct Body(Arc<OnceLock<Value>>);

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
        let body = answer.and_then(|answer| serde_json::from_slice(answer.body().bytes()?).ok());
        if let Some(body) = body {
            self.0.get_or_init(|| body);
        }
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
    fn settings_are_read_from_the_answer_of_the_api_even_if_its_numbers_are_text() {
        let settings = Settings::of_stream(&with_numbers(properties())).unwrap();
        assert_eq!(settings.starting_position, StartingPosition::TrimHorizon);
        assert_eq!((settings.batch_size, settings.parallelization_factor), (200, 2));
        assert_eq!(settings.maximum_retry_attempts, Some(6));
        assert_eq!(settings.maximum_record_age, Some(Duration::from_hours(6)));
        assert!(settings.reports_batch_item_failures && settings.bisect_batch_on_function_error);
        assert_eq!(settings.on_failure.as_deref(), Some("arn:aws:sqs:us-east-1:000000000000:q"));
        assert!(not_supported(&properties(), &settings).is_empty());
    }

    #[test]
    fn settings_that_are_not_supported_are_named() {
        let mut properties = properties();
        properties["TumblingWindowInSeconds"] = 30.into();
        properties["DestinationConfig"]["OnFailure"]["Destination"] = "arn:aws:sns:us-east-1:000000000000:t".into();
        let settings = Settings::of_stream(&with_numbers(properties.clone())).unwrap();
        let [window, destination] = not_supported(&properties, &settings).try_into().unwrap();
        assert!(window.contains("tumbling") && destination.contains(":sns:"));
    }
}
