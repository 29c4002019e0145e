//! Time as a port.

use jiff::Timestamp;
use std::future::Future;
use std::time::Duration;

/// Time, so that tests and simulations have their own.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Waits.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}
