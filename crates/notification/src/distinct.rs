//! Work on the first record of each id, and share its result: because producers and event sources retry, a batch can contain
//! an id several times.

use crate::id::NotificationId;
use std::collections::HashMap;

/// The entries of a batch, each id once.
#[derive(Debug)]
pub struct Distinct<T> {
    /// The first entry of each id, in the order of the batch.
    pub firsts: Vec<T>,
    /// For each place in the batch, the index in `firsts` of the entry with the same id; `None` if the place has no entry.
    pub first_at: Vec<Option<usize>>,
}

impl<T> Distinct<T> {
    /// Finds the first entry of each id. A place of the batch may have no entry.
    pub fn of<'a>(entries: impl ExactSizeIterator<Item = Option<(&'a NotificationId, T)>>) -> Self {
        let mut first_of_id = HashMap::with_capacity(entries.len());
        let mut distinct =
            Self { firsts: Vec::with_capacity(entries.len()), first_at: Vec::with_capacity(entries.len()) };
        for entry in entries {
            let Some((id, entry)) = entry else {
                distinct.first_at.push(None);
                continue;
            };
            let next = distinct.firsts.len();
            let first = *first_of_id.entry(id).or_insert(next);
            if first == next {
                distinct.firsts.push(entry);
            }
            distinct.first_at.push(Some(first));
        }
        distinct
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_has_one_first_and_every_place_knows_its_first() {
        let ids = ["a", "b", "a", "c", "b"].map(|id| NotificationId::parse(id).unwrap());
        let mut entries: Vec<_> = ids.iter().enumerate().map(|(place, id)| Some((id, place))).collect();
        entries.insert(1, None);
        let distinct = Distinct::of(entries.into_iter());
        assert_eq!(distinct.firsts, [0, 1, 3]);
        assert_eq!(distinct.first_at, [Some(0), None, Some(1), Some(0), Some(2), Some(1)]);
    }
}
