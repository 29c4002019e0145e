//! The envelope that every event source sends: `{"Records": […]}`. Here the records stay raw JSON, so that a malformed record
//! fails alone and not its whole batch.

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

/// A batch of records, each still unread.
#[derive(Debug)]
pub struct Envelope {
    /// The records in the order of the batch.
    pub records: Vec<Box<RawValue>>,
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Payload { records, .. } = Payload::unquoted(deserializer, NotABatch)?;
        records.map(|records| Self { records }).ok_or_else(|| D::Error::custom(NotABatch))
    }
}

/// The payload of an invocation is not a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a batch: expected an object with a \"Records\" array")]
pub struct NotABatch;

/// The payload of an invocation: an object.
#[derive(Debug, Default)]
pub struct Payload {
    /// Its `Records`, if they are an array.
    pub records: Option<Vec<Box<RawValue>>>,
    /// Its other members, unread. A batch has none.
    pub others: BTreeMap<String, Box<RawValue>>,
}

impl Payload {
    /// Reads an invocation payload, and refuses any other shape with `refusal`: serde's own text would quote the payload, and
    /// the Lambda runtime returns and logs it.
    ///
    /// The bytes of a record are only skipped here; each record is parsed on its own later.
    ///
    /// # Errors
    /// `refusal`, or the position of the first error if the payload is not JSON.
    pub fn unquoted<'de, D: Deserializer<'de>>(
        deserializer: D,
        refusal: impl std::error::Error,
    ) -> Result<Self, D::Error> {
        match Shape::deserialize(deserializer)? {
            Shape::Object(payload) => Ok(payload),
            Shape::Array(_) | Shape::Null | Shape::Other => Err(D::Error::custom(refusal)),
        }
    }
}

/// Any JSON. It accepts every shape, so that only invalid JSON is an error.
enum Shape {
    Object(Payload),
    Array(Vec<Box<RawValue>>),
    Null,
    /// Anything else: a scalar, or an object whose `Records` are not an array or occur twice.
    Other,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Shape, A::Error> {
        let mut event = Payload::default();
        let mut has_records = false;
        while let Some(name) = members.next_key::<String>()? {
            if name != "Records" {
                event.others.insert(name, members.next_value()?);
                continue;
            }
            let is_first = !std::mem::replace(&mut has_records, true);
            match members.next_value()? {
                Shape::Array(records) if is_first => event.records = Some(records),
                Shape::Null if is_first => {}
                _ => return other(members),
            }
        }
        Ok(Shape::Object(event))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Shape, A::Error> {
        let mut records = Vec::new();
        while let Some(record) = elements.next_element()? {
            records.push(record);
        }
        Ok(Shape::Array(records))
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Other)
    }
}

/// Skips the rest of an object: invalid JSON in it is reported before the wrong shape.
fn other<'de, A: MapAccess<'de>>(mut members: A) -> Result<Shape, A::Error> {
    while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(Shape::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_4_a_record_of_any_shape_leaves_the_others_readable() {
        let envelope: Envelope = serde_json::from_str(r#"{"Records":[{"a":1},null,"x"]}"#).unwrap();
        let records: Vec<_> = envelope.records.iter().map(|record| record.get()).collect();
        assert_eq!(records, [r#"{"a":1}"#, "null", "\"x\""]);
    }

    #[test]
    fn a_payload_that_is_not_a_batch_is_refused_without_a_quote() {
        let twice = [r#"{"Records":[],"Records":[]}"#, r#"{"Records":[],"Records":null}"#];
        for event in [r#""secret""#, r#"{"Records":"secret"}"#, "{}", "null"].into_iter().chain(twice) {
            let refusal = serde_json::from_str::<Envelope>(event).unwrap_err();
            assert_eq!(refusal.to_string(), NotABatch.to_string(), "{event}");
        }
        let refusal = serde_json::from_str::<Envelope>(r#"{"Records":["secret" 1]}"#).unwrap_err();
        assert_eq!(refusal.to_string(), "expected `,` or `]` at line 1 column 22");
    }

    #[test]
    fn records_that_are_null_are_absent() {
        let mut payload = serde_json::Deserializer::from_str(r#"{"Records":null,"a":1}"#);
        let payload = Payload::unquoted(&mut payload, NotABatch).unwrap();
        assert!(payload.records.is_none());
        assert_eq!(payload.others.keys().collect::<Vec<_>>(), ["a"]);
    }
}
