//! Transactional actions: the effect and DONE in one `TransactWriteItems`, many notifications grouped in each. A crash
//! leaves all of a group or nothing of it. An effect without writes needs no transaction: the write of DONE is atomic.

use crate::ended::Task;
use crate::ended::{Ended, Problem, Result, Settled};
use crate::standing::{absent, not_as_expected};
use crate::{Called, Downstream};
use notification::batch::Attempts;
use notification::change::Commit;
use notification::ports::DownstreamTable;
use notification::transaction::commit_all;
use notification::write::Answer;
use notification::{Action, Change, Clock, Deadline, Effect, Timestamp};

/// A task with the effect to write.
struct Effective<'a> {
    task: Task<'a>,
    effect: Effect,
}

impl Effective<'_> {
    fn change(&self) -> Change<'_> {
        Change::done(self.task.id(), self.task.notification.event(), self.effect.outcome.as_ref())
    }
}

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    pub(crate) async fn transactional<'a>(&self, tasks: Vec<Task<'a>>, deadline: Deadline) -> Vec<Ended<'a>> {
        let mut ended = Vec::with_capacity(tasks.len());
        let (mut alone, mut with_puts) = (Vec::new(), Vec::new());
        for Called { task, acted } in self.act_all(tasks, deadline).await {
            match acted {
                Err(failure) => ended.push(task.end(Err(Problem::of_action(&failure)))),
                Ok(effect) if effect.writes.is_empty() => alone.push(Effective { task, effect }),
                Ok(effect) => with_puts.push(Effective { task, effect }),
            }
        }
        self.mark_done(alone, deadline, &mut ended).await;
        self.commit(with_puts, deadline, &mut ended).await;
        ended
    }

    /// Writes DONE for effects without items.
    async fn mark_done<'a>(&self, effects: Vec<Effective<'a>>, deadline: Deadline, ended: &mut Vec<Ended<'a>>) {
        let written = self.write_each(effects, Effective::change, Attempts::Limited, deadline).await;
        let now = self.clock.now();
        for (Effective { task, .. }, answer) in written {
            ended.push(task.end(match answer {
                Ok(answer) => settled(task, answer, now),
                Err(failure) => Err(failure.into()),
            }));
        }
    }

    /// Writes DONE and the effect's items together.
    async fn commit<'a>(&self, effects: Vec<Effective<'a>>, deadline: Deadline, ended: &mut Vec<Ended<'a>>) {
        let mut commits = Vec::with_capacity(effects.len());
        for effective in &effects {
            commits.push(Commit { change: effective.change(), puts: &effective.effect.writes });
        }
        let answers = commit_all(&self.table, &self.clock, &commits, deadline).await;
        let now = self.clock.now();
        for (Effective { task, .. }, answer) in effects.iter().zip(answers) {
            ended.push(task.end(match answer {
                Ok(answer) => settled(*task, answer, now),
                // A transaction that is permanently refused wrote nothing, so the effect did not happen.
                Err(failure) => Err(Problem::of_action(&failure)),
            }));
        }
    }
}

fn settled(task: Task<'_>, answer: Answer, now: Timestamp) -> Result {
    match answer {
        Answer::Made => Ok(Settled::Done),
        Answer::Absent => Err(absent()),
        Answer::NotAsExpected(stored) => not_as_expected(task.subject(), &stored, now),
    }
}
