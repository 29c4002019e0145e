//! The index of pending notifications.

use crate::id::NotificationId;
use crate::ports::{IndexKey, PendingKey, PendingPage};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::ops::Bound;

/// The index of pending notifications. It contains only the updates applied so far, so it may lag behind the table.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By partition and key; `None` if the entry is not a notification's.
    entries: BTreeMap<(u64, IndexKey), Option<PendingKey>>,
    /// The place of each notification's entry.
    places: BTreeMap<NotificationId, (u64, IndexKey)>,
}

/// A time as the key of an entry. Keys sort as their times do.
fn text(time: Timestamp) -> Box<str> {
    format!("{time:.9}").into()
}

impl Index {
    /// Brings a notification's entry up to date; `None` if it is not pending.
    pub(super) fn set(&mut self, id: &NotificationId, since: Option<Timestamp>) {
        if let Some(place) = self.places.remove(id) {
            self.entries.remove(&place);
        }
        if let Some(since) = since {
            let place = (id.pending_shard(), IndexKey { since: text(since), id: id.as_str().into() });
            self.entries.insert(place.clone(), Some(PendingKey { id: id.clone(), since }));
            self.places.insert(id.clone(), place);
        }
    }

    /// Adds an entry that is not a notification's.
    pub(super) fn add_invalid(&mut self, shard: u64, key: IndexKey) {
        self.entries.insert((shard, key), None);
    }

    /// One page of a partition.
    pub(super) fn page(&self, shard: u64, until: Timestamp, after: Option<&IndexKey>, limit: usize) -> PendingPage {
        let start = match after {
            Some(key) => Bound::Excluded((shard, key.clone())),
            None => Bound::Included((shard, IndexKey { since: "".into(), id: "".into() })),
        };
        let until = text(until);
        let entries = self.entries.range((start, Bound::Unbounded));
        let mut entries = entries.take_while(|((of, key), _)| *of == shard && key.since <= until).peekable();
        let mut page = PendingPage { read_units: 0.5, ..PendingPage::default() };
        for ((_, key), pending) in entries.by_ref().take(limit) {
            page.next = Some(key.clone());
            match pending {
                Some(pending) => page.keys.push(pending.clone()),
                None => page.invalid.push(key.clone()),
            }
        }
        page.next = page.next.filter(|_| entries.peek().is_some());
        page
    }
}
