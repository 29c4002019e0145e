//! Times and counts, each with its reason.

use std::time::Duration;

/// Invocations of all functions at once. Each is a process of its own on this machine, and MiniStack may throttle above 16
/// (its `LAMBDA_ACCOUNT_CONCURRENCY`).
pub(crate) const INVOCATIONS_AT_ONCE: usize = 10;

/// Time for one attempt of one call, invocations excepted. A local AWS that takes longer has hung.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// An invocation may take this much longer than the function's timeout: its process may have to be started first.
pub(crate) const START_ALLOWANCE: Duration = Duration::from_secs(30);

/// Lambda's default timeout of a function.
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html>
pub(crate) const FUNCTION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3);

/// Time between two reads of a shard that had nothing new: Kinesis allows five a second.
/// <https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html>
pub(crate) const POLL_EVERY: Duration = Duration::from_millis(200);

/// Time between two looks for new shards.
pub(crate) const SHARDS_EVERY: Duration = Duration::from_secs(5);

/// After each failed read, the wait doubles, but no more often than this: up to 6.4 seconds.
pub(crate) const DOUBLINGS: u32 = 5;

/// A stream that has not answered for this long is gone: a local AWS restarts much sooner, or never.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_mins(5);

/// Shortest sleep. The engine's time and the clock may differ by nanoseconds, which must not become a busy loop.
pub(crate) const SLEEP_MIN: Duration = Duration::from_millis(1);

/// Characters of a function's error that are shown.
pub(crate) const ERROR_SHOWN_CHARS: usize = 200;
