//! Changes of status together with the items that an action puts: several notifications share one transaction.

use crate::action::Put;
use crate::batch::{Attempts, Size, by_count_and_bytes, call_in_batches};
use crate::change::{Change, Commit};
use crate::clock::Clock;
use crate::deadline::Deadline;
use crate::failure::{Failure, FailureKind};
use crate::limits;
use crate::ports::{Answers, Committed, DownstreamTable, Written};
use crate::write::{Answer, answer_all};
use jiff::Timestamp;

/// What one transaction can hold.
const MAX: Size = Size { count: limits::TRANSACT_WRITE_ITEMS_MAX, bytes: limits::TRANSACT_WRITE_ITEMS_MAX_BYTES };

/// Commits changes and their items, in groups, and returns an answer for each in order: both are written, or neither.
pub async fn commit_all(
    table: &impl DownstreamTable,
    clock: &impl Clock,
    commits: &[Commit<'_>],
    deadline: Deadline,
) -> Vec<Result<Answer, Failure>> {
    let at = clock.now();
    let groups = by_count_and_bytes(commits.iter().map(size), MAX);
    let commit = |group: Vec<_>| async move { commit_group(table, group, at).await };
    let written = call_in_batches(clock, deadline, Attempts::Limited, commits, groups, commit).await;
    let changes: Vec<Change<'_>> = commits.iter().map(|commit| commit.change).collect();
    answer_all(table, clock, &changes, at, written, deadline).await
}

/// Commits a group. Refused notifications leave the group, and the others are committed without them.
async fn commit_group(table: &impl DownstreamTable, group: Vec<Commit<'_>>, at: Timestamp) -> Answers<Written> {
    let lacking = || Err(Failure::may_have_happened("the answer lacks this notification"));
    let mut results: Vec<Result<Written, Failure>> = std::iter::repeat_with(lacking).take(group.len()).collect();
    let mut left: Vec<usize> = (0..group.len()).collect();
    while !left.is_empty() {
        let commits: Vec<Commit<'_>> = left.iter().map(|&place| group[place]).collect();
        let committed = match table.commit(&commits, at).await {
            Ok(committed) => committed,
            Err(failure) if left.len() == group.len() => return Err(failure),
            Err(failure) => {
                // Any of them may be the cause. The next attempt splits the group, without those that left it.
                let kind = if failure.kind.may_have_happened() { failure.kind } else { FailureKind::Retryable };
                for place in left {
                    results[place] = Err(Failure { kind, ..failure.clone() });
                }
                break;
            }
        };
        let count = left.len();
        let mut held_up = Vec::new();
        for (place, committed) in left.into_iter().zip(committed) {
            match committed {
                Ok(Committed::HeldUp) => held_up.push(place),
                Ok(Committed::Written(written)) => results[place] = Ok(written),
                Err(failure) => results[place] = Err(failure),
            }
        }
        if held_up.len() == count {
            return Err(Failure::retryable("the transaction was refused without a reason"));
        }
        left = held_up;
    }
    Ok(results)
}

/// How much of a transaction one notification uses.
fn size(commit: &Commit<'_>) -> Size {
    let puts: usize = commit.puts.iter().map(Put::bytes).sum();
    // The whole item of the notification counts, although only its status changes.
    let event = commit.change.from().event().map_or(0, str::len);
    Size { count: 1 + commit.puts.len(), bytes: event + limits::ITEM_RESERVED_BYTES + puts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Stored;
    use crate::id::NotificationId;
    use crate::ports::{Orphan, Table, TableReader};
    use crate::testing::TestClock;
    use std::collections::VecDeque;
    use std::sync::Mutex;

    /// A table that refuses every transaction without showing the item.
    struct Refusing {
        has_short_answers: bool,
    }

    impl TableReader for Refusing {
        async fn read(&self, _: &[&NotificationId]) -> Answers<Option<Stored>> {
            Err(Failure::permanent("BatchGetItem: ValidationException"))
        }
    }

    impl Table for Refusing {
        async fn write(&self, _: &[Change<'_>], _: Timestamp) -> Answers<Written> {
            Ok(vec![])
        }
    }

    impl DownstreamTable for Refusing {
        async fn commit(&self, group: &[Commit<'_>], _: Timestamp) -> Answers<Committed> {
            let answered = if self.has_short_answers { 0 } else { group.len() };
            Ok(group[..answered].iter().map(|_| Ok(Committed::Written(Written::RefusedUnseen))).collect())
        }

        async fn quarantine(&self, _: Orphan<'_>, _: &str, _: Timestamp) -> Result<(), Failure> {
            Ok(())
        }
    }

    async fn commit(table: Refusing) -> Failure {
        let id = NotificationId::parse("a").unwrap();
        let commits = [Commit { change: Change::done(&id, "{}", None), puts: &[] }];
        let (clock, deadline) = (TestClock::at_millis(0), Deadline::at(Timestamp::MAX));
        commit_all(&table, &clock, &commits, deadline).await.remove(0).unwrap_err()
    }

    #[tokio::test]
    async fn a_notification_that_the_answer_lacks_is_not_committed() {
        assert!(commit(Refusing { has_short_answers: true }).await.kind.may_have_happened());
    }

    #[tokio::test]
    async fn a_read_that_fails_permanently_is_not_the_refusal_of_the_transaction() {
        assert!(commit(Refusing { has_short_answers: false }).await.kind.is_retryable());
    }

    /// A table that gives these answers, one after the other.
    struct Answering {
        answers: Mutex<VecDeque<Answers<Committed>>>,
        /// The ids of each transaction.
        calls: Mutex<Vec<String>>,
    }

    impl TableReader for Answering {
        async fn read(&self, ids: &[&NotificationId]) -> Answers<Option<Stored>> {
            Ok(ids.iter().map(|_| Ok(None)).collect())
        }
    }

    impl Table for Answering {
        async fn write(&self, _: &[Change<'_>], _: Timestamp) -> Answers<Written> {
            Ok(vec![])
        }
    }

    impl DownstreamTable for Answering {
        async fn commit(&self, group: &[Commit<'_>], _: Timestamp) -> Answers<Committed> {
            self.calls.lock().unwrap().push(group.iter().map(|commit| commit.change.id().as_str()).collect());
            self.answers.lock().unwrap().pop_front().unwrap()
        }

        async fn quarantine(&self, _: Orphan<'_>, _: &str, _: Timestamp) -> Result<(), Failure> {
            Ok(())
        }
    }

    /// Commits `a`, `b` and `c` in one group. Returns the ids of each transaction, and the results.
    async fn commit_abc(answers: impl IntoIterator<Item = Answers<Committed>>) -> (Vec<String>, Answers<Written>) {
        let ids = ["a", "b", "c"].map(|id| NotificationId::parse(id).unwrap());
        let group = ids.iter().map(|id| Commit { change: Change::done(id, "{}", None), puts: &[] }).collect();
        let answers = Mutex::new(answers.into_iter().collect());
        let table = Answering { answers, calls: Mutex::default() };
        let results = commit_group(&table, group, Timestamp::UNIX_EPOCH).await;
        (table.calls.into_inner().unwrap(), results)
    }

    const REFUSED: Result<Committed, Failure> = Ok(Committed::Written(Written::RefusedUnseen));
    const WRITTEN: Result<Committed, Failure> = Ok(Committed::Written(Written::Yes));
    const HELD_UP: Result<Committed, Failure> = Ok(Committed::HeldUp);

    #[tokio::test]
    async fn refused_notifications_leave_their_group_and_the_others_are_committed_without_them() {
        let answers = [Ok(vec![HELD_UP, REFUSED, HELD_UP]), Ok(vec![WRITTEN, WRITTEN])];
        let (calls, results) = commit_abc(answers).await;
        assert_eq!(calls, ["abc", "ac"]);
        assert_eq!(results, Ok(vec![Ok(Written::Yes), Ok(Written::RefusedUnseen), Ok(Written::Yes)]));
    }

    #[tokio::test]
    async fn a_failure_of_the_whole_group_is_that_of_the_call() {
        let failure = Failure::permanent("ValidationException");
        let (calls, results) = commit_abc([Err(failure.clone())]).await;
        assert_eq!((calls.len(), results), (1, Err(failure)));
    }

    #[tokio::test]
    async fn a_later_failure_is_that_of_the_rest_and_permanent_only_for_one_alone() {
        let rest = async |failure| {
            let (calls, results) = commit_abc([Ok(vec![HELD_UP, REFUSED, HELD_UP]), Err(failure)]).await;
            assert_eq!(calls, ["abc", "ac"]);
            let results = results.unwrap();
            assert_eq!((&results[1], &results[0]), (&Ok(Written::RefusedUnseen), &results[2]));
            results[0].clone().unwrap_err()
        };
        let refused = Failure::permanent("ValidationException");
        assert_eq!(rest(refused.clone()).await, Failure { kind: FailureKind::Retryable, ..refused });
        let lost = Failure::may_have_happened("no answer");
        assert_eq!(rest(lost.clone()).await, lost);
    }

    #[tokio::test]
    async fn a_transaction_that_is_refused_for_no_notification_is_tried_again() {
        let (_, results) = commit_abc([Ok(vec![HELD_UP, HELD_UP, HELD_UP])]).await;
        assert!(results.unwrap_err().kind.is_retryable());
    }

    #[test]
    fn a_notification_uses_an_action_for_each_item_and_the_bytes_of_all() {
        let id = NotificationId::parse("a").unwrap();
        let put = Put { table: "t".to_owned(), key: "id", attributes: vec![("id", "12345".to_owned())] };
        let puts = [put.clone(), put];
        let change = Change::done(&id, r#"{"id":"a"}"#, None);
        let used = size(&Commit { change, puts: &puts });
        assert_eq!(used, Size { count: 3, bytes: 10 + limits::ITEM_RESERVED_BYTES + 14 });
    }

    #[test]
    fn rule_11_groups_stay_within_the_actions_and_bytes_of_a_transaction() {
        let groups = |entries, count, bytes| by_count_and_bytes((0..entries).map(|_| Size { count, bytes }), MAX);
        assert_eq!(groups(101, 2, 1), [0..50, 50..100, 100..101]);
        assert_eq!(groups(5, 2, 2 * 1024 * 1024), [0..2, 2..4, 4..5]);
        assert_eq!(groups(3, 2, 5 * 1024 * 1024), [0..1, 1..2, 2..3]);
        assert!(groups(0, 2, 1).is_empty());
    }
}
