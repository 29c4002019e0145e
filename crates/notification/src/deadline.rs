//! The deadline of an invocation: no call starts shortly before it, and none is awaited beyond it.

use crate::clock::Clock;
use crate::failure::Failure;
use crate::limits;
use futures_util::future::{Either, select};
use jiff::Timestamp;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

/// When Lambda ends the invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Timestamp);

/// One invocation of a function.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// When Lambda ends it.
    pub deadline: Deadline,
    /// Lambda's request id. A retry may have the same.
    pub request_id: String,
}

impl Deadline {
    /// The deadline at a point in time.
    #[must_use]
    pub const fn at(time: Timestamp) -> Self {
        Self(time)
    }

    /// From Lambda's header `Lambda-Runtime-Deadline-Ms`: milliseconds since the Unix epoch. A value that is too large for a
    /// time counts as passed, so that every record is reported and retried. A time before Lambda existed comes from a local
    /// runtime without deadlines (`cargo lambda watch` always sends 600,000), and counts as no deadline.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html#runtimes-api-next>
    #[must_use]
    pub fn from_epoch_millis(millis: u64) -> Self {
        if millis < limits::FIRST_LAMBDA_MILLIS {
            return Self(Timestamp::MAX);
        }
        let time = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
        Self(time.unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// The time of the deadline.
    #[must_use]
    pub const fn time(self) -> Timestamp {
        self.0
    }

    /// A deadline that is this much earlier, for work that other work must follow.
    #[must_use]
    pub fn earlier(self, by: Duration) -> Self {
        Self(self.0.checked_sub(by).unwrap_or(Timestamp::MIN))
    }

    /// A time this much after the deadline.
    #[must_use]
    pub fn later(self, by: Duration) -> Timestamp {
        self.0.checked_add(by).unwrap_or(Timestamp::MAX)
    }

    /// The time left until `before` ahead of the deadline; zero if that has passed.
    fn left(self, now: Timestamp, before: Duration) -> Duration {
        Duration::try_from(self.0.duration_since(now)).unwrap_or_default().saturating_sub(before)
    }

    /// Whether a new call may still start.
    #[must_use]
    pub fn allows_new_work(self, now: Timestamp) -> bool {
        !self.left(now, limits::STOP_BEFORE_DEADLINE).is_zero()
    }

    /// Whether work that may take this long can still start and end in time.
    #[must_use]
    pub fn allows(self, now: Timestamp, takes: Duration) -> bool {
        self.allows_new_work(now) && self.left(now, limits::REPORT_BEFORE_DEADLINE) >= takes
    }

    /// Runs `work` unless it is too late to start it, and stops waiting for it shortly before the deadline.
    ///
    /// # Errors
    /// A retryable failure if `work` was not started, and "may have happened" if it did not end in time.
    pub async fn bound<T>(self, clock: &impl Clock, work: impl Future<Output = T>) -> Result<T, Failure> {
        let now = clock.now();
        if !self.allows_new_work(now) {
            return Err(Failure::retryable("not started: the invocation's deadline is too near"));
        }
        let given_up = || Failure::may_have_happened("no answer before the invocation's deadline");
        within(clock, self.left(now, limits::REPORT_BEFORE_DEADLINE), work).await.ok_or_else(given_up)
    }
}

/// The result of `work`, or `None` if it takes longer than `limit`.
pub async fn within<T>(clock: &impl Clock, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    match select(pin!(work), pin!(clock.sleep(limit))).await {
        Either::Left((result, _)) => Some(result),
        Either::Right(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestClock;
    use std::future::pending;

    #[test]
    fn rule_5_no_new_work_starts_shortly_before_the_deadline() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        let deadline = Deadline::at(at(10_000));
        assert!(deadline.allows_new_work(at(9_499)));
        assert!(!deadline.allows_new_work(at(9_500)));
        assert!(!deadline.allows_new_work(at(20_000)));
    }

    #[test]
    fn rule_5_work_starts_only_if_it_can_end_in_time() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        let deadline = Deadline::at(at(10_000));
        assert!(deadline.allows(at(4_800), Duration::from_secs(5)));
        assert!(!deadline.allows(at(4_801), Duration::from_secs(5)));
        assert!(!deadline.allows(at(9_500), Duration::ZERO), "no work starts shortly before the deadline");
    }

    #[test]
    fn lambdas_header_is_a_time_and_one_before_lambda_existed_means_no_deadline() {
        let now = 1_795_000_000_000;
        let allows = |millis| {
            let at = Timestamp::from_millisecond(i64::try_from(now).unwrap()).unwrap();
            Deadline::from_epoch_millis(millis).allows_new_work(at)
        };
        assert!(allows(now + 1_000) && !allows(now));
        assert!(allows(600_000), "cargo lambda watch");
        assert!(!allows(u64::MAX), "too large for a time");
        let first = limits::FIRST_LAMBDA_MILLIS;
        assert_eq!(Deadline::from_epoch_millis(first).time().as_millisecond(), i64::try_from(first).unwrap());
        assert_eq!(Deadline::from_epoch_millis(first - 1).time(), Timestamp::MAX);
    }

    #[test]
    fn a_time_before_or_after_the_deadline_never_leaves_the_range_of_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let deadline = Deadline::at(at(60));
        assert_eq!(deadline.earlier(Duration::from_secs(2)).time(), at(58));
        assert_eq!(deadline.later(Duration::from_secs(10)), at(70));
        assert_eq!(deadline.earlier(Duration::MAX).time(), Timestamp::MIN);
        assert_eq!(deadline.later(Duration::MAX), Timestamp::MAX);
    }

    #[tokio::test]
    async fn rule_5_and_7_a_call_without_an_answer_is_abandoned_in_time_and_may_have_happened() {
        let clock = TestClock::at_millis(0);
        let failure =
            Deadline::at(Timestamp::from_second(10).unwrap()).bound(&clock, pending::<()>()).await.unwrap_err();
        assert!(failure.kind.may_have_happened());
        assert_eq!(clock.now().as_millisecond(), 9_800);
    }

    #[tokio::test]
    async fn rule_5_work_that_was_not_started_did_not_happen() {
        let clock = TestClock::at_millis(9_900);
        let failure = Deadline::at(Timestamp::from_second(10).unwrap()).bound(&clock, async {}).await.unwrap_err();
        assert!(failure.kind.is_retryable() && !failure.kind.may_have_happened());
    }
}
