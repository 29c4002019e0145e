//! Poison: a notification becomes FAILED or IN_DOUBT with its reason, and an orphan becomes an item of its own. Poison neither
//! blocks its shard nor gets lost. For the stream, these items play the part of a dead-letter queue.
//!
//! Only its own record changes a notification. A record that differs from the table's notification is an orphan and changes
//! nothing.

use crate::Downstream;
use crate::ended::{Becomes, Doubtful, Ended, Problem, RecordResult, Settled};
use crate::record::{Record, Subject};
use crate::standing::{Standing, absent, not_as_expected};
use notification::batch::{Attempts, by_count, call_in_batches};
use notification::change::Run;
use notification::ports::{Answers, DownstreamTable, Orphan};
use notification::write::{Answer, read_all};
use notification::{Action, Change, Clock, Deadline, Failure};

/// A record that does not contain a valid notification.
pub(crate) struct MalformedRecord<'a> {
    pub(crate) place: usize,
    pub(crate) record: &'a Record,
    pub(crate) failure: &'a Failure,
}

/// A notification that must become FAILED or IN_DOUBT, with the result of its record.
struct Poison<'e, 'a> {
    result: &'e mut RecordResult,
    subject: Subject<'a>,
    becomes: Becomes,
    failure: Failure,
}

impl<T: DownstreamTable, C: Clock, A: Action> Downstream<T, C, A> {
    /// Ends malformed records: FAILED if the table has the same malformed event, otherwise as orphans.
    pub(crate) async fn end_malformed<'a>(
        &self,
        malformed: Vec<MalformedRecord<'a>>,
        deadline: Deadline,
    ) -> Vec<Ended<'a>> {
        let ids: Vec<_> = malformed.iter().filter_map(|malformed| Some(malformed.record.subject()?.id)).collect();
        let mut reads = read_all(&self.table, &self.clock, &ids, deadline).await.into_iter();
        let now = self.clock.now();
        let mut ended = Vec::with_capacity(malformed.len());
        for MalformedRecord { place, record, failure } in malformed {
            let read = record.subject().and_then(|subject| Some((subject, reads.next()?)));
            let standing = read.map(|(subject, read)| Standing::read(subject, read, now));
            let result = match standing {
                None | Some(Standing::Other(Err(Problem::Orphan(_)))) => Err(Problem::Orphan(failure.reason.clone())),
                Some(Standing::Init | Standing::UnknownCall) => {
                    // It is malformed in every run.
                    Err(Problem::MustBecome(Becomes::Failed(Run::Any), failure.clone()))
                }
                Some(Standing::Other(result)) => result,
            };
            ended.push(Ended { place, record, result, to_note: None });
        }
        ended
    }

    /// Writes FAILED and IN_DOUBT, and quarantines orphans. If that fails in any way, the record is retried, because it would
    /// otherwise be lost.
    pub(crate) async fn quarantine_all(&self, ended: &mut [Ended<'_>], deadline: Deadline) {
        self.write_poison(ended, deadline).await;
        // A refused notification can turn out to be in doubt. That is written now.
        self.write_poison(ended, deadline).await;
        self.quarantine_orphans(ended, deadline).await;
    }

    /// Writes FAILED and IN_DOUBT.
    async fn write_poison(&self, ended: &mut [Ended<'_>], deadline: Deadline) {
        let mut poison = Vec::new();
        for Ended { record, result, .. } in ended {
            let Err(Problem::MustBecome(becomes, failure)) = &*result else { continue };
            let (becomes, failure) = (becomes.clone(), failure.clone());
            if let Some(subject) = record.subject() {
                poison.push(Poison { result, subject, becomes, failure });
            }
        }
        let answers = self.write_each(poison, Poison::change, Attempts::Limited, deadline).await;
        let now = self.clock.now();
        for (Poison { result, subject, becomes, failure }, answer) in answers {
            let is_in_doubt = matches!(becomes, Becomes::InDoubt(_));
            *result = match answer {
                Err(table) => Err(table.into()),
                Ok(Answer::Made) if is_in_doubt => Ok(Settled::InDoubt(failure)),
                Ok(Answer::Made) => Ok(Settled::Failed(failure)),
                Ok(Answer::Absent) => Err(absent()),
                Ok(Answer::NotAsExpected(stored)) => match Standing::of(subject, &stored, now) {
                    Standing::UnknownCall if !is_in_doubt => {
                        let reason = format!("{failure}, but an earlier call has an unknown outcome");
                        let failure = Failure::may_have_happened(reason);
                        Err(Problem::MustBecome(Becomes::InDoubt(Doubtful::Init), failure))
                    }
                    // Another worker was faster, or has claimed it.
                    Standing::Other(Err(Problem::MustBecome(Becomes::InDoubt(_), _))) if is_in_doubt => {
                        Err(Problem::retry("another worker has changed the notification"))
                    }
                    _ => not_as_expected(subject, &stored, now),
                },
            };
        }
    }

    /// Puts each orphan as an item of its own.
    async fn quarantine_orphans(&self, ended: &mut [Ended<'_>], deadline: Deadline) {
        let mut orphans = Vec::new();
        for Ended { record, result, .. } in ended.iter() {
            if let Err(Problem::Orphan(reason)) = result {
                orphans.push((*record, reason.as_str()));
            }
        }
        let ranges = by_count(orphans.len(), 1);
        let quarantine = |orphan: Vec<_>| self.quarantine(orphan);
        let results = call_in_batches(&self.clock, deadline, Attempts::Limited, &orphans, ranges, quarantine).await;
        let orphans = ended.iter_mut().filter(|ended| matches!(ended.result, Err(Problem::Orphan(_))));
        for (orphan, result) in orphans.zip(results) {
            orphan.result = result.map_err(Problem::from);
        }
    }

    async fn quarantine(&self, orphans: Vec<(&Record, &str)>) -> Answers<Settled> {
        let mut results = Vec::with_capacity(orphans.len());
        for (record, reason) in orphans {
            let (shard, sequence_number) = (record.shard.as_str(), &record.sequence_number);
            let orphan = Orphan { shard, sequence_number, raw: record.bytes() };
            let quarantined = self.table.quarantine(orphan, reason, self.clock.now()).await;
            let settled = Settled::Quarantined { item: orphan.item_id(), reason: reason.to_owned() };
            results.push(quarantined.map(|()| settled));
        }
        Ok(results)
    }
}

impl Poison<'_, '_> {
    fn change(&self) -> Change<'_> {
        let (Subject { id, event }, reason) = (self.subject, self.failure.as_reason());
        match &self.becomes {
            Becomes::Failed(run) => Change::fail(id, event, *run, reason),
            Becomes::InDoubt(Doubtful::Init) => Change::doubt(id, event, reason),
            Becomes::InDoubt(Doubtful::Claim(claim)) => Change::doubt_claimed(id, claim, reason),
            Becomes::InDoubt(Doubtful::UnreadableClaim) => Change::doubt_unreadable_claim(id, reason),
        }
    }
}
