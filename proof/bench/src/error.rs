//! What can go wrong, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

/// An error of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{path}: {cause}; `make bench` builds the binaries first")]
    Binary { path: PathBuf, cause: io::Error },
    #[error("{path}: {cause}; control groups need root")]
    Throttle { path: PathBuf, cause: io::Error },
    #[error("{path}: {cause}; is it installed?")]
    Program { path: PathBuf, cause: io::Error },
    #[error("{path}: {cause}")]
    File { path: PathBuf, cause: io::Error },
    #[error("{binary} crashed: {status}")]
    Ended { binary: &'static str, status: ExitStatus },
    #[error("{binary} did not answer for {seconds} s")]
    Silent { binary: &'static str, seconds: u64 },
    #[error("{binary} answered with an error: {answer}")]
    Refused { binary: &'static str, answer: String },
    #[error("cannot measure the process: {0}")]
    Unmeasurable(String),
    #[error("cannot start a server on loopback: {0}")]
    Server(io::Error),
    #[error("cannot make certificates for the backend: {0}")]
    Tls(String),
    #[error("cannot draw the plot: {0}")]
    Plot(String),
    #[error("cannot run the handler: {0}")]
    Handler(String),
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// 2: the command could not be carried out. 130: interrupted, as in shells.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Interrupted => ExitCode::from(130),
            _ => ExitCode::from(2),
        }
    }
}
