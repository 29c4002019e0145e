//! How far a DynamoDB stream is read for an audit, without I/O.
//!
//! - A closed shard ends with an answer without a next iterator, and with nothing else. Empty answers before that are normal:
//!   [it can take several calls to get to records][GetRecords].
//! - An open shard never ends, and no answer tells how far a reader is behind. A record that is newer than the audit shows that
//!   everything relevant was read. Most shards never have one, so a shard also counts as caught up after an empty answer, but
//!   only if nothing is missing, or all shards have shown nothing new for [`limits::AUDIT_STREAM_QUIET`]. Being caught up proves
//!   nothing: the verdict depends on the records that were read, and a missing one cannot be shown.
//! - A throttled read is retried until [`limits::AUDIT_READ_MAX`], because quotas are per second.
//! - [A shard is open until it has an ending sequence number][DescribeStream]. A shard that closes meanwhile has children, so
//!   the shards are listed again before the end.
//!
//! [GetRecords]: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html
//! [DescribeStream]: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_DescribeStream.html

use crate::time::{after, since};
use notification::{Timestamp, limits};
use std::collections::BTreeMap;

/// Where a shard is read next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Position {
    /// At its oldest record.
    Start,
    /// At this iterator.
    At(String),
    /// It was read to its end.
    End,
}

/// What matters of the answer to a read.
#[derive(Debug)]
pub(super) struct Answer {
    /// It has no records.
    pub(super) empty: bool,
    /// It has a record that is newer than the audit.
    pub(super) later_than_audit: bool,
    pub(super) next: Position,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// List the stream's shards.
    List,
    /// Read these shards, once each.
    Read(Vec<(String, Position)>),
    /// Wait until then.
    Wait(Timestamp),
    /// Stop. `whole`: the stream was read to its end.
    Stop { whole: bool },
}

#[derive(Debug)]
struct Shard {
    position: Position,
    closed: bool,
    /// Its last answer was empty, or had records that are newer than the audit.
    caught_up: bool,
    /// When to read it again.
    due: Timestamp,
}

impl Shard {
    fn has_ended(&self) -> bool {
        self.position == Position::End
    }
}

/// The progress in each shard.
#[derive(Debug)]
pub(super) struct Reader {
    started: Timestamp,
    /// When something new was last seen, or a read was throttled.
    active: Timestamp,
    shards: BTreeMap<String, Shard>,
    list: List,
}

/// The state of the list of shards.
#[derive(Debug, PartialEq, Eq)]
enum List {
    /// There may be other shards.
    Stale,
    /// The last list had new shards, or shards were read since.
    Changed,
    /// The last list had nothing new.
    Confirmed,
}

impl Reader {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { started: now, active: now, shards: BTreeMap::new(), list: List::Stale }
    }

    /// How many shards were read to their end, and how many there are.
    pub(super) fn shards(&self) -> (usize, usize) {
        (self.shards.values().filter(|shard| shard.has_ended()).count(), self.shards.len())
    }

    /// What to do next; `complete` says that nothing is missing.
    pub(super) fn next(&self, now: Timestamp, complete: bool) -> Next {
        if since(self.started, now) >= limits::AUDIT_READ_MAX {
            return Next::Stop { whole: false };
        }
        if self.list == List::Stale {
            return Next::List;
        }
        let read = self.shards.values().all(|shard| shard.has_ended() || (!shard.closed && shard.caught_up));
        if read && (complete || since(self.active, now) >= limits::AUDIT_STREAM_QUIET) {
            return if self.list == List::Confirmed { Next::Stop { whole: true } } else { Next::List };
        }
        let waiting = || self.shards.iter().filter(|(_, shard)| !shard.has_ended());
        let due = waiting().filter(|(_, shard)| shard.due <= now);
        let due: Vec<_> =
            due.map(|(id, shard)| (id.clone(), shard.position.clone())).take(limits::CALLS_IN_FLIGHT).collect();
        if due.is_empty() {
            let next = waiting().map(|(_, shard)| shard.due).min();
            return Next::Wait(next.unwrap_or_else(|| after(now, limits::STREAM_POLL)));
        }
        Next::Read(due)
    }

    /// Takes the list of the stream's shards.
    pub(super) fn list(&mut self, listed: Vec<stream_reader::Shard>, now: Timestamp) {
        self.list = List::Confirmed;
        for stream_reader::Shard { id, is_closed, .. } in listed {
            let new = || Shard { position: Position::Start, closed: false, caught_up: false, due: now };
            let is_new = !self.shards.contains_key(&id);
            let shard = self.shards.entry(id).or_insert_with(new);
            if is_new || (is_closed && !shard.closed && !shard.has_ended()) {
                self.list = List::Changed;
                self.active = now;
            }
            shard.closed |= is_closed;
        }
    }

    /// A read was throttled: the shard is read again later, at the same place.
    pub(super) fn throttled(&mut self, shard: &str, now: Timestamp) {
        let Some(shard) = self.shards.get_mut(shard) else { return };
        shard.caught_up = false;
        shard.due = after(now, limits::BACKOFF_CAP);
        // A shard that could not be read is not quiet.
        self.active = now;
    }

    /// Takes an answer.
    pub(super) fn answer(&mut self, shard: &str, answer: Answer, now: Timestamp) {
        let Some(shard) = self.shards.get_mut(shard) else { return };
        shard.caught_up = answer.empty || answer.later_than_audit;
        shard.position = answer.next;
        if !shard.caught_up || shard.has_ended() {
            self.active = now;
        }
        // After records, the shard is read again at once. After an empty answer, even a closed shard is read later, so that many
        // empty answers do not use up its quota.
        shard.due = if shard.caught_up { after(now, limits::STREAM_POLL) } else { now };
        if shard.has_ended() && !shard.closed {
            // It was closed after it was listed: its children have the next records.
            shard.closed = true;
            self.list = List::Stale;
        } else if self.list == List::Confirmed {
            self.list = List::Changed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(millis: u64) -> Timestamp {
        after(Timestamp::UNIX_EPOCH, Duration::from_millis(millis))
    }

    fn iterator(text: &str) -> Position {
        Position::At(text.into())
    }

    fn answer(records: usize, next: Position) -> Answer {
        Answer { empty: records == 0, later_than_audit: false, next }
    }

    fn listed(shards: &[(&str, bool)]) -> Vec<stream_reader::Shard> {
        let shard =
            |&(id, is_closed): &(&str, bool)| stream_reader::Shard { id: id.to_owned(), parents: vec![], is_closed };
        shards.iter().map(shard).collect()
    }

    fn reader(shards: &[(&str, bool)]) -> Reader {
        let mut reader = Reader::new(at(0));
        assert_eq!(reader.next(at(0), true), Next::List);
        reader.list(listed(shards), at(0));
        reader
    }

    fn reads(shard: &str, position: Position) -> Next {
        Next::Read(vec![(shard.to_owned(), position)])
    }

    const WHOLE: Next = Next::Stop { whole: true };

    #[test]
    fn a_closed_shard_is_read_to_its_end_through_any_number_of_empty_answers() {
        let mut reader = reader(&[("s", true)]);
        for n in 0..1_000 {
            reader.answer("s", answer(0, iterator("more")), at(n * 250));
            assert_eq!(reader.next(at((n + 1) * 250), true), reads("s", iterator("more")));
        }
        reader.answer("s", answer(7, Position::End), at(250_000));
        assert_eq!(reader.next(at(250_000), true), Next::List);
        reader.list(listed(&[("s", true)]), at(250_000));
        assert_eq!(reader.next(at(250_000), true), WHOLE);
    }

    #[test]
    fn a_shard_is_read_on_at_once_after_records_and_later_after_an_empty_answer() {
        for closed in [true, false] {
            let mut reader = reader(&[("s", closed)]);
            reader.answer("s", answer(3, iterator("1")), at(0));
            assert_eq!(reader.next(at(0), false), reads("s", iterator("1")));
            reader.answer("s", answer(0, iterator("2")), at(0));
            assert_eq!(reader.next(at(249), false), Next::Wait(at(250)));
            assert_eq!(reader.next(at(250), false), reads("s", iterator("2")));
        }
    }

    #[test]
    fn a_throttled_shard_is_read_again_later_at_the_same_place() {
        let mut reader = reader(&[("s", false)]);
        reader.answer("s", answer(0, iterator("1")), at(0));
        reader.throttled("s", at(250));
        assert_eq!(reader.next(at(250), true), Next::Wait(at(1_250)), "it has not shown that it has nothing new");
        assert_eq!(reader.next(at(1_250), true), reads("s", iterator("1")));

        let quiet = u64::try_from(limits::AUDIT_STREAM_QUIET.as_millis()).unwrap();
        reader.throttled("s", at(quiet));
        reader.answer("s", answer(0, iterator("1")), at(quiet + 1_000));
        assert_eq!(reader.next(at(quiet + 1_000), false), Next::Wait(at(quiet + 1_250)), "it was not quiet meanwhile");
    }

    #[test]
    fn a_shard_that_is_always_throttled_is_not_read_to_its_end() {
        let mut reader = reader(&[("s", true)]);
        let mut now = at(0);
        while let Next::Read(_) = reader.next(now, false) {
            reader.throttled("s", now);
            now = after(now, limits::BACKOFF_CAP);
        }
        assert_eq!(reader.next(now, false), Next::Stop { whole: false });
        assert_eq!(now, after(at(0), limits::AUDIT_READ_MAX));
    }

    #[test]
    fn an_empty_answer_ends_an_open_shard_only_if_nothing_is_missing() {
        let mut reader = reader(&[("s", false)]);
        reader.answer("s", answer(0, iterator("1")), at(0));
        assert_eq!(reader.next(at(0), false), Next::Wait(at(250)));
        assert_eq!(reader.next(at(250), false), reads("s", iterator("1")));
        reader.answer("s", answer(3, iterator("2")), at(250));
        assert_eq!(reader.next(at(250), true), reads("s", iterator("2")));
        reader.answer("s", answer(0, iterator("3")), at(300));
        assert_eq!(reader.next(at(300), true), Next::List);
        reader.list(listed(&[("s", false)]), at(300));
        assert_eq!(reader.next(at(300), true), WHOLE);
    }

    #[test]
    fn missing_records_are_looked_for_until_every_open_shard_has_been_quiet_for_long_enough() {
        let mut reader = reader(&[("s", false)]);
        let quiet = u64::try_from(limits::AUDIT_STREAM_QUIET.as_millis()).unwrap();
        reader.answer("s", answer(1, iterator("1")), at(1_000));
        for n in 1..20 {
            reader.answer("s", answer(0, iterator("1")), at(1_000 + n * 250));
        }
        assert!(matches!(reader.next(at(999 + quiet), false), Next::Read(_)));
        assert_eq!(reader.next(at(1_000 + quiet), false), Next::List);
        reader.list(listed(&[("s", false)]), at(1_000 + quiet));
        assert_eq!(reader.next(at(1_000 + quiet), false), WHOLE);
    }

    #[test]
    fn a_busy_open_shard_is_read_until_its_records_are_newer_than_the_audit() {
        let mut reader = reader(&[("s", false)]);
        reader.answer("s", answer(1_000, iterator("1")), at(0));
        assert!(matches!(reader.next(at(0), true), Next::Read(_)));
        reader.answer("s", Answer { later_than_audit: true, ..answer(1_000, iterator("2")) }, at(0));
        assert_eq!(reader.next(at(0), true), Next::List);
    }

    #[test]
    fn the_children_of_a_shard_that_closes_while_it_is_read_are_read_too() {
        let mut reader = reader(&[("parent", false)]);
        reader.answer("parent", answer(1, Position::End), at(0));
        assert_eq!(reader.next(at(0), false), Next::List);
        reader.list(listed(&[("parent", true), ("child", false)]), at(0));
        assert_eq!(reader.next(at(0), true), reads("child", Position::Start));
    }

    #[test]
    fn a_shard_that_has_closed_by_the_last_list_is_read_to_its_end() {
        let mut reader = reader(&[("s", false)]);
        reader.answer("s", answer(0, iterator("1")), at(0));
        assert_eq!(reader.next(at(0), true), Next::List);
        reader.list(listed(&[("s", true)]), at(300));
        assert_eq!(reader.next(at(300), true), reads("s", iterator("1")));
    }

    #[test]
    fn reading_ends_after_its_time_limit_and_is_then_not_whole() {
        let reader = reader(&[("s", true)]);
        let end = after(at(0), limits::AUDIT_READ_MAX);
        assert_eq!(reader.next(end, true), Next::Stop { whole: false });
    }

    #[test]
    fn a_stream_without_shards_is_polled_as_long_as_something_is_missing() {
        let mut reader = reader(&[]);
        assert_eq!(reader.next(at(0), false), Next::Wait(at(250)));
        assert_eq!(reader.next(at(0), true), WHOLE);
        reader.list(vec![], at(0));
        assert_eq!(reader.next(after(at(0), limits::AUDIT_STREAM_QUIET), false), WHOLE);
    }
}
