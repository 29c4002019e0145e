//! Transactional actions: the effect and DONE in one `TransactWriteItems`, many notifications grouped in each. A crash
//! leaves all of a group or nothing of it. An effect without writes needs no transaction: the write of DONE is atomic.

use crate::Downstream;
use crate::ended::{Called, Ended, Problem, Result, Settled, Task};
use crate::standing::{absent, not_as_expected};
use notification::batch::Attempts;
use notification::change::Commit;
use notification::ports::DownstreamTable;
use notification::transaction::commit_all;
use notification::write::Answer;
use notification::{Action, Change, Clock, Deadline, Effect, Timestamp};

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    pub(crate) async fn transactional<'a>(&self, tasks: Vec<Task<'a>>, deadline: Deadline) -> Vec<Ended<'a>> {
        let mut ended = Vec::with_capacity(tasks.len());
        let (mut alone, mut with_puts) = (Vec::new(), Vec::new());
        for Called { task, acted } in self.act_all(tasks, deadline).await {
            match acted {
                Err(failure) => ended.push(task.end(Err(task.problem(&failure)))),
                Ok(effect) if effect.writes.is_empty() => alone.push((task, effect)),
                Ok(effect) => with_puts.push((task, effect)),
            }
        }

        let written = self.write_each(alone, done, Attempts::Limited, deadline).await;
        let now = self.clock.now();
        for ((task, _), answer) in written {
            ended.push(task.end(settled(task, answer.map_err(Problem::from), now)));
        }

        let commits: Vec<_> =
            with_puts.iter().map(|effective| Commit { change: done(effective), puts: &effective.1.writes }).collect();
        let committed = commit_all(&self.table, &self.clock, &commits, deadline).await;
        let now = self.clock.now();
        for ((task, _), answer) in with_puts.iter().zip(committed) {
            // A transaction that is permanently refused wrote nothing, so the effect did not happen.
            let answer = answer.map_err(|failure| task.problem(&failure));
            ended.push(task.end(settled(*task, answer, now)));
        }
        ended
    }
}

fn done<'a>((task, effect): &'a (Task<'_>, Effect)) -> Change<'a> {
    Change::done(task.id(), task.notification.event(), effect.outcome.as_ref())
}

fn settled(task: Task<'_>, answer: Result<Answer>, now: Timestamp) -> Result {
    match answer? {
        Answer::Made => Ok(Settled::Done),
        Answer::Absent => Err(absent()),
        Answer::NotAsExpected(stored) => not_as_expected(task.subject(), &stored, now),
    }
}
