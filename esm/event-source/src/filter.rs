//! Filter patterns: which records a function gets. A record that matches none of the patterns is skipped.
//! <https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html>

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use serde_json::value::RawValue;

/// Patterns. A record passes if it matches at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Vec<Pattern>);

/// A filter pattern that is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the filter pattern {pattern} is invalid: {problem}")]
pub struct InvalidFilter {
    pattern: String,
    problem: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
enum Pattern {
    /// An object, all of whose fields must match.
    Object(Vec<(String, Self)>),
    /// `$or`: the object that has this field must match one of these.
    AnyOf(Vec<Self>),
    /// A value, which must pass one of these tests.
    Value(Vec<Test>),
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Equals(Value),
    EqualsIgnoringCase(String),
    Prefix(String),
    Suffix(String),
    AnythingBut(Vec<Value>),
    Exists(bool),
    /// Comparisons with a number: the sign and the number.
    Numeric(Vec<(String, f64)>),
}

impl Filter {
    /// Reads patterns. Each is the text of a JSON object.
    ///
    /// # Errors
    /// [`InvalidFilter`] names the pattern and the problem.
    pub fn parse(patterns: &[impl AsRef<str>]) -> Result<Self, InvalidFilter> {
        patterns.iter().map(|pattern| parse(pattern.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a record, as the function would get it, passes. A body or data that is not JSON passes no pattern that looks
    /// into it.
    #[must_use]
    pub fn passes(&self, record: &RawValue) -> bool {
        let Ok(mut record) = serde_json::from_str::<Value>(record.get()) else { return false };
        decode(&mut record);
        self.0.iter().any(|pattern| pattern.matches(Some(&record)))
    }
}

/// Rearranges a record for patterns: the decoded data of a Kinesis record is at `data`, and the `body` of a message is JSON.
fn decode(record: &mut Value) {
    let parsed = |text: &[u8]| serde_json::from_slice::<Value>(text).ok();
    let data = record.pointer("/kinesis/data").and_then(Value::as_str);
    if let Some(data) = data.and_then(|data| BASE64_STANDARD.decode(data).ok()) {
        let data = parsed(&data).unwrap_or_else(|| Value::from(String::from_utf8_lossy(&data)));
        record["data"] = data;
    }
    if let Some(body) = record.get("body").and_then(Value::as_str).and_then(|body| parsed(body.as_bytes())) {
        record["body"] = body;
    }
}

fn parse(pattern: &str) -> Result<Pattern, InvalidFilter> {
    let parsed = serde_json::from_str(pattern).map_err(|_| "not JSON").and_then(|pattern| object(&pattern));
    parsed.map_err(|problem| InvalidFilter { pattern: pattern.to_owned(), problem })
}

fn object(pattern: &Value) -> Result<Pattern, &'static str> {
    let object = pattern.as_object().ok_or("a pattern must be an object")?;
    let fields = object.iter().map(|(name, value)| Ok((name.clone(), field(name, value)?)));
    fields.collect::<Result<_, _>>().map(Pattern::Object)
}

fn field(name: &str, value: &Value) -> Result<Pattern, &'static str> {
    match value {
        Value::Array(objects) if name == "$or" => {
            if objects.is_empty() {
                return Err("$or takes at least one object");
            }
            objects.iter().map(object).collect::<Result<_, _>>().map(Pattern::AnyOf)
        }
        Value::Array(tests) => tests.iter().map(test).collect::<Result<_, _>>().map(Pattern::Value),
        Value::Object(_) => object(value),
        _ => Err("values must be in a list"),
    }
}

fn test(test: &Value) -> Result<Test, &'static str> {
    let Value::Object(object) = test else { return Ok(Test::Equals(test.clone())) };
    let (name, value) = object.iter().next().filter(|_| object.len() == 1).ok_or("a test must have one name")?;
    let text = || value.as_str().map(str::to_owned).ok_or("this test takes a string");
    match name.as_str() {
        "equals-ignore-case" => Ok(Test::EqualsIgnoringCase(text()?)),
        "prefix" => Ok(Test::Prefix(text()?)),
        "suffix" => Ok(Test::Suffix(text()?)),
        "exists" => value.as_bool().map(Test::Exists).ok_or("exists takes true or false"),
        "anything-but" => Ok(Test::AnythingBut(match value {
            Value::Array(values) => values.clone(),
            Value::Object(_) => return Err("anything-but takes values"),
            value => vec![value.clone()],
        })),
        "numeric" => {
            let parts = value.as_array().filter(|parts| parts.len() % 2 == 0).ok_or("numeric takes pairs")?;
            let pairs: Option<_> = parts.chunks_exact(2).map(|pair| numeric(&pair[0], &pair[1])).collect();
            pairs.map(Test::Numeric).ok_or("numeric takes comparisons and numbers")
        }
        _ => Err("there is no such test"),
    }
}

fn numeric(sign: &Value, bound: &Value) -> Option<(String, f64)> {
    let (sign, bound) = (sign.as_str()?, bound.as_f64()?);
    holds(bound, sign, bound).map(|_| (sign.to_owned(), bound))
}

/// Whether a comparison holds; `None` if its sign is unknown.
fn holds(value: f64, sign: &str, bound: f64) -> Option<bool> {
    match sign {
        "<" => Some(value < bound),
        "<=" => Some(value <= bound),
        "=" => Some((value - bound).abs() < f64::EPSILON),
        ">" => Some(value > bound),
        ">=" => Some(value >= bound),
        _ => None,
    }
}

impl Pattern {
    fn matches(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Object(fields), object) => fields.iter().all(|(name, field)| match field {
                Self::AnyOf(_) => field.matches(object),
                // All fields of an absent object are absent.
                _ => field.matches(object.and_then(|object| object.get(name))),
            }),
            (Self::AnyOf(patterns), object) => patterns.iter().any(|pattern| pattern.matches(object)),
            (Self::Value(tests), Some(Value::Array(values))) => {
                tests.iter().any(|test| values.iter().any(|value| test.passes(Some(value))))
            }
            (Self::Value(tests), value) => tests.iter().any(|test| test.passes(value)),
        }
    }
}

impl Test {
    fn passes(&self, value: Option<&Value>) -> bool {
        let Some(value) = value else { return *self == Self::Exists(false) };
        let text = value.as_str();
        match self {
            Self::Equals(expected) => value == expected,
            Self::EqualsIgnoringCase(expected) => {
                text.is_some_and(|text| text.to_lowercase() == expected.to_lowercase())
            }
            Self::Prefix(prefix) => text.is_some_and(|text| text.starts_with(prefix)),
            Self::Suffix(suffix) => text.is_some_and(|text| text.ends_with(suffix)),
            Self::AnythingBut(values) => !values.contains(value),
            Self::Exists(exists) => *exists,
            Self::Numeric(comparisons) => value
                .as_f64()
                .is_some_and(|value| comparisons.iter().all(|(sign, bound)| holds(value, sign, *bound) == Some(true))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(pattern: &str, record: &str) -> bool {
        let record: &RawValue = serde_json::from_str(record).unwrap();
        Filter::parse(&[pattern]).unwrap().passes(record)
    }

    #[test]
    fn every_field_must_match_one_of_its_values() {
        let pattern = r#"{"eventName":["INSERT","MODIFY"],"dynamodb":{"NewImage":{"status":{"S":["INIT"]}}}}"#;
        let record = |event: &str, status: &str| {
            format!(r#"{{"eventName":"{event}","dynamodb":{{"NewImage":{{"status":{{"S":"{status}"}},"more":1}}}}}}"#)
        };
        assert!(passes(pattern, &record("INSERT", "INIT")));
        assert!(passes(pattern, &record("MODIFY", "INIT")));
        assert!(!passes(pattern, &record("REMOVE", "INIT")));
        assert!(!passes(pattern, &record("MODIFY", "DONE")));
        assert!(!passes(pattern, r#"{"eventName":"INSERT","dynamodb":{}}"#));
    }

    #[test]
    fn one_of_several_patterns_is_enough() {
        let filter = Filter::parse(&[r#"{"a":[1]}"#, r#"{"b":[2]}"#]).unwrap();
        let passes = |record| filter.passes(serde_json::from_str(record).unwrap());
        assert!(passes(r#"{"b":2}"#) && passes(r#"{"a":1}"#) && !passes(r#"{"a":2,"b":1}"#));
    }

    #[test]
    fn each_test_of_a_value() {
        for (tests, passing, failing) in [
            (r#"["x",null,true]"#, r#""x""#, r#""X""#),
            (r#"["x",null,true]"#, "null", "false"),
            (r#"[{"equals-ignore-case":"aB"}]"#, r#""Ab""#, r#""a""#),
            (r#"[{"prefix":"ab"}]"#, r#""abc""#, r#""cab""#),
            (r#"[{"suffix":"bc"}]"#, r#""abc""#, "1"),
            (r#"[{"anything-but":["a",1]}]"#, "2", "1"),
            (r#"[{"anything-but":"a"}]"#, r#""b""#, r#""a""#),
            (r#"[{"exists":true}]"#, "1", "absent"),
            (r#"[{"exists":false}]"#, "absent", "1"),
            (r#"[{"numeric":[">",0,"<=",5]}]"#, "5", "0"),
            (r#"[{"numeric":["=",3]}]"#, "3", r#""3""#),
            (r#"[{"numeric":["<",1]}]"#, "0.5", "1"),
            (r#"[{"numeric":[">=",1]}]"#, "1", "0"),
            (r#"["a"]"#, r#"["b","a"]"#, r#"["b"]"#),
        ] {
            let record = |value: &str| if value == "absent" { "{}".to_owned() } else { format!(r#"{{"v":{value}}}"#) };
            let pattern = format!(r#"{{"v":{tests}}}"#);
            assert!(passes(&pattern, &record(passing)), "{tests} {passing}");
            assert!(!passes(&pattern, &record(failing)), "{tests} {failing}");
        }
    }

    #[test]
    fn one_object_of_or_is_enough() {
        let pattern = r#"{"c":[1],"$or":[{"a":[1]},{"b":[1]}]}"#;
        assert!(passes(pattern, r#"{"c":1,"b":1}"#));
        assert!(!passes(pattern, r#"{"c":1}"#) && !passes(pattern, r#"{"a":1}"#));
    }

    #[test]
    fn patterns_look_into_kinesis_data_and_message_bodies_as_json() {
        let data = BASE64_STANDARD.encode(r#"{"type":"x"}"#);
        let record = format!(r#"{{"kinesis":{{"partitionKey":"k","data":"{data}"}}}}"#);
        assert!(passes(r#"{"data":{"type":["x"]}}"#, &record));
        assert!(passes(r#"{"kinesis":{"partitionKey":["k"]}}"#, &record));
        let not_json = format!(r#"{{"kinesis":{{"data":"{}"}}}}"#, BASE64_STANDARD.encode("not JSON"));
        assert!(!passes(r#"{"data":{"type":["x"]}}"#, &not_json));
        assert!(passes(r#"{"body":{"type":["x"]}}"#, r#"{"body":"{\"type\":\"x\"}"}"#));
        assert!(!passes(r#"{"body":{"type":["x"]}}"#, r#"{"body":"not JSON"}"#));
    }

    #[test]
    fn an_invalid_pattern_is_named_with_its_problem() {
        for pattern in [
            "[]",
            "not JSON",
            r#"{"a":1}"#,
            r#"{"$or":[]}"#,
            r#"{"a":[{"like":"x"}]}"#,
            r#"{"a":[{"numeric":[">"]}]}"#,
            r#"{"a":[{"anything-but":{"prefix":"x"}}]}"#,
        ] {
            let error = Filter::parse(&[pattern]).unwrap_err().to_string();
            assert!(error.contains(pattern) && error.contains("is invalid"), "{error}");
        }
    }
}
