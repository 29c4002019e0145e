//! What cannot go well any more: FAILED or IN_DOUBT, with its reason, or kept as an item of its own. It neither blocks its
//! shard nor vanishes.
//!
//! A notification is changed only by its own record. A record that is not the table's notification is kept, and the
//! notification is left alone.

use crate::outcome::Doubtful;
use crate::record::{Content, Record, Subject};
use crate::standing::{Standing, absent, not_as_expected};
use crate::{Downstream, Problem, Result, Settled};
use notification::batch::{by_count, call_in_batches};
use notification::change::{Answer, Persistence};
use notification::ports::{After, Before, Change, Clock, DownstreamTable, Orphan};
use notification::{Action, Deadline, Failure, Status};

/// A record that holds no notification, or a malformed one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MalformedRecord<'a> {
    subject: Option<Subject<'a>>,
    failure: &'a Failure,
}

impl<'a> MalformedRecord<'a> {
    /// Of a record that holds no valid notification.
    pub(crate) fn of(record: &'a Record) -> Option<Self> {
        match &record.content {
            Content::Malformed { failure, .. } => Some(Self { subject: record.subject(), failure }),
            Content::Notification(_) => None,
        }
    }
}

/// A notification that is to become FAILED or IN_DOUBT.
struct Poisoned<'a> {
    place: usize,
    subject: Subject<'a>,
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
        let ids: Vec<_> = malformed.iter().filter_map(|malformed| Some(malformed.subject?.id)).collect();
        let mut reads = self.read_all(&ids, deadline).await.into_iter();
        let now = self.clock.now();
        let mut results = Vec::with_capacity(malformed.len());
        for MalformedRecord { subject, failure } in malformed {
            let reason = failure.reason.clone();
            let read = subject.and_then(|subject| Some((subject, reads.next()?)));
            results.push(match read {
                None => Err(Problem::Foreign(reason)),
                Some((_, Err(failure))) => Err(failure.into()),
                Some((subject, Ok(stored))) => match Standing::of(subject, stored.as_ref(), now) {
                    Standing::Init | Standing::UnknownCall => Err(Problem::Refused(reason)),
                    Standing::Other(Err(Problem::Foreign(_))) => Err(Problem::Foreign(reason)),
                    Standing::Other(result) => result,
                },
            });
        }
        results
    }

    /// Writes down what is refused, in doubt or foreign. A failure of that, of whichever kind, is retried: the record would
    /// vanish otherwise.
    pub(crate) async fn quarantine_all(&self, records: &[&Record], results: &mut [Result], deadline: Deadline) {
        self.fail_all(records, results, deadline).await;
        self.doubt_all(records, results, deadline).await;
        self.keep_all(records, results, deadline).await;
    }

    async fn fail_all(&self, records: &[&Record], results: &mut [Result], deadline: Deadline) {
        let mut refused = Vec::new();
        for (place, result) in results.iter().enumerate() {
            if let (Err(Problem::Refused(reason)), Some(subject)) = (result, records[place].subject()) {
                refused.push(Poisoned { place, subject, reason: reason.clone() });
            }
        }
        let mut changes = Vec::with_capacity(refused.len());
        for Poisoned { subject, reason, .. } in &refused {
            changes.push(Change { id: subject.id, from: Before::Untouched(subject.event), to: After::Failed(reason) });
        }
        let answers = self.change_all(&changes, Persistence::Usual, deadline).await;
        let now = self.clock.now();
        for (Poisoned { place, subject, reason }, answer) in refused.into_iter().zip(answers) {
            results[place] = match answer {
                Err(failure) => Err(failure.into()),
                Ok(Answer::Made) => Ok(Settled::Failed(reason)),
                Ok(Answer::Absent) => Err(absent()),
                Ok(Answer::NotAsExpected(stored)) => match Standing::of(subject, Some(&stored), now) {
                    Standing::UnknownCall => {
                        let reason = format!("{reason}, but an earlier call has an unknown outcome");
                        Err(Problem::InDoubt { from: Doubtful::Init, reason })
                    }
                    _ => not_as_expected(subject, &stored, now),
                },
            };
        }
    }

    async fn doubt_all(&self, records: &[&Record], results: &mut [Result], deadline: Deadline) {
        let mut doubtful = Vec::new();
        for (place, result) in results.iter().enumerate() {
            if let (Err(Problem::InDoubt { from, reason }), Some(subject)) = (result, records[place].subject()) {
                doubtful.push((Poisoned { place, subject, reason: reason.clone() }, from.clone()));
            }
        }
        let mut changes = Vec::with_capacity(doubtful.len());
        for (Poisoned { subject, reason, .. }, from) in &doubtful {
            let from = match from {
                Doubtful::Init => Before::Event(subject.event),
                Doubtful::Claim(claim) => Before::Claim(claim),
                Doubtful::UnreadableClaim => Before::Status(Status::Claimed),
            };
            changes.push(Change { id: subject.id, from, to: After::InDoubt(reason) });
        }
        let answers = self.change_all(&changes, Persistence::Usual, deadline).await;
        let now = self.clock.now();
        for ((Poisoned { place, subject, reason }, _), answer) in doubtful.into_iter().zip(answers) {
            results[place] = match answer {
                Err(failure) => Err(failure.into()),
                Ok(Answer::Made) => Ok(Settled::InDoubt(reason)),
                Ok(Answer::Absent) => Err(absent()),
                Ok(Answer::NotAsExpected(stored)) => match not_as_expected(subject, &stored, now) {
                    // Another worker was faster, or holds it.
                    Err(Problem::InDoubt { .. }) => Err(Problem::retry("another worker has changed the notification")),
                    result => result,
                },
            };
        }
    }

    /// Keeps each foreign record as an item of its own.
    async fn keep_all(&self, records: &[&Record], results: &mut [Result], deadline: Deadline) {
        let mut places = Vec::new();
        let mut foreign = Vec::new();
        for (place, result) in results.iter().enumerate() {
            if let Err(Problem::Foreign(reason)) = result {
                places.push(place);
                foreign.push(Foreign { record: records[place], reason: reason.clone() });
            }
        }
        let entries: Vec<&Foreign<'_>> = foreign.iter().collect();
        let keep = |batch: Vec<_>| async move {
            let mut kept = Vec::with_capacity(batch.len());
            for entry in batch {
                kept.push(self.keep(entry).await);
            }
            Ok(kept)
        };
        let kept = call_in_batches(&self.clock, deadline, &entries, by_count(entries.len(), 1), keep).await;
        for ((place, Foreign { reason, .. }), kept) in places.into_iter().zip(foreign).zip(kept) {
            results[place] = kept.map(|item| Settled::Kept { item, reason }).map_err(Problem::from);
        }
    }

    async fn keep(&self, Foreign { record, reason }: &Foreign<'_>) -> std::result::Result<String, Failure> {
        let unreadable = Orphan { shard: &record.shard, sequence_number: &record.sequence_number, raw: &record.data };
        self.table.keep(unreadable, reason, self.clock.now()).await.map(|()| unreadable.item_id())
    }
}
