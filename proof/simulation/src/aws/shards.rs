//! The shards of a stream: which shard takes a key, and what happens when shards are split, merged or closed.

use event_source::stream::{ReadFrom, Record};
use jiff::Timestamp;
use md5::{Digest, Md5};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::time::Duration;

/// A stream's shards.
#[derive(Debug)]
pub(crate) struct Shards {
    all: Vec<Shard>,
    retention: Duration,
    records: u64,
    /// How many records there are of each key.
    counts: HashMap<Box<str>, usize>,
    latest: HashMap<usize, usize>,
}

#[derive(Debug)]
struct Shard {
    name: String,
    parents: Vec<String>,
    /// The hash keys that it takes, both ends included.
    range: (u128, u128),
    open: bool,
    records: Vec<Stored>,
}

#[derive(Debug)]
struct Stored {
    sequence_number: Box<str>,
    key: Box<str>,
    arrived_at: Timestamp,
    event: Box<RawValue>,
}

/// What was read from a shard.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) records: Vec<Record>,
    /// Whether the shard is closed and these are its last records.
    pub(crate) ended: bool,
    /// Keys of records that expired unread.
    pub(crate) expired: Vec<String>,
}

impl Shards {
    /// A stream with so many shards, which share the hash keys evenly.
    pub(crate) fn new(count: usize, retention: Duration) -> Self {
        let mut shards = Self { all: vec![], retention, records: 0, counts: HashMap::new(), latest: HashMap::new() };
        let share = u128::MAX / count as u128;
        for number in 0..count as u128 {
            let end = if number + 1 == count as u128 { u128::MAX } else { share * (number + 1) - 1 };
            shards.open(vec![], (share * number, end));
        }
        shards
    }

    fn open(&mut self, parents: Vec<String>, range: (u128, u128)) {
        let name = format!("shardId-{:012}", self.all.len());
        self.all.push(Shard { name, parents, range, open: true, records: vec![] });
    }

    /// Appends a record to the open shard that its key's hash belongs to. `event` makes the record as the function gets it,
    /// from its shard and its sequence number.
    ///
    /// A key's MD5 decides: <https://docs.aws.amazon.com/streams/latest/dev/key-concepts.html#partition-key>.
    pub(crate) fn append(&mut self, key: &str, now: Timestamp, event: impl FnOnce(&str, &str) -> Box<RawValue>) {
        let hash = u128::from_be_bytes(Md5::digest(key).into());
        self.records += 1;
        let sequence_number: Box<str> = format!("{:021}", self.records).into();
        let takes = |shard: &&mut Shard| shard.open && (shard.range.0..=shard.range.1).contains(&hash);
        let Some(shard) = self.all.iter_mut().find(takes) else { return };
        let event = event(&shard.name, &sequence_number);
        *self.counts.entry(key.into()).or_default() += 1;
        shard.records.push(Stored { sequence_number, key: key.into(), arrived_at: now, event });
    }

    /// Every shard with its parents.
    pub(crate) fn list(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.all.iter().map(|shard| (shard.name.as_str(), shard.parents.iter().map(String::as_str).collect()))
    }

    /// Reads a shard. Records that are older than the retention have expired.
    /// <https://docs.aws.amazon.com/streams/latest/dev/kinesis-extended-retention.html>,
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html>
    pub(crate) fn read(&mut self, name: &str, from: &ReadFrom, now: Timestamp) -> Read {
        let Some(place) = self.all.iter().position(|shard| shard.name == name) else { return Read::default() };
        let shard = &self.all[place];
        let next = match from {
            ReadFrom::TrimHorizon => 0,
            // The first read decides where the iterator starts.
            ReadFrom::Latest => *self.latest.entry(place).or_insert(shard.records.len()),
            ReadFrom::After(number) => shard.records.partition_point(|record| record.sequence_number <= *number),
        };
        let mut read = Read { ended: !shard.open, ..Read::default() };
        for record in &shard.records[next..] {
            let age = Duration::try_from(now.duration_since(record.arrived_at)).unwrap_or_default();
            if age > self.retention {
                read.expired.push(record.key.to_string());
            } else {
                read.records.push(Record {
                    sequence_number: record.sequence_number.clone(),
                    key: record.key.clone(),
                    arrived_at: record.arrived_at,
                    event: record.event.clone(),
                });
            }
        }
        read
    }

    /// Splits an open shard in the middle of its hash keys: it is closed, and two children follow it.
    /// <https://docs.aws.amazon.com/streams/latest/dev/kinesis-using-sdk-java-resharding-split.html>
    pub(crate) fn split(&mut self, choice: usize) -> bool {
        let Some(place) = self.nth_open(choice) else { return false };
        let (start, end) = self.all[place].range;
        if end - start < 2 {
            return false;
        }
        self.all[place].open = false;
        let parent = self.all[place].name.clone();
        let middle = start + (end - start) / 2;
        self.open(vec![parent.clone()], (start, middle));
        self.open(vec![parent], (middle + 1, end));
        true
    }

    /// Merges two open shards whose hash keys are next to each other: both are closed, and one child follows them.
    /// <https://docs.aws.amazon.com/streams/latest/dev/kinesis-using-sdk-java-resharding-merge.html>
    pub(crate) fn merge(&mut self, choice: usize) -> bool {
        let Some(left) = self.nth_open(choice) else { return false };
        let (start, end) = self.all[left].range;
        let is_next = |shard: &Shard| shard.open && end.checked_add(1) == Some(shard.range.0);
        let Some(right) = self.all.iter().position(is_next) else { return false };
        let range = (start, self.all[right].range.1);
        let parents = vec![self.all[left].name.clone(), self.all[right].name.clone()];
        self.all[left].open = false;
        self.all[right].open = false;
        self.open(parents, range);
        true
    }

    /// Closes every open shard and lets a child follow each, as a DynamoDB stream does every few hours.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html>
    pub(crate) fn roll_over(&mut self) {
        for place in 0..self.all.len() {
            if self.all[place].open {
                self.all[place].open = false;
                let (parent, range) = (self.all[place].name.clone(), self.all[place].range);
                self.open(vec![parent], range);
            }
        }
    }

    fn nth_open(&self, choice: usize) -> Option<usize> {
        let open: Vec<usize> = (0..self.all.len()).filter(|&place| self.all[place].open).collect();
        (!open.is_empty()).then(|| open[choice % open.len()])
    }

    /// Keys and shards of every record, in order of arrival in each shard.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all.iter().flat_map(|shard| shard.records.iter().map(|record| (&*record.key, shard.name.as_str())))
    }

    /// How many records there are of a key.
    pub(crate) fn count(&self, key: &str) -> usize {
        self.counts.get(key).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn put(shards: &mut Shards, key: &str, second: i64) {
        shards.append(key, at(second), |_, number| serde_json::value::to_raw_value(number).unwrap());
    }

    fn keys(shards: &mut Shards, shard: &str, from: &ReadFrom, second: i64) -> Vec<String> {
        shards.read(shard, from, at(second)).records.iter().map(|record| record.key.to_string()).collect()
    }

    #[test]
    fn a_key_always_goes_to_the_same_shard_and_keys_spread_over_all_of_them() {
        let mut shards = Shards::new(3, Duration::from_hours(24));
        for number in 0..300 {
            put(&mut shards, &format!("k{}", number % 100), 0);
        }
        let mut shard_of: HashMap<&str, &str> = HashMap::new();
        for (key, shard) in shards.keys() {
            assert_eq!(*shard_of.entry(key).or_insert(shard), shard);
        }
        let used: std::collections::BTreeSet<_> = shard_of.values().collect();
        assert_eq!(used.len(), 3);
    }

    #[test]
    fn a_shard_is_read_in_order_from_its_oldest_record_from_behind_one_or_from_behind_the_newest() {
        let mut shards = Shards::new(1, Duration::from_hours(24));
        let shard = "shardId-000000000000";
        put(&mut shards, "a", 0);
        assert!(keys(&mut shards, shard, &ReadFrom::Latest, 0).is_empty());
        put(&mut shards, "b", 0);
        put(&mut shards, "c", 0);
        assert_eq!(keys(&mut shards, shard, &ReadFrom::TrimHorizon, 1), ["a", "b", "c"]);
        assert_eq!(keys(&mut shards, shard, &ReadFrom::After(format!("{:021}", 1).into()), 1), ["b", "c"]);
        assert_eq!(keys(&mut shards, shard, &ReadFrom::Latest, 1), ["b", "c"]);
    }

    #[test]
    fn a_record_that_is_older_than_the_retention_is_gone_and_named() {
        let mut shards = Shards::new(1, Duration::from_hours(24));
        put(&mut shards, "old", 0);
        put(&mut shards, "young", 3600);
        let read = shards.read("shardId-000000000000", &ReadFrom::TrimHorizon, at(24 * 3600 + 1));
        assert_eq!((read.expired.len(), read.records.len()), (1, 1));
        assert_eq!(&*read.records[0].key, "young");
    }

    #[test]
    fn a_split_closes_the_parent_and_its_keys_go_to_two_children() {
        let mut shards = Shards::new(1, Duration::from_hours(24));
        put(&mut shards, "a", 0);
        assert!(shards.split(0));
        for number in 0..100 {
            put(&mut shards, &number.to_string(), 1);
        }
        let listed: Vec<_> = shards.list().map(|(name, parents)| (name.to_owned(), parents.len())).collect();
        assert_eq!(listed.iter().map(|(_, parents)| *parents).collect::<Vec<_>>(), [0, 1, 1]);
        let parent = shards.read(&listed[0].0, &ReadFrom::TrimHorizon, at(1));
        assert!(parent.ended && parent.records.len() == 1);
        for (child, _) in &listed[1..] {
            let child = shards.read(child, &ReadFrom::TrimHorizon, at(1));
            assert!(!child.ended && !child.records.is_empty());
        }
    }

    #[test]
    fn a_merge_closes_two_neighbours_and_one_child_takes_the_keys_of_both() {
        let mut shards = Shards::new(2, Duration::from_hours(24));
        assert!(shards.merge(0));
        for number in 0..100 {
            put(&mut shards, &number.to_string(), 1);
        }
        let (child, parents) = shards.list().last().map(|(name, parents)| (name.to_owned(), parents.len())).unwrap();
        assert_eq!(parents, 2);
        assert_eq!(shards.read(&child, &ReadFrom::TrimHorizon, at(1)).records.len(), 100);
        assert!(!shards.merge(0), "the last shard has no neighbour");
    }

    #[test]
    fn a_rollover_lets_a_child_follow_each_shard() {
        let mut shards = Shards::new(2, Duration::from_hours(24));
        shards.roll_over();
        put(&mut shards, "a", 0);
        assert_eq!(shards.list().map(|(_, parents)| parents.len()).collect::<Vec<_>>(), [0, 0, 1, 1]);
    }
}
