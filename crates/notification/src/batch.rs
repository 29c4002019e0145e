//! How backend calls are made for a batch of records: several entries per call, several calls in flight, and all before the
//! deadline. Only the failed entries are repeated, and a bad entry never fails its neighbours.

use crate::backoff;
use crate::clock::Clock;
use crate::deadline::Deadline;
use crate::failure::{Failure, FailureKind};
use crate::limits;
use crate::ports::Answers;
use crate::reason::ReasonCode;
use futures_util::future::FutureExt;
use futures_util::stream::{self, StreamExt};
use std::future::Future;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How often entries that failed retryably are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempts {
    /// Entries that failed inside an answer: up to [`limits::ENTRY_ATTEMPTS`] times. A call that failed as a whole is not
    /// repeated: the SDK has already repeated it, and the event source will retry its records.
    Limited,
    /// All entries, also if a call failed as a whole, until the deadline: an effect has happened, and only this process knows
    /// its outcome.
    UntilDeadline,
}

/// Calls `call` for all `entries`, one call for each of `ranges`, and returns a result for each entry in order.
///
/// - At most [`limits::CALLS_IN_FLIGHT`] calls run at once; none starts shortly before the deadline.
/// - Answers are joined to entries by index. Only entries that failed retryably inside an answer are called again, with
///   backoff, as often as `attempts` says.
/// - A call that is refused permanently, or panics, is split in half until the entry that causes it is alone.
pub async fn call_in_batches<T, R, F, Fut>(
    clock: &impl Clock,
    deadline: Deadline,
    attempts: Attempts,
    entries: &[T],
    ranges: Vec<Range<usize>>,
    call: F,
) -> Vec<Result<R, Failure>>
where
    T: Copy + Send + Sync,
    R: Send,
    F: Fn(Vec<T>) -> Fut + Sync,
    Fut: Future<Output = Answers<R>> + Send,
{
    let calls = ranges.into_iter().map(|range| call_until_answered(clock, deadline, attempts, &entries[range], &call));
    stream::iter(calls).buffered(limits::CALLS_IN_FLIGHT).flat_map(stream::iter).collect().await
}

/// One batch: its call, and the repeats for the entries that failed.
async fn call_until_answered<T, R, F, Fut>(
    clock: &impl Clock,
    deadline: Deadline,
    attempts: Attempts,
    entries: &[T],
    call: &F,
) -> Vec<Result<R, Failure>>
where
    T: Copy,
    F: Fn(Vec<T>) -> Fut,
    Fut: Future<Output = Answers<R>>,
{
    let not_asked = || Err(Failure::retryable("not started: the invocation's deadline is too near"));
    let mut results: Vec<Result<R, Failure>> = std::iter::repeat_with(not_asked).take(entries.len()).collect();
    let mut pending: Vec<usize> = (0..entries.len()).collect();
    for attempt in 1.. {
        let mut again = Vec::new();
        let mut parts = vec![pending];
        while let Some(part) = parts.pop() {
            let answer = call_once(clock, deadline, part.iter().map(|&index| entries[index]).collect(), call).await;
            match answer {
                Ok(answers) => {
                    let mut answers = answers.into_iter();
                    for index in part {
                        // An answer shorter than its call says nothing about the rest.
                        let lacking = || Err(Failure::may_have_happened("the answer lacks this entry"));
                        let answer = answers.next().unwrap_or_else(lacking);
                        if answer.as_ref().is_err_and(|failure| failure.kind.is_retryable()) {
                            again.push(index);
                        }
                        note(&mut results[index], answer);
                    }
                }
                Err(refusal) if refusal.blames_an_entry && part.len() > 1 => {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.extend([right.to_vec(), left.to_vec()]);
                }
                Err(refusal) => {
                    if attempts == Attempts::UntilDeadline && refusal.failure.kind.is_retryable() {
                        again.extend(&part);
                    }
                    for index in part {
                        note(&mut results[index], Err(refusal.failure.clone()));
                    }
                }
            }
        }
        let is_last = attempts == Attempts::Limited && attempt == limits::ENTRY_ATTEMPTS;
        let wait = backoff::delay(attempt, clock.now());
        if again.is_empty() || is_last || deadline.bound(clock, clock.sleep(wait)).await.is_err() {
            break;
        }
        again.sort_unstable();
        pending = again;
    }
    results
}

/// Stores the result of another attempt. If an earlier attempt may have happened, a failure of this one does not change that.
fn note<R>(result: &mut Result<R, Failure>, mut next: Result<R, Failure>) {
    if let (Err(earlier), Err(failure)) = (&*result, &mut next)
        && earlier.kind.may_have_happened()
    {
        (failure.kind, failure.code) = (earlier.kind, earlier.code);
    }
    *result = next;
}

/// Why a whole call failed.
struct Refusal {
    failure: Failure,
    /// Whether one of its entries is the cause, so that the others would succeed without it.
    blames_an_entry: bool,
}

async fn call_once<T, R, F, Fut>(
    clock: &impl Clock,
    deadline: Deadline,
    entries: Vec<T>,
    call: &F,
) -> Result<Vec<Result<R, Failure>>, Refusal>
where
    F: Fn(Vec<T>) -> Fut,
    Fut: Future<Output = Answers<R>>,
{
    match deadline.bound(clock, isolate_future(async { Ok(call(entries).await) })).await {
        Ok(Ok(Ok(answers))) => Ok(answers),
        Ok(Ok(Err(failure))) => Err(Refusal { blames_an_entry: failure.kind == FailureKind::Permanent, failure }),
        Ok(Err(panic)) => Err(Refusal { failure: panic, blames_an_entry: true }),
        Err(late) => Err(Refusal { failure: late, blames_an_entry: false }),
    }
}

/// Cuts `count` entries into ranges of at most `size`.
#[must_use]
pub fn by_count(count: usize, size: usize) -> Vec<Range<usize>> {
    (0..count).step_by(size).map(|start| start..count.min(start + size)).collect()
}

/// What an entry uses of a call, or what a call can hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Records, or actions of a transaction.
    pub count: usize,
    /// Bytes.
    pub bytes: usize,
}

/// Cuts entries of the given sizes into ranges of at most `max`. An entry that is larger gets a range of its own, so that it
/// fails no other.
#[must_use]
pub fn by_count_and_bytes(sizes: impl IntoIterator<Item = Size>, max: Size) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut filled = Size::default();
    for (index, size) in sizes.into_iter().enumerate() {
        filled = Size { count: filled.count + size.count, bytes: filled.bytes + size.bytes };
        match ranges.last_mut() {
            Some(range) if filled.count <= max.count && filled.bytes <= max.bytes => range.end = index + 1,
            _ => {
                ranges.push(index..index + 1);
                filled = size;
            }
        }
    }
    ranges
}

/// Runs the work for one record; a panic is that record's retryable failure.
///
/// # Errors
/// The work's own failure, or one that says that it panicked.
pub fn isolate<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(panicked()))
}

/// Like [`isolate`], for asynchronous work.
///
/// # Errors
/// The work's own failure, or one that says that it panicked.
pub async fn isolate_future<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(panicked()))
}

fn panicked() -> Failure {
    // What was done before the panic is done.
    Failure::may_have_happened("the code panicked; the log has the place").with_code(ReasonCode::Panicked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestClock;
    use std::sync::Mutex;

    /// Runs `entries` in batches of `size` against `answer` and returns the results and the calls that were made. After many
    /// calls there are no more answers, so that the deadline ends an endless loop, and the test fails instead of hanging.
    async fn run(
        clock: &TestClock,
        entries: &[u32],
        size: usize,
        answer: impl Fn(usize, &[u32]) -> Answers<u32> + Sync,
    ) -> (Vec<Result<u32, Failure>>, Vec<Vec<u32>>) {
        let calls = Mutex::new(Vec::new());
        let (calls_ref, answer) = (&calls, &answer);
        let deadline = Deadline::at(jiff::Timestamp::from_second(60).unwrap());
        let ranges = by_count(entries.len(), size);
        let results = call_in_batches(clock, deadline, Attempts::Limited, entries, ranges, |batch| async move {
            let number = {
                let mut calls = calls_ref.lock().unwrap();
                calls.push(batch.clone());
                calls.len()
            };
            if number > 200 {
                return std::future::pending().await;
            }
            answer(number, &batch)
        })
        .await;
        (results, calls.into_inner().unwrap())
    }

    #[allow(clippy::unnecessary_wraps, reason = "it is one of several answers")]
    fn all_ok(batch: &[u32]) -> Answers<u32> {
        Ok(batch.iter().map(|&entry| Ok(entry)).collect())
    }

    #[tokio::test]
    async fn rule_6_answers_are_joined_to_entries_by_index_and_only_failed_entries_are_repeated() {
        let clock = TestClock::at_millis(0);
        let (results, calls) = run(&clock, &[0, 1, 2, 3, 4], 3, |number, batch| match number {
            1 => Ok(vec![Ok(0), Err(Failure::retryable("throttled")), Err(Failure::may_have_happened("?"))]),
            _ => all_ok(batch),
        })
        .await;
        assert_eq!(results, (0..5).map(Ok).collect::<Vec<_>>());
        assert_eq!(calls.len(), 3);
        assert!(calls.contains(&vec![1, 2]), "{calls:?}");
        assert!(clock.now().as_millisecond() > 0, "a repeat waits");
    }

    #[tokio::test]
    async fn rule_6_repeats_are_bounded() {
        let (results, calls) =
            run(&TestClock::at_millis(0), &[7], 25, |_, _| Ok(vec![Err(Failure::retryable("throttled"))])).await;
        assert_eq!(results, [Err(Failure::retryable("throttled"))]);
        assert_eq!(calls.len(), limits::ENTRY_ATTEMPTS as usize);
    }

    #[tokio::test]
    async fn a_permanent_failure_inside_an_answer_is_not_repeated() {
        let (results, calls) =
            run(&TestClock::at_millis(0), &[7], 25, |_, _| Ok(vec![Err(Failure::permanent("no"))])).await;
        assert_eq!(results, [Err(Failure::permanent("no"))]);
        assert_eq!(calls.len(), 1);
    }

    #[tokio::test]
    async fn rule_4_a_refused_call_is_split_until_the_entry_that_causes_it_is_alone() {
        let (results, _) = run(&TestClock::at_millis(0), &(0..25).collect::<Vec<_>>(), 25, |_, batch| {
            if batch.contains(&13) { Err(Failure::permanent("invalid")) } else { all_ok(batch) }
        })
        .await;
        for (entry, result) in (0..25).zip(results) {
            let expected = if entry == 13 { Err(Failure::permanent("invalid")) } else { Ok(entry) };
            assert_eq!(result, expected);
        }
    }

    #[tokio::test]
    async fn rule_4_a_panic_fails_only_the_entry_that_causes_it() {
        let (results, _) = run(&TestClock::at_millis(0), &[1, 2, 3, 4], 4, |_, batch| {
            assert!(!batch.contains(&3), "entry 3 panics on purpose");
            all_ok(batch)
        })
        .await;
        let failed: Vec<_> = results.iter().map(Result::is_err).collect();
        assert_eq!(failed, [false, false, true, false]);
        assert!(results[2].as_ref().unwrap_err().kind.is_retryable());
    }

    #[tokio::test]
    async fn a_call_that_fails_retryably_as_a_whole_is_neither_split_nor_repeated() {
        // The SDK has already repeated it.
        let (results, calls) = run(&TestClock::at_millis(0), &[1, 2], 2, |_, _| Err(Failure::retryable("down"))).await;
        assert_eq!(results, [Err(Failure::retryable("down")), Err(Failure::retryable("down"))]);
        assert_eq!(calls.len(), 1);
    }

    #[tokio::test]
    async fn outcomes_that_only_this_process_knows_are_written_until_the_deadline() {
        let clock = TestClock::at_millis(0);
        let deadline = Deadline::at(jiff::Timestamp::from_second(60).unwrap());
        let calls = Mutex::new(0);
        let calls_ref = &calls;
        let call = |batch: Vec<u32>| async move {
            let call = {
                let mut calls = calls_ref.lock().unwrap();
                *calls += 1;
                *calls
            };
            match call {
                1..=20 => Err(Failure::retryable("throttled as a whole")),
                21..=40 => Ok(vec![Err(Failure::retryable("throttled"))]),
                _ => all_ok(&batch),
            }
        };
        assert_eq!(
            call_in_batches(&clock, deadline, Attempts::UntilDeadline, &[7], by_count(1, 25), call).await,
            [Ok(7)]
        );
        let never = |_: Vec<u32>| async { Answers::<u32>::Err(Failure::retryable("down")) };
        let results = call_in_batches(&clock, deadline, Attempts::UntilDeadline, &[7], by_count(1, 25), never).await;
        assert!(results[0].as_ref().is_err_and(|failure| failure.kind.is_retryable()));
        assert!((59_000..60_000).contains(&clock.now().as_millisecond()), "{}", clock.now());
        let refused = |_: Vec<u32>| async { Answers::<u32>::Err(Failure::permanent("no")) };
        let clock = TestClock::at_millis(0);
        assert_eq!(
            call_in_batches(&clock, deadline, Attempts::UntilDeadline, &[7], by_count(1, 25), refused).await,
            [Err(Failure::permanent("no"))]
        );
        assert_eq!(clock.now().as_millisecond(), 0, "a permanent failure is not tried again");
    }

    #[tokio::test]
    async fn an_entry_that_may_have_happened_still_may_have_after_its_repeat_has_failed() {
        let (results, _) = run(&TestClock::at_millis(0), &[7], 1, |number, _| match number {
            1 => Ok(vec![Err(Failure::may_have_happened("lost"))]),
            _ => Ok(vec![Err(Failure::retryable("throttled"))]),
        })
        .await;
        assert_eq!(results, [Err(Failure::may_have_happened("throttled"))]);
    }

    #[tokio::test]
    async fn entries_that_an_answer_lacks_may_have_happened() {
        let (results, _) = run(&TestClock::at_millis(0), &[1, 2], 2, |_, batch| Ok(vec![Ok(batch[0])])).await;
        assert!(results[1].is_ok(), "it is asked again");
        let (results, _) = run(&TestClock::at_millis(0), &[1], 2, |_, _| Ok(vec![])).await;
        assert!(results[0].as_ref().unwrap_err().kind.may_have_happened());
    }

    #[tokio::test]
    async fn rule_5_no_call_starts_near_the_deadline() {
        let (results, calls) = run(&TestClock::at_millis(59_600), &[1, 2], 1, |_, batch| all_ok(batch)).await;
        assert!(calls.is_empty());
        assert!(results.iter().all(|result| result.as_ref().is_err_and(|f| f.kind == FailureKind::Retryable)));
    }

    #[test]
    fn batches_keep_to_count_and_bytes() {
        assert_eq!(by_count(51, 25), [0..25, 25..50, 50..51]);
        assert_eq!(by_count(0, 25), []);
        let ranges = |bytes: &[usize], max_count, max_bytes| {
            let sizes = bytes.iter().map(|&bytes| Size { count: 1, bytes });
            by_count_and_bytes(sizes, Size { count: max_count, bytes: max_bytes })
        };
        assert_eq!(ranges(&[4, 4, 4, 9, 20, 1], 3, 10), [0..2, 2..3, 3..4, 4..5, 5..6]);
        assert_eq!(ranges(&[1; 5], 2, 10), [0..2, 2..4, 4..5]);
        assert_eq!(ranges(&[1; 5], 10, 3), [0..3, 3..5]);
    }

    #[test]
    fn rule_4_a_panic_in_one_record_is_its_retryable_failure() {
        let failure = isolate::<()>(|| panic!("on purpose")).unwrap_err();
        assert!(failure.kind.is_retryable());
    }
}
