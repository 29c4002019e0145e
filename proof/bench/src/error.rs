//! What can go wrong, and what to do about it.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitStatus;

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
}

impl Error {
    /// The error of a task that failed.
    pub(crate) fn cannot<C: Display>(task: impl Into<String>) -> impl FnOnce(C) -> Self {
        move |cause| Self::Failed { task: task.into(), cause: cause.to_string() }
    }
}
