//! Any text as the environment: a variable in each line.

#![no_main]

#[path = "../../../crates/aws/tests/bad_input/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let variables = check::NAMES.iter().zip(text.split('\n'));
    let variables = variables.map(|(name, value)| ((*name).to_owned(), value.to_owned()));
    check::environment(&variables.collect());
});
