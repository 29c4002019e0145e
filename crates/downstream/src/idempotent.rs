//! Idempotent actions: the effect first, under the notification id, and then the conditional DONE. A crash between the
//! two brings a repeat that the receiver dedupes.

use crate::record::Record;
use crate::settle::settled_before;
use crate::{Downstream, Result, Settled};
use notification::ports::{After, Before, Change, Clock, DownstreamTable};
use notification::{Action, Deadline, NotificationId, Outcome, Status};
use std::collections::HashSet;

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    pub(crate) async fn idempotent(&self, records: &[&Record], deadline: Deadline) -> Vec<Result> {
        // What is settled already is not run again where one read can tell. Where the read fails, it is: harmlessly.
        let ids: Vec<&NotificationId> = records.iter().filter_map(|record| record.content.id()).collect();
        let reads = self.read_all(&ids, deadline).await;
        let settled: HashSet<&NotificationId> = ids
            .into_iter()
            .zip(reads)
            .filter_map(|(id, stored)| stored.ok()??.status.is_some_and(|status| !status.is_pending()).then_some(id))
            .collect();
        let is_settled = |record: &&Record| record.content.id().is_some_and(|id| settled.contains(id));

        let to_do: Vec<&Record> = records.iter().copied().filter(|record| !is_settled(record)).collect();
        let acted: Vec<Result<Option<Outcome>>> =
            self.act_all(&to_do, deadline).await.into_iter().map(|acted| Ok(acted?.outcome)).collect();
        let mut done = self.mark_done(&to_do, &acted, deadline).await.into_iter();
        let result = |record| if is_settled(record) { Ok(Settled::Before) } else { next(&mut done) };
        records.iter().map(result).collect()
    }

    /// Moves those on which the action succeeded from INIT to DONE; the others keep their failure.
    pub(crate) async fn mark_done(
        &self,
        records: &[&Record],
        acted: &[Result<Option<Outcome>>],
        deadline: Deadline,
    ) -> Vec<Result> {
        let changes: Vec<Change<'_>> = records
            .iter()
            .zip(acted)
            .filter_map(|(record, acted)| {
                let outcome = acted.as_ref().ok()?.as_ref();
                Some(Change { id: record.content.id()?, from: Before::Status(Status::Init), to: After::Done(outcome) })
            })
            .collect();
        let mut changed = self.change_all(&changes, deadline).await.into_iter();
        let result = |acted: &Result<Option<Outcome>>| match acted {
            Ok(_) => match next(&mut changed)? {
                None => Ok(Settled::Done),
                Some(stored) => settled_before(&stored),
            },
            Err(failure) => Err(failure.clone()),
        };
        acted.iter().map(result).collect()
    }
}

/// The next of results that were made for exactly those that ask.
pub(crate) fn next<R>(results: &mut impl Iterator<Item = Result<R>>) -> Result<R> {
    results.next().unwrap_or_else(|| Err(notification::Failure::retryable("no answer for this record")))
}
