//! Every order in which the calls of two workers for one notification can complete, with up to two faults, on the real
//! handler of downstream.
//!
//! A *schedule* is one such order: a list of choices. At each choice, one outstanding request takes effect, with or without
//! a fault, or a worker or the operator starts, or time passes until the next timer. Requests take no time, so within an
//! instant every order is possible; a request that outlasts a timer is a fault. The reply arrives together with the effect:
//! until its next request takes effect, nothing outside shows whether a worker has read a reply, so nothing is left out.
//!
//! The handlers' futures cannot be copied, so the search replays a schedule from its beginning to come back to a state. Two
//! schedules lead to the same state if they leave the same table, requests and receiver, and each worker was told the same:
//! a worker is deterministic. Each state is explored once.
//!
//! | file | concern |
//! |---|---|
//! | `search` | the search: depth-first through all schedules, and the shortest one that shows a bug |
//! | `replay` | one schedule: the possible choices, and what each does |
//! | `scenario` | how a schedule begins: the guarantee, the item, the receiver, the operator |
//! | `faults` | what can go wrong with one request |
//! | `world` | the state: time, table, receiver, requests, timers, and what is known of each worker |
//! | `ports` | the ports of the handler over the world, and the action |
//! | `oracle` | the rules, written without the code under test |
//! | `bugs` | known bugs that are put back |

pub mod bugs;
pub mod faults;
mod oracle;
mod ports;
pub mod replay;
pub mod scenario;
pub mod search;
mod world;
