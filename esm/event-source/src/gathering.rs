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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The batches that are taken at once from records of these sizes.
    fn batches(sizes: &[usize]) -> Vec<Vec<usize>> {
        let settings = Settings::of_stream(&json!({"BatchSize": 3})).unwrap();
        let mut gathering = Gathering::default();
        for (place, size) in sizes.iter().enumerate() {
            gathering.push(place, *size, at(0));
        }
        std::iter::from_fn(|| gathering.take(&settings, at(0))).collect()
    }

    #[test]
    fn the_records_of_a_batch_and_the_commas_between_them_fit_into_a_payload() {
        let half = limits::PAYLOAD_MAX_BYTES / 2;
        assert_eq!(batches(&[half - 1, half - 1]), [[0, 1]]);
        assert_eq!(batches(&[half, half - 1]), [[0], [1]]);
        assert_eq!(batches(&[limits::PAYLOAD_MAX_BYTES * 2, 1, 1, 1, 1]), [vec![0], vec![1, 2, 3], vec![4]]);
    }

    #[test]
    fn a_window_begins_with_the_first_record_that_waits_and_again_with_what_a_batch_leaves() {
        let settings = Settings::of_stream(&json!({"BatchSize": 2, "MaximumBatchingWindowInSeconds": 5})).unwrap();
        let mut gathering = Gathering::default();
        assert_eq!(gathering.window_ends(&settings), None);
        gathering.push("a", 1, at(1));
        gathering.push("b", 1, at(2));
        gathering.push("c", 1, at(3));
        assert_eq!(gathering.window_ends(&settings), Some(at(6)));
        assert_eq!(gathering.take(&settings, at(3)), Some(vec!["a", "b"]), "it is full");
        assert_eq!((gathering.len(), gathering.window_ends(&settings)), (1, Some(at(8))));
        assert_eq!(gathering.take(&settings, at(7)), None);
        assert_eq!(gathering.take(&settings, at(8)), Some(vec!["c"]));
        assert_eq!((gathering.len(), gathering.window_ends(&settings)), (0, None));
    }
}
