//! Reading notifications and changing their status, with the handler's table and clock.

use crate::Downstream;
use notification::change::{self, Answer, Persistence};
use notification::ports::{Change, Clock, DownstreamTable, Stored};
use notification::{Action, Deadline, Failure, NotificationId};

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    /// Makes changes, in batches.
    pub(crate) async fn change_all(
        &self,
        changes: &[Change<'_>],
        persistence: Persistence,
        deadline: Deadline,
    ) -> Vec<Result<Answer, Failure>> {
        change::change_all(&self.table, &self.clock, changes, persistence, deadline).await
    }

    /// Reads items, consistently, in batches.
    pub(crate) async fn read_all(
        &self,
        ids: &[&NotificationId],
        deadline: Deadline,
    ) -> Vec<Result<Option<Stored>, Failure>> {
        change::read_all(&self.table, &self.clock, ids, deadline).await
    }
}
