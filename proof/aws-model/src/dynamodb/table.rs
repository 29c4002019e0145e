//! One table: its items, its indexes, and what changed.

use super::expression::Comparison;
use super::value::{self, Item};
use crate::error::Error;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// A stream has its newest changes, so that a table of a million items fits into memory. On AWS, it has those of a day.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html>
const CHANGES_KEPT: usize = 100_000;

/// A change of an item of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The table.
    pub table: String,
    /// What changed.
    pub image: Image,
}

/// A change of an item as the stream of its table has it.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html>
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The item's key.
    pub key: String,
    /// The item before; `None` if it is new.
    pub old: Option<Item>,
    /// The item after; `None` if it was removed, which only its time to live does.
    pub new: Option<Item>,
}

#[derive(Debug)]
pub(crate) struct Table {
    /// The name of the key attribute.
    pub(crate) key: String,
    pub(crate) has_stream: bool,
    pub(crate) indexes: BTreeMap<String, Index>,
    items: BTreeMap<String, Item>,
    changes: VecDeque<Image>,
    /// How many changes the stream no longer has.
    trimmed: usize,
}

/// A global secondary index. Only items with both key attributes are in it.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) hash: KeyAttribute,
    pub(crate) range: KeyAttribute,
    /// The attributes that it has of an item.
    pub(crate) attributes: Vec<String>,
    /// In the order of a query.
    entries: BTreeMap<Place, Item>,
    places: BTreeMap<String, Place>,
}

/// A key attribute and its type, `S` or `N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyAttribute {
    pub(crate) name: String,
    pub(crate) kind: String,
}

/// Where an entry is in an index: the partition, the range key, and the item's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) partition: String,
    pub(crate) range: String,
    pub(crate) key: String,
}

impl Table {
    pub(crate) fn new(key: String, has_stream: bool, indexes: BTreeMap<String, Index>) -> Self {
        Self { key, has_stream, indexes, items: BTreeMap::new(), changes: VecDeque::new(), trimmed: 0 }
    }

    pub(crate) fn item(&self, key: &str) -> Option<&Item> {
        self.items.get(key)
    }

    pub(crate) fn items(&self) -> &BTreeMap<String, Item> {
        &self.items
    }

    /// The place of the oldest change that the stream has.
    pub(crate) fn trimmed(&self) -> usize {
        self.trimmed
    }

    /// The changes from this place of the stream on, with their places; `None` if the stream no longer has that place.
    pub(crate) fn changes(&self, place: usize) -> Option<impl Iterator<Item = (usize, &Image)>> {
        let skipped = place.checked_sub(self.trimmed)?;
        Some((place..).zip(self.changes.iter().skip(skipped)))
    }

    pub(crate) fn take_changes(&mut self) -> VecDeque<Image> {
        self.trimmed += self.changes.len();
        std::mem::take(&mut self.changes)
    }

    fn record(&mut self, change: Image) {
        self.changes.push_back(change);
        if self.changes.len() > CHANGES_KEPT {
            self.changes.pop_front();
            self.trimmed += 1;
        }
    }

    /// The key of an item, which must be a string that is not empty.
    pub(crate) fn key_of(&self, item: &Item) -> Result<String, Error> {
        let key = item.get(&self.key).and_then(value::text);
        match key {
            Some("") => Err(Error::validation("One or more parameter values are not valid: an empty string as key")),
            Some(key) => Ok(key.to_owned()),
            None => Err(Error::validation("The provided key element does not match the schema")),
        }
    }

    /// The key of a request that has nothing but the key.
    pub(crate) fn only_key(&self, key: &Value) -> Result<String, Error> {
        let attributes = key.as_object().filter(|attributes| attributes.len() == 1);
        self.key_of(attributes.ok_or_else(|| Error::validation("The provided key element does not match the schema"))?)
    }

    /// Checks that the attributes that are keys of indexes have the right types.
    pub(crate) fn check(&self, item: &Item) -> Result<(), Error> {
        self.key_of(item)?;
        for attribute in self.indexes.values().flat_map(|index| [&index.hash, &index.range]) {
            let Some(value) = item.get(&attribute.name) else { continue };
            if value.get(&attribute.kind).and_then(Value::as_str).is_none_or(str::is_empty) {
                return Err(Error::validation(format!("Type mismatch for Index Key {}", attribute.name)));
            }
        }
        Ok(())
    }

    /// Puts an item that was checked. A write that changes nothing is not in the stream.
    pub(crate) fn put(&mut self, key: String, new: Item, indexes_lag: bool) {
        let old = self.items.insert(key.clone(), new.clone());
        if old.as_ref() == Some(&new) {
            return;
        }
        if !indexes_lag {
            self.update_indexes(&key);
        }
        self.record(Image { key, old, new: Some(new) });
    }

    pub(crate) fn expire(&mut self, time_to_live: &str, now: Timestamp, indexes_lag: bool) {
        let is_over = |item: &Item| {
            let seconds = item.get(time_to_live).and_then(|value| value.get("N")?.as_str()?.parse::<i64>().ok());
            seconds.is_some_and(|seconds| seconds <= now.as_second())
        };
        let expired: Vec<_> = self.items.extract_if(.., |_, item| is_over(item)).collect();
        for (key, old) in expired {
            if !indexes_lag {
                self.update_indexes(&key);
            }
            self.record(Image { key, old: Some(old), new: None });
        }
    }

    pub(crate) fn update_indexes(&mut self, key: &str) {
        for index in self.indexes.values_mut() {
            index.update(&self.key, key, self.items.get(key));
        }
    }
}

impl Index {
    pub(crate) fn new(hash: KeyAttribute, range: KeyAttribute, attributes: Vec<String>) -> Self {
        Self { hash, range, attributes, entries: BTreeMap::new(), places: BTreeMap::new() }
    }

    fn update(&mut self, key_name: &str, key: &str, item: Option<&Item>) {
        if let Some(place) = self.places.remove(key) {
            self.entries.remove(&place);
        }
        let Some(item) = item else { return };
        let part =
            |attribute: &KeyAttribute| Some(item.get(&attribute.name)?.get(&attribute.kind)?.as_str()?.to_owned());
        let (Some(partition), Some(range)) = (part(&self.hash), part(&self.range)) else { return };
        let place = Place { partition, range, key: key.to_owned() };
        let is_projected = |name: &String| *name == key_name || self.attributes.contains(name);
        let entry = item.iter().filter(|(name, _)| is_projected(name));
        self.entries.insert(place.clone(), entry.map(|(name, value)| (name.clone(), value.clone())).collect());
        self.places.insert(key.to_owned(), place);
    }

    /// The entries of a partition whose range key compares like this, oldest first, after a place.
    pub(crate) fn entries<'a>(
        &'a self,
        partition: &'a str,
        range: Option<(Comparison, Value)>,
        after: Option<Place>,
    ) -> impl Iterator<Item = (&'a Place, &'a Item)> {
        let first = Place { partition: partition.to_owned(), range: String::new(), key: String::new() };
        let start = after.map_or(Bound::Included(first), Bound::Excluded);
        let in_partition =
            self.entries.range((start, Bound::Unbounded)).take_while(move |(place, _)| place.partition == *partition);
        in_partition.filter(move |(place, _)| {
            range.as_ref().is_none_or(|(comparison, with)| comparison.holds(&json!({"S": place.range}), with))
        })
    }
}
