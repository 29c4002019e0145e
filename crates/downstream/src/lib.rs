//! downstream: Kinesis → the action → the table. Its only side effect is the action's effect together with the
//! conditional change to DONE.
//!
//! Layers: [`Envelope`] → per record ([`record`]) → parse → act and settle, by the guarantee of the action.
//!
//! | file | concern |
//! |---|---|
//! | `transactional`, `idempotent`, `at_most_once` | how each guarantee is made true |
//! | `standing` | what the table says about a record's notification, and what follows |
//! | `settle` | reads and changes of status |
//! | `quarantine` | poison: kept and passed |
//! | `outcome` | what became of a record: its log line and its metric |
//! | `run` | the wiring to Lambda and AWS, with the feature `lambda` |

mod at_most_once;
mod idempotent;
mod outcome;
mod quarantine;
pub mod record;
#[cfg(feature = "lambda")]
mod run;
mod settle;
mod standing;
mod transactional;

#[cfg(feature = "lambda")]
pub use run::{Wiring, run};

use aws_lambda_events::streams::KinesisEventResponse;
use futures_util::stream::{self, StreamExt};
use notification::batch::isolate_future;
use notification::ports::{Clock, DownstreamTable};
use notification::report::{BatchResponse, MissingIdentifier};
use notification::{Action, Deadline, Effect, Envelope, Failure, Guarantee, NotificationId, limits};
use outcome::{Problem, Result, Settled};
use quarantine::MalformedRecord;
use record::{Content, Record, Task};
use std::collections::HashMap;
use std::time::Duration;

/// The handler, over a table, a clock and the action.
#[derive(Debug)]
pub struct Downstream<T, C, A> {
    table: T,
    clock: C,
    action: A,
}

/// One invocation of the function.
#[derive(Debug, Clone, Copy)]
pub struct Invocation<'a> {
    /// When Lambda ends it.
    pub deadline: Deadline,
    /// Lambda's id of it.
    pub request_id: &'a str,
}

/// What the action answered.
type Acted = std::result::Result<Effect, Failure>;

/// What the function answers Kinesis: the report, in the type of `aws_lambda_events`.
#[must_use]
pub fn answer(report: &BatchResponse) -> KinesisEventResponse {
    let mut answer = KinesisEventResponse::default();
    answer.set_failures(report.identifiers());
    answer
}

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    /// The handler over these ports.
    pub fn new(table: T, clock: C, action: A) -> Self {
        Self { table, clock, action }
    }

    /// Handles one batch and reports the sequence number from which it must be retried.
    ///
    /// # Errors
    /// [`MissingIdentifier`] where a record has no sequence number; nothing was done then.
    pub async fn handle(
        &self,
        envelope: Envelope,
        invocation: Invocation<'_>,
    ) -> std::result::Result<BatchResponse, MissingIdentifier> {
        let read = envelope.records.iter().map(|record| Record::read(record));
        let records = read.collect::<std::result::Result<Vec<_>, _>>()?;
        let mut retried = vec![false; records.len()];
        let mut left: Vec<usize> = (0..records.len()).collect();
        // One round, but for records with the same id and different content: only one of them can be the table's.
        while !left.is_empty() {
            let round = Round::of(&records, &left);
            let firsts: Vec<&Record> = round.firsts.iter().map(|&place| &records[place]).collect();
            let results = self.settle_all(&firsts, invocation).await;
            outcome::count_done(&results);
            for (&place, result) in round.firsts.iter().zip(&results) {
                outcome::log_and_count(&records[place], result);
                retried[place] = result.is_err();
            }
            for (place, first) in round.repeats {
                outcome::log_and_count_repeat(&records[place], &results[first]);
                retried[place] = results[first].is_err();
            }
            left = round.left;
        }
        Ok(BatchResponse::for_stream(records.iter().map(|record| &record.sequence_number).zip(retried)))
    }

    /// Acts on records of different ids and settles them. What is not settled is retried.
    async fn settle_all(&self, records: &[&Record], invocation: Invocation<'_>) -> Vec<Result> {
        let deadline = invocation.deadline;
        let tasks: Vec<Task<'_>> = records.iter().filter_map(|record| Task::of(record)).collect();
        let malformed: Vec<MalformedRecord<'_>> =
            records.iter().filter_map(|record| MalformedRecord::of(record)).collect();
        let acted = match self.action.guarantee() {
            Guarantee::Transactional => self.transactional(&tasks, deadline).await,
            Guarantee::Idempotent { .. } => self.idempotent(&tasks, deadline).await,
            Guarantee::AtMostOnce { timeout } => self.at_most_once(&tasks, timeout, invocation).await,
        };
        let (mut acted, mut malformed) = (acted.into_iter(), self.malformed(&malformed, deadline).await.into_iter());
        let result = |record: &&Record| match record.content {
            Content::Notification(_) => acted.next(),
            Content::Malformed { .. } => malformed.next(),
        };
        let unsettled = || Err(Problem::retry("not settled"));
        let mut results: Vec<Result> =
            records.iter().map(result).map(|result| result.unwrap_or_else(unsettled)).collect();
        // What failed permanently is kept and passed: reported, it would block its shard.
        self.quarantine_all(records, &mut results, deadline).await;
        results
    }

    /// Runs the action for tasks, several at once. It ends early enough for what it did to be written down.
    async fn act_all(&self, tasks: &[Task<'_>], deadline: Deadline) -> Vec<Acted> {
        let deadline = deadline.earlier(limits::ACT_BEFORE_DEADLINE);
        // Made first and polled later: so the compiler sees that the whole handler can move between threads.
        let acts: Vec<_> = tasks.iter().map(|task| self.act(*task, deadline)).collect();
        stream::iter(acts).buffered(limits::ACTIONS_IN_FLIGHT).collect().await
    }

    async fn act(&self, task: Task<'_>, deadline: Deadline) -> Acted {
        let timeout = self.action.guarantee().timeout();
        if !deadline.allows(self.clock.now(), timeout) {
            return Err(too_late(timeout));
        }
        let run = isolate_future(async { self.action.run(task.notification, deadline).await.map_err(Failure::from) });
        deadline.bound(&self.clock, run).await?
    }
}

/// Why a call does not start.
fn too_late(timeout: Duration) -> Failure {
    Failure::retryable(format!(
        "not started: the action may take {timeout:?}, and less is left of the invocation; if this never passes, the \
         function's timeout is too short for the action"
    ))
}

/// The records of a batch that are settled at once: one of each id. Producers' retries give duplicates new sequence
/// numbers, so the notification id alone tells them.
struct Round {
    /// The places of the records that are worked on.
    firsts: Vec<usize>,
    /// The places of records with the same id and content, each with which of the firsts it repeats.
    repeats: Vec<(usize, usize)>,
    /// The places of records with the same id and different content.
    left: Vec<usize>,
}

impl Round {
    fn of(records: &[Record], places: &[usize]) -> Self {
        let mut round = Self { firsts: Vec::with_capacity(places.len()), repeats: vec![], left: vec![] };
        let mut first_of_id: HashMap<&NotificationId, usize> = HashMap::with_capacity(places.len());
        for &place in places {
            let next = round.firsts.len();
            let first = records[place].content.id().map_or(next, |id| *first_of_id.entry(id).or_insert(next));
            if first == next {
                round.firsts.push(place);
            } else if records[round.firsts[first]].data == records[place].data {
                round.repeats.push((place, first));
            } else {
                round.left.push(place);
            }
        }
        round
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notification::report::Identifier;

    #[test]
    fn rule_3_an_answer_has_the_shape_that_lambda_expects_and_every_identifier_of_the_report() {
        let id = Identifier::parse(Some("m0")).unwrap();
        let json = |report| serde_json::to_string(&answer(&report)).unwrap();
        assert_eq!(
            json(BatchResponse::for_stream([(&id, true)])),
            r#"{"batchItemFailures":[{"itemIdentifier":"m0"}]}"#
        );
        assert_eq!(json(BatchResponse::default()), r#"{"batchItemFailures":[]}"#);
    }
}
