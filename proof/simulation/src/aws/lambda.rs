//! The functions of the deployment and their invocations.

use super::source::Source;
use event_source::Answer;
use jiff::Timestamp;

/// The number of an invocation.
pub(crate) type Task = u64;

/// A function of the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Function {
    /// Reads the queue.
    Ingest,
    /// Reads the table's stream, and runs on a schedule.
    Publisher,
    /// Reads Kinesis, or the work queue.
    Downstream,
}

impl Function {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Publisher => "publisher",
            Self::Downstream => "downstream",
        }
    }
}

/// How an invocation ended.
#[derive(Debug, Clone)]
pub(crate) enum Ended {
    /// The function returned this.
    Response(String),
    /// The function failed, or its process died.
    Error,
    /// The function was not run.
    Throttled,
}

impl Ended {
    /// As the mapping is told.
    pub(crate) fn answer(&self) -> Answer<'_> {
        match self {
            Self::Response(response) => Answer::Response(response.as_bytes()),
            Self::Error => Answer::FunctionError,
            Self::Throttled => Answer::Throttled,
        }
    }
}

/// One invocation of a function.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) task: Task,
    pub(crate) function: Function,
    pub(crate) payload: String,
    /// When Lambda ends it.
    pub(crate) deadline: Timestamp,
}

/// An invocation in progress.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) from: Source,
    /// Its name in traces.
    pub(crate) name: String,
    /// The ids of its records.
    pub(crate) ids: Vec<String>,
}
