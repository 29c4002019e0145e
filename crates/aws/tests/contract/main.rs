//! The contract between the adapters and the database: each statement, condition, answer, index page and stream image,
//! on a real engine. `make contract` starts the engines and runs this on each; without one, the tests are ignored.
//!
//! Each test makes tables of its own, as `template.yaml` defines them. What it prepares and what it checks goes by plain
//! calls of the SDK, and only what is checked goes by the adapter.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod change;
mod commit;
mod failures;
mod indexes;
mod insert;
mod items;
mod keep;
mod lost_replies;
mod races;
mod read;
mod stream;
mod template;
mod twice;
mod world;
