//! The functions of the deployment, and what invokes them.

use crate::template::Deployed;
use event_source::queue::{Queue, QueueMapping};

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

/// What invokes a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// The queue that upstream sends to.
    Upstream,
    /// The queue between publisher and downstream, in a design without Kinesis.
    WorkQueue,
    /// The table's stream.
    TableStream,
    /// Kinesis.
    Kinesis,
    /// The schedule of the sweep.
    Schedule,
}

/// A queue with its dead-letter queue and its mapping.
#[derive(Debug)]
pub(crate) struct QueueSource {
    pub(crate) queue: Queue,
    pub(crate) dead: Queue,
    pub(crate) mapping: QueueMapping,
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

impl Source {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Upstream => "SQS",
            Self::WorkQueue => "queue",
            Self::TableStream => "table stream",
            Self::Kinesis => "Kinesis",
            Self::Schedule => "schedule",
        }
    }

    pub(crate) const fn function(self) -> Function {
        match self {
            Self::Upstream => Function::Ingest,
            Self::TableStream | Self::Schedule => Function::Publisher,
            Self::WorkQueue | Self::Kinesis => Function::Downstream,
        }
    }
}

impl QueueSource {
    pub(crate) fn new(deployed: &Deployed) -> Self {
        Self {
            queue: Queue::new(deployed.visibility_timeout, deployed.queue_retention, Some(deployed.max_receive_count)),
            dead: Queue::new(deployed.visibility_timeout, deployed.dead_letter_retention, None),
            mapping: QueueMapping::new(deployed.ingest.clone()),
        }
    }
}
