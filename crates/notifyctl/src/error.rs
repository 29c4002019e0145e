//! What can go wrong, with what to do about it.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use event_source::settings::InvalidSettings;
use std::process::ExitCode;

/// An error of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A call to AWS failed.
    #[error("{call} failed: {cause}")]
    Aws { call: &'static str, cause: String },
    /// There is no such stack.
    #[error(
        "there is no stack {stack} in {region}: name it with --stack, deploy it with `sam deploy`, or run `make up` for the local one"
    )]
    NoStack { stack: String, region: String },
    /// The stack is not one of ours.
    #[error("the stack {stack} has no output {output}: was it deployed from another template, or an older one?")]
    NoOutput { stack: String, output: &'static str },
    /// An output of the stack is not what it should be.
    #[error("the output {output} of the stack {stack} is {value:?}, not a number")]
    BadOutput { stack: String, output: &'static str, value: String },
    /// A file could not be read or written.
    #[error("{path}: {cause}")]
    File { path: String, cause: std::io::Error },
    /// The input has lines that are no notifications.
    #[error(
        "{path}: {lines} of its notifications are malformed, so nothing was sent; --unchecked sends them all the same\n{first}"
    )]
    Malformed { path: String, lines: usize, first: String },
    /// The input holds nothing.
    #[error("{path} holds no events")]
    Empty { path: String },
    /// What is to be made up would be no notifications.
    #[error("notifications made with the prefix {prefix:?} would be malformed: {reason}")]
    BadPrefix { prefix: String, reason: String },
    /// No region.
    #[error("no AWS region is set: set AWS_REGION, or a region in the AWS profile")]
    NoRegion,
    /// Some messages may not have been sent: an answer that is lost does not tell.
    #[error("{failed} of {all} messages may not have been sent: {reason}; {finish}")]
    NotSent { failed: usize, all: usize, reason: String, finish: String },
    /// Ctrl-C while messages were sent.
    #[error("interrupted: some of {all} messages may not have been sent; {finish}")]
    SendInterrupted { all: usize, finish: String },
    /// The time for a command ran out.
    #[error("not settled after {seconds} s: {left}; --timeout waits longer")]
    NotSettled { seconds: u64, left: String },
    /// `watch` could never succeed within its timeout.
    #[error(
        "--timeout must be more than {quiet} without --expect: `watch` ends only when no count has changed for {quiet} seconds"
    )]
    TimeoutTooShort { quiet: u64 },
    /// Some notifications of a measurement are not DONE.
    #[error(
        "{missing} of {all} notifications are not DONE, so the figures lack them; `notifyctl status {example}` shows one of them"
    )]
    NotDone { missing: usize, all: usize, example: String },
    /// The text cannot be a notification id.
    #[error("{id:?} is no notification id: {reason}")]
    NoId { id: String, reason: String },
    /// The endpoint is not on this machine.
    #[error(
        "notifyctl local polls nothing but a local AWS: AWS_ENDPOINT_URL must be an address of this machine, such as http://127.0.0.1:4566, and is {found}"
    )]
    NotLocal { found: String },
    /// A function has no stream for a source.
    #[error("{function} has no event source mapping of a DynamoDB or Kinesis stream")]
    NoMapping { function: String },
    /// A mapping has settings that make no sense.
    #[error("the mapping of {stream} to {function}: {cause}")]
    Mapping { function: String, stream: String, cause: InvalidSettings },
    /// The role of a function cannot be assumed.
    #[error("{function} runs under the role {role}, which cannot be assumed: {cause}; does the role exist?")]
    Role { function: String, role: String, cause: String },
    /// A stream answers no more.
    #[error("{stream} has answered nothing for {seconds} s, so it is polled no more; {cause}")]
    Gone { stream: String, seconds: u64, cause: String },
    /// The end could not be listened for.
    #[error("signals cannot be received: {0}")]
    Signal(std::io::Error),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// 1: the answer is no. 2: the command could not be carried out. 130: interrupted, as in shells. (An audit also has 3.)
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::NotSettled { .. } | Self::NotDone { .. } => ExitCode::from(1),
            Self::Interrupted | Self::SendInterrupted { .. } => ExitCode::from(130),
            _ => ExitCode::from(2),
        }
    }

    /// The error of an SDK call, in one line. The SDK's own text holds whole requests.
    pub(crate) fn aws<E: ProvideErrorMetadata, R>(call: &'static str) -> impl FnOnce(SdkError<E, R>) -> Self {
        move |error| Self::Aws { call, cause: cause(&error) }
    }

    /// The error of a file.
    pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |cause| Self::File { path, cause }
    }
}

fn cause<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    match error {
        SdkError::ServiceError(service) => {
            let (code, message) = (service.err().code(), service.err().message());
            format!("{}: {}", code.unwrap_or("unknown error"), message.unwrap_or("no message"))
        }
        SdkError::TimeoutError(_) => "no answer in time; check the network and AWS_ENDPOINT_URL".to_owned(),
        // Where no credentials are found, the SDK says that the dispatch failed, too.
        SdkError::DispatchFailure(failure) if failure.is_io() || failure.is_timeout() => {
            "the endpoint cannot be reached; check the network and AWS_ENDPOINT_URL".to_owned()
        }
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) => {
            "no request could be made; check the credentials and AWS_REGION".to_owned()
        }
        _ => "the answer could not be read; is AWS_ENDPOINT_URL an AWS endpoint?".to_owned(),
    }
}

/// The exit status of a command that answers yes or no.
pub(crate) fn exit(yes: bool) -> ExitCode {
    ExitCode::from(u8::from(!yes))
}
