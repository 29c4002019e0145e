//! Changing the status of notifications, many at once: write conditionally, read what the answers left open, and recognise
//! one's own write where its reply was lost.

use crate::batch::{by_count, call_in_batches, call_until_deadline};
use crate::deadline::Deadline;
use crate::failure::Failure;
use crate::id::NotificationId;
use crate::limits;
use crate::ports::{Change, Changed, Clock, StatusTable, Stored, TableReader};
use jiff::Timestamp;

/// What became of one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is made: now, or by an earlier attempt of ours whose reply was lost.
    Made,
    /// The notification is not as the change expects it. Nothing was written; this is what the table has.
    NotAsExpected(Stored),
    /// The table has no notification with this id.
    Absent,
}

/// How long a change that fails retryably is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// A few times: whoever asked will ask again.
    Usual,
    /// Until the deadline: an effect has happened, and only this process knows what came of it.
    UntilDeadline,
}

/// Makes changes, in batches, and returns an answer for each in order.
pub async fn change_all(
    table: &impl StatusTable,
    clock: &impl Clock,
    changes: &[Change<'_>],
    persistence: Persistence,
    deadline: Deadline,
) -> Vec<Result<Answer, Failure>> {
    if changes.is_empty() {
        return vec![];
    }
    let at = clock.now();
    let ranges = by_count(changes.len(), limits::BATCH_EXECUTE_STATEMENT_MAX);
    let change = |batch: Vec<_>| async move { table.change(&batch, at).await };
    let answers = match persistence {
        Persistence::Usual => call_in_batches(clock, deadline, changes, ranges, change).await,
        Persistence::UntilDeadline => call_until_deadline(clock, deadline, changes, ranges, change).await,
    };
    let open: Vec<&NotificationId> =
        changes.iter().zip(&answers).filter_map(|(change, answer)| is_open(answer).then_some(change.id)).collect();
    let mut reads = read_all(table, clock, &open, deadline).await.into_iter();
    let mut results = Vec::with_capacity(changes.len());
    for (change, answer) in changes.iter().zip(answers) {
        let read = if is_open(&answer) { reads.next() } else { None };
        results.push(resolve(change, at, answer, read));
    }
    results
}

/// Reads items, consistently, in batches, and returns a result for each id in order; `None` where there is no such item.
pub async fn read_all(
    table: &impl TableReader,
    clock: &impl Clock,
    ids: &[&NotificationId],
    deadline: Deadline,
) -> Vec<Result<Option<Stored>, Failure>> {
    let ranges = by_count(ids.len(), limits::BATCH_GET_ITEM_MAX);
    let read = |batch: Vec<_>| async move { table.read(&batch).await };
    call_in_batches(clock, deadline, ids, ranges, read).await
}

/// Whether only a read can tell what became of a change.
fn is_open(answer: &Result<Changed, Failure>) -> bool {
    match answer {
        Ok(Changed::No(old)) => old.is_none(),
        Ok(Changed::Yes) => false,
        Err(failure) => failure.kind.may_have_happened(),
    }
}

/// What became of a change, by its answer and, where that leaves it open, by what the table has now.
fn resolve(
    change: &Change<'_>,
    at: Timestamp,
    answer: Result<Changed, Failure>,
    read: Option<Result<Option<Stored>, Failure>>,
) -> Result<Answer, Failure> {
    let stored = match (answer, read) {
        (Ok(Changed::Yes), _) => return Ok(Answer::Made),
        (Ok(Changed::No(Some(stored))), _) | (Ok(Changed::No(None)), Some(Ok(Some(stored)))) => stored,
        (Ok(Changed::No(None)), Some(Ok(None))) => return Ok(Answer::Absent),
        (Ok(Changed::No(None)), None) => return Err(Failure::retryable("the item was not read")),
        // The reply was lost. A change that is not there now may still be made later, so only what is there counts.
        (Err(_), Some(Ok(Some(stored)))) if change.has_made(&stored, at) => return Ok(Answer::Made),
        (Ok(Changed::No(None)), Some(Err(failure))) | (Err(failure), _) => return Err(failure),
    };
    Ok(if change.has_made(&stored, at) { Answer::Made } else { Answer::NotAsExpected(stored) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{After, Before};
    use crate::status::Status;
    use crate::testing::{Fault, Memory, TestClock};

    const DEADLINE: Deadline = Deadline::at(Timestamp::MAX);

    async fn fail(memory: &Memory, id: &str) -> Result<Answer, Failure> {
        let id = NotificationId::parse(id).unwrap();
        let change = Change { id: &id, from: Before::Status(Status::Init), to: After::Failed("no") };
        let clock = TestClock::at_millis(1_000);
        change_all(&memory, &clock, &[change], Persistence::Usual, DEADLINE).await.remove(0)
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
            let mut memory = Memory::default().with("a", Status::Init, "").with("b", Status::Done, "");
            memory.hides_old_items = hides_old_items;
            assert_eq!(fail(&memory, "a").await, Ok(Answer::Made));
            assert_eq!(stored(fail(&memory, "b").await), Some(Status::Done));
            assert_eq!(fail(&memory, "c").await, Ok(Answer::Absent));
        }
    }

    #[tokio::test]
    async fn a_change_whose_reply_was_lost_is_recognised_by_its_time() {
        let memory = Memory::failing(|call| (call.method == "change").then_some(Fault::LostReply));
        assert_eq!(fail(&memory.with("a", Status::Init, ""), "a").await, Ok(Answer::Made));
        // It was not made: somebody else's status is in the way, and the lost reply would have said so.
        let memory = Memory::failing(|call| (call.method == "change").then_some(Fault::LostReply));
        let failure = fail(&memory.with("a", Status::Done, ""), "a").await.unwrap_err();
        assert!(failure.kind.may_have_happened());
    }

    #[tokio::test]
    async fn a_read_that_fails_leaves_the_change_open() {
        let lost = Memory::failing(|call| match call.method {
            "change" => Some(Fault::LostReply),
            _ => Some(Fault::Before(Failure::retryable("down"))),
        });
        let failure = fail(&lost.with("a", Status::Init, ""), "a").await.unwrap_err();
        assert!(failure.kind.may_have_happened());
        let mut hidden =
            Memory::failing(|call| (call.method == "read").then(|| Fault::Before(Failure::retryable("down"))));
        hidden.hides_old_items = true;
        let failure = fail(&hidden.with("a", Status::Done, ""), "a").await.unwrap_err();
        assert_eq!(failure, Failure::retryable("down"));
    }
}
