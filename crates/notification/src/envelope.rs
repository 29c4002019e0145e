//! The envelope that every event source sends: `{"Records": […]}`. The records stay raw JSON here, so that one which
//! cannot be read is that record's failure and not the batch's.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A batch of records, each still unread.
#[derive(Debug)]
pub struct Envelope {
    /// The records in the order of the batch.
    pub records: Vec<Box<RawValue>>,
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Batch {
            #[serde(rename = "Records")]
            records: Vec<Box<RawValue>>,
        }
        let Batch { records } = unquoted(deserializer, NotABatch)?;
        Ok(Self { records })
    }
}

/// What a function was invoked with is no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event is no batch: it needs \"Records\", and an array there")]
pub struct NotABatch;

/// Reads an event, and refuses one of another shape by `refusal` alone: serde's own text would quote what it found, and
/// the Lambda runtime answers and logs it.
///
/// # Errors
/// `refusal`, or where the first fault is, for what is no JSON.
pub fn unquoted<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
    refusal: impl std::error::Error,
) -> Result<T, D::Error> {
    let event = <&RawValue>::deserialize(deserializer)?;
    serde_json::from_str(event.get()).map_err(|_| D::Error::custom(refusal))
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
