//! The settings of an event source mapping. They read the JSON of CloudFormation and SAM properties, and of the Lambda
//! API's `ListEventSourceMappings`, which use the same names.
//! <https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html>

use crate::filter::{Filter, InvalidFilter};
use serde::Deserialize;
use std::time::Duration;

/// Settings of a mapping of a DynamoDB or Kinesis stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamSettings {
    /// Where it starts in a shard that was there before it.
    pub starting_position: StartingPosition,
    /// Records of one invocation, at most.
    pub batch_size: usize,
    /// How long records are gathered for.
    pub batching_window: Duration,
    /// Invocations of one shard at once. Records of one key stay in order all the same.
    pub parallelization_factor: usize,
    /// Whether a batch whose invocation failed is split in two.
    pub bisect_batch_on_function_error: bool,
    /// Retries of a batch before it is discarded; `None` for no limit.
    pub maximum_retry_attempts: Option<u32>,
    /// Age from which a record is discarded; `None` for no limit.
    pub maximum_record_age: Option<Duration>,
    /// Whether `batchItemFailures` in an answer are read.
    pub reports_batch_item_failures: bool,
    /// Which records are handed to the function; `None` for all.
    pub filter: Option<Filter>,
    /// Where the news of discarded records goes: an ARN.
    pub on_failure: Option<String>,
    /// What a checkpoint does to the count of retries.
    pub retries_after_progress: RetriesAfterProgress,
}

/// Settings of a mapping of an SQS queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueSettings {
    /// Messages of one invocation, at most.
    pub batch_size: usize,
    /// How long messages are gathered for.
    pub batching_window: Duration,
    /// Invocations at once; `None` for no bound.
    pub maximum_concurrency: Option<usize>,
    /// Whether `batchItemFailures` in an answer are read.
    pub reports_batch_item_failures: bool,
    /// Which messages are handed to the function; the others are deleted. `None` for all.
    pub filter: Option<Filter>,
}

/// Where a mapping starts in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum StartingPosition {
    /// At the oldest record.
    #[serde(rename = "TRIM_HORIZON")]
    TrimHorizon,
    /// Behind the newest record.
    #[serde(rename = "LATEST")]
    Latest,
}

/// Whether a batch that went forward to its checkpoint keeps its count of retries. The documentation does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetriesAfterProgress {
    /// The rest of the batch has as many retries left as the batch had, less one: the careful reading.
    #[default]
    Kept,
    /// The rest is a new batch.
    Reset,
}

/// Settings that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// A property is missing, or is not what it should be.
    #[error("the event source mapping cannot be read: {0}")]
    Property(#[from] serde_json::Error),
    /// A filter pattern is wrong.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
}

/// The properties as CloudFormation, SAM and the Lambda API name them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Properties {
    starting_position: Option<StartingPosition>,
    batch_size: Option<usize>,
    maximum_batching_window_in_seconds: Option<u64>,
    parallelization_factor: Option<usize>,
    bisect_batch_on_function_error: Option<bool>,
    maximum_retry_attempts: Option<i64>,
    maximum_record_age_in_seconds: Option<i64>,
    function_response_types: Option<Vec<String>>,
    filter_criteria: Option<FilterCriteria>,
    destination_config: Option<DestinationConfig>,
    scaling_config: Option<ScalingConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FilterCriteria {
    filters: Option<Vec<Pattern>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pattern {
    pattern: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DestinationConfig {
    on_failure: Option<OnFailure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OnFailure {
    destination: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ScalingConfig {
    maximum_concurrency: Option<usize>,
}

impl Properties {
    fn reports_batch_item_failures(&self) -> bool {
        self.function_response_types.iter().flatten().any(|kind| kind == "ReportBatchItemFailures")
    }

    fn filter(&self) -> Result<Option<Filter>, InvalidFilter> {
        let patterns = self.filter_criteria.iter().flat_map(|criteria| criteria.filters.iter().flatten());
        let patterns: Vec<&str> = patterns.map(|filter| filter.pattern.as_str()).collect();
        if patterns.is_empty() { Ok(None) } else { Filter::parse(&patterns).map(Some) }
    }

    fn batching_window(&self) -> Duration {
        Duration::from_secs(self.maximum_batching_window_in_seconds.unwrap_or(0))
    }
}

impl StreamSettings {
    /// Reads the properties of a mapping. What is absent has the service's default.
    ///
    /// # Errors
    /// [`InvalidSettings`] names what is wrong.
    pub fn from_properties(properties: &serde_json::Value) -> Result<Self, InvalidSettings> {
        let properties = Properties::deserialize(properties)?;
        // -1 is "no limit".
        let limit = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        Ok(Self {
            starting_position: properties.starting_position.unwrap_or(StartingPosition::Latest),
            batch_size: properties.batch_size.unwrap_or(100).max(1),
            batching_window: properties.batching_window(),
            parallelization_factor: properties.parallelization_factor.unwrap_or(1).max(1),
            bisect_batch_on_function_error: properties.bisect_batch_on_function_error.unwrap_or(false),
            maximum_retry_attempts: limit(properties.maximum_retry_attempts)
                .map(|attempts| u32::try_from(attempts).unwrap_or(u32::MAX)),
            maximum_record_age: limit(properties.maximum_record_age_in_seconds).map(Duration::from_secs),
            reports_batch_item_failures: properties.reports_batch_item_failures(),
            filter: properties.filter()?,
            on_failure: properties
                .destination_config
                .and_then(|config| config.on_failure)
                .and_then(|on_failure| on_failure.destination),
            retries_after_progress: RetriesAfterProgress::default(),
        })
    }
}

impl QueueSettings {
    /// Reads the properties of a mapping. What is absent has the service's default.
    ///
    /// # Errors
    /// [`InvalidSettings`] names what is wrong.
    pub fn from_properties(properties: &serde_json::Value) -> Result<Self, InvalidSettings> {
        let properties = Properties::deserialize(properties)?;
        Ok(Self {
            batch_size: properties.batch_size.unwrap_or(10).max(1),
            batching_window: properties.batching_window(),
            maximum_concurrency: properties.scaling_config.as_ref().and_then(|config| config.maximum_concurrency),
            reports_batch_item_failures: properties.reports_batch_item_failures(),
            filter: properties.filter()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_properties_have_the_defaults_of_the_service() {
        let stream = StreamSettings::from_properties(&json!({})).unwrap();
        assert_eq!((stream.batch_size, stream.parallelization_factor), (100, 1));
        assert_eq!((stream.maximum_retry_attempts, stream.maximum_record_age), (None, None));
        assert!(!stream.reports_batch_item_failures && !stream.bisect_batch_on_function_error);
        let queue = QueueSettings::from_properties(&json!({})).unwrap();
        assert_eq!((queue.batch_size, queue.maximum_concurrency), (10, None));
    }

    #[test]
    fn properties_are_read_by_the_names_that_cloudformation_and_the_api_give_them() {
        let stream = StreamSettings::from_properties(&json!({
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
        assert_eq!(StreamSettings::from_properties(&unlimited).unwrap().maximum_retry_attempts, None);
    }

    #[test]
    fn a_wrong_property_is_named() {
        let error = |properties| StreamSettings::from_properties(&properties).unwrap_err().to_string();
        assert!(error(json!({"BatchSize": "many"})).contains("cannot be read"));
        assert!(error(json!({"FilterCriteria": {"Filters": [{"Pattern": "{\"a\":1}"}]}})).contains("filter pattern"));
    }
}
