//! Idempotent actions: the effect first, under the notification id, and then the conditional DONE. A crash between the
//! two brings a repeat that the receiver dedupes.
//!
//! A call with an unknown outcome is noted in the table, because from then on a rejection no longer says that nothing
//! has happened.

use crate::record::Task;
use crate::standing::{Standing, absent};
use crate::{Downstream, Problem, Result, Settled};
use futures_channel::mpsc;
use futures_util::future::{join, ready};
use futures_util::stream::{self, StreamExt};
use notification::change::{Answer, Persistence};
use notification::ports::{After, Before, Change, Clock, DownstreamTable, Stored};
use notification::{Action, Deadline, Effect, Failure, FailureKind, Status, limits};

/// One call of the action.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    /// The task's place.
    place: usize,
    task: Task<'a>,
    /// Whether the table knows already that a call has an unknown outcome.
    is_noted: bool,
}

/// What the action answered to a call, with the call's number.
type Acted = (usize, std::result::Result<Effect, Failure>);

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    pub(crate) async fn idempotent(&self, tasks: &[Task<'_>], deadline: Deadline) -> Vec<Result> {
        let ids: Vec<_> = tasks.iter().map(Task::id).collect();
        let reads = self.read_all(&ids, deadline).await;
        let mut results: Vec<Option<Result>> = Vec::with_capacity(tasks.len());
        let mut calls = Vec::with_capacity(tasks.len());
        for (place, (&task, read)) in tasks.iter().zip(&reads).enumerate() {
            let result = self.without_a_call(task, read, deadline).await;
            if result.is_none() {
                let is_noted = matches!(read, Ok(Some(Stored { unknown_call: true, .. })));
                calls.push(Call { place, task, is_noted });
            }
            results.push(result);
        }
        for (place, result) in self.act_and_settle(&calls, deadline).await {
            results[place] = Some(result);
        }
        let unsettled = || Err(Problem::retry("not settled"));
        results.into_iter().map(|result| result.unwrap_or_else(unsettled)).collect()
    }

    /// The result of a task that needs no call. `None`: call.
    async fn without_a_call(
        &self,
        task: Task<'_>,
        read: &std::result::Result<Option<Stored>, Failure>,
        deadline: Deadline,
    ) -> Option<Result> {
        // Where the read fails, the action is run: harmlessly, because it is idempotent.
        let stored = read.as_ref().ok()?;
        match Standing::of(task, stored.as_ref(), self.clock.now()) {
            Standing::Init { .. } => None,
            standing => Some(self.settled_or_held(task, standing, deadline).await),
        }
    }

    /// Makes the calls, and settles them as they end: a slow action keeps nobody's DONE waiting, a slow table keeps no action
    /// from going on, and a crash repeats few.
    async fn act_and_settle(&self, calls: &[Call<'_>], deadline: Deadline) -> Vec<(usize, Result)> {
        let (ended, acted) = mpsc::unbounded::<Acted>();
        // Made first and polled later: so the compiler sees that the whole handler can move between threads.
        let acts: Vec<_> =
            calls.iter().enumerate().map(|(number, call)| self.call(number, call.task, deadline)).collect();
        let act = async move {
            let acts = stream::iter(acts).buffer_unordered(limits::ACTIONS_IN_FLIGHT);
            // It cannot fail: the receiver lives longer.
            acts.for_each(|acted| ready(drop(ended.unbounded_send(acted)))).await;
        };
        let settle = acted
            .ready_chunks(limits::BATCH_EXECUTE_STATEMENT_MAX)
            .map(|chunk| self.settle_acted(calls, chunk, deadline))
            .buffer_unordered(limits::CALLS_IN_FLIGHT)
            .concat();
        join(act, settle).await.1
    }

    async fn call(&self, number: usize, task: Task<'_>, deadline: Deadline) -> Acted {
        (number, self.act(task, deadline.earlier(limits::ACT_BEFORE_DEADLINE)).await)
    }

    /// Writes down what the action answered: DONE, or that the outcome is unknown.
    async fn settle_acted(&self, calls: &[Call<'_>], acted: Vec<Acted>, deadline: Deadline) -> Vec<(usize, Result)> {
        let changes: Vec<Change<'_>> =
            acted.iter().filter_map(|(number, acted)| change(&calls[*number], acted)).collect();
        let mut answers = self.change_all(&changes, Persistence::UntilDeadline, deadline).await.into_iter();
        let mut results = Vec::with_capacity(acted.len());
        for (number, acted) in &acted {
            let call = &calls[*number];
            let answer = change(call, acted).and_then(|_| answers.next());
            results.push((call.place, self.result(call.task, acted, answer, deadline).await));
        }
        results
    }

    async fn result(
        &self,
        task: Task<'_>,
        acted: &std::result::Result<Effect, Failure>,
        answer: Option<std::result::Result<Answer, Failure>>,
        deadline: Deadline,
    ) -> Result {
        match (acted, answer) {
            (Err(failure), _) => Err(Problem::of_action(failure)),
            (Ok(_), None) => Err(Problem::retry("no answer for this record")),
            (Ok(_), Some(Err(failure))) => Err(failure.into()),
            (Ok(_), Some(Ok(Answer::Made))) => Ok(Settled::Done),
            (Ok(_), Some(Ok(Answer::Absent))) => Err(absent()),
            (Ok(_), Some(Ok(Answer::NotAsExpected(stored)))) => match stored.status {
                Some(status @ (Status::Failed | Status::InDoubt)) => Ok(Settled::LateSuccess(status)),
                _ => self.not_as_expected(task, &stored, deadline).await,
            },
        }
    }
}

/// What is written about a call. A call that surely did nothing leaves no trace.
fn change<'a>(call: &Call<'a>, acted: &'a std::result::Result<Effect, Failure>) -> Option<Change<'a>> {
    let to = match acted {
        Ok(effect) => After::Done(effect.outcome.as_ref()),
        Err(failure) if failure.kind == FailureKind::MayHaveHappened && !call.is_noted => After::UnknownCall,
        Err(_) => return None,
    };
    Some(Change { id: call.task.id(), from: Before::Status(Status::Init), to })
}
