//! A secret in memory, and a clock that the test controls.

#![allow(dead_code, reason = "the tests of bad input use only a part of it")]

use actions::secret::SecretSource;
use notification::{Clock, Failure, Timestamp};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A secret in memory. Reading it yields to the runtime a few times, so that several readings can overlap.
#[derive(Debug, Clone)]
pub(crate) struct Secret(Arc<Mutex<(Result<String, Failure>, usize)>>);

impl Secret {
    pub(crate) fn new(text: &str) -> Self {
        Self(Arc::new(Mutex::new((Ok(text.to_owned()), 0))))
    }

    pub(crate) fn set(&self, text: &str) {
        self.0.lock().unwrap().0 = Ok(text.to_owned());
    }

    pub(crate) fn fail(&self) {
        self.0.lock().unwrap().0 = Err(Failure::retryable("AccessDeniedException"));
    }

    /// How often it was read.
    pub(crate) fn readings(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

impl SecretSource for Secret {
    async fn read(&self) -> Result<String, Failure> {
        self.0.lock().unwrap().1 += 1;
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        self.0.lock().unwrap().0.clone()
    }
}

/// Which waits pass.
type Passes = fn(Duration) -> bool;

/// A clock that stands still. The waits that pass end at once and advance it; the others never end.
#[derive(Debug, Clone)]
pub(crate) struct Time {
    now: Arc<Mutex<Timestamp>>,
    passes: Passes,
}

impl Time {
    pub(crate) fn new(passes: Passes) -> Self {
        Self { now: Arc::new(Mutex::new(Timestamp::from_second(1_795_000_000).unwrap())), passes }
    }

    /// A clock for which no wait ever ends.
    pub(crate) fn stands() -> Self {
        Self::new(|_| false)
    }

    pub(crate) fn advance(&self, by: Duration) {
        *self.now.lock().unwrap() += by;
    }
}

impl Clock for Time {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    async fn sleep(&self, duration: Duration) {
        if !(self.passes)(duration) {
            std::future::pending::<()>().await;
        }
        self.advance(duration);
    }
}
