//! Bad input: arbitrary bytes, arbitrary JSON, and valid input with something wrong in it.

#![allow(dead_code, reason = "each crate's tests use a part of it")]

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;
use std::fmt;

/// A text in payloads that no refusal may contain.
pub(crate) const MARKER: &str = "s3cr3t-m4rk3r";

/// Few enough cases for every test run; the fuzz targets try many more. A failure prints its case. Write a test for it: no
/// regression file is written next to the code.
pub(crate) fn config() -> ProptestConfig {
    ProptestConfig { cases: 384, failure_persistence: None, ..ProptestConfig::default() }
}

/// Any JSON text, also what a [`Value`] cannot hold: duplicate names in an object, numbers beyond a float, half a surrogate
/// pair.
#[derive(Debug, Clone)]
pub(crate) enum Json {
    /// A scalar, as it is written.
    Leaf(String),
    /// An array.
    Array(Vec<Json>),
    /// An object, its members in order.
    Object(Vec<(String, Json)>),
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        match value {
            Value::Array(elements) => Self::Array(elements.iter().map(Self::from).collect()),
            Value::Object(members) => {
                Self::Object(members.iter().map(|(name, value)| (name.clone(), value.into())).collect())
            }
            leaf => Self::Leaf(leaf.to_string()),
        }
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = |index| if index == 0 { "" } else { "," };
        match self {
            Self::Leaf(text) => f.write_str(text),
            Self::Array(elements) => {
                f.write_str("[")?;
                for (index, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", separator(index))?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (index, (name, value)) in members.iter().enumerate() {
                    write!(f, "{}{}:{value}", separator(index), Value::from(name.as_str()))?;
                }
                f.write_str("}")
            }
        }
    }
}

/// One fault in a member of an object or an element of an array.
#[derive(Debug, Clone)]
enum Fault {
    Drop,
    Replace(Json),
    /// The name occurs twice, first with this value.
    Double(Json),
    Rename(String),
}

impl Json {
    /// Puts the fault into one of the members and elements, at any depth.
    fn spoil(&mut self, place: Index, fault: Fault) {
        let mut paths = Vec::new();
        self.paths(&mut Vec::new(), &mut paths);
        if paths.is_empty() {
            return;
        }
        let mut path = place.get(&paths).clone();
        let Some(last) = path.pop() else { return };
        let mut holder = self;
        for step in path {
            holder = match holder {
                Self::Leaf(_) => return,
                Self::Array(elements) => &mut elements[step],
                Self::Object(members) => &mut members[step].1,
            };
        }
        match (holder, fault) {
            (Self::Leaf(_), _) => {}
            (Self::Array(elements), Fault::Drop | Fault::Rename(_)) => drop(elements.remove(last)),
            (Self::Array(elements), Fault::Replace(value)) => elements[last] = value,
            (Self::Array(elements), Fault::Double(value)) => elements.insert(last, value),
            (Self::Object(members), Fault::Drop) => drop(members.remove(last)),
            (Self::Object(members), Fault::Replace(value)) => members[last].1 = value,
            (Self::Object(members), Fault::Double(value)) => members.insert(last, (members[last].0.clone(), value)),
            (Self::Object(members), Fault::Rename(name)) => members[last].0 = name,
        }
    }

    fn paths(&self, here: &mut Vec<usize>, paths: &mut Vec<Vec<usize>>) {
        let held: Vec<&Json> = match self {
            Self::Leaf(_) => vec![],
            Self::Array(elements) => elements.iter().collect(),
            Self::Object(members) => members.iter().map(|(_, value)| value).collect(),
        };
        for (step, value) in held.into_iter().enumerate() {
            here.push(step);
            paths.push(here.clone());
            value.paths(here, paths);
            here.pop();
        }
    }
}

/// Any JSON.
pub(crate) fn json() -> impl Strategy<Value = Json> {
    let odd = prop::sample::select(vec![
        "1e400",
        "-0.0",
        "1E+2",
        "18446744073709551616",
        "0.1234567890123456789",
        "1e99999999999999999999",
        r#""\ud800""#,
        r#""\u0000""#,
        r#""\u001b[2J""#,
        r#""kinesis:""#,
        r#""sweep:cursor""#,
        r#""AA==""#,
        "\"\"",
    ]);
    let text = |text: String| Json::Leaf(Value::from(text).to_string());
    let leaf = prop_oneof![
        2 => Just(Json::Leaf("null".to_owned())),
        2 => any::<bool>().prop_map(|value| Json::Leaf(value.to_string())),
        2 => any::<i64>().prop_map(|value| Json::Leaf(value.to_string())),
        2 => any::<f64>().prop_map(|value| Json::Leaf(Value::from(value).to_string())),
        3 => odd.prop_map(|value| Json::Leaf(value.to_owned())),
        3 => any::<String>().prop_map(text),
        2 => "[a-z]{0,8}".prop_map(move |around| text(format!("{around}{MARKER}{around}"))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            prop::collection::vec((name(), inner), 0..4).prop_map(Json::Object),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "id",
        "specversion",
        "source",
        "type",
        "subject",
        "datacontenttype",
        "dataschema",
        "time",
        "data",
        "data_base64",
        "messageId",
        "body",
        "attributes",
        "eventSourceARN",
        "dynamodb",
        "SequenceNumber",
        "Keys",
        "NewImage",
        "OldImage",
        "S",
        "N",
        "M",
        "L",
        "status",
        "event",
        "kinesis",
        "sequenceNumber",
        "eventID",
        "eventName",
        "Records",
        "sweep",
        MARKER,
    ]);
    prop_oneof![3 => known.prop_map(str::to_owned), 1 => any::<String>()]
}

/// Valid JSON with one to three faults.
pub(crate) fn spoiled(valid: &Value) -> impl Strategy<Value = String> + use<> {
    let valid = Json::from(valid);
    let fault = prop_oneof![
        2 => Just(Fault::Drop),
        3 => json().prop_map(Fault::Replace),
        1 => json().prop_map(Fault::Double),
        1 => name().prop_map(Fault::Rename),
    ];
    prop::collection::vec((any::<Index>(), fault), 1..4).prop_map(move |faults| {
        let mut json = valid.clone();
        for (place, fault) in faults {
            json.spoil(place, fault);
        }
        json.to_string()
    })
}

/// Any text: arbitrary, any JSON, spoiled, or spoiled and cut short.
pub(crate) fn text(valid: &Value) -> impl Strategy<Value = String> + use<> {
    prop_oneof![
        1 => any::<String>(),
        1 => json().prop_map(|json| json.to_string()),
        4 => spoiled(valid),
        1 => (spoiled(valid), any::<Index>()).prop_map(|(text, end)| text.chars().take(end.index(text.len() + 1)).collect()),
        1 => Just(valid.to_string()),
    ]
}

/// A batch of one record, or less often one with another fault.
pub(crate) fn batch<S: Strategy<Value = Value>>(record: S, valid: &Value) -> impl Strategy<Value = String> + use<S> {
    // A stricter reader reads one in four of the spoiled batches.
    (record, prop::option::weighted(0.4, spoiled(valid))).prop_map(|(record, spoiled)| {
        let spoiled = spoiled.map(|spoiled| serde_json::from_str(&spoiled).unwrap_or(Value::Null));
        let records: Vec<Value> = std::iter::once(record).chain(spoiled).collect();
        serde_json::json!({"Records": records}).to_string()
    })
}

/// Any bytes: arbitrary, or a text with some of its bytes replaced.
pub(crate) fn bytes(valid: &Value) -> impl Strategy<Value = Vec<u8>> + use<> {
    let replaced = (text(valid), prop::collection::vec((any::<Index>(), any::<u8>()), 0..4));
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..256),
        4 => replaced.prop_map(|(text, replacements)| {
            let mut bytes = text.into_bytes();
            for (place, byte) in replacements {
                if !bytes.is_empty() {
                    *place.get_mut(&mut bytes) = byte;
                }
            }
            bytes
        }),
    ]
}

/// A text with [`MARKER`] somewhere in it.
pub(crate) fn marked(text: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (text, any::<Index>()).prop_map(|(text, place)| {
        let before: String = text.chars().take(place.index(text.len() + 1)).collect();
        format!("{before}{MARKER}{}", &text[before.len()..])
    })
}
