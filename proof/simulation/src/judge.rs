//! An independent judge of content, so that the code under test does not judge itself: two events are compared as values of
//! serde_json, in which every number is the text of its exact decimal value.

use serde_json::Value;

/// The attributes that are not content: a producer may set them again when it retries. Extension attributes are not content
/// either.
/// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#context-attributes>
const CONTENT: [&str; 9] =
    ["specversion", "id", "source", "type", "subject", "datacontenttype", "dataschema", "data", "data_base64"];

/// Whether two events have the same content. Texts that are not events differ.
pub(crate) fn same(a: &str, b: &str) -> bool {
    let (Some(a), Some(b)) = (content(a), content(b)) else { return false };
    a == b
}

/// The members of an event that are content. `null` is like a missing attribute, except in `data`; and `data` without a
/// content type is JSON.
fn content(event: &str) -> Option<Vec<Option<Value>>> {
    let event: Value = serde_json::from_str(&with_exact_numbers(event)).ok()?;
    let event = event.as_object()?;
    let mut members = Vec::with_capacity(CONTENT.len());
    for name in CONTENT {
        let member = event.get(name).filter(|value| name == "data" || !value.is_null());
        let implied = || (name == "datacontenttype" && event.contains_key("data")).then(|| "application/json".into());
        members.push(member.cloned().or_else(implied));
    }
    Some(members)
}

/// The same JSON, with each number as a text of its exact value. The text begins with a character that no JSON of a scenario
/// has, so that no string is taken for a number.
fn with_exact_numbers(json: &str) -> String {
    let mut exact = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest),
            '-' | '0'..='9' => rest.find(|char| !"+-.eE0123456789".contains(char)).unwrap_or(rest.len()),
            other => other.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        match first {
            '-' | '0'..='9' => exact.extend(["\"\u{1F522}", &decimal(token), "\""]),
            _ => exact.push_str(token),
        }
        rest = after;
    }
    exact
}

/// The length of the string at the start of a text, with its quotation marks.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (place, char) in text.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return place + 1,
            _ => {}
        }
    }
    text.len()
}

/// A number as an integer without trailing zeros, times a power of ten.
fn decimal(number: &str) -> String {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let mut exponent: i64 = exponent.trim_start_matches('+').parse().unwrap_or(i64::MAX / 2);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let sign = if whole.starts_with('-') { "-" } else { "" };
    let mut digits = format!("{}{fraction}", whole.trim_start_matches('-'));
    exponent -= i64::try_from(fraction.len()).unwrap_or(0);
    while digits.len() > 1 && digits.ends_with('0') {
        digits.pop();
        exponent += 1;
    }
    match digits.trim_start_matches('0') {
        "" => "0".to_owned(),
        digits => format!("{sign}{digits}e{exponent}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_text_for_each_value() {
        for (number, expected) in
            [("1.0", "1e0"), ("10e-1", "1e0"), ("0.1E1", "1e0"), ("-0.0", "0"), ("100", "1e2"), ("-1.50", "-15e-1")]
        {
            assert_eq!(decimal(number), expected, "{number}");
        }
        assert_ne!(decimal("12345678901234567890123"), decimal("12345678901234567890124"));
    }

    #[test]
    fn attributes_that_are_content_are_compared_and_the_others_are_not() {
        let base = r#"{"id":"a","source":"s","type":"t","time":"1","x":"1","subject":"1","data":{"a":1}}"#;
        for other in ["\"time\":\"2\"", "\"x\":\"2\""] {
            assert!(same(base, &base.replace(&other.replace('2', "1"), other)), "{other}");
        }
        for other in ["\"subject\":\"2\"", "\"a\":2"] {
            assert!(!same(base, &base.replace(&other.replace('2', "1"), other)), "{other}");
        }
        assert!(same(base, &base.replace("\"x\"", "\"datacontenttype\":\"application\\/json\",\"x\"")));
        assert!(!same(base, "[]") && !same("", ""));
    }
}
