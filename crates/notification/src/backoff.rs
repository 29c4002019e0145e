//! How long to wait before failed entries are tried again: exponential backoff with full jitter.
//! <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>

use crate::limits;
use jiff::Timestamp;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// The wait before the given repeat (1 is the first). The jitter is a hash of the time in nanoseconds: two callers wait
/// differently, and a run on a virtual clock can be repeated exactly.
#[must_use]
pub fn delay(attempt: u32, now: Timestamp) -> Duration {
    let longest =
        limits::BACKOFF_BASE.saturating_mul(1 << attempt.clamp(1, 16).saturating_sub(1)).min(limits::BACKOFF_CAP);
    let mut hasher = DefaultHasher::new();
    (attempt, now.as_nanosecond()).hash(&mut hasher);
    let thousandths = u32::try_from(hasher.finish() % 1_001).unwrap_or(1_000);
    longest * thousandths / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanosecond: i128) -> Timestamp {
        Timestamp::from_nanosecond(nanosecond).unwrap()
    }

    #[test]
    fn a_wait_never_exceeds_its_bound_and_the_bound_doubles_up_to_the_cap() {
        for attempt in 1..40 {
            let bound = Duration::from_millis(50 * (1 << (attempt - 1).min(10))).min(Duration::from_secs(1));
            for n in 0..200 {
                assert!(delay(attempt, at(n)) <= bound, "attempt {attempt}, {n} ns");
            }
        }
    }

    #[test]
    fn two_callers_wait_differently() {
        let waits: std::collections::HashSet<_> = (0..100).map(|n| delay(3, at(n))).collect();
        assert!(waits.len() > 50, "{} different waits of 100", waits.len());
    }
}
