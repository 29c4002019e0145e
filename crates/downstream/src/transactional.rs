//! Transactional actions: the effect and DONE in one `TransactWriteItems`, many notifications grouped in each. A crash
//! leaves all of a group or nothing of it. An effect without writes needs no transaction: DONE alone is atomic.

use crate::idempotent::next;
use crate::record::Record;
use crate::settle::{absent, settled_before};
use crate::{Downstream, Result, Settled};
use notification::batch::call_in_batches;
use notification::ports::{Answers, Clock, Commit, DownstreamTable, NotCommitted, Refused, Stored};
use notification::{Action, Deadline, Effect, Failure, Outcome, Timestamp, limits};
use std::ops::Range;

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    pub(crate) async fn transactional(&self, records: &[&Record], deadline: Deadline) -> Vec<Result> {
        let acted = self.act_all(records, deadline).await;
        let has_writes = |acted: &Result<Effect>| acted.as_ref().is_ok_and(|effect| !effect.writes.is_empty());

        let (plain_records, plain): (Vec<&Record>, Vec<Result<Option<Outcome>>>) = records
            .iter()
            .zip(&acted)
            .filter(|(_, acted)| !has_writes(acted))
            .map(|(record, acted)| (record, acted.clone().map(|effect| effect.outcome)))
            .unzip();
        let mut plain = self.mark_done(&plain_records, &plain, deadline).await.into_iter();

        let with_writes = records.iter().zip(&acted).filter(|(_, acted)| has_writes(acted));
        let (commits, sizes): (Vec<Commit<'_>>, Vec<Size>) = with_writes
            .filter_map(|(record, acted)| {
                let (id, effect) = (record.content.id()?, acted.as_ref().ok()?);
                Some((Commit { id, effect }, Size::of(record, effect)))
            })
            .unzip();
        let mut committed = self.commit_all(&commits, groups(&sizes), deadline).await.into_iter();

        let result = |acted| if has_writes(acted) { next(&mut committed) } else { next(&mut plain) };
        acted.iter().map(result).collect()
    }

    async fn commit_all(&self, commits: &[Commit<'_>], groups: Vec<Range<usize>>, deadline: Deadline) -> Vec<Result> {
        let done_at = self.clock.now();
        let commit = |group: Vec<_>| async move { self.commit_group(group, done_at).await };
        let refused = call_in_batches(&self.clock, deadline, commits, groups, commit).await;
        let ids: Vec<_> = commits
            .iter()
            .zip(&refused)
            .filter_map(|(commit, refused)| matches!(refused, Ok(Some(None))).then_some(commit.id))
            .collect();
        let mut reads = self.read_all(&ids, deadline).await.into_iter();
        let result = |refused| match refused? {
            None => Ok(Settled::Done),
            Some(Some(stored)) => settled_before(&stored),
            Some(None) => settled_before(&next(&mut reads)?.ok_or_else(absent)?),
        };
        refused.into_iter().map(result).collect()
    }

    /// Commits a group. Those that are refused leave it, they alone, and the others are committed without them.
    /// `None`: committed. `Some`: not INIT, and what it is where the answer said.
    async fn commit_group(&self, group: Vec<Commit<'_>>, done_at: Timestamp) -> Answers<Option<Option<Stored>>> {
        let mut results: Vec<Result<Option<Option<Stored>>>> = group.iter().map(|_| Ok(None)).collect();
        let mut left: Vec<usize> = (0..group.len()).collect();
        while !left.is_empty() {
            let commits: Vec<Commit<'_>> = left.iter().map(|&place| group[place]).collect();
            let refusals = match self.table.commit(&commits, done_at).await {
                Ok(()) => break,
                Err(NotCommitted::Refused(refusals)) if refusals.iter().any(Option::is_some) => refusals,
                Err(NotCommitted::Refused(_)) => {
                    return Err(Failure::retryable("the transaction was refused without a reason"));
                }
                Err(NotCommitted::Failed(failure)) if left.len() == group.len() => return Err(failure),
                Err(NotCommitted::Failed(failure)) => {
                    for &place in &left {
                        results[place] = Err(failure.clone());
                    }
                    break;
                }
            };
            let mut refusals = refusals.into_iter();
            left.retain(|&place| match refusals.next().flatten() {
                None => true,
                Some(Refused::NotInit(stored)) => {
                    results[place] = Ok(Some(stored));
                    false
                }
                Some(Refused::Failed(failure)) => {
                    results[place] = Err(failure);
                    false
                }
            });
        }
        Ok(results)
    }
}

/// What one notification takes of a transaction's limits.
struct Size {
    actions: usize,
    bytes: usize,
}

impl Size {
    fn of(record: &Record, effect: &Effect) -> Self {
        let effect_bytes: usize = effect.writes.iter().map(notification::Write::bytes).sum();
        // The notification's own item counts, although only its status changes.
        Self { actions: 1 + effect.writes.len(), bytes: record.data.len() + limits::ITEM_RESERVED_BYTES + effect_bytes }
    }
}

/// Cuts notifications into groups that keep to a transaction's limits.
fn groups(sizes: &[Size]) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let (mut actions, mut bytes) = (0, 0);
    for (place, size) in sizes.iter().enumerate() {
        actions += size.actions;
        bytes += size.bytes;
        match groups.last_mut() {
            Some(group)
                if actions <= limits::TRANSACT_WRITE_ITEMS_MAX && bytes <= limits::TRANSACT_WRITE_ITEMS_MAX_BYTES =>
            {
                group.end = place + 1;
            }
            _ => {
                groups.push(place..place + 1);
                (actions, bytes) = (size.actions, size.bytes);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_11_groups_keep_to_the_actions_and_bytes_of_a_transaction() {
        let sizes = |count, actions, bytes| (0..count).map(|_| Size { actions, bytes }).collect::<Vec<_>>();
        assert_eq!(groups(&sizes(101, 2, 1)), [0..50, 50..100, 100..101]);
        assert_eq!(groups(&sizes(5, 2, 2 * 1024 * 1024)), [0..2, 2..4, 4..5]);
        assert_eq!(groups(&sizes(3, 2, 5 * 1024 * 1024)), [0..1, 1..2, 2..3]);
        assert!(groups(&[]).is_empty());
    }
}
