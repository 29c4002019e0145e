//! What Lambda's event source mappings do, as state machines without I/O or clock: records and answers in, invocations
//! and acknowledgements out. A driver reads the source, invokes the function and keeps the time; so the same rules run in
//! a simulation and against a local AWS.
//!
//! | file | concern |
//! |---|---|
//! | [`settings`] | the settings of a mapping, by the names that CloudFormation and the Lambda API give them |
//! | [`filter`] | filter patterns |
//! | [`response`] | what a function's answer says about its batch |
//! | [`stream`] | a mapping of a DynamoDB or Kinesis stream: shards, batches, retries, bisect, checkpoints |
//! | [`queue`] | an SQS standard queue, and a mapping of one |
//!
//! Each rule names its source. Where the documentation leaves something open, the module says so and which way it takes;
//! [`settings::RetriesAfterProgress`] lets a driver try both.

pub mod filter;
pub mod queue;
pub mod response;
pub mod settings;
pub mod stream;

use serde_json::value::RawValue;

/// The number of an invocation, unique within its mapping.
pub type InvocationNumber = u64;

/// What came of an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The function returned, with this JSON.
    Response(&'a [u8]),
    /// The function failed, timed out, or its process ended.
    FunctionError,
    /// The function was not run: its concurrency is used up, or the service failed.
    Throttled,
}

/// The event that a function is invoked with: `{"Records": […]}`.
#[must_use]
pub fn payload<'a>(records: impl IntoIterator<Item = &'a RawValue>) -> String {
    let mut payload = String::from(r#"{"Records":["#);
    for (place, record) in records.into_iter().enumerate() {
        if place > 0 {
            payload.push(',');
        }
        payload.push_str(record.get());
    }
    payload.push_str("]}");
    payload
}

/// Bytes of one invocation's payload, at most.
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
pub const PAYLOAD_MAX_BYTES: usize = 6 * 1024 * 1024;
