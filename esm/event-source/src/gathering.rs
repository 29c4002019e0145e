//! Records that wait for a batch.
//! <https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html#invocation-eventsourcemapping-batching>

use crate::limits;
use crate::settings::Settings;
use jiff::Timestamp;
use std::collections::VecDeque;

/// Records that wait for a batch, in order.
#[derive(Debug)]
pub(crate) struct Gathering<T> {
    /// Each with the bytes of its JSON.
    records: VecDeque<(T, usize)>,
    /// When the batching window began, if there are records.
    since: Option<Timestamp>,
}

impl<T> Default for Gathering<T> {
    fn default() -> Self {
        Self { records: VecDeque::new(), since: None }
    }
}

impl<T> Gathering<T> {
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Adds a record. Its JSON has so many bytes.
    pub(crate) fn push(&mut self, record: T, bytes: usize, now: Timestamp) {
        self.since.get_or_insert(now);
        self.records.push_back((record, bytes));
    }

    /// Takes a batch, if one is full, as large as a payload, or its window has passed. A record that is too large for a
    /// payload goes alone.
    pub(crate) fn take(&mut self, settings: &Settings, now: Timestamp) -> Option<Vec<T>> {
        let window_ends = self.window_ends(settings)?;
        let (mut count, mut bytes) = (0, 0);
        for (_, json) in self.records.iter().take(settings.batch_size) {
            // A comma follows it.
            bytes += json + 1;
            if bytes > limits::PAYLOAD_MAX_BYTES {
                break;
            }
            count += 1;
        }
        let count = count.max(1);
        let is_full = count == settings.batch_size || count < self.records.len();
        if !is_full && window_ends > now {
            return None;
        }
        let batch = self.records.drain(..count).map(|(record, _)| record).collect();
        self.since = (!self.records.is_empty()).then_some(now);
        Some(batch)
    }

    /// When the batching window ends, if there are records.
    pub(crate) fn window_ends(&self, settings: &Settings) -> Option<Timestamp> {
        self.since.map(|since| since.saturating_add(settings.batching_window).unwrap_or(Timestamp::MAX))
    }
}
