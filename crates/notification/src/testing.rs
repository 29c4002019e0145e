//! The ports in memory, and failing: for tests without a backend.
//!
//! | file | concern |
//! |---|---|
//! | `change` | a change that owns its parts |
//! | `item` | an item of the table |
//! | `table` | the model of the table: conditions, transactions, indexes, stream, expiry, the sweep's lease |
//! | `index` | the model of the index of pending notifications |
//! | `ports` | every port, over any backend in memory and any faults. The simulation uses it with its own |
//! | `memory` | a backend whose calls take effect at once, and fail as a plan says |
//! | `clock` | a clock that only sleeping moves |

mod change;
mod clock;
mod index;
mod item;
mod memory;
mod ports;
mod table;

pub use change::{OwnedChange, OwnedCommit};
pub use clock::TestClock;
pub use item::Item;
pub use memory::{Fault, InMemory, Memory};
pub use ports::{Backend, Call, Calls, Entries, Refused, each};
pub use table::{Captured, Table};

use crate::reason::{Note, Reason, ReasonCode};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A reason, where its content does not matter.
pub const REJECTED: Reason<'_> = Reason { code: ReasonCode::Rejected, text: "no" };

/// The first note of a failure.
pub const NOTE: Note<'_> =
    Note { reason: Reason { code: ReasonCode::ReceiverUnavailable, text: "could not connect" }, failures: 1 };

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test may panic inside a call on purpose; earlier writes remain.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
