//! Idempotent actions: the effect first, under the notification id, and then the conditional DONE. A crash between the
//! two brings a repeat that the receiver dedupes.

use crate::record::Record;
use crate::settle::{absent, settled_before};
use crate::{Downstream, Result, Settled};
use futures_util::stream::{self, StreamExt};
use notification::ports::{After, Before, Change, Clock, DownstreamTable};
use notification::{Action, Deadline, Failure, NotificationId, Outcome, Status, limits};
use std::collections::HashMap;
use std::pin::pin;

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    pub(crate) async fn idempotent(&self, records: &[&Record], deadline: Deadline) -> Vec<Result> {
        // What is settled already, or not in the table at all, is not run where one read can tell. Where the read
        // fails, it is run: harmlessly.
        let ids: Vec<&NotificationId> = records.iter().filter_map(|record| record.content.id()).collect();
        let reads = self.read_all(&ids, deadline).await;
        let not_to_run: HashMap<&NotificationId, Result> = ids
            .into_iter()
            .zip(reads)
            .filter_map(|(id, stored)| match stored.ok()? {
                None => Some((id, Err(absent()))),
                Some(stored) => settled_before(&stored).is_ok().then_some((id, Ok(Settled::Before))),
            })
            .collect();
        let known = |record: &Record| record.content.id().and_then(|id| not_to_run.get(id)).cloned();

        let mut results: Vec<Option<Result>> = records.iter().map(|record| known(record)).collect();
        let to_do: Vec<usize> = (0..records.len()).filter(|&place| results[place].is_none()).collect();
        // Settled as they come: a slow action keeps nobody's DONE waiting, and a crash repeats few.
        let acts: Vec<_> = to_do.iter().map(|&place| self.act_at(place, records[place], deadline)).collect();
        let mut acted = pin!(
            stream::iter(acts)
                .buffer_unordered(limits::ACTIONS_IN_FLIGHT)
                .ready_chunks(limits::BATCH_EXECUTE_STATEMENT_MAX)
        );
        while let Some(chunk) = acted.next().await {
            let (places, chunk): (Vec<usize>, Vec<Result<Option<Outcome>>>) = chunk.into_iter().unzip();
            let settled: Vec<&Record> = places.iter().map(|&place| records[place]).collect();
            for (place, result) in places.into_iter().zip(self.mark_done(&settled, &chunk, deadline).await) {
                results[place] = Some(result);
            }
        }
        let unsettled = || Err(Failure::retryable("not settled"));
        results.into_iter().map(|result| result.unwrap_or_else(unsettled)).collect()
    }

    async fn act_at(&self, place: usize, record: &Record, deadline: Deadline) -> (usize, Result<Option<Outcome>>) {
        let acted = self.act(record, deadline.earlier(limits::ACT_BEFORE_DEADLINE)).await;
        (place, acted.map(|effect| effect.outcome))
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
    results.next().unwrap_or_else(|| Err(Failure::retryable("no answer for this record")))
}
