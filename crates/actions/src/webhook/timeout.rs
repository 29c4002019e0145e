//! A time limit on any work.

use futures_util::future::{Either, select};
use notification::Clock;
use std::pin::pin;
use std::time::Duration;

/// The result of `work`, or `None` if it takes longer than `limit`.
pub(super) async fn within<T>(clock: &impl Clock, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    match select(pin!(work), pin!(clock.sleep(limit))).await {
        Either::Left((result, _)) => Some(result),
        Either::Right(_) => None,
    }
}
