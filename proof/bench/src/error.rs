//! What can go wrong, and what to do about it.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

/// An error of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{program} crashed: {status}")]
    Crashed { program: PathBuf, status: ExitStatus },
    #[error("{program} did not answer for {seconds} s")]
    Silent { program: PathBuf, seconds: u64 },
    #[error("{program} answered with an error: {answer}")]
    Refused { program: PathBuf, answer: String },
    #[error("cannot {task}: {cause}")]
    Failed { task: String, cause: String },
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The error of a task that failed.
    pub(crate) fn cannot<C: Display>(task: impl Into<String>) -> impl FnOnce(C) -> Self {
        move |cause| Self::Failed { task: task.into(), cause: cause.to_string() }
    }

    /// 2: the command could not be carried out. 130: interrupted, as in shells.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Interrupted => ExitCode::from(130),
            _ => ExitCode::from(2),
        }
    }
}
