//! The world: virtual time, the models of AWS, and what happens next. One world is one run, and only its scenario's seed
//! decides what happens in it.
//!
//! | file | concern |
//! |---|---|
//! | `state` | the world itself, its time, what happens next, and its journal |
//! | `backend` | what the functions' calls do |
//! | `budgets` | how much an invocation may do |
//! | `calls` | calls of the functions to AWS and to the receiver, and their faults |
//! | `invocations` | Lambda |
//! | `queues` | the queues and their mappings |
//! | `streams` | the streams and their mappings |
//! | `sweeps` | the schedule of the sweep |
//! | `disturbances` | what happens to the world |

mod backend;
mod budgets;
mod calls;
mod disturbances;
mod invocations;
mod queues;
mod state;
mod streams;
mod sweeps;

pub(crate) use budgets::{Flight, Spent};
pub(crate) use calls::{EFFECT, SEND};
pub(crate) use state::{Respond, Shared, Wiring, World, lock};
