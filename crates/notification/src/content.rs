//! Duplicate or conflict: whether two events with the same id have the same content.

use crate::event::Attributes;
use crate::limits;
use crate::text;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Whether two events have the same content: `source`, `type`, `subject`, `datacontenttype`, `dataschema` and `data` (or
/// `data_base64`) are equal as JSON values. `time` and extension attributes may differ, because a producer may set them again
/// when it retries. `data` without a `datacontenttype` is `application/json`.
///
/// Numbers are compared by their exact decimal value: `1.0` equals `1`, and two large integers that would be the same float
/// differ.
///
/// The answer is `true` only if both contents are surely equal; otherwise the message is a conflict, which is never dropped.
/// So different texts differ if one is not a JSON object. Values with different texts also differ if they are nested deeper
/// than [`limits::CONTENT_MAX_DEPTH`] or contain an object with a duplicate name.
///
/// Apart from sorting the members of objects, the time is linear in the size of the events.
#[must_use]
pub fn same(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let (Ok(a), Ok(b)) = (Attributes::parse(a), Attributes::parse(b)) else {
        return false;
    };
    members(&a).into_iter().zip(members(&b)).all(|(a, b)| a == b || read(a).is_some_and(|a| read(b) == Some(a)))
}

/// The members that are compared, as JSON.
fn members<'a>(event: &Attributes<'a>) -> [Option<&'a str>; 7] {
    let json = |member: Option<&'a RawValue>| member.map(RawValue::get);
    let implied = event.data.map(|_| r#""application/json""#);
    [
        json(event.source),
        json(event.event_type),
        json(event.subject),
        json(event.datacontenttype).or(implied),
        json(event.dataschema),
        json(event.data),
        json(event.data_base64),
    ]
}

fn read(json: Option<&str>) -> Option<Value<'_>> {
    let json = json?;
    let mut tokens = Tokens { json, at: 0 };
    Value::read(tokens.next()?, json, &mut tokens, limits::CONTENT_MAX_DEPTH)
}

/// A JSON value that can be compared. serde_json's own would round numbers.
#[derive(PartialEq)]
enum Value<'a> {
    Leaf(Leaf<'a>),
    Array(Vec<Value<'a>>),
    /// Sorted by name.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
    /// Equal only to the same text.
    Text(&'a str),
}

impl<'a> Value<'a> {
    /// Reads the value that begins with the token `first`, in a text that serde_json has accepted as JSON. It reads each token
    /// of the value once; `None` means that the tokens do not form a value.
    ///
    /// It recurses at most `depth` times: serde_json does not limit how deep raw JSON is nested.
    fn read(
        first: Token<'a>,
        json: &'a str,
        tokens: &mut impl Iterator<Item = Token<'a>>,
        depth: usize,
    ) -> Option<Self> {
        let Some(depth) = depth.checked_sub(1) else {
            return Some(Self::Text(&json[first.start..end_of_value(first, tokens)?]));
        };
        match first.text {
            "[" => {
                let mut elements = Vec::new();
                loop {
                    let token = tokens.next()?;
                    if token.text == "]" {
                        return Some(Self::Array(elements));
                    }
                    elements.push(Self::read(token, json, tokens, depth)?);
                }
            }
            "{" => {
                let mut members = Vec::new();
                loop {
                    let name = tokens.next()?;
                    if name.text == "}" {
                        return Some(Self::object(members).unwrap_or(Self::Text(&json[first.start..name.end()])));
                    }
                    members.push((text::decoded(name.text), Self::read(tokens.next()?, json, tokens, depth)?));
                }
            }
            leaf => Some(Self::Leaf(Leaf(leaf))),
        }
    }

    /// `None` for an object with a duplicate name, because some readers take the first and others the last, and for one with a
    /// name that cannot be decoded.
    fn object(members: Vec<(Option<Cow<'a, str>>, Self)>) -> Option<Self> {
        let mut members = members.into_iter().map(|(name, value)| Some((name?, value))).collect::<Option<Vec<_>>>()?;
        members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        members.is_sorted_by(|(a, _), (b, _)| a < b).then_some(Self::Object(members))
    }
}

/// Reads the remaining tokens of the value that begins with this token, and returns where it ends.
fn end_of_value<'a>(first: Token<'a>, tokens: &mut impl Iterator<Item = Token<'a>>) -> Option<usize> {
    let mut end = first.end();
    let mut open = first.nesting();
    while open > 0 {
        let token = tokens.next()?;
        end = token.end();
        open += token.nesting();
    }
    Some(end)
}

/// A string, a number, `true`, `false` or `null`, as it is written.
struct Leaf<'a>(&'a str);

impl PartialEq for Leaf<'_> {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.0, other.0);
        if a == b {
            return true;
        }
        match (a.as_bytes().first(), b.as_bytes().first()) {
            (Some(b'"'), Some(b'"')) => text::decoded(a).is_some_and(|a| text::decoded(b) == Some(a)),
            // An exponent beyond 64 bits cannot be compared: only equal text is surely equal.
            (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => {
                Decimal::parse(a).is_some_and(|a| Decimal::parse(b) == Some(a))
            }
            // true, false and null have one spelling each.
            _ => false,
        }
    }
}

/// A bracket, or a [`Leaf`].
#[derive(Clone, Copy)]
struct Token<'a> {
    /// Its first byte in the text.
    start: usize,
    text: &'a str,
}

impl Token<'_> {
    fn end(self) -> usize {
        self.start + self.text.len()
    }

    /// By how many levels the nesting changes after it.
    fn nesting(self) -> i64 {
        match self.text {
            "[" | "{" => 1,
            "]" | "}" => -1,
            _ => 0,
        }
    }
}

/// The tokens of a text that serde_json has accepted as JSON, so commas and colons are only separators, like spaces.
struct Tokens<'a> {
    json: &'a str,
    /// The position of the next byte to read.
    at: usize,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let rest = self.json.as_bytes().get(self.at..)?;
        let start = self.at + rest.iter().position(|byte| !is_separator(*byte))?;
        let rest = &self.json[start..];
        let length = match rest.as_bytes()[0] {
            b'[' | b']' | b'{' | b'}' => 1,
            b'"' => string_length(rest)?,
            _ => rest.bytes().position(|byte| is_separator(byte) || matches!(byte, b']' | b'}')).unwrap_or(rest.len()),
        };
        self.at = start + length;
        Some(Token { start, text: &rest[..length] })
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b':')
}

/// Length in bytes of the string at the start of `text`, including its quotation marks.
fn string_length(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at + 1),
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    None
}

/// A JSON number in one normal form: digits without leading or trailing zeros, times ten to the exponent.
#[derive(PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn parse(number: &str) -> Option<Self> {
        let (negative, unsigned) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number),
        };
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let significant = all.trim_end_matches('0');
        let digits = significant.trim_start_matches('0');
        if digits.is_empty() {
            // Zero has no sign and no exponent.
            return Some(Self { negative: false, digits: String::new(), exponent: 0 });
        }
        let dropped = i64::try_from(all.len() - significant.len()).ok()?;
        let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(dropped)?;
        Some(Self { negative, digits: digits.to_owned(), exponent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(data: &str) -> String {
        format!(r#"{{"specversion":"1.0","id":"a","source":"s","type":"t","data":{data}}}"#)
    }

    fn check(a: &str, b: &str, expected: bool) {
        assert_eq!(same(&event(a), &event(b)), expected, "{a} against {b}");
        assert_eq!(same(&event(b), &event(a)), expected, "{b} against {a}");
    }

    #[test]
    fn content_is_compared_as_json_values() {
        check(r#"{"a":1,"b":[true,null]}"#, r#"{ "b" : [ true , null ] , "a" : 1 }"#, true);
        check(r#""\u0041""#, r#""A""#, true);
        check(r#"{"a":1}"#, r#"{"a":1,"b":2}"#, false);
        check("[1,2]", "[2,1]", false);
        check("null", "false", false);
        check("\"1\"", "1", false);
    }

    #[test]
    fn numbers_are_compared_exactly() {
        check("1", "1.0", true);
        check("19.99", "19.990", true);
        check("100", "1e2", true);
        check("0.001", "1E-3", true);
        check("-0", "0.0", true);
        check("-1", "1", false);
        check("19.99", "19.98", false);
        check("12345678901234567890123", "12345678901234567890124", false);
        check("1e99999999999999999999", "1e99999999999999999999", true);
        check("1e99999999999999999999", "1e99999999999999999998", false);
    }

    #[test]
    fn source_type_and_data_are_content_and_time_is_not() {
        let base = r#"{"specversion":"1.0","id":"a","source":"s","type":"t","time":"2026-11-22T10:00:00Z","data":1}"#;
        assert!(same(base, &base.replace("10:00", "11:00")));
        assert!(!same(base, &base.replace("\"s\"", "\"other\"")));
        assert!(!same(base, &base.replace("\"t\"", "\"other\"")));
        assert!(!same(base, &base.replace(",\"data\":1", "")));
        assert!(!same(base, &base.replace("\"data\":1", "\"data_base64\":\"AQ==\"")));
        assert!(!same(&base.replace(",\"data\":1", ""), &base.replace("\"data\":1", "\"data\":null")));
    }

    #[test]
    fn subject_content_type_and_schema_are_content() {
        let base = r#"{"specversion":"1.0","id":"a","source":"s","type":"t","subject":"a","datacontenttype":"text/plain","dataschema":"urn:a","data":"1"}"#;
        for attribute in [r#""subject":"a","#, r#""datacontenttype":"text/plain","#, r#""dataschema":"urn:a","#] {
            let other = attribute.replace("a\",", "b\",").replace("plain", "html");
            assert!(!same(base, &base.replace(attribute, &other)), "{other}");
            assert!(!same(base, &base.replace(attribute, "")), "{attribute}");
            let spaced = attribute.replace(':', " : ").replace("text/", "text\\/").replace("urn : ", "urn:");
            assert!(same(base, &base.replace(attribute, &spaced)), "{spaced}");
        }
    }

    #[test]
    fn an_attribute_that_is_null_is_absent() {
        let base = r#"{"specversion":"1.0","id":"a","source":"s","type":"t"}"#;
        for attribute in ["subject", "datacontenttype", "dataschema", "data_base64"] {
            let null = base.replace("\"t\"", &format!("\"t\",\"{attribute}\":null"));
            assert!(same(base, &null) && same(&null, base), "{null}");
        }
    }

    #[test]
    fn data_without_a_content_type_is_json() {
        let typed = |payload: &str| event(payload).replace("\"data", "\"datacontenttype\":\"application/json\",\"data");
        assert!(same(&event("1"), &typed("1")) && same(&typed("1"), &event("1")));
        let binary = |event: &str| event.replace("data\":1", "data_base64\":\"MQ==\"");
        assert!(!same(&binary(&event("1")), &binary(&typed("1"))));
    }

    #[test]
    fn each_token_is_read_once_at_any_depth() {
        let members = |n: usize| (0..n).map(|i| format!(r#""{i}":[{i},"\\n"]"#)).collect::<Vec<_>>().join(",");
        for (depth, members) in [(1, members(20_000)), (120, members(20_000)), (20_000, members(1))] {
            for name in ["a", "0"] {
                // With the name "0", every object has a duplicate name.
                let open = format!(r#"{{"0":1,"{name}":"#).repeat(depth);
                let json = format!("{open}{{{members}}}{}", "}".repeat(depth));
                let (mut read, mut bytes) = (0, 0);
                let mut tokens = Tokens { json: &json, at: 0 }.inspect(|token| {
                    read += 1;
                    bytes += token.text.len();
                });
                let first = tokens.next().unwrap();
                assert!(Value::read(first, &json, &mut tokens, limits::CONTENT_MAX_DEPTH).is_some());
                assert!(tokens.next().is_none());
                assert_eq!(read, Tokens { json: &json, at: 0 }.count());
                assert!(bytes < json.len(), "{bytes} of {}", json.len());
            }
        }
    }

    #[test]
    fn extension_attributes_may_differ() {
        let base = r#"{"specversion":"1.0","id":"a","source":"s","type":"t","traceparent":"1","data":1}"#;
        assert!(same(base, &base.replace("\"1\"", "\"2\"")));
    }

    #[test]
    fn a_text_that_cannot_be_read_is_never_a_duplicate() {
        assert!(!same(&event("1"), ""));
        assert!(!same(&event("1"), "[]"));
        check(r#""\ud800""#, r#""\ud800" "#, true);
        check(r#"["\ud800"]"#, r#"["\uD800"]"#, false);
    }

    #[test]
    fn an_object_with_a_duplicate_name_equals_only_the_same_text() {
        check(r#"{"a":1,"a":2}"#, r#"{"a":2}"#, false);
        check(r#"{"a":1,"a":2}"#, r#"{"a":1}"#, false);
        check(r#"{"a":1,"a":2}"#, r#"{"a":1, "a":2}"#, false);
        check(r#"[{"a":1,"a":2}]"#, r#"[ {"a":1,"a":2} ]"#, true);
    }

    #[test]
    fn data_nested_deeper_than_the_limit_equals_only_the_same_text() {
        let nested = |depth: usize, inner: &str| format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth));
        let deepest = limits::CONTENT_MAX_DEPTH - 1;
        check(&nested(deepest, "1"), &nested(deepest, "1.0"), true);
        check(&nested(deepest, "1"), &nested(deepest, "2"), false);
        check(&nested(deepest + 1, "1"), &nested(deepest + 1, "1.0"), false);
        check(&nested(deepest + 1, "1"), &format!(" {} ", nested(deepest + 1, "1")), true);
        let object = |depth: usize, inner: &str| format!("{}{inner}{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        check(&object(deepest, "1"), &object(deepest, "1.0"), true);
        check(&object(deepest + 1, "1"), &object(deepest + 1, "1.0"), false);
    }

    proptest! {
        #[test]
        fn spacing_never_makes_a_conflict(value in json()) {
            let (compact, pretty) = (value.to_string(), serde_json::to_string_pretty(&value).unwrap());
            prop_assert!(same(&event(&compact), &event(&pretty)));
        }

        #[test]
        fn different_values_are_never_a_duplicate(a in json(), b in json()) {
            prop_assert_eq!(same(&event(&a.to_string()), &event(&b.to_string())), a == b);
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3i64..3).prop_map(Value::from),
            "[a-b\"\\\\é]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::hash_map("[ab]{1,2}", inner, 0..3)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }
}
