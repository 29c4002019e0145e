//! The system's clock.

use notification::Clock;
use notification::Timestamp;
use std::time::Duration;

/// The system's time.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that asks the system for the time")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn the_clock_has_the_time_of_the_system_and_a_sleep_takes_its_time() {
        assert!(SystemClock.now() > "2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(SystemClock.sleep(Duration::from_hours(1)).now_or_never(), None);
    }
}
