//! The domain of the Atomic Notification Service: what a notification is, which statuses it passes through, what a
//! failure means, what is reported to each kind of event source, and the ports that the functions need.
//!
//! This crate is pure: it knows no AWS, no Lambda and no async runtime (`tests/purity.rs` proves it), so that the same
//! rules run in a function, in a test and in a simulation.
//!
//! | file | concern |
//! |---|---|
//! | [`id`], [`event`], `format`, [`content`] | what comes in: the id, the CloudEvents event, the formats of its attributes, duplicate or conflict |
//! | [`status`] | the statuses and their transitions |
//! | [`failure`] | retryable, permanent, may have happened |
//! | [`envelope`], [`text`] | what every event source sends: a batch of unread records, and text in them |
//! | [`report`] | outcomes of a batch → what each kind of event source must be told |
//! | [`ports`], [`action`] | what the functions need from outside: table, stream, clock, business code |
//! | [`batch`], [`deadline`], [`backoff`] | how calls are made: batched, bounded, in time |
//! | [`change`] | how statuses are changed: conditionally, many at once, with one's own write recognised |
//! | [`limits`] | every limit, with its unit and source |

pub mod action;
pub mod backoff;
pub mod batch;
pub mod change;
pub mod clock;
pub mod content;
pub mod deadline;
pub mod distinct;
pub mod envelope;
pub mod event;
pub mod failure;
mod format;
pub mod id;
pub mod limits;
pub mod ports;
pub mod report;
pub mod status;
#[cfg(feature = "testing")]
pub mod testing;
pub mod text;
pub mod transaction;
pub mod write;

pub use action::{Action, ActionError, Effect, Guarantee, MarkDone, Outcome, Put};
pub use change::{Change, Claim, Stored};
pub use clock::Clock;
pub use deadline::Deadline;
pub use envelope::Envelope;
pub use event::{Malformed, Notification};
pub use failure::{Failure, FailureKind};
pub use id::NotificationId;
pub use jiff::Timestamp;
pub use status::Status;
pub use text::Text;

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
