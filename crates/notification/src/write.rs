//! Many conditional writes at once: write, read the items that the answers lack, and recognise a write of our own whose reply
//! was lost. Ingest, downstream and `notifyctl` all write through here.

use crate::batch::{Attempts, by_count, call_in_batches};
use crate::change::{Change, Stored};
use crate::clock::Clock;
use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::id::NotificationId;
use crate::limits;
use crate::ports::{Table, TableReader, Written};
use jiff::Timestamp;

/// What became of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is made: now, or by an earlier attempt of ours whose reply was lost.
    Made,
    /// The item is not as the change expects it. Nothing was written; the table has this item.
    NotAsExpected(Stored),
    /// The table has no such item.
    Absent,
}

/// Makes changes now, in batches, and returns an answer for each in order.
pub async fn write_all(
    table: &impl Table,
    clock: &impl Clock,
    changes: &[Change<'_>],
    attempts: Attempts,
    deadline: Deadline,
) -> Vec<Result<Answer, Failure>> {
    write_all_at(table, clock, changes, clock.now(), attempts, deadline).await
}

/// The same, with this time as that of the changes.
pub(crate) async fn write_all_at(
    table: &impl Table,
    clock: &impl Clock,
    changes: &[Change<'_>],
    at: Timestamp,
    attempts: Attempts,
    deadline: Deadline,
) -> Vec<Result<Answer, Failure>> {
    let ranges = by_count(changes.len(), limits::BATCH_EXECUTE_STATEMENT_MAX);
    let write = |batch: Vec<_>| async move { table.write(&batch, at).await };
    let written = call_in_batches(clock, deadline, attempts, changes, ranges, write).await;
    answer_all(table, clock, changes, at, written, deadline).await
}

/// Reads items, consistently, in batches, and returns a result for each id in order; `None` if there is no such item.
pub async fn read_all(
    table: &impl TableReader,
    clock: &impl Clock,
    ids: &[&NotificationId],
    deadline: Deadline,
) -> Vec<Result<Option<Stored>, Failure>> {
    let ranges = by_count(ids.len(), limits::BATCH_GET_ITEM_MAX);
    let read = |batch: Vec<_>| async move { table.read(&batch).await };
    call_in_batches(clock, deadline, Attempts::Limited, ids, ranges, read).await
}

/// Reads the items that the table's answers lack, and says what became of each change.
pub(crate) async fn answer_all(
    table: &impl TableReader,
    clock: &impl Clock,
    changes: &[Change<'_>],
    at: Timestamp,
    written: Vec<Result<Written, Failure>>,
    deadline: Deadline,
) -> Vec<Result<Answer, Failure>> {
    let mut unseen = Vec::new();
    for (change, written) in changes.iter().zip(&written) {
        if needs_read(change, written) {
            unseen.push(change.id());
        }
    }
    let mut reads = read_all(table, clock, &unseen, deadline).await.into_iter();
    let mut answers = Vec::with_capacity(changes.len());
    for (change, written) in changes.iter().zip(written) {
        let read = if needs_read(change, &written) { reads.next() } else { None };
        answers.push(answer(change, at, written, read));
    }
    answers
}

/// Whether only a read shows what became of a change.
fn needs_read(change: &Change<'_>, written: &Result<Written, Failure>) -> bool {
    match written {
        Ok(Written::Yes | Written::Refused(_)) => false,
        Ok(Written::RefusedUnseen) => true,
        // A message whose insert has an unknown outcome is redelivered anyway.
        Err(failure) => failure.kind.may_have_happened() && change.from().status().is_some(),
    }
}

/// What became of a change, by the table's answer and, if that lacks the item, by the item that was read.
fn answer(
    change: &Change<'_>,
    at: Timestamp,
    written: Result<Written, Failure>,
    read: Option<Result<Option<Stored>, Failure>>,
) -> Result<Answer, Failure> {
    let stored = match (written, read) {
        (Ok(Written::Yes), _) => return Ok(Answer::Made),
        (Ok(Written::Refused(stored)), _) | (Ok(Written::RefusedUnseen), Some(Ok(Some(stored)))) => stored,
        (Ok(Written::RefusedUnseen), Some(Ok(None))) => return Ok(Answer::Absent),
        (Ok(Written::RefusedUnseen), None) => return Err(Failure::retryable("the item was not read")),
        // The reply was lost. A change that has not taken effect yet may still do so, so only its result counts.
        (Err(_), Some(Ok(Some(stored)))) if change.has_made(&stored, at) => return Ok(Answer::Made),
        // The SDK may have repeated the change after its reply was lost, and then its own result refused it.
        (Ok(Written::RefusedUnseen), Some(Err(failure))) => return Err(Failure::may_have_happened(failure.reason)),
        (Err(failure), _) => return Err(failure),
    };
    Ok(if change.has_made(&stored, at) { Answer::Made } else { Answer::NotAsExpected(stored) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Run;
    use crate::status::Status;
    use crate::testing::{Fault, Memory, REJECTED, TestClock};

    const DEADLINE: Deadline = Deadline::at(Timestamp::MAX);

    async fn fail(memory: &Memory, id: &str) -> Result<Answer, Failure> {
        let id = NotificationId::parse(id).unwrap();
        let change = Change::fail(&id, "", Run::Any, REJECTED);
        let clock = TestClock::at_millis(1_000);
        write_all(&memory, &clock, &[change], Attempts::Limited, DEADLINE).await.remove(0)
    }

    fn stored(answer: Result<Answer, Failure>) -> Option<Status> {
        match answer {
            Ok(Answer::NotAsExpected(stored)) => stored.status,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_change_is_made_refused_or_finds_nothing_with_or_without_the_old_item_in_the_answer() {
        for hides_old_items in [false, true] {
            let memory = Memory::default().with("a", Status::Init, "").with("b", Status::Done, "");
            memory.hide_old_items(hides_old_items);
            assert_eq!(fail(&memory, "a").await, Ok(Answer::Made));
            assert_eq!(stored(fail(&memory, "b").await), Some(Status::Done));
            assert_eq!(fail(&memory, "c").await, Ok(Answer::Absent));
        }
    }

    #[tokio::test]
    async fn a_change_whose_reply_was_lost_is_recognised_by_its_time() {
        let memory = Memory::failing(|call| (call.method == "write").then_some(Fault::LostReply));
        assert_eq!(fail(&memory.with("a", Status::Init, ""), "a").await, Ok(Answer::Made));
        // It was not made: another status is in the way, and the lost reply would have said so.
        let memory = Memory::failing(|call| (call.method == "write").then_some(Fault::LostReply));
        let failure = fail(&memory.with("a", Status::Done, ""), "a").await.unwrap_err();
        assert!(failure.kind.may_have_happened());
    }

    #[tokio::test]
    async fn an_insert_whose_reply_was_lost_is_not_read_because_its_message_is_redelivered() {
        let notification =
            crate::event::Notification::parse(r#"{"specversion":"1.0","id":"a","source":"s","type":"t"}"#).unwrap();
        let memory = Memory::failing(|call| (call.method == "write").then_some(Fault::LostReply));
        let (table, clock, changes) = (&memory, TestClock::at_millis(1_000), [Change::insert(&notification)]);
        let answers = write_all(&table, &clock, &changes, Attempts::Limited, DEADLINE).await;
        assert!(answers[0].as_ref().unwrap_err().kind.may_have_happened());
        assert!(memory.calls("read").is_empty());
    }

    #[tokio::test]
    async fn a_read_that_fails_leaves_the_outcome_of_a_change_unknown() {
        let lost = Memory::failing(|call| match call.method {
            "write" => Some(Fault::LostReply),
            _ => Some(Fault::Before(Failure::retryable("down"))),
        });
        let failure = fail(&lost.with("a", Status::Init, ""), "a").await.unwrap_err();
        assert!(failure.kind.may_have_happened());
        let hidden = Memory::failing(|call| (call.method == "read").then(|| Fault::Before(Failure::retryable("down"))));
        hidden.hide_old_items(true);
        let failure = fail(&hidden.with("a", Status::Done, ""), "a").await.unwrap_err();
        assert_eq!(failure, Failure::may_have_happened("down"), "the change may have refused its own repeat");
    }
}
