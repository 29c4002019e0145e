//! The trace that an event belongs to, by the CloudEvents extension
//! [Distributed Tracing](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/extensions/distributed-tracing.md): the
//! attributes `traceparent` and `tracestate` have the format of [W3C Trace Context](https://www.w3.org/TR/trace-context/).
//!
//! It is read only when something is logged or sent, because most notifications need it never. An invalid one is absent:
//! tracing never makes a notification fail.

use crate::{limits, text};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::ops::Range;

/// The trace of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    traceparent: Box<str>,
    tracestate: Option<Box<str>>,
}

/// The two attributes as raw JSON. No other member of the event is looked at.
#[derive(Deserialize)]
struct Attributes<'a> {
    #[serde(borrow)]
    traceparent: Option<&'a RawValue>,
    #[serde(borrow)]
    tracestate: Option<&'a RawValue>,
}

impl Trace {
    /// Reads the trace of an event; `None` if it has no valid `traceparent`. A `tracestate` that is no valid header is left
    /// out.
    #[must_use]
    pub fn of(event: &str) -> Option<Self> {
        let attributes: Attributes<'_> = serde_json::from_str(event).ok()?;
        let traceparent = text::decoded(attributes.traceparent?.get())?;
        if !is_traceparent(&traceparent) {
            return None;
        }
        let tracestate = attributes.tracestate.and_then(|raw| text::decoded(raw.get()));
        let tracestate = tracestate.filter(|tracestate| is_header_value(tracestate));
        Some(Self { traceparent: traceparent.into(), tracestate: tracestate.map(Into::into) })
    }

    /// The trace id: 32 hexadecimal digits, the same in every service that takes part in the trace.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.traceparent[TRACE_ID]
    }

    /// The `traceparent` as it was received.
    #[must_use]
    pub fn traceparent(&self) -> &str {
        &self.traceparent
    }

    /// The `tracestate` as it was received.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.tracestate.as_deref()
    }
}

/// Where the fields of a `traceparent` are, and the length of one of version 00:
/// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
const VERSION: Range<usize> = 0..2;
const TRACE_ID: Range<usize> = 3..35;
const PARENT_ID: Range<usize> = 36..52;
const FLAGS: Range<usize> = 53..55;
const LENGTH: usize = 55;

/// Whether a text is a `traceparent`. Later versions may have more fields after those of version 00.
/// <https://www.w3.org/TR/trace-context/#versioning-of-traceparent>
fn is_traceparent(text: &str) -> bool {
    let bytes = text.as_bytes();
    let hex = |range: Range<usize>| bytes[range].iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let has_fields = bytes.len() >= LENGTH
        && [VERSION, TRACE_ID, PARENT_ID, FLAGS].into_iter().all(hex)
        && [VERSION.end, TRACE_ID.end, PARENT_ID.end].into_iter().all(|place| bytes[place] == b'-');
    if !has_fields {
        return false;
    }
    let is_zero = |range: Range<usize>| bytes[range].iter().all(|byte| *byte == b'0');
    let has_valid_end = match &bytes[VERSION] {
        b"ff" => false,
        b"00" => bytes.len() == LENGTH,
        _ => bytes.get(LENGTH).is_none_or(|byte| *byte == b'-') && is_header_value(text),
    };
    has_valid_end && !is_zero(TRACE_ID) && !is_zero(PARENT_ID)
}

/// Whether a text can be sent as the value of an HTTP header, and is not too long for one.
/// <https://www.rfc-editor.org/rfc/rfc9110#section-5.5>
fn is_header_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_visible = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_graphic);
    bytes.len() <= limits::TRACE_HEADER_MAX_BYTES
        && is_visible(bytes.first())
        && is_visible(bytes.last())
        && bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(traceparent: &Value, tracestate: &Value) -> Option<Trace> {
        Trace::of(&json!({"id": "a", "traceparent": traceparent, "tracestate": tracestate, "data": {}}).to_string())
    }

    #[test]
    fn the_trace_id_is_the_second_field_of_the_traceparent() {
        let trace = of(&json!(PARENT), &Value::Null).unwrap();
        assert_eq!((trace.id(), trace.traceparent(), trace.tracestate()), (ID, PARENT, None));
    }

    #[test]
    fn a_traceparent_that_w3c_does_not_allow_is_absent() {
        let invalid = [
            "",
            ID,
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-\n",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7_01",
            "00-4bf92f3577b34da6a3ce929d0e0é73-00f067aa0ba902b7-01",
        ];
        for traceparent in invalid {
            assert_eq!(of(&json!(traceparent), &Value::Null), None, "{traceparent}");
        }
        for other in [Value::Null, json!(7), json!([PARENT])] {
            assert_eq!(of(&other, &Value::Null), None, "{other}");
        }
    }

    #[test]
    fn a_traceparent_of_a_later_version_may_have_more_fields() {
        for end in ["", "-", "-what-comes-later"] {
            let later = format!("01{}{end}", &PARENT[2..]);
            assert_eq!(of(&json!(later), &Value::Null).unwrap().traceparent(), later);
        }
        let too_long = format!("01{}-{}", &PARENT[2..], "x".repeat(limits::TRACE_HEADER_MAX_BYTES));
        assert_eq!(of(&json!(too_long), &Value::Null), None);
    }

    #[test]
    fn a_tracestate_that_is_no_valid_header_is_left_out_and_the_traceparent_is_kept() {
        let state = |value: Value| of(&json!(PARENT), &value).unwrap().tracestate().map(str::to_owned);
        assert_eq!(
            state(json!("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")).unwrap(),
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
        );
        assert_eq!(
            state(json!("x".repeat(limits::TRACE_HEADER_MAX_BYTES))).unwrap().len(),
            limits::TRACE_HEADER_MAX_BYTES
        );
        let too_long = "x".repeat(limits::TRACE_HEADER_MAX_BYTES + 1);
        for invalid in
            [json!(""), json!("a=b\r\nhost: c"), json!(" a=b"), json!("a=b "), json!("a=ü"), json!(7), json!(too_long)]
        {
            assert_eq!(state(invalid.clone()), None, "{invalid}");
        }
    }

    #[test]
    fn a_tracestate_alone_or_an_attribute_that_occurs_twice_is_no_trace() {
        assert_eq!(of(&Value::Null, &json!("a=b")), None);
        assert_eq!(Trace::of(&format!(r#"{{"traceparent":"{PARENT}","traceparent":"{PARENT}"}}"#)), None);
        assert_eq!(Trace::of("no JSON"), None);
        assert_eq!(Trace::of(r#""text""#), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_trace_or_not_without_a_panic(traceparent in any::<String>(), tracestate in any::<String>()) {
            let _ = Trace::of(&traceparent);
            prop_assert!(of(&json!(traceparent), &json!(tracestate)).is_none_or(|trace| trace.id().len() == 32));
        }

        #[test]
        fn whatever_is_passed_on_is_a_valid_header(end in "\\PC{0,8}", tracestate in "\\PC{0,40}") {
            if let Some(trace) = of(&json!(format!("cc{}-{end}", &PARENT[2..])), &json!(tracestate)) {
                for value in [Some(trace.traceparent()), trace.tracestate()].into_iter().flatten() {
                    prop_assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')));
                }
            }
        }
    }
}
