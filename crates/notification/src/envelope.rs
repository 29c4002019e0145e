//! The envelope that every event source sends: `{"Records": […]}`. The records stay raw JSON here, so that one which
//! cannot be read is that record's failure and not the batch's.

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
    /// Its `Records`, where they are an array.
    pub records: Option<Vec<Box<RawValue>>>,
    /// Its other members, unread. A batch has none.
    pub others: BTreeMap<String, Box<RawValue>>,
}

impl Payload {
    /// Reads an event, and refuses one of another shape by `refusal` alone: serde's own text would quote what it found, and
    /// the Lambda runtime answers and logs it.
    ///
    /// The bytes of a record are passed over once here; only then, and by itself, each is read.
    ///
    /// # Errors
    /// `refusal`, or where the first fault is, for what is no JSON.
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

/// Any JSON. It takes whatever comes, so that the only errors of reading it are those of JSON itself.
enum Shape {
    Object(Payload),
    Array(Vec<Box<RawValue>>),
    Null,
    /// A number, text, true or false; or an object whose `Records` are no array, or stand there twice.
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

/// Passes over the rest of an object: a fault of JSON in it goes before its shape.
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
    fn an_event_that_is_no_batch_is_refused_without_a_quote() {
        for event in [r#""secret""#, r#"{"Records":"secret"}"#, "{}", r#"{"Records":[],"Records":[]}"#, "null"] {
            let refusal = serde_json::from_str::<Envelope>(event).unwrap_err();
            assert_eq!(refusal.to_string(), NotABatch.to_string(), "{event}");
        }
        let refusal = serde_json::from_str::<Envelope>(r#"{"Records":["secret" 1]}"#).unwrap_err();
        assert_eq!(refusal.to_string(), "expected `,` or `]` at line 1 column 22");
    }
}
