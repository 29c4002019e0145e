//! Any text as an event, an id, an identifier and a status.

#![no_main]

#[path = "../../../crates/notification/tests/bad_input/check.rs"]
mod check;
#[path = "../../../crates/notification/tests/bad_input/refusals.rs"]
mod refusals;

libfuzzer_sys::fuzz_target!(|text: &str| {
    check::event(text);
    check::id(text);
});
