//! Any bytes as a batch.

#![no_main]

#[path = "../../../crates/notification/tests/bad_input/check.rs"]
mod check;
#[path = "../../../crates/notification/tests/bad_input/refusals.rs"]
mod refusals;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::envelope(bytes));
