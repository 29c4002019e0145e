//! The ports in memory, and failing: for tests without a backend.
//!
//! | file | concern |
//! |---|---|
//! | `table` | the model of the table: conditions, transactions, indexes, the sweep's lease. The simulation uses it as well |
//! | `index` | the model of the index of pending notifications |
//! | `memory` | every port in memory |
//! | `faulty` | a port whose calls fail as a plan says |
//! | `clock` | a clock that only sleeping moves |

mod clock;
mod faulty;
mod index;
mod memory;
mod table;

pub use clock::TestClock;
pub use faulty::{Call, Fault, Faulty};
pub use memory::{InMemory, Memory};
pub use table::{Item, Table, key_of};

use std::sync::{Mutex, MutexGuard, PoisonError};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test may panic inside a call on purpose; earlier writes remain.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
