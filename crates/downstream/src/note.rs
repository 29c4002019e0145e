//! Why the action of a notification failed, noted in its item, so that operators find it without the logs. A note is never worth
//! a failure: if it cannot be written, the log has the reason anyway.

use crate::Downstream;
use crate::ended::{Ended, Task};
use notification::batch::Attempts;
use notification::ports::DownstreamTable;
use notification::{Action, Change, Clock, Deadline, Failure};

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    /// Ends tasks whose action failed, and notes the failures that are due.
    pub(crate) async fn end_failed<'a>(&self, failed: Vec<(Task<'a>, Failure)>, deadline: Deadline) -> Vec<Ended<'a>> {
        let is_due = |(task, failure): &&(Task<'a>, Failure)| task.is_note_due && failure.kind.is_retryable();
        let due = failed.iter().filter(is_due).collect();
        self.write_each(due, noting, Attempts::Limited, deadline).await;
        failed.into_iter().map(|(task, failure)| task.end(Err(task.problem(&failure)))).collect()
    }
}

fn noting<'a>((task, failure): &'a &(Task<'_>, Failure)) -> Change<'a> {
    Change::note_failure(task.id(), task.subject().event, task.note(failure))
}
