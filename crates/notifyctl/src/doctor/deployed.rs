//! A deployed stack, as it was read.

use std::collections::BTreeMap;

/// A part of the stack, or why it could not be read.
pub(super) type Read<T> = Result<T, String>;

/// Everything that is checked. Times are in seconds, unless a name says otherwise.
#[derive(Debug, Clone)]
pub(super) struct Deployed {
    /// Whether the stack was deployed with `Production=true`.
    pub(super) production: bool,
    /// The output `DoneRetentionDays`.
    pub(super) done_retention_days: u32,
    /// The output `TableStreamArn`.
    pub(super) table_stream_arn: String,
    pub(super) queue: Read<Queue>,
    pub(super) dead_letter_queue: Read<Queue>,
    pub(super) publisher_failures: Read<Queue>,
    pub(super) downstream_failures: Read<Queue>,
    pub(super) table: Read<Table>,
    /// The attribute by which items expire; `None` if they do not.
    pub(super) time_to_live: Read<Option<String>>,
    pub(super) point_in_time_recovery: Read<bool>,
    pub(super) stream: Read<Stream>,
    pub(super) ingest: Stage,
    pub(super) publisher: Stage,
    pub(super) downstream: Stage,
    /// How often Lambda repeats a run of the sweep that failed.
    pub(super) sweep_retries: Read<i32>,
    pub(super) sweep: Read<Schedule>,
    pub(super) alarms: Read<Vec<Alarm>>,
    /// Alarms of the stack that CloudWatch does not have, by the names that the template gives them.
    pub(super) missing_alarms: Read<Vec<String>>,
}

#[derive(Debug, Clone)]
pub(super) struct Queue {
    pub(super) url: String,
    pub(super) arn: String,
    pub(super) retention: u64,
    pub(super) visibility_timeout: u64,
    /// Where a message goes after this many receives.
    pub(super) redrive: Option<(String, u32)>,
}

#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) arn: String,
    /// `None` if it has no stream.
    pub(super) stream_arn: Option<String>,
    pub(super) stream_view_type: Option<String>,
    pub(super) indexes: Vec<Index>,
    pub(super) deletion_protection: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) name: String,
    /// The names of its keys, the partition key first.
    pub(super) keys: Vec<String>,
    pub(super) is_active: bool,
}

/// The Kinesis stream.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) arn: String,
    pub(super) retention_hours: u64,
}

/// A function, with its mapping, log group and role.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    /// `ingest`, `publisher` or `downstream`.
    pub(super) name: &'static str,
    /// The name of the CloudFormation stack.
    pub(super) stack_name: String,
    /// The name of its function.
    pub(super) function_name: String,
    pub(super) function: Read<Function>,
    pub(super) mappings: Read<Vec<Mapping>>,
    /// Days for which its logs are kept; `None`: for ever.
    pub(super) log_retention_days: Read<Option<i32>>,
    /// What its role allows.
    pub(super) grants: Read<Vec<Grant>>,
}

#[derive(Debug, Clone)]
pub(super) struct Function {
    pub(super) timeout: u64,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) log_group: String,
    pub(super) log_format: String,
    pub(super) log_level: String,
}

/// An event source mapping.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    pub(super) uuid: String,
    pub(super) source_arn: String,
    pub(super) state: String,
    pub(super) batching_window: u64,
    pub(super) reports_batch_item_failures: bool,
    /// The patterns of its filters.
    pub(super) filters: Vec<String>,
    /// -1: no limit.
    pub(super) maximum_record_age: i64,
    /// -1: no limit.
    pub(super) maximum_retry_attempts: i64,
    pub(super) bisects: bool,
    pub(super) on_failure_arn: Option<String>,
}

/// An action on a resource that a policy allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    pub(super) action: String,
    pub(super) resource: String,
}

/// The schedule of the sweep.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    pub(super) rule: String,
    pub(super) is_enabled: bool,
    pub(super) expression: String,
    /// The functions that it invokes, with their input.
    pub(super) targets: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub(super) struct Alarm {
    /// The name that the template gives it.
    pub(super) name: String,
    pub(super) state: String,
    pub(super) actions_enabled: bool,
    /// Whether it notifies somebody when it is raised.
    pub(super) notifies: bool,
}
