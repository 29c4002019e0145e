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
//! | `deployments` | other settings and guarantees in the middle of a run |
//! | `queues` | the queues and their mappings |
//! | `streams` | the streams and their mappings |
//! | `sweeps` | the schedule of the sweep |
//! | `operators` | people who redrive and resolve |
//! | `disturbances` | what happens to the world |
//! | `receiver` | the receiver of the webhook |
//! | `doubts` | which outcomes are unknown |
//! | `letters` | the dead letters |
//! | `observed` | what operators see |

mod backend;
mod budgets;
mod calls;
mod deployments;
mod disturbances;
mod doubts;
mod invocations;
mod letters;
mod observed;
mod operators;
mod queues;
mod receiver;
mod state;
mod streams;
mod sweeps;

pub(crate) use budgets::{Flight, Spent};
pub(crate) use calls::{EFFECT, SEND};
pub(crate) use letters::Reason;
pub(crate) use operators::Command;
pub(crate) use receiver::{Answer, Request};
pub(crate) use state::{Respond, Shared, Wiring, World, lock};
