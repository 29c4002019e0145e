//! The domain of the Atomic Notification Service: notifications and their statuses, the meaning of each failure, the
//! reports to the event sources, and the ports that the functions use.
//!
//! This crate is pure: it depends on no AWS crate, on no Lambda crate and on no async runtime (`tests/purity.rs` checks
//! that), so the same rules run in a function, in a test and in a simulation.
//!
//! In the order in which to read them:
//!
//! | file | concern |
//! |---|---|
//! | [`id`], [`event`], `format` | a notification: its id, its CloudEvents event, and the formats of its attributes |
//! | [`status`] | the statuses and their transitions |
//! | [`change`] | one conditional change of status; the claim, which is a fencing token |
//! | [`action`] | your business code and the guarantee that it gives |
//! | [`failure`], [`reason`] | retryable, permanent, may have happened; why a notification is not DONE |
//! | [`ports`], [`clock`] | what the functions use from outside: table, stream, queue, time |
//! | [`envelope`], [`text`] | the batch that an event source sends, and the text in its records |
//! | [`content`], [`distinct`] | duplicate or conflict; records of a batch that have the same id |
//! | [`batch`], [`deadline`], [`backoff`] | how calls are made: batched, bounded, in time |
//! | [`write`](mod@write), [`transaction`] | many changes at once, alone or with an action's items; lost replies are resolved |
//! | [`operator`] | an operator's decisions: redrive and resolve |
//! | [`latency`] | latencies for metrics |
//! | [`trace`] | the trace that an event belongs to |
//! | [`report`] | the failed records of a batch, as each kind of event source expects them |
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
pub mod latency;
pub mod limits;
pub mod operator;
pub mod ports;
pub mod reason;
pub mod report;
pub mod status;
#[cfg(feature = "testing")]
pub mod testing;
pub mod text;
pub mod trace;
pub mod transaction;
pub mod write;

pub use action::{Action, ActionError, Effect, Guarantee, MarkDone, Outcome, Put};
pub use change::{Change, Claim, Stored};
pub use clock::Clock;
pub use deadline::{Deadline, Invocation};
pub use envelope::Envelope;
pub use event::{Malformed, Notification};
pub use failure::{Failure, FailureKind};
pub use id::NotificationId;
pub use jiff::Timestamp;
pub use reason::{Reason, ReasonCode};
pub use status::Status;
pub use text::Text;
pub use trace::Trace;

/// The code in docs/ACTIONS.md compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/ACTIONS.md")]
struct Actions;
