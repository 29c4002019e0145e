//! Idempotent actions: the effect first, under the notification id, and then the conditional DONE. A crash between the
//! two leads to a repeat, which the receiver recognises by the id.
//!
//! A call with an unknown outcome is noted in the table: after it, a rejection no longer means that nothing has happened.

use crate::ended::Task;
use crate::ended::{Ended, Problem, Result, Settled};
use crate::record::Subject;
use crate::standing::{Standing, absent, not_as_expected};
use crate::{Called, Downstream};
use futures_channel::mpsc;
use futures_util::future::{FutureExt, join};
use futures_util::stream::{self, StreamExt};
use notification::batch::Attempts;
use notification::ports::DownstreamTable;
use notification::write::Answer;
use notification::{Action, Change, Clock, Deadline, Failure, Status, Timestamp, limits};

/// A call to make.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    task: Task<'a>,
    /// Whether the table has a note that an earlier call has an unknown outcome.
    is_noted: bool,
}

/// A call that has ended.
struct EndedCall<'a> {
    called: Called<'a>,
    is_noted: bool,
}

/// The calls whose results are written, and those whose results could not be written.
#[derive(Default)]
struct Progress<'a> {
    ended: Vec<Ended<'a>>,
    open: Vec<EndedCall<'a>>,
}

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    pub(crate) async fn idempotent<'a>(&self, tasks: Vec<Task<'a>>, deadline: Deadline) -> Vec<Ended<'a>> {
        let mut ended = Vec::with_capacity(tasks.len());
        let mut calls = Vec::with_capacity(tasks.len());
        for (task, standing) in self.read_each(tasks, deadline).await {
            match standing {
                Standing::Init => calls.push(Call { task, is_noted: false }),
                Standing::UnknownCall => calls.push(Call { task, is_noted: true }),
                Standing::Other(result) => ended.push(task.end(result)),
            }
        }
        ended.extend(self.call_and_write(calls, deadline).await);
        ended
    }

    /// Makes the calls, and writes their results as they end: a slow action delays no other DONE, a slow table delays no
    /// action, and a crash repeats few calls. Writes that failed are repeated until the deadline after all calls have ended, so
    /// they delay nothing either.
    async fn call_and_write<'a>(&self, calls: Vec<Call<'a>>, deadline: Deadline) -> Vec<Ended<'a>> {
        let (sender, ended_calls) = mpsc::unbounded::<EndedCall<'a>>();
        // Created first and polled later, so that the compiler sees that the whole handler is `Send`.
        let calls: Vec<_> = calls.into_iter().map(|call| self.call(call, deadline)).collect();
        let act = async move {
            let mut calls = stream::iter(calls).buffer_unordered(limits::ACTIONS_IN_FLIGHT);
            while let Some(ended) = calls.next().await {
                // This cannot fail: the receiver lives longer.
                let _ = sender.unbounded_send(ended);
            }
        };
        let write = ended_calls
            .ready_chunks(limits::BATCH_EXECUTE_STATEMENT_MAX)
            .map(|chunk| self.write_results(chunk, Attempts::Limited, deadline))
            .buffer_unordered(limits::CALLS_IN_FLIGHT)
            .collect::<Vec<_>>()
            // Boxed, so that the compiler sees that the whole handler is `Send`.
            .boxed();
        let ((), written) = join(act, write).await;
        let (mut ended, mut open) = (Vec::new(), Vec::new());
        for progress in written {
            ended.extend(progress.ended);
            open.extend(progress.open);
        }
        ended.extend(self.write_results(open, Attempts::UntilDeadline, deadline).await.ended);
        ended
    }

    async fn call<'a>(&self, Call { task, is_noted }: Call<'a>, deadline: Deadline) -> EndedCall<'a> {
        let called = self.act(task, deadline.earlier(limits::ACT_BEFORE_DEADLINE)).await;
        EndedCall { called, is_noted }
    }

    /// Writes the results of calls: DONE, or a note that the outcome is unknown.
    async fn write_results<'a>(
        &self,
        calls: Vec<EndedCall<'a>>,
        attempts: Attempts,
        deadline: Deadline,
    ) -> Progress<'a> {
        let mut progress = Progress::default();
        let mut to_write = Vec::with_capacity(calls.len());
        for call in calls {
            match &call.called.acted {
                // If a call did not happen, or is already noted, there is nothing to write.
                Err(failure) if call.is_noted || !failure.kind.may_have_happened() => {
                    progress.ended.push(call.called.task.end(Err(Problem::of_action(failure))));
                }
                _ => to_write.push(call),
            }
        }
        let written = self.write_each(to_write, EndedCall::change, attempts, deadline).await;
        let now = self.clock.now();
        for (call, answer) in written {
            match answer {
                Err(_) if attempts == Attempts::Limited => progress.open.push(call),
                answer => progress.ended.push(call.called.task.end(result(&call.called, answer, now))),
            }
        }
        progress
    }
}

impl EndedCall<'_> {
    fn change(&self) -> Change<'_> {
        let Subject { id, event } = self.called.task.subject();
        match &self.called.acted {
            Ok(effect) => Change::done(id, event, effect.outcome.as_ref()),
            Err(_) => Change::note_unknown_call(id, event),
        }
    }
}

/// The result of a call, by the action's answer and the answer to the write of that.
fn result(Called { task, acted }: &Called<'_>, answer: std::result::Result<Answer, Failure>, now: Timestamp) -> Result {
    match (acted, answer) {
        (Err(failure), Ok(Answer::Made)) => Err(Problem::of_action(failure)),
        (Err(failure), Err(table)) => {
            let _span = task.record.span().entered();
            tracing::error!(
                reason = %failure,
                table = %table,
                "the outcome of a call is unknown, and the note of it could not be written; if the next call is rejected, ask the receiver"
            );
            Err(Problem::of_action(failure))
        }
        (Ok(_), Err(table)) => Err(table.into()),
        (Ok(_), Ok(Answer::Made)) => Ok(Settled::Done),
        (_, Ok(Answer::Absent)) => Err(absent()),
        (acted, Ok(Answer::NotAsExpected(stored))) => match (stored.status, acted) {
            // Meanwhile, another worker has settled it as if nothing had happened.
            (Some(status @ Status::Failed), _) | (Some(status @ Status::InDoubt), Ok(_)) => {
                Ok(Settled::LateEffect(status))
            }
            _ => not_as_expected(task.subject(), &stored, now),
        },
    }
}
