//! Poison: what fails permanently is kept as FAILED, with its reason, and passed. It neither blocks its shard nor vanishes.
//!
//! A notification becomes FAILED only by its own record. A record that is not the table's notification is kept as an item
//! of its own, and the notification is left alone.

use crate::record::{Content, Record, Task};
use crate::standing::absent;
use crate::{Downstream, Problem, Result, Settled};
use notification::batch::{by_count, call_in_batches};
use notification::change::{Answer, Persistence};
use notification::ports::{After, Before, Change, Clock, DownstreamTable, Unreadable};
use notification::{Action, Deadline, Failure, NotificationId, Status};

/// A record that holds no notification, or a malformed one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MalformedRecord<'a> {
    pub(crate) record: &'a Record,
    pub(crate) id: Option<&'a NotificationId>,
    pub(crate) failure: &'a Failure,
}

impl<'a> MalformedRecord<'a> {
    /// Of a record that holds no valid notification.
    pub(crate) fn of(record: &'a Record) -> Option<Self> {
        match &record.content {
            Content::Malformed { id, failure } => Some(Self { record, id: id.as_ref(), failure }),
            Content::Notification(_) => None,
        }
    }
}

/// A notification that is to become FAILED, and why.
struct Refused<'a> {
    place: usize,
    id: &'a NotificationId,
    reason: String,
}

/// A record that is not the table's notification, and why.
struct Foreign<'a> {
    record: &'a Record,
    reason: String,
}

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    /// What follows from malformed records: FAILED where the table itself has the malformed event, else the record is not
    /// ours.
    pub(crate) async fn malformed(&self, malformed: &[MalformedRecord<'_>], deadline: Deadline) -> Vec<Result> {
        let ids: Vec<&NotificationId> = malformed.iter().filter_map(|malformed| malformed.id).collect();
        let mut reads = self.read_all(&ids, deadline).await.into_iter();
        let mut results = Vec::with_capacity(malformed.len());
        for MalformedRecord { record, id, failure } in malformed {
            let reason = failure.reason.clone();
            results.push(Err(match id.and_then(|_| reads.next()) {
                Some(Err(failure)) => failure.into(),
                Some(Ok(Some(stored))) if stored.event.as_bytes() == record.data => Problem::Refused(reason),
                Some(Ok(_)) | None => Problem::Foreign(reason),
            }));
        }
        results
    }

    /// Keeps as FAILED what is refused or foreign. A failure of that, of whichever kind, is retried: the record would
    /// vanish otherwise.
    pub(crate) async fn quarantine_all(&self, records: &[&Record], results: &mut [Result], deadline: Deadline) {
        let mut refused = Vec::new();
        for (place, result) in results.iter().enumerate() {
            if let (Err(Problem::Refused(reason)), Some(id)) = (result, records[place].content.id()) {
                refused.push(Refused { place, id, reason: reason.clone() });
            }
        }
        for (place, result) in self.fail_all(records, &refused, deadline).await {
            results[place] = result;
        }

        let mut foreign = Vec::new();
        for (place, result) in results.iter().enumerate() {
            if let Err(Problem::Foreign(reason)) = result {
                foreign.push((place, Foreign { record: records[place], reason: reason.clone() }));
            }
        }
        let kept = self.keep_all(&foreign, deadline).await;
        for ((place, Foreign { reason, .. }), kept) in foreign.into_iter().zip(kept) {
            results[place] = kept.map(|item| Settled::Kept { item, reason }).map_err(Problem::from);
        }
    }

    async fn fail_all(&self, records: &[&Record], refused: &[Refused<'_>], deadline: Deadline) -> Vec<(usize, Result)> {
        let changes: Vec<Change<'_>> = refused
            .iter()
            .map(|refused| Change { id: refused.id, from: Before::Untouched, to: After::Failed(&refused.reason) })
            .collect();
        let answers = self.change_all(&changes, Persistence::Usual, deadline).await;
        let mut results = Vec::with_capacity(refused.len());
        for (refused, answer) in refused.iter().zip(answers) {
            let result = match answer {
                Err(failure) => Err(failure.into()),
                Ok(Answer::Made) => Ok(Settled::Failed(refused.reason.clone())),
                Ok(Answer::Absent) => Err(absent()),
                Ok(Answer::NotAsExpected(stored)) => match Task::of(records[refused.place]) {
                    Some(task) if stored.status == Some(Status::Init) && stored.unknown_call => {
                        let reason = format!("{}, but an earlier call has an unknown outcome", refused.reason);
                        self.in_doubt(task, Before::Status(Status::Init), &reason, deadline).await
                    }
                    Some(task) => self.not_as_expected(task, &stored, deadline).await,
                    None => Ok(Settled::Before(stored.status)),
                },
            };
            results.push((refused.place, result));
        }
        results
    }

    /// Keeps each record as an item of its own, and tells the item's id.
    async fn keep_all(
        &self,
        foreign: &[(usize, Foreign<'_>)],
        deadline: Deadline,
    ) -> Vec<std::result::Result<String, Failure>> {
        let entries: Vec<&Foreign<'_>> = foreign.iter().map(|(_, foreign)| foreign).collect();
        let keep = |batch: Vec<_>| async move {
            let mut kept = Vec::with_capacity(batch.len());
            for entry in batch {
                kept.push(self.keep(entry).await);
            }
            Ok(kept)
        };
        call_in_batches(&self.clock, deadline, &entries, by_count(entries.len(), 1), keep).await
    }

    async fn keep(&self, Foreign { record, reason }: &Foreign<'_>) -> std::result::Result<String, Failure> {
        let unreadable =
            Unreadable { shard: &record.shard, sequence_number: &record.sequence_number, raw: &record.data };
        self.table.keep(unreadable, reason, self.clock.now()).await.map(|()| unreadable.item_id())
    }
}
