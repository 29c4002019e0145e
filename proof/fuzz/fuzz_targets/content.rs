//! Any two texts, with a zero byte between them, as events, and as the data and the subject of two events.

#![no_main]

#[path = "../../../crates/notification/tests/bad_input/check.rs"]
mod check;
#[path = "../../../crates/notification/tests/bad_input/refusals.rs"]
mod refusals;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (a, b) = text.split_once('\0').unwrap_or((text, " {}"));
    check::contents(a, b);
    let with_data = |data: &str| format!(r#"{{"specversion":"1.0","id":"a","source":"s","type":"t","data":{data}}}"#);
    check::contents(&with_data(a), &with_data(b));
    let with_subject = |subject| with_data(&format!(r#"1,"subject":{subject}"#));
    check::contents(&with_subject(a), &with_subject(b));
    check::contents(&with_data(a), &with_data(&a.replace(',', " , ")));
});
