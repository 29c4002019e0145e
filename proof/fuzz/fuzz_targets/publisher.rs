//! Any bytes as an invocation of publisher, and its records.

#![no_main]

#[path = "../../../crates/publisher/tests/handler/bad_input/check.rs"]
mod check;
#[path = "../../../crates/notification/tests/bad_input/members.rs"]
mod members;
#[path = "../../../crates/notification/tests/bad_input/refusals.rs"]
mod refusals;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(envelope) = serde_json::from_slice::<notification::Envelope>(bytes) {
        envelope.records.iter().for_each(|record| check::record(record));
    }
    check::invocation(bytes);
});
