//! The contract between the adapters and the database: each statement, condition, answer, index page and stream image,
//! checked on an engine. That is the model of AWS (`proof/aws-model`) in every `cargo test`, so the suite is also what shows
//! that the model behaves as real engines do: `make contract` starts them and runs the suite on each.
//!
//! Each test creates its own tables, as `template.yaml` defines them. It prepares and inspects items with plain SDK calls,
//! and calls the adapter only for the operation under test.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod change;
mod commit;
mod failures;
mod indexes;
mod insert;
mod items;
mod lost_replies;
mod model;
mod quarantine;
mod races;
mod read;
mod stream;
mod template;
mod twice;
mod world;
