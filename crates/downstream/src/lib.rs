//! downstream: Kinesis → the action → the table. Its only side effect is the action's effect together with the
//! conditional change to DONE.
//!
//! Layers: [`Envelope`] → per record ([`record`]) → parse → act and settle, by the guarantee of the action.
//!
//! | file | concern |
//! |---|---|
//! | `transactional`, `idempotent`, `at_most_once` | how each guarantee is kept |
//! | `standing` | the state of a record's notification in the table, and its consequences |
//! | `quarantine` | poison: quarantined and passed |
//! | `note` | why the action failed, noted in the item of a notification that stays pending |
//! | `ended` | the result of a record: its log line and its metric |
//! | `latency` | how long notifications take to become DONE |
//! | `run` | the wiring to Lambda and AWS, with the feature `lambda` |

mod at_most_once;
mod ended;
mod idempotent;
mod latency;
mod note;
mod quarantine;
pub mod record;
#[cfg(feature = "lambda")]
mod run;
mod standing;
mod transactional;

#[cfg(feature = "lambda")]
pub use {aws::Function, mimalloc::MiMalloc, run::run};

use ended::{Called, Ended, Problem, Settled, Task};
use futures_util::stream::{self, StreamExt};
use notification::batch::isolate_future;
use notification::distinct::Distinct;
use notification::ports::DownstreamTable;
use notification::report::{BatchResponse, MissingIdentifier};
use notification::{Action, Clock, Deadline, Envelope, Failure, Guarantee, Invocation, ReasonCode, limits};
use quarantine::MalformedRecord;
use record::{Content, Record};
use std::time::Duration;

/// The handler, over a table, a clock and the action.
#[derive(Debug)]
pub struct Downstream<T, C, A> {
    table: T,
    clock: C,
    action: A,
}

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    /// The handler over these ports.
    pub fn new(table: T, clock: C, action: A) -> Self {
        Self { table, clock, action }
    }

    /// Handles one batch and reports the sequence number from which it must be retried.
    ///
    /// # Errors
    /// [`MissingIdentifier`] if a record has no sequence number; then nothing was done.
    pub async fn handle(&self, envelope: Envelope, invocation: Invocation) -> Result<BatchResponse, MissingIdentifier> {
        let records = envelope.records.iter().map(|record| Record::read(record)).collect::<Result<Vec<_>, _>>()?;
        let unsettled = Err(Problem::retry("not settled"));
        let mut retried = vec![false; records.len()];
        let mut done = Vec::with_capacity(records.len());
        let mut left: Vec<usize> = (0..records.len()).collect();
        // One round, unless records have the same id but different content: the table has only one of these.
        while !left.is_empty() {
            let Distinct { firsts, first_at } =
                Distinct::of(left.iter().map(|&place| Some((records[place].id()?, place))));
            let without_id = left.iter().filter(|&&place| records[place].id().is_none());
            let tasks: Vec<usize> = firsts.iter().chain(without_id).copied().collect();
            let results = self.settle_all(&records, tasks, &invocation).await;
            let mut others = Vec::new();
            for (place, first) in left.into_iter().zip(first_at) {
                let (record, first) = (&records[place], first.map_or(place, |first| firsts[first]));
                let result = results[first].as_ref().unwrap_or(&unsettled);
                if place == first {
                    if let Ok(Settled::Done(at)) = result {
                        done.push((&*envelope.records[place], *at));
                    }
                    ended::log_and_count(record, result);
                } else if record.bytes() == records[first].bytes() {
                    ended::log_and_count_repeat(record, result);
                } else {
                    others.push(place);
                    continue;
                }
                retried[place] = result.is_err();
            }
            left = others;
        }
        latency::record(&done);
        Ok(BatchResponse::for_stream(records.iter().map(|record| &record.sequence_number).zip(retried)))
    }

    /// Acts on records with different ids and settles them. A record that is not settled is retried.
    async fn settle_all(
        &self,
        records: &[Record],
        places: Vec<usize>,
        invocation: &Invocation,
    ) -> Vec<Option<ended::RecordResult>> {
        let deadline = invocation.deadline;
        let (mut tasks, mut malformed) = (Vec::with_capacity(places.len()), Vec::new());
        for place in places {
            let record = &records[place];
            match &record.content {
                Content::Notification(notification) => {
                    tasks.push(Task::unread(place, record, notification));
                }
                Content::Malformed { failure, .. } => malformed.push(MalformedRecord { place, record, failure }),
            }
        }
        let mut ended = match self.action.guarantee() {
            Guarantee::Transactional => self.transactional(tasks, deadline).await,
            Guarantee::Idempotent { .. } => self.idempotent(tasks, deadline).await,
            Guarantee::AtMostOnce { timeout } => self.at_most_once(tasks, timeout, invocation).await,
        };
        ended.extend(self.end_malformed(malformed, deadline).await);
        // A permanent failure is quarantined and passed. If it were reported, it would block its shard.
        self.quarantine_all(&mut ended, deadline).await;
        self.note_failures(&ended, deadline).await;
        ended::count_done(&ended);
        let mut results = Vec::new();
        results.resize_with(records.len(), || None);
        for Ended { place, result, .. } in ended {
            results[place] = Some(result);
        }
        results
    }

    /// Runs the action for several tasks at once.
    async fn act_all<'a>(&self, tasks: Vec<Task<'a>>, deadline: Deadline) -> Vec<Called<'a>> {
        // Created first and polled later, so that the compiler sees that the whole handler is `Send`.
        let acts: Vec<_> = tasks.into_iter().map(|task| self.act(task, deadline)).collect();
        stream::iter(acts).buffered(limits::ACTIONS_IN_FLIGHT).collect().await
    }

    /// Runs the action for a task. It ends early enough to write the outcome.
    async fn act<'a>(&self, task: Task<'a>, deadline: Deadline) -> Called<'a> {
        let deadline = deadline.earlier(limits::ACT_BEFORE_DEADLINE);
        let timeout = self.action.guarantee().timeout();
        if !deadline.allows(self.clock.now(), timeout) {
            return Called { task, acted: Err(too_late(timeout)) };
        }
        let run = isolate_future(async { self.action.run(task.notification, deadline).await.map_err(Failure::from) });
        let acted = deadline.bound(&self.clock, run).await.and_then(|acted| acted);
        Called { task, acted }
    }
}

/// The failure of a call that does not start.
fn too_late(timeout: Duration) -> Failure {
    Failure::retryable(format!(
        "not started: the action may take {timeout:?}, and less is left of the invocation; if this happens every time, the \
         function's timeout is too short for the action"
    ))
    .with_code(ReasonCode::NoTime)
}
