//! When the sweep publishes a notification again: at ages that double, so that a slow or failing receiver does not get every
//! pending notification with every run.
//!
//! A notification that has been pending since `s` is due at `s + age`, `s + 2 age`, `s + 4 age` and so on. Once the next step
//! would be longer than [`limits::SWEEP_AGAIN_WITHIN`], it is due at that interval as long as it is pending. These times
//! follow from `s` alone, so nothing is stored for each notification.

use notification::{Timestamp, limits};
use std::time::Duration;

/// Whether a notification that has been pending since `since` became due after `published_until` and no later than `at`.
/// Without a `published_until`, every due time counts.
#[must_use]
pub fn is_due(since: Timestamp, age: Duration, published_until: Option<Timestamp>, at: Timestamp) -> bool {
    let Ok(pending_for) = Duration::try_from(at.duration_since(since)) else { return false };
    let Some(last_due) = last_due_age(pending_for, age) else { return false };
    published_until.is_none_or(|until| since.checked_add(last_due).is_ok_and(|due| due > until))
}

/// The greatest age at which a notification is due that does not exceed `pending_for`.
fn last_due_age(pending_for: Duration, age: Duration) -> Option<Duration> {
    let longest = age.max(limits::SWEEP_AGAIN_WITHIN);
    // An age of zero cannot be doubled.
    let mut due = age.max(Duration::from_secs(1));
    if pending_for < due {
        return None;
    }
    while due < longest && due * 2 <= pending_for {
        due *= 2;
    }
    if due >= longest {
        let steps = pending_for.saturating_sub(due).as_nanos() / longest.as_nanos();
        due += longest.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX));
    }
    Some(due)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_mins(15);

    fn minutes(minutes: i64) -> Timestamp {
        Timestamp::from_second(minutes * 60).unwrap()
    }

    /// The minutes at which a sweep with this interval publishes a notification that has been pending since minute 0.
    fn published(age: Duration, every: usize, until: i64) -> Vec<i64> {
        let mut last = None;
        let mut published = Vec::new();
        for minute in (0..=until).step_by(every) {
            if is_due(minutes(0), age, last, minutes(minute)) {
                published.push(minute);
            }
            last = Some(minutes(minute));
        }
        published
    }

    #[test]
    fn the_times_between_two_attempts_double_up_to_their_limit() {
        assert_eq!(published(AGE, 5, 500), [15, 30, 60, 120, 240, 360, 480]);
        assert_eq!(published(Duration::from_mins(20), 1, 500), [20, 40, 80, 160, 280, 400]);
    }

    #[test]
    fn an_age_above_the_limit_is_the_time_between_two_attempts() {
        assert_eq!(published(Duration::from_hours(3), 5, 600), [180, 360, 540]);
    }

    #[test]
    fn the_number_of_attempts_in_a_day_is_the_documented_one() {
        assert_eq!(published(limits::SWEEP_AGE_DEFAULT, 1, 24 * 60).len(), 13);
        assert_eq!(published(limits::SWEEP_AGE_DEFAULT, 1, 500), [45, 90, 180, 300, 420]);
    }

    #[test]
    fn a_due_time_between_two_sweeps_is_never_missed_whenever_they_run() {
        // Sweeps every 7, 11 or 45 minutes publish as often as they can, at the first chance after each due time.
        assert_eq!(published(AGE, 7, 130), [21, 35, 63, 126]);
        assert_eq!(published(AGE, 11, 130), [22, 33, 66, 121]);
        assert_eq!(published(AGE, 45, 300), [45, 90, 135, 270]);
    }

    #[test]
    fn a_pending_notification_is_due_at_least_once_in_every_longest_interval() {
        for age in [0, 1, 90, 900, 7_000, 7_200, 9_000, 86_400].map(Duration::from_secs) {
            let longest = age.max(limits::SWEEP_AGAIN_WITHIN);
            for start in (0..200_000).step_by(997) {
                let from = Timestamp::from_second(start).unwrap();
                let is_old_enough = Duration::from_secs(start.unsigned_abs()) >= age;
                let due = is_due(Timestamp::UNIX_EPOCH, age, Some(from), from + longest);
                assert!(due || !is_old_enough, "{age:?} after {start} s");
            }
        }
    }

    #[test]
    fn a_notification_with_a_future_time_is_not_due() {
        assert!(!is_due(minutes(10), AGE, None, minutes(0)));
        assert!(!is_due(Timestamp::MAX, AGE, None, minutes(0)));
        assert!(is_due(Timestamp::MIN, AGE, None, Timestamp::MAX));
    }
}
