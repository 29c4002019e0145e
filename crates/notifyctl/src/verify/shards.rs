//! The shards of the table's stream that a monitor follows, and where each is read next. It makes no calls.

use std::collections::BTreeMap;
use stream_reader::{ReadFrom, Shard};

/// The shards, by their ids.
#[derive(Debug, Default)]
pub(super) struct Shards {
    followed: BTreeMap<String, Followed>,
    is_listed: bool,
}

#[derive(Debug)]
struct Followed {
    place: Place,
    /// Where to begin again without its iterator: after the last record that was read.
    from: ReadFrom,
}

/// Where a shard is read next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// It needs an iterator first.
    From(ReadFrom),
    /// At this iterator.
    At(String),
    /// It is read to its end, or skipped.
    End,
}

/// Why a shard cannot be read on at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// Its iterator was not used for 15 minutes.
    Expired,
    /// The record there is older than 24 hours.
    Trimmed,
    /// The stream no longer has it.
    Gone,
}

impl Shards {
    /// Takes a list of all shards. The first time, open shards are followed from now on, and what closed shards had is
    /// skipped. Later, new shards continue those that are followed, from their beginning.
    pub(super) fn list(&mut self, listed: &[Shard]) {
        // A shard that the stream no longer lists has ended long ago.
        self.followed.retain(|id, shard| shard.place != Place::End || listed.iter().any(|listed| listed.id == *id));
        for Shard { id, is_closed, .. } in listed {
            let from = if self.is_listed { ReadFrom::TrimHorizon } else { ReadFrom::Latest };
            let place = if self.is_listed || !is_closed { Place::From(from.clone()) } else { Place::End };
            self.followed.entry(id.clone()).or_insert(Followed { place, from });
        }
        self.is_listed = true;
    }

    /// The shards that have not ended.
    pub(super) fn to_read(&self) -> Vec<(String, Place)> {
        let open = self.followed.iter().filter(|(_, shard)| shard.place != Place::End);
        open.map(|(id, shard)| (id.clone(), shard.place.clone())).collect()
    }

    /// A shard has this iterator; `None` at its end.
    pub(super) fn begun(&mut self, id: &str, iterator: Option<String>) {
        if let Some(shard) = self.followed.get_mut(id) {
            shard.place = iterator.map_or(Place::End, Place::At);
        }
    }

    /// A shard was read up to the record with this sequence number, if there was one, and continues at this iterator;
    /// `None` at its end.
    pub(super) fn read(&mut self, id: &str, last: Option<&str>, next: Option<String>) {
        self.begun(id, next);
        if let (Some(shard), Some(last)) = (self.followed.get_mut(id), last) {
            shard.from = ReadFrom::After(last.into());
        }
    }

    /// A shard cannot be read on. Returns whether changes may have been missed, or will be checked twice.
    pub(super) fn lost(&mut self, id: &str, lost: Lost) -> bool {
        let Some(shard) = self.followed.get_mut(id) else { return false };
        if lost == Lost::Trimmed {
            shard.from = ReadFrom::TrimHorizon;
        }
        shard.place = if lost == Lost::Gone { Place::End } else { Place::From(shard.from.clone()) };
        // Without a record that was read, nothing says where its iterator was.
        lost != Lost::Expired || shard.from == ReadFrom::Latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: &str, is_closed: bool) -> Shard {
        Shard { id: id.to_owned(), parents: vec![], is_closed }
    }

    fn places(shards: &Shards) -> Vec<(String, Place)> {
        shards.to_read()
    }

    fn at(id: &str, place: Place) -> (String, Place) {
        (id.to_owned(), place)
    }

    fn following() -> Shards {
        let mut shards = Shards::default();
        shards.list(&[shard("closed", true), shard("open", false)]);
        shards
    }

    #[test]
    fn open_shards_are_followed_from_now_on_and_new_ones_from_their_beginning() {
        let mut shards = following();
        assert_eq!(places(&shards), [at("open", Place::From(ReadFrom::Latest))]);
        shards.begun("open", Some("1".to_owned()));
        shards.list(&[shard("closed", true), shard("open", true), shard("child", false), shard("short", true)]);
        let new = || Place::From(ReadFrom::TrimHorizon);
        assert_eq!(places(&shards), [at("child", new()), at("open", Place::At("1".to_owned())), at("short", new())]);
    }

    #[test]
    fn a_shard_that_is_read_to_its_end_is_not_read_again_and_is_forgotten_with_the_stream() {
        let mut shards = following();
        shards.read("open", Some("7"), None);
        shards.list(&[shard("open", true)]);
        assert_eq!(places(&shards), []);
        assert!(!shards.followed.contains_key("closed"));
    }

    #[test]
    fn an_expired_iterator_is_replaced_after_the_last_record_without_a_gap() {
        let mut shards = following();
        shards.read("open", Some("7"), Some("1".to_owned()));
        shards.read("open", None, Some("2".to_owned()));
        assert!(!shards.lost("open", Lost::Expired));
        assert_eq!(places(&shards), [at("open", Place::From(ReadFrom::After("7".into())))]);
    }

    #[test]
    fn an_iterator_that_expires_before_the_first_record_leaves_a_gap() {
        let mut shards = following();
        shards.begun("open", Some("1".to_owned()));
        assert!(shards.lost("open", Lost::Expired));
        assert_eq!(places(&shards), [at("open", Place::From(ReadFrom::Latest))]);
        shards.list(&[shard("open", false), shard("new", false)]);
        shards.begun("new", Some("1".to_owned()));
        assert!(!shards.lost("new", Lost::Expired), "it begins again at its beginning");
    }

    #[test]
    fn a_shard_whose_place_is_trimmed_continues_at_its_oldest_record_with_a_gap() {
        let mut shards = following();
        shards.read("open", Some("7"), Some("1".to_owned()));
        assert!(shards.lost("open", Lost::Trimmed));
        assert_eq!(places(&shards), [at("open", Place::From(ReadFrom::TrimHorizon))]);
    }

    #[test]
    fn a_shard_that_is_gone_is_not_read_again_and_leaves_a_gap() {
        let mut shards = following();
        assert!(shards.lost("open", Lost::Gone));
        assert_eq!(places(&shards), []);
    }
}
