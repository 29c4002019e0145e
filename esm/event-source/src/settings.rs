//! The settings of an event source mapping, read from JSON. CloudFormation, SAM and the Lambda API's
//! `ListEventSourceMappings` use the same names.
//! <https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html>

use crate::filter::{Filter, InvalidFilter};
use serde::Deserialize;
use std::time::Duration;

/// Settings of a mapping of a DynamoDB or Kinesis stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamSettings {
    /// Where it starts in a shard that is older than the mapping.
    pub starting_position: StartingPosition,
    /// Largest number of records in one invocation.
    pub batch_size: usize,
    /// How long records are gathered for a batch.
    pub batching_window: Duration,
    /// Concurrent invocations for one shard. Records of one key still stay in order.
    pub parallelization_factor: usize,
    /// Whether a batch whose invocation failed is split in two.
    pub bisect_batch_on_function_error: bool,
    /// Retries of a batch before it is discarded; `None` means no limit.
    pub maximum_retry_attempts: Option<u32>,
    /// Age from which a record is discarded; `None` means no limit.
    pub maximum_record_age: Option<Duration>,
    /// Whether `batchItemFailures` in a response count.
    pub reports_batch_item_failures: bool,
    /// Which records the function gets; `None` means all.
    pub filter: Option<Filter>,
    /// The ARN of the on-failure destination, which gets messages about discarded records.
    pub on_failure: Option<String>,
    /// What progress does to the count of retries.
    pub retries_after_progress: RetriesAfterProgress,
}

/// Settings of a mapping of an SQS queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueSettings {
    /// Largest number of messages in one invocation.
    pub batch_size: usize,
    /// How long messages are gathered for a batch.
    pub batching_window: Duration,
    /// Concurrent invocations; `None` means no limit.
    pub maximum_concurrency: Option<usize>,
    /// Whether `batchItemFailures` in a response count.
    pub reports_batch_item_failures: bool,
    /// Which messages the function gets; the others are deleted. `None` means all.
    pub filter: Option<Filter>,
}

/// Where a mapping starts in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum StartingPosition {
    /// At the oldest record.
    #[serde(rename = "TRIM_HORIZON")]
    TrimHorizon,
    /// After the newest record.
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

/// Settings that are invalid.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// A property is missing or has the wrong type.
    #[error("the event source mapping is invalid: {0}")]
    Property(#[from] serde_json::Error),
    /// A filter pattern is invalid.
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
    /// Reads the properties of a mapping. Absent properties have the service's defaults.
    ///
    /// # Errors
    /// [`InvalidSettings`] names the property or the pattern.
    pub fn from_properties(properties: &serde_json::Value) -> Result<Self, InvalidSettings> {
        let properties = Properties::deserialize(properties)?;
        // -1 means no limit.
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
    /// Reads the properties of a mapping. Absent properties have the service's defaults.
    ///
    /// # Errors
    /// [`InvalidSettings`] names the property or the pattern.
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
    fn an_invalid_property_is_named() {
        let error = |properties| StreamSettings::from_properties(&properties).unwrap_err().to_string();
        assert!(error(json!({"BatchSize": "many"})).contains("mapping is invalid"));
        assert!(error(json!({"FilterCriteria": {"Filters": [{"Pattern": "{\"a\":1}"}]}})).contains("filter pattern"));
    }
}
