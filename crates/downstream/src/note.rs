//! Why the action of a notification failed, noted in its item, so that operators find it without the logs. Notes are written last:
//! they delay no other write, and if one cannot be written, the log has the reason anyway.

use crate::Downstream;
use crate::ended::{Ended, Problem, Task};
use notification::batch::Attempts;
use notification::ports::DownstreamTable;
use notification::{Action, Change, Clock, Deadline, Failure};

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    /// Notes the failures of the action that are due.
    pub(crate) async fn note_failures(&self, ended: &[Ended<'_>], deadline: Deadline) {
        let failure_of = |ended: &Ended<'_>| match &ended.result {
            Err(Problem::Retry(failure)) => Some(failure.clone()),
            _ => None,
        };
        let due: Vec<_> = ended.iter().filter_map(|ended| Some((ended.to_note?, failure_of(ended)?))).collect();
        self.write_each(due, noting, Attempts::Limited, deadline).await;
    }
}

fn noting<'a>((task, failure): &'a (Task<'_>, Failure)) -> Change<'a> {
    Change::note_failure(task.id(), task.subject().event, task.known.run, task.note(failure))
}
