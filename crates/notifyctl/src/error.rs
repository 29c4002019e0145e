//! Why a command ended without its result, in a line that says what to do.

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
    /// The command could not be carried out for another reason.
    #[error("{0}")]
    Failed(String),
    /// The command was carried out, and its result is negative.
    #[error("{0}")]
    Negative(String),
    /// Ctrl-C.
    #[error("{0}")]
    Interrupted(String),
}

impl Error {
    /// 1: the result is negative. 2: the command could not be carried out. 130: interrupted, as in shells. (`audit`, `doctor`
    /// and `verify --follow` also exit with 3.)
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Negative(_) => 1,
            Self::Call(_) | Self::Failed(_) => 2,
            Self::Interrupted(_) => 130,
        })
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
        move |cause| Self::Failed(format!("{}: {cause}", path.display()))
    }
}
