//! The envelope that every event source sends: `{"Records": […]}`. The records stay raw JSON here, so that one which
//! cannot be read is that record's failure and not the batch's.

use serde::Deserialize;
use serde_json::value::RawValue;

/// A batch of records, each still unread.
#[derive(Debug, Deserialize)]
pub struct Envelope {
    /// The records in the order of the batch.
    #[serde(rename = "Records")]
    pub records: Vec<Box<RawValue>>,
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
}
