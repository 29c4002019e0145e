//! Idempotent actions: the effect first, under the notification id, and then the conditional DONE. A crash between the
//! two leads to a repeat, which the receiver recognises by the id.
//!
//! A call with an unknown outcome is noted in the table: after it, a rejection no longer means that nothing has happened.

use crate::Downstream;
use crate::ended::{Called, Ended, Progress, RecordResult, Settled, Task};
use crate::record::Subject;
use crate::standing::{Standing, absent, not_as_expected};
use futures_channel::mpsc;
use futures_util::future::{FutureExt, join};
use futures_util::stream::{self, StreamExt};
use notification::batch::Attempts;
use notification::ports::DownstreamTable;
use notification::write::Answer;
use notification::{Action, Change, Clock, Deadline, Failure, Status, Timestamp, limits};

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    pub(crate) async fn idempotent<'a>(&self, tasks: Vec<Task<'a>>, deadline: Deadline) -> Vec<Ended<'a>> {
        let mut ended = Vec::with_capacity(tasks.len());
        let mut to_call = Vec::with_capacity(tasks.len());
        for (task, standing) in self.read_each(tasks, deadline).await {
            match standing {
                Standing::Init | Standing::UnknownCall => to_call.push(task),
                Standing::Other(result) => ended.push(task.end(result)),
            }
        }
        ended.extend(self.call_and_write(to_call, deadline).await);
        ended
    }

    /// Makes the calls, and writes their results as they end: a slow action delays no other DONE, a slow table delays no
    /// action, and a crash repeats few calls. Writes that failed are repeated until the deadline after all calls have ended, so
    /// they delay nothing either.
    async fn call_and_write<'a>(&self, tasks: Vec<Task<'a>>, deadline: Deadline) -> Vec<Ended<'a>> {
        let (sender, called) = mpsc::unbounded();
        // Created first and polled later, so that the compiler sees that the whole handler is `Send`.
        let acts: Vec<_> = tasks.into_iter().map(|task| self.act(task, deadline)).collect();
        let act = async move {
            let mut acts = stream::iter(acts).buffer_unordered(limits::ACTIONS_IN_FLIGHT);
            while let Some(called) = acts.next().await {
                // This cannot fail: the receiver lives longer.
                let _ = sender.unbounded_send(called);
            }
        };
        let write = called
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

    /// Writes the results of calls: DONE, or a note that the outcome is unknown.
    async fn write_results<'a>(&self, called: Vec<Called<'a>>, attempts: Attempts, deadline: Deadline) -> Progress<'a> {
        let mut progress = Progress::default();
        let mut to_write = Vec::with_capacity(called.len());
        for Called { task, acted } in called {
            match acted {
                // The call did not happen, or the item says already that its outcome is unknown.
                Err(failure) if task.known.has_unknown_call || !failure.kind.may_have_happened() => {
                    progress.ended.push(task.end_failed(&failure));
                }
                acted => to_write.push(Called { task, acted }),
            }
        }
        let written = self.write_each(to_write, change, attempts, deadline).await;
        let now = self.clock.now();
        for (called, answer) in written {
            match answer {
                Err(_) if attempts == Attempts::Limited => progress.open.push(called),
                answer => progress.ended.push(called.task.end(result(&called, answer, now))),
            }
        }
        progress
    }
}

/// The change of a notification, by the outcome of its call.
fn change<'a>(Called { task, acted }: &'a Called<'_>) -> Change<'a> {
    let Subject { id, event } = task.subject();
    match acted {
        Ok(effect) => Change::done(id, event, effect.outcome.as_ref()),
        Err(failure) => Change::note_unknown_call(id, event, task.note(failure)),
    }
}

/// The result of a call, by the action's answer and the answer to the write of that.
fn result(Called { task, acted }: &Called<'_>, answer: Result<Answer, Failure>, now: Timestamp) -> RecordResult {
    match (acted, answer) {
        (Err(failure), Ok(Answer::Made)) => Err(task.problem(failure)),
        (Err(failure), Err(table)) => {
            let _span = task.record.span().entered();
            tracing::error!(
                reason = %failure,
                table = %table,
                "the outcome of a call is unknown, and the note of it could not be written; if the next call is rejected, ask the receiver"
            );
            Err(task.problem(failure))
        }
        (Ok(_), Err(table)) => Err(table.into()),
        (Ok(_), Ok(Answer::Made)) => Ok(task.done(now)),
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
