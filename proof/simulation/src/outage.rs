//! How soon an outage is caught up, and what is given up in it. An outage of half an hour at 1,000 notifications a second leaves
//! 1.8 million of them, too many for a simulation of every call. So they are counted here, by the second in which they were
//! accepted. The settings of the template, the waits of ingest and the due times of the sweep are the real ones.
//!
//! [`streams`] is an outage of downstream or of publisher, [`queue`] one of ingest.

mod queue;
mod streams;

pub use queue::{QueueOutcome, queue};
pub use streams::{Settings, Stage, StreamOutcome, streams};

use std::time::Duration;

/// An outage.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// How long it lasts.
    pub lasts: Duration,
    /// Notifications that are accepted in each second.
    pub rate: u64,
    /// The most notifications that can be processed in a second without the outage. DynamoDB on demand takes twice the highest load that a
    /// table has had.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html>
    pub capacity: u64,
}

/// How long a run goes on after the outage before it counts as never caught up.
const PATIENCE: Duration = Duration::from_hours(24);
