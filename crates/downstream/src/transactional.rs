//! Transactional actions: the effect and DONE in one `TransactWriteItems`, many notifications grouped in each. A crash
//! leaves all of a group or nothing of it. An effect without writes needs no transaction: the write of DONE is atomic.

use crate::Downstream;
use crate::ended::{Called, Ended, Problem, RecordResult, Task};
use crate::standing::{Standing, absent, not_as_expected};
use notification::batch::Attempts;
use notification::change::Commit;
use notification::ports::DownstreamTable;
use notification::transaction::commit_all;
use notification::write::Answer;
use notification::{Action, Change, Clock, Deadline, Effect, Failure, FailureKind, Timestamp};

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    pub(crate) async fn transactional<'a>(&self, tasks: Vec<Task<'a>>, deadline: Deadline) -> Vec<Ended<'a>> {
        let mut ended = Vec::with_capacity(tasks.len());
        let (mut alone, mut with_puts) = (Vec::new(), Vec::new());
        let called = self.act_all(tasks, deadline).await;
        for Called { task, acted } in self.read_if_failed(called, deadline, &mut ended).await {
            match acted {
                Err(failure) => ended.push(task.end_failed(&failure)),
                Ok(effect) if effect.writes.is_empty() => alone.push((task, effect)),
                Ok(effect) => with_puts.push((task, effect)),
            }
        }

        let written = self.write_each(alone, done, Attempts::Limited, deadline).await;
        let now = self.clock.now();
        for ((task, _), answer) in written {
            ended.push(task.end(answer.map_err(Problem::from).and_then(|answer| settled(task, answer, now))));
        }

        let commits: Vec<_> =
            with_puts.iter().map(|effective| Commit { change: done(effective), puts: &effective.1.writes }).collect();
        let committed = commit_all(&self.table, &self.clock, &commits, deadline).await;
        let now = self.clock.now();
        let mut to_retry = Vec::new();
        for ((task, _), answer) in with_puts.iter().zip(committed) {
            match answer {
                Ok(answer) => ended.push(task.end(settled(*task, answer, now))),
                // A transaction that is permanently refused wrote nothing, so the effect did not happen.
                Err(failure) if !failure.kind.is_retryable() => ended.push(task.end_failed(&failure)),
                Err(failure) => to_retry.push((*task, failure)),
            }
        }
        ended.extend(self.end_uncommitted(to_retry, deadline).await);
        ended
    }

    /// Ends the tasks whose transaction is tried again with the next delivery. They are read, because only their items say
    /// whether a note of the failure is due: without a permission, for example, transactions fail for hours.
    async fn end_uncommitted<'a>(&self, failed: Vec<(Task<'a>, Failure)>, deadline: Deadline) -> Vec<Ended<'a>> {
        let (tasks, failures): (Vec<_>, Vec<_>) = failed.into_iter().unzip();
        let read = self.read_each(tasks, deadline).await;
        read.into_iter().zip(failures).map(|((task, _), failure)| task.end_failed(&failure)).collect()
    }

    /// Reads the notifications whose action failed, and runs the action again for those that it rejected and that are INIT. A
    /// rejection is written only if the action makes it in the run that the read shows: the first one may be from a run that an
    /// operator has ended. The action may run again because it has no effect of its own. Only failures cost a read.
    async fn read_if_failed<'a>(
        &self,
        called: Vec<Called<'a>>,
        deadline: Deadline,
        ended: &mut Vec<Ended<'a>>,
    ) -> Vec<Called<'a>> {
        let (failed, mut called): (Vec<_>, Vec<_>) = called.into_iter().partition(|called| called.acted.is_err());
        let (tasks, acted): (Vec<_>, Vec<_>) = failed.into_iter().map(|called| (called.task, called.acted)).unzip();
        let mut to_ask = Vec::new();
        for ((task, standing), acted) in self.read_each(tasks, deadline).await.into_iter().zip(acted) {
            let is_rejected = acted.as_ref().is_err_and(|failure| failure.kind == FailureKind::Permanent);
            match standing {
                Standing::Init | Standing::UnknownCall if is_rejected => to_ask.push(task),
                Standing::Init | Standing::UnknownCall => called.push(Called { task, acted }),
                Standing::Other(result) => ended.push(task.end(result)),
            }
        }
        called.extend(self.act_all(to_ask, deadline).await);
        called
    }
}

fn done<'a>((task, effect): &'a (Task<'_>, Effect)) -> Change<'a> {
    Change::done(task.id(), task.notification.event(), effect.outcome.as_ref())
}

fn settled(task: Task<'_>, answer: Answer, now: Timestamp) -> RecordResult {
    match answer {
        Answer::Made => Ok(task.done(now)),
        Answer::Absent => Err(absent()),
        Answer::NotAsExpected(stored) => not_as_expected(task.subject(), &stored, now),
    }
}
