//! This machine's clock.

use jiff::Timestamp;

/// The time now.
#[allow(clippy::disallowed_methods, reason = "the only place that reads the clock")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
