//! Any bytes as a batch of downstream; bytes that are not a batch become the data of a record.

#![no_main]

#[path = "../../../crates/downstream/tests/handler/bad_input/check.rs"]
mod check;
#[path = "../../../crates/notification/tests/bad_input/members.rs"]
mod members;
#[path = "../../../crates/notification/tests/bad_input/refusals.rs"]
mod refusals;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(envelope) = serde_json::from_slice::<notification::Envelope>(bytes) {
        envelope.records.iter().for_each(|record| check::record(record));
        check::batch(envelope);
    } else {
        check::data(bytes);
    }
});
