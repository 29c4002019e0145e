//! What happens next: events in the order of their times. Events of the same time happen in the order in which they were
//! scheduled.

use jiff::Timestamp;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

type Event<W> = Box<dyn FnOnce(&mut W) + Send>;

/// The events that are still to come.
pub(super) struct Agenda<W> {
    events: BinaryHeap<Scheduled<W>>,
    scheduled: u64,
}

struct Scheduled<W> {
    at: Timestamp,
    order: u64,
    event: Event<W>,
}

impl<W> Agenda<W> {
    pub(super) fn new() -> Self {
        Self { events: BinaryHeap::new(), scheduled: 0 }
    }

    pub(super) fn add(&mut self, at: Timestamp, event: Event<W>) {
        self.scheduled += 1;
        self.events.push(Scheduled { at, order: self.scheduled, event });
    }

    /// Takes the next event and its time.
    pub(super) fn next(&mut self) -> Option<(Timestamp, Event<W>)> {
        self.events.pop().map(|next| (next.at, next.event))
    }
}

impl<W> PartialEq for Scheduled<W> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<W> Eq for Scheduled<W> {}

impl<W> PartialOrd for Scheduled<W> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<W> Ord for Scheduled<W> {
    /// The greatest element of the heap is the earliest event.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}
