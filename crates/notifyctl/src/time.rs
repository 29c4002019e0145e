//! Arithmetic of times that never fails.

use notification::Timestamp;
use std::time::Duration;

/// The time from `then` to `now`; zero if `then` is later.
pub(crate) fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

/// The time after a wait.
pub(crate) fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}
