//! What can go wrong, and what to do about it.

use event_source::settings::InvalidSettings;
use stream_reader::CallError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A call to AWS failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// No region is configured.
    #[error("no AWS region is set: set AWS_REGION, or a region in the AWS profile")]
    NoRegion,
    /// The endpoint is not on this machine.
    #[error(
        "esm-local polls only a local AWS: AWS_ENDPOINT_URL must be an address of this machine, such as http://127.0.0.1:4566, but it is {found}"
    )]
    NotLocal { found: String },
    /// A function that was asked for has no stream.
    #[error("the function {function} has no event source mapping of a DynamoDB or Kinesis stream")]
    NoMapping { function: String },
    /// No function has a stream.
    #[error("no function {of} has an event source mapping of a DynamoDB or Kinesis stream; deploy one first")]
    NoMappings { of: String },
    /// A mapping has invalid settings.
    #[error("the mapping of {stream} to {function}: {cause}")]
    Mapping { function: String, stream: String, cause: InvalidSettings },
    /// The role of a function cannot be assumed.
    #[error("{function} runs under the role {role}, which cannot be assumed: {cause}; does the role exist?")]
    Role { function: String, role: String, cause: String },
    /// A stream no longer answers.
    #[error("gave up polling {stream}: no answer for {seconds} s; {cause}")]
    Gone { stream: String, seconds: u64, cause: CallError },
    /// Signals cannot be received.
    #[error("cannot listen for signals: {0}")]
    Signal(std::io::Error),
}
