//! The whole pipeline in virtual time: the real handlers among models of what AWS documents, with faults at every call, all
//! from one seed. It shows what a test of one part cannot: that nothing is lost and nothing happens twice.
//!
//! | file | concern |
//! |---|---|
//! | [`scenario`] | what one run is made of, drawn from a seed |
//! | `faults` | what goes wrong with which call |
//! | `world` | virtual time, queue, streams, Lambda, disturbances |
//! | `aws` | models of AWS: functions, queue, streams and their shards |
//! | `ports` | the ports of the handlers |
//! | `operator` | `notifyctl redrive` and `notifyctl resolve` |
//! | `pipeline` | the real handlers as a deployment |
//! | `action` | the real webhook over a model of the network, or an entry in a second table |
//! | `emitted` | the log lines and counters of the functions |
//! | `judge` | whether two events have the same content, judged independently |
//! | [`run`] | one run |
//! | `checks` | what must hold |
//! | [`designs`] | the designs that were tried before |
//! | [`outage`] | how soon an outage is caught up, with notifications counted instead of simulated |
//! | [`search`] | many seeds, every fault at every call, shrinking |
//! | [`mutants`] | known bugs that can be put back, and all that each changes |
//! | [`template`] | the settings of `template.yaml` |
//! | `trace` | what happened, as text and as a diagram |

mod action;
mod aws;
mod checks;
pub mod designs;
mod emitted;
mod faults;
mod judge;
pub mod mutants;
mod operator;
pub mod outage;
mod pipeline;
mod ports;
mod rng;
pub mod run;
pub mod scenario;
pub mod search;
pub mod template;
mod trace;
mod world;
