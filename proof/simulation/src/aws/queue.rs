//! A queue with its dead-letter queue and its mapping.

use super::lambda::Function;
use super::stream::Alarm;
use crate::template::Deployed;
use event_source::queue::{Queue, QueueMapping};

/// A queue with its dead-letter queue and its mapping.
#[derive(Debug)]
pub(crate) struct QueueSource {
    pub(crate) queue: Queue,
    pub(crate) dead: Queue,
    pub(crate) mapping: QueueMapping,
    pub(crate) function: Function,
    pub(crate) alarm: Alarm,
}

/// Which queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueName {
    /// Upstream sends to it.
    Upstream,
    /// Between publisher and downstream, in a design without Kinesis.
    Work,
}

impl QueueSource {
    pub(crate) fn new(deployed: &Deployed, function: Function) -> Self {
        Self {
            queue: Queue::new(deployed.visibility_timeout, deployed.queue_retention, Some(deployed.max_receive_count)),
            dead: Queue::new(deployed.visibility_timeout, deployed.dead_letter_retention, None),
            mapping: QueueMapping::new(deployed.ingest.clone()),
            function,
            alarm: Alarm::default(),
        }
    }
}

impl QueueName {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Upstream => "SQS",
            Self::Work => "queue",
        }
    }
}
