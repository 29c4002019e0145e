//! Invocations of functions.

use super::source::{Function, Source};
use crate::world::Spent;
use event_source::Answer;
use jiff::Timestamp;
use notification::Guarantee;

/// The number of an invocation.
pub(crate) type Task = u64;

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
    /// When it began.
    pub(crate) began: Timestamp,
    /// The guarantee of the action that was deployed when it began. A later deployment does not change it.
    pub(crate) guarantee: Guarantee,
    /// What it has used of its budgets.
    pub(crate) spent: Spent,
}
