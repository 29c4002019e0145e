//! The settings of an event source mapping, read from JSON. CloudFormation, SAM and the Lambda API's
//! `ListEventSourceMappings` use the same names.
//! <https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html>

use crate::filter::Filter;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// Settings of a mapping of a DynamoDB stream, a Kinesis stream or an SQS queue. As in the API, those that are for streams only
/// or for queues only are among them.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Where it starts in a shard that is older than the mapping. Streams only.
    pub starting_position: StartingPosition,
    /// Largest number of records in one invocation.
    pub batch_size: usize,
    /// How long records are gathered for a batch.
    pub batching_window: Duration,
    /// Concurrent invocations for one shard. Records of one key still stay in order. Streams only.
    pub parallelization_factor: usize,
    /// Concurrent invocations; `None` means no limit. Queues only.
    pub maximum_concurrency: Option<usize>,
    /// Whether a batch whose invocation failed is split in two. Streams only.
    pub bisect_batch_on_function_error: bool,
    /// Retries of a batch before it is discarded; `None` means no limit. Streams only.
    pub maximum_retry_attempts: Option<u32>,
    /// Age from which a record is discarded; `None` means no limit. Streams only.
    pub maximum_record_age: Option<Duration>,
    /// Whether `batchItemFailures` in a response count.
    pub reports_batch_item_failures: bool,
    /// Which records the function gets; the other messages of a queue are deleted. `None` means all.
    pub filter: Option<Filter>,
    /// The ARN of the on-failure destination, which gets messages about discarded records. Streams only.
    pub on_failure: Option<String>,
    /// What progress does to the count of retries. Streams only.
    pub retries_after_progress: RetriesAfterProgress,
}

/// Where a mapping starts in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum StartingPosition {
    /// At the oldest record.
    #[serde(rename = "TRIM_HORIZON")]
    TrimHorizon,
    /// After the newest record.
    #[default]
    #[serde(rename = "LATEST")]
    Latest,
}

/// Whether a batch keeps its count of retries after part of it succeeded. The documentation does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetriesAfterProgress {
    /// The rest of the batch has one retry less than the batch had: the cautious reading.
    #[default]
    Kept,
    /// The rest is a new batch.
    Reset,
}

/// Settings that are invalid: a property has the wrong type, or a filter pattern is invalid.
#[derive(Debug, thiserror::Error)]
#[error("the event source mapping is invalid: {0}")]
pub struct InvalidSettings(String);

impl Settings {
    /// Reads the properties of a mapping of a stream. Absent properties have the service's defaults.
    ///
    /// # Errors
    /// [`InvalidSettings`] names the property or the pattern.
    pub fn of_stream(properties: &Value) -> Result<Self, InvalidSettings> {
        Self::read(properties, 100)
    }

    /// Reads the properties of a mapping of a queue. Absent properties have the service's defaults.
    ///
    /// # Errors
    /// [`InvalidSettings`] names the property or the pattern.
    pub fn of_queue(properties: &Value) -> Result<Self, InvalidSettings> {
        Self::read(properties, 10)
    }

    fn read(properties: &Value, default_batch_size: usize) -> Result<Self, InvalidSettings> {
        let window = property(properties, "/MaximumBatchingWindowInSeconds")?.unwrap_or(0);
        // -1 means no limit.
        let retries: Option<i64> = property(properties, "/MaximumRetryAttempts")?;
        let age: Option<i64> = property(properties, "/MaximumRecordAgeInSeconds")?;
        let response_types: Option<Vec<String>> = property(properties, "/FunctionResponseTypes")?;
        let patterns: Option<Vec<Pattern>> = property(properties, "/FilterCriteria/Filters")?;
        let patterns: Vec<String> = patterns.into_iter().flatten().map(|filter| filter.pattern).collect();
        let filter = Filter::parse(&patterns).map_err(|error| InvalidSettings(error.to_string()))?;
        Ok(Self {
            starting_position: property(properties, "/StartingPosition")?.unwrap_or_default(),
            batch_size: property(properties, "/BatchSize")?.unwrap_or(default_batch_size).max(1),
            batching_window: Duration::from_secs(window),
            parallelization_factor: property(properties, "/ParallelizationFactor")?.unwrap_or(1).max(1),
            maximum_concurrency: property(properties, "/ScalingConfig/MaximumConcurrency")?,
            bisect_batch_on_function_error: property(properties, "/BisectBatchOnFunctionError")?.unwrap_or_default(),
            maximum_retry_attempts: retries.and_then(|retries| retries.try_into().ok()),
            maximum_record_age: age.and_then(|age| age.try_into().ok()).map(Duration::from_secs),
            reports_batch_item_failures: response_types.iter().flatten().any(|kind| kind == "ReportBatchItemFailures"),
            filter: (!patterns.is_empty()).then_some(filter),
            on_failure: property(properties, "/DestinationConfig/OnFailure/Destination")?,
            retries_after_progress: RetriesAfterProgress::default(),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pattern {
    pattern: String,
}

/// The value of a property, which is named by a JSON pointer; `None` if it is absent or null.
fn property<T: DeserializeOwned>(properties: &Value, property: &str) -> Result<Option<T>, InvalidSettings> {
    for (end, _) in property.match_indices('/').skip(1) {
        let parent = &property[..end];
        if properties.pointer(parent).is_some_and(|value| !value.is_object() && !value.is_null()) {
            return Err(InvalidSettings(format!("{parent}: not an object")));
        }
    }
    let value = properties.pointer(property).unwrap_or(&Value::Null);
    Option::deserialize(value).map_err(|error| InvalidSettings(format!("{property}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_properties_have_the_defaults_of_the_service() {
        let stream = Settings::of_stream(&json!({})).unwrap();
        assert_eq!((stream.batch_size, stream.parallelization_factor), (100, 1));
        assert_eq!((stream.maximum_retry_attempts, stream.maximum_record_age), (None, None));
        assert!(!stream.reports_batch_item_failures && !stream.bisect_batch_on_function_error);
        let queue = Settings::of_queue(&json!({})).unwrap();
        assert_eq!((queue.batch_size, queue.maximum_concurrency), (10, None));
    }

    #[test]
    fn properties_are_read_by_the_names_that_cloudformation_and_the_api_give_them() {
        let stream = Settings::of_stream(&json!({
            "StartingPosition": "TRIM_HORIZON", "BatchSize": 200, "MaximumBatchingWindowInSeconds": 5,
            "ParallelizationFactor": 2, "BisectBatchOnFunctionError": true, "MaximumRetryAttempts": 6,
            "MaximumRecordAgeInSeconds": 3600, "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "FilterCriteria": {"Filters": [{"Pattern": "{\"a\":[1]}"}]},
            "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:::q"}},
            "EventSourceArn": "arn", "UUID": "more is ignored",
        }))
        .unwrap();
        assert_eq!(stream.starting_position, StartingPosition::TrimHorizon);
        assert_eq!((stream.batch_size, stream.batching_window), (200, Duration::from_secs(5)));
        assert_eq!((stream.parallelization_factor, stream.maximum_retry_attempts), (2, Some(6)));
        assert_eq!(stream.maximum_record_age, Some(Duration::from_hours(1)));
        assert!(stream.reports_batch_item_failures && stream.bisect_batch_on_function_error && stream.filter.is_some());
        assert_eq!(stream.on_failure.as_deref(), Some("arn:aws:sqs:::q"));
        let unlimited = json!({"MaximumRetryAttempts": -1, "MaximumRecordAgeInSeconds": -1});
        assert_eq!(Settings::of_stream(&unlimited).unwrap().maximum_retry_attempts, None);
    }

    #[test]
    fn an_invalid_property_is_named() {
        let error = |properties| Settings::of_stream(&properties).unwrap_err().to_string();
        assert!(error(json!({"BatchSize": "many"})).contains("mapping is invalid"));
        assert!(error(json!({"FilterCriteria": {"Filters": [{"Pattern": "{\"a\":1}"}]}})).contains("filter pattern"));
    }

    #[test]
    fn a_property_that_is_not_an_object_but_should_be_is_named() {
        for name in ["FilterCriteria", "DestinationConfig", "ScalingConfig"] {
            for value in [json!("text"), json!([{}])] {
                let error = Settings::of_stream(&json!({name: value})).unwrap_err().to_string();
                assert!(error.contains(&format!("/{name}: not an object")), "{error}");
            }
            Settings::of_stream(&json!({name: null})).unwrap();
        }
        let error = Settings::of_stream(&json!({"DestinationConfig": {"OnFailure": "arn"}})).unwrap_err().to_string();
        assert!(error.contains("/DestinationConfig/OnFailure: not an object"), "{error}");
    }
}
