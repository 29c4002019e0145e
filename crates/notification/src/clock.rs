//! Time as a port.

use jiff::Timestamp;
use std::future::Future;
use std::time::Duration;

/// Time. Tests and simulations have a virtual clock.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Waits.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}
