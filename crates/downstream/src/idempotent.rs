//! Idempotent actions: the effect first, under the notification id, and then the conditional DONE. A crash between the
//! two brings a repeat that the receiver dedupes.
//!
//! A call with an unknown outcome is noted in the table, because from then on a rejection no longer says that nothing
//! has happened.

use crate::record::Task;
use crate::standing::{Standing, absent, not_as_expected};
use crate::{Acted, Downstream, Problem, Result, Settled};
use futures_channel::mpsc;
use futures_util::future::join;
use futures_util::stream::{self, StreamExt};
use notification::change::{Answer, Persistence};
use notification::ports::{After, Before, Change, Clock, DownstreamTable};
use notification::{Action, Deadline, Failure, FailureKind, Status, Timestamp, limits};

/// One call of the action.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    /// The task's place.
    place: usize,
    task: Task<'a>,
    /// Whether the table knows already that a call has an unknown outcome.
    is_noted: bool,
}

/// A call that has ended: its number, and what the action answered.
type Ended = (usize, Acted);

/// What became of writing down ended calls: those that are settled, by place, and those that could not be written.
#[derive(Default)]
struct Written {
    settled: Vec<(usize, Result)>,
    open: Vec<Ended>,
}

impl Extend<Written> for Written {
    fn extend<I: IntoIterator<Item = Written>>(&mut self, others: I) {
        for other in others {
            self.settled.extend(other.settled);
            self.open.extend(other.open);
        }
    }
}

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    pub(crate) async fn idempotent(&self, tasks: &[Task<'_>], deadline: Deadline) -> Vec<Result> {
        let ids: Vec<_> = tasks.iter().map(Task::id).collect();
        let reads = self.read_all(&ids, deadline).await;
        let now = self.clock.now();
        let mut results: Vec<Result> = Vec::with_capacity(tasks.len());
        let mut calls = Vec::with_capacity(tasks.len());
        for (place, (&task, read)) in tasks.iter().zip(reads).enumerate() {
            let standing = read.map(|stored| Standing::of(task.subject(), stored.as_ref(), now));
            let is_noted = matches!(standing, Ok(Standing::UnknownCall));
            results.push(match standing {
                Err(failure) => Err(failure.into()),
                Ok(Standing::Other(result)) => result,
                Ok(Standing::Init | Standing::UnknownCall) => {
                    calls.push(Call { place, task, is_noted });
                    Err(Problem::retry("not settled"))
                }
            });
        }
        for (place, result) in self.call_and_settle(&calls, deadline).await {
            results[place] = result;
        }
        results
    }

    /// Makes the calls, and settles them as they end: a slow action keeps nobody's DONE waiting, a slow table keeps no action
    /// from going on, and a crash repeats few. What could not be written is tried until the deadline when all calls have
    /// ended, so that it keeps nobody waiting either.
    async fn call_and_settle(&self, calls: &[Call<'_>], deadline: Deadline) -> Vec<(usize, Result)> {
        let (ending, ended) = mpsc::unbounded::<Ended>();
        // Made first and polled later: so the compiler sees that the whole handler can move between threads.
        let acts: Vec<_> =
            calls.iter().enumerate().map(|(number, call)| self.call(number, call.task, deadline)).collect();
        let act = async move {
            let mut acts = stream::iter(acts).buffer_unordered(limits::ACTIONS_IN_FLIGHT);
            while let Some(ended) = acts.next().await {
                // It cannot fail: the receiver lives longer.
                let _ = ending.unbounded_send(ended);
            }
        };
        let settle = ended
            .ready_chunks(limits::BATCH_EXECUTE_STATEMENT_MAX)
            .map(|chunk| self.write_down(calls, chunk, Persistence::Usual, deadline))
            .buffer_unordered(limits::CALLS_IN_FLIGHT)
            .collect();
        let ((), Written { mut settled, open }) = join(act, settle).await;
        settled.extend(self.write_down(calls, open, Persistence::UntilDeadline, deadline).await.settled);
        settled
    }

    async fn call(&self, number: usize, task: Task<'_>, deadline: Deadline) -> Ended {
        (number, self.act(task, deadline.earlier(limits::ACT_BEFORE_DEADLINE)).await)
    }

    /// Writes down what the action answered: DONE, or that the outcome is unknown.
    async fn write_down(
        &self,
        calls: &[Call<'_>],
        ended: Vec<Ended>,
        persistence: Persistence,
        deadline: Deadline,
    ) -> Written {
        let changes: Vec<Change<'_>> =
            ended.iter().filter_map(|(number, acted)| change(&calls[*number], acted)).collect();
        let mut answers = self.change_all(&changes, persistence, deadline).await.into_iter();
        let now = self.clock.now();
        let mut written = Written::default();
        for (number, acted) in ended {
            let call = &calls[number];
            match change(call, &acted).and_then(|_| answers.next()) {
                Some(Err(_)) if persistence == Persistence::Usual => written.open.push((number, acted)),
                answer => written.settled.push((call.place, result(call, &acted, answer, now))),
            }
        }
        written
    }
}

/// What is written about a call. A call that surely did nothing leaves no trace.
fn change<'a>(call: &Call<'a>, acted: &'a Acted) -> Option<Change<'a>> {
    let to = match acted {
        Ok(effect) => After::Done(effect.outcome.as_ref()),
        Err(failure) if failure.kind == FailureKind::MayHaveHappened && !call.is_noted => After::UnknownCall,
        Err(_) => return None,
    };
    Some(Change { id: call.task.id(), from: Before::Event(call.task.subject().event), to })
}

/// The result of a call, by what the action answered and what became of writing that down, if anything was to be written.
fn result(
    call: &Call<'_>,
    acted: &Acted,
    answer: Option<std::result::Result<Answer, Failure>>,
    now: Timestamp,
) -> Result {
    match (acted, answer) {
        (Err(failure), None | Some(Ok(Answer::Made))) => Err(Problem::of_action(failure)),
        (Err(failure), Some(Err(table))) => {
            call.task.record.span().in_scope(|| {
                tracing::error!(
                    reason = %failure,
                    table = %table,
                    "the outcome of a call is unknown, and that could not be noted; if its repeat is refused, ask the receiver"
                );
            });
            Err(Problem::of_action(failure))
        }
        (Ok(_), None) => Err(Problem::retry("no answer for this record")),
        (Ok(_), Some(Err(table))) => Err(table.into()),
        (Ok(_), Some(Ok(Answer::Made))) => Ok(Settled::Done),
        (_, Some(Ok(Answer::Absent))) => Err(absent()),
        (acted, Some(Ok(Answer::NotAsExpected(stored)))) => match (stored.status, acted) {
            // Somebody else has settled it meanwhile, as if nothing had happened.
            (Some(status @ Status::Failed), _) | (Some(status @ Status::InDoubt), Ok(_)) => {
                Ok(Settled::LateEffect(status))
            }
            _ => not_as_expected(call.task.subject(), &stored, now),
        },
    }
}
