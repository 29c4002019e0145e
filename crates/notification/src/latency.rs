//! Latencies for metrics. CloudWatch needs single values for percentiles; a sample of each batch is enough.

use crate::{Timestamp, limits};

/// A sample of at most [`limits::METRIC_VALUES_MAX`], evenly spread over all and beginning with the first.
pub fn sample<T>(all: &[T]) -> impl Iterator<Item = &T> {
    all.iter().step_by(all.len().div_ceil(limits::METRIC_VALUES_MAX).max(1))
}

/// Milliseconds from one time to another. The times come from different clocks; where the earlier one is ahead, it is 0.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "durations are far below 2^52 ms")]
pub fn millis(from: Timestamp, to: Timestamp) -> f64 {
    to.as_millisecond().saturating_sub(from.as_millisecond()).max(0) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_all_of_a_small_batch_and_is_evenly_spread_over_a_large_one() {
        let sample_of = |count: usize| sample(&(0..count).collect::<Vec<_>>()).copied().collect::<Vec<_>>();
        assert_eq!(sample_of(0), [] as [usize; 0]);
        assert_eq!(sample_of(3), [0, 1, 2]);
        assert_eq!(sample_of(100), (0..100).collect::<Vec<_>>());
        assert_eq!(sample_of(101), (0..101).step_by(2).collect::<Vec<_>>());
        assert_eq!(sample_of(10_000), (0..10_000).step_by(100).collect::<Vec<_>>());
        assert!((0..3_000).all(|count| sample_of(count).len() <= limits::METRIC_VALUES_MAX));
    }

    #[test]
    fn a_latency_is_in_milliseconds_and_never_negative() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        let check = |from, to, expected: f64| assert!((millis(at(from), at(to)) - expected).abs() < f64::EPSILON);
        check(1_000, 3_500, 2_500.0);
        check(3_500, 1_000, 0.0);
    }
}
