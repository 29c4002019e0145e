//! Limits of Lambda and SQS, each with its unit and source.

use std::time::Duration;

/// Largest payload of one invocation, in bytes.
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
pub const PAYLOAD_MAX_BYTES: usize = 6 * 1024 * 1024;

/// Messages of a standard queue that can be in flight at once: received, and neither deleted nor visible again. Beyond that,
/// nothing is received.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
pub const MESSAGES_IN_FLIGHT_MAX: usize = 120_000;

/// How long a message can be invisible after a receive.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html>
pub const INVISIBLE_MAX: Duration = Duration::from_hours(12);

/// First wait before a batch of a stream is retried. Lambda backs off exponentially, but documents no times.
/// <https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html>
pub const BACKOFF_BASE: Duration = Duration::from_secs(1);

/// Longest wait before a batch of a stream is retried.
pub const BACKOFF_CAP: Duration = Duration::from_mins(1);

/// Batches of a shard that are read ahead, for each batch that may run at once. Lambda does not document its own number.
pub const READ_AHEAD_BATCHES: usize = 2;
