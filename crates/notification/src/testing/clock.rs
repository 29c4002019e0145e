//! A clock for tests.

use super::lock;
use crate::clock::Clock;
use jiff::Timestamp;
use std::sync::Mutex;
use std::time::Duration;

/// A clock that moves only when something sleeps: sleeping takes no time.
#[derive(Debug)]
pub struct TestClock(Mutex<Timestamp>);

impl TestClock {
    /// A clock that stands at a time, in milliseconds since the Unix epoch.
    ///
    /// # Panics
    /// If a [`Timestamp`] cannot hold that time.
    #[must_use]
    #[allow(clippy::expect_used, reason = "a test helper")]
    pub fn at_millis(millis: i64) -> Self {
        Self(Mutex::new(Timestamp::from_millisecond(millis).expect("a time")))
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *lock(&self.0)
    }

    async fn sleep(&self, duration: Duration) {
        // Others get their turn first, so that work which is ready wins over a wait.
        futures_util::future::poll_fn({
            let mut polls = 0;
            move |context| {
                polls += 1;
                if polls > 3 {
                    return std::task::Poll::Ready(());
                }
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            }
        })
        .await;
        *lock(&self.0) += duration;
    }
}
