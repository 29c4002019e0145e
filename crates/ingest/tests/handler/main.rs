//! Tests of the handler, in one executable: each would compile the whole handler again.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bad_input;
mod batches;
mod differential;
mod telemetry;

#[path = "../../../notification/tests/telemetry/collect.rs"]
mod collect;
#[path = "../../../notification/tests/bad_input/generate.rs"]
mod generate;
#[path = "../../../notification/tests/bad_input/members.rs"]
mod members;
#[path = "../../../notification/tests/bad_input/refusals.rs"]
mod refusals;
