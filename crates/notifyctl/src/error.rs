//! What can go wrong, and what to do about it.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use std::fmt::Display;
use std::process::ExitCode;
use stream_reader::CallError;

/// An error of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A call to AWS failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The stack does not exist.
    #[error(
        "there is no stack {stack} in {region}: name it with --stack, deploy it with `sam deploy`, or run `make up` for the local one"
    )]
    NoStack { stack: String, region: String },
    /// The stack is not a deployment of this service.
    #[error("the stack {stack} has no output {output}: was it deployed from another template, or an older one?")]
    NoOutput { stack: String, output: &'static str },
    /// An output of the stack is invalid.
    #[error("the output {output} of the stack {stack} is {value:?}, not a number")]
    BadOutput { stack: String, output: &'static str, value: String },
    /// A file could not be read or written.
    #[error("{path}: {cause}")]
    File { path: String, cause: std::io::Error },
    /// The input has malformed notifications.
    #[error(
        "{path}: {lines} of its notifications are malformed, so nothing was sent; --unchecked sends them anyway\n{first}"
    )]
    Malformed { path: String, lines: usize, first: String },
    /// The input is empty.
    #[error("{path} holds no events")]
    Empty { path: String },
    /// Generated notifications would be malformed.
    #[error("notifications generated with the prefix {prefix:?} would be malformed: {reason}")]
    BadPrefix { prefix: String, reason: String },
    /// No region is configured.
    #[error("no AWS region is set: set AWS_REGION, or a region in the AWS profile")]
    NoRegion,
    /// Some messages may not have been sent: a lost answer leaves that open.
    #[error("{failed} of {all} messages may not have been sent: {reason}; {finish}")]
    NotSent { failed: usize, all: usize, reason: String, finish: String },
    /// Ctrl-C while sending messages.
    #[error("interrupted: some of {all} messages may not have been sent; {finish}")]
    SendInterrupted { all: usize, finish: String },
    /// The time for a command ran out.
    #[error("not settled after {seconds} s: {left}; --timeout waits longer")]
    NotSettled { seconds: u64, left: String },
    /// `watch` cannot succeed within its timeout.
    #[error(
        "--timeout must be more than {quiet} without --expect: `watch` ends only when no count has changed for {quiet} seconds"
    )]
    TimeoutTooShort { quiet: u64 },
    /// Some notifications of a measurement are not DONE.
    #[error(
        "{missing} of {all} notifications are not DONE, so the figures do not include them; `notifyctl status {example}` shows one of them"
    )]
    NotDone { missing: usize, all: usize, example: String },
    /// The text cannot be a notification id.
    #[error("{id:?} is not a notification id: {reason}")]
    NoId { id: String, reason: String },
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

    /// The error of an SDK call.
    pub(crate) fn aws<E: ProvideErrorMetadata, R>(call: &'static str) -> impl FnOnce(SdkError<E, R>) -> Self {
        move |error| Self::Call(CallError::of(call)(error))
    }

    /// The error of a call by its text.
    pub(crate) fn failed<E: Display>(call: &'static str) -> impl FnOnce(E) -> Self {
        move |cause| Self::Call(CallError::new(call, cause.to_string()))
    }

    /// The error of a file.
    pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |cause| Self::File { path, cause }
    }
}

/// The exit status of a command that answers yes or no.
pub(crate) fn exit(yes: bool) -> ExitCode {
    ExitCode::from(u8::from(!yes))
}
