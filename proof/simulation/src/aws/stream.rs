//! A stream with its mapping.

use super::shards::Shards;
use event_source::settings::Settings;
use event_source::stream::{Record, StreamMapping};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The partition key of foreign records.
pub(crate) const FOREIGN: &str = "foreign";

/// A stream with its mapping.
#[derive(Debug)]
pub(crate) struct StreamSource {
    pub(crate) shards: Shards,
    pub(crate) mapping: StreamMapping,
    /// How many foreign records were discarded or expired unread.
    pub(crate) lost_foreign: usize,
    /// How often the function was run with a record, by its sequence number.
    deliveries: BTreeMap<Box<str>, u32>,
    /// How often the pollers before the last restart or update were allowed to deliver a record.
    allowed_before: u32,
}

impl StreamSource {
    pub(crate) fn new(shards: usize, retention: Duration, settings: &Settings) -> Self {
        Self {
            shards: Shards::new(shards, retention),
            mapping: StreamMapping::new(settings.clone()),
            lost_foreign: 0,
            deliveries: BTreeMap::new(),
            allowed_before: 0,
        }
    }

    /// Hands everything that can be read to the mapping. `true` if a record expired unread.
    pub(crate) fn read(&mut self, now: Timestamp) -> bool {
        let mut expired = false;
        loop {
            self.mapping.discovered(self.shards.list());
            let to_read: Vec<_> =
                self.mapping.to_read().map(|(shard, from)| (shard.to_owned(), from.clone())).collect();
            let mut progress = false;
            for (shard, from) in to_read {
                let read = self.shards.read(&shard, &from, now);
                progress |= read.ended || !read.records.is_empty();
                expired |= !read.expired.is_empty();
                self.lose(read.expired.iter().map(String::as_str));
                self.mapping.read(&shard, read.records, read.ended, now);
            }
            if !progress {
                return expired;
            }
        }
    }

    /// Counts the foreign ones among records that were discarded or expired.
    pub(crate) fn lose<'a>(&mut self, keys: impl Iterator<Item = &'a str>) {
        self.lost_foreign += keys.filter(|key| *key == FOREIGN).count();
    }

    /// Counts a delivery of these records, and returns how often one of them has been delivered at most.
    pub(crate) fn count_delivery(&mut self, records: &[Arc<Record>]) -> u32 {
        let mut most = 0;
        for record in records {
            let count = self.deliveries.entry(record.sequence_number.clone()).or_default();
            *count += 1;
            most = most.max(*count);
        }
        most
    }

    /// How often a record may be delivered: once and as often as it is retried, once more for each bisect, and all of that
    /// again after each restart of the poller.
    pub(crate) fn deliveries_allowed(&self) -> u32 {
        let settings = self.mapping.settings();
        let splits = usize::BITS - settings.batch_size.leading_zeros();
        let attempts = settings.maximum_retry_attempts.map_or(u32::MAX, |retries| 1 + retries + splits);
        self.allowed_before.saturating_add(attempts)
    }

    /// Restarts the poller: it reads on from its checkpoint.
    pub(crate) fn restart(&mut self) {
        self.allowed_before = self.deliveries_allowed();
        self.mapping.restart();
    }

    /// Gives the mapping other settings.
    pub(crate) fn update(&mut self, settings: &Settings) {
        self.allowed_before = self.deliveries_allowed();
        self.mapping.update(settings.clone());
    }
}
