//! Any input from outside: nothing panics, accepted events are stored byte for byte, and a refusal names the broken rule
//! without quoting the input.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "bad_input/check.rs"]
mod check;
#[path = "bad_input/generate.rs"]
mod generate;
#[path = "bad_input/refusals.rs"]
mod refusals;

use generate::{MARKER, bytes, config, json, marked, text};
use notification::event::readable_id;
use notification::{Envelope, Notification, Outcome, content, limits};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

fn event() -> Value {
    json!({
        "specversion": "1.0", "id": "rfd-1", "source": "urn:s", "type": "t", "time": "2026-11-22T10:00:00Z",
        "subject": MARKER, "datacontenttype": "application/json", "dataschema": "urn:schema", "traceparent": MARKER,
        "data": {"amount": 19.99, "lines": [1, null, {"text": MARKER}]},
    })
}

fn batch() -> Value {
    json!({"Records": [{"messageId": "m", "body": MARKER}, null, MARKER]})
}

fn with_data(data: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"a","source":"s","type":"t","data":{data}}}"#)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_event_is_stored_byte_for_byte_or_refused_by_the_rule_it_breaks(text in text(&event())) {
        check::event(&text);
    }

    #[test]
    fn no_refusal_of_an_event_quotes_it(text in marked(text(&event()))) {
        if let Err(malformed) = Notification::parse(text) {
            let shown = format!("{malformed} {malformed:?}");
            prop_assert!(!shown.contains(MARKER), "{}", shown);
        }
    }

    #[test]
    fn the_id_of_an_event_is_the_written_one_or_none(id in json()) {
        let text = json!({"id": 0, "data": MARKER}).to_string().replace(":0", &format!(":{id}"));
        let written = serde_json::from_str::<String>(&id.to_string()).ok();
        let read = readable_id(&text);
        prop_assert!(read.is_none_or(|read| written.as_deref() == Some(read.as_str())));
    }

    #[test]
    fn an_id_is_unchanged_and_never_empty_or_refused_by_the_rule_it_breaks(text in any::<String>(), repeat in 0_usize..40) {
        check::id(&text);
        check::id(&text.repeat(repeat));
        check::id(&format!("kinesis:{text}"));
    }

    #[test]
    fn sameness_is_reflexive_and_symmetric_for_any_two_texts(a in text(&event()), b in text(&event())) {
        check::contents(&a, &b);
    }

    #[test]
    fn sameness_is_reflexive_and_symmetric_for_any_data(a in json(), b in json()) {
        check::contents(&with_data(&a.to_string()), &with_data(&b.to_string()));
        check::contents(&with_data(&a.to_string()), &with_data(&format!(" {a} ")));
    }

    #[test]
    fn a_batch_is_any_records_or_refused_without_a_quote(bytes in bytes(&batch())) {
        check::envelope(&bytes);
    }

    #[test]
    fn no_refusal_of_a_batch_quotes_it(text in marked(text(&batch()))) {
        if let Err(refusal) = serde_json::from_str::<Envelope>(&text) {
            prop_assert!(!refusal.to_string().contains(MARKER), "{}", refusal);
        }
    }

    #[test]
    fn any_number_is_a_deadline(millis in any::<u64>(), seconds in any::<u64>(), nanos in 0..1_000_000_000_u32) {
        check::deadline(millis, Duration::new(seconds, nanos));
    }

    #[test]
    fn any_outcome_fits_and_stays_json(outcome in json(), repeat in 0_usize..600) {
        let value = serde_json::from_str::<Value>(&outcome.to_string()).unwrap_or_default();
        let outcome = Outcome::new(&vec![value; repeat].into());
        prop_assert!(outcome.as_str().len() <= limits::OUTCOME_MAX_BYTES);
        prop_assert!(serde_json::from_str::<Value>(outcome.as_str()).is_ok());
    }
}

#[test]
fn data_of_any_depth_is_accepted_and_compared() {
    // Deep enough to overflow the stack of a comparison that recurses for each level.
    let depth = 20_000;
    let nested = |inner: &str| with_data(&format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth)));
    check::event(&nested("1"));
    check::contents(&nested("1"), &nested(" 1"));
    assert!(!content::same(&nested("1"), &nested("2")));
}

#[test]
fn a_batch_of_any_depth_is_a_batch() {
    let depth = 1_000_000;
    check::envelope(format!(r#"{{"Records":[{}{}]}}"#, "[".repeat(depth), "]".repeat(depth)).as_bytes());
}
