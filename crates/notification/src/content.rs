//! Duplicate or conflict: whether two events with the same id have the same content.

use crate::event::Attributes;
use crate::limits;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Whether two events have the same content: `source`, `type` and `data` (or `data_base64`) are equal as JSON values.
/// `time` and extension attributes may differ, because a producer that sends again may set them anew.
///
/// Numbers are compared by their exact decimal value (`1.0` equals `1`; two large integers that a float would merge
/// stay apart). Text that is not a JSON object has no content that could be equal, so the answer is `false`: what
/// cannot be shown to be a duplicate is a conflict, which is never dropped. So are values that are written differently
/// and nested deeper than [`limits::CONTENT_MAX_DEPTH`], or have a name twice in one object.
#[must_use]
pub fn same(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let (Ok(a), Ok(b)) = (Attributes::parse(a), Attributes::parse(b)) else {
        return false;
    };
    same_value(a.source, b.source)
        && same_value(a.event_type, b.event_type)
        && same_value(a.data, b.data)
        && same_value(a.data_base64, b.data_base64)
}

fn same_value(a: Option<&RawValue>, b: Option<&RawValue>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => same_json(a.get(), b.get(), limits::CONTENT_MAX_DEPTH),
        _ => false,
    }
}

/// Compares two texts that serde_json has already accepted as JSON, without a value type that rounds numbers. It calls
/// itself for what they hold, which serde_json has not bounded: raw JSON may be nested as deep as a message is long.
fn same_json(a: &str, b: &str, depth: usize) -> bool {
    if a == b {
        return true;
    }
    let Some(depth) = depth.checked_sub(1) else { return false };
    match (a.as_bytes().first(), b.as_bytes().first()) {
        (Some(b'{'), Some(b'{')) => match (serde_json::from_str::<Object<'_>>(a), serde_json::from_str(b)) {
            (Ok(Object(a)), Ok(Object(b))) => {
                a.len() == b.len()
                    && a.iter().zip(&b).all(|((ka, va), (kb, vb))| ka == kb && same_json(va.get(), vb.get(), depth))
            }
            _ => false,
        },
        (Some(b'['), Some(b'[')) => {
            match (serde_json::from_str::<Vec<&RawValue>>(a), serde_json::from_str::<Vec<&RawValue>>(b)) {
                (Ok(a), Ok(b)) => {
                    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same_json(a.get(), b.get(), depth))
                }
                _ => false,
            }
        }
        (Some(b'"'), Some(b'"')) => {
            match (serde_json::from_str::<Cow<'_, str>>(a), serde_json::from_str::<Cow<'_, str>>(b)) {
                (Ok(a), Ok(b)) => a == b,
                _ => false,
            }
        }
        // With an exponent beyond 64 bits, only equal text is surely equal.
        (Some(b'-' | b'0'..=b'9'), Some(b'-' | b'0'..=b'9')) => {
            Decimal::parse(a).is_some_and(|a| Decimal::parse(b) == Some(a))
        }
        // true, false and null have one spelling each.
        _ => false,
    }
}

/// An object's members by name. One that has a name twice is refused: one reader takes the first and another the last, so
/// it equals nothing but itself.
struct Object<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Object<'de>, A::Error> {
                let mut by_name = BTreeMap::new();
                while let Some((name, value)) = members.next_entry()? {
                    if by_name.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name occurs twice"));
                    }
                }
                Ok(Object(by_name))
            }
        }
        deserializer.deserialize_map(Members)
    }
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
    fn source_type_and_data_count_and_time_does_not() {
        let base = r#"{"specversion":"1.0","id":"a","source":"s","type":"t","time":"2026-11-22T10:00:00Z","data":1}"#;
        assert!(same(base, &base.replace("10:00", "11:00")));
        assert!(!same(base, &base.replace("\"s\"", "\"other\"")));
        assert!(!same(base, &base.replace("\"t\"", "\"other\"")));
        assert!(!same(base, &base.replace(",\"data\":1", "")));
        assert!(!same(base, &base.replace("\"data\":1", "\"data_base64\":\"AQ==\"")));
        assert!(!same(&base.replace(",\"data\":1", ""), &base.replace("\"data\":1", "\"data\":null")));
    }

    #[test]
    fn subject_content_type_and_schema_count() {
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
    fn extension_attributes_may_differ() {
        let base = r#"{"specversion":"1.0","id":"a","source":"s","type":"t","traceparent":"1","data":1}"#;
        assert!(same(base, &base.replace("\"1\"", "\"2\"")));
    }

    #[test]
    fn what_cannot_be_read_is_never_a_duplicate() {
        assert!(!same(&event("1"), ""));
        assert!(!same(&event("1"), "[]"));
        check(r#""\ud800""#, r#""\ud800" "#, true);
        check(r#"["\ud800"]"#, r#"["\uD800"]"#, false);
    }

    #[test]
    fn an_object_with_a_name_twice_equals_nothing_but_itself() {
        check(r#"{"a":1,"a":2}"#, r#"{"a":2}"#, false);
        check(r#"{"a":1,"a":2}"#, r#"{"a":1}"#, false);
        check(r#"{"a":1,"a":2}"#, r#"{"a":1, "a":2}"#, false);
        check(r#"[{"a":1,"a":2}]"#, r#"[ {"a":1,"a":2} ]"#, true);
    }

    #[test]
    fn data_nested_deeper_than_its_limit_is_the_same_only_where_its_text_is() {
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
