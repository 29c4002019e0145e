//! A notification: one CloudEvents 1.0 event in the JSON format, validated, and stored byte for byte as it was received.
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>

use crate::failure::Failure;
use crate::id::{InvalidId, NotificationId};
use crate::reason::ReasonCode;
use crate::{format, limits, text};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::ops::Range;

/// One valid CloudEvents event.
#[derive(Debug, Clone)]
pub struct Notification {
    id: NotificationId,
    source: Box<str>,
    event_type: Box<str>,
    event: String,
    /// Where `data` is in the event.
    data: Option<Range<usize>>,
}

/// An event that is not a valid notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The event as it was received.
    pub event: String,
    /// Its id, if that can be read.
    pub id: Option<NotificationId>,
    /// The first rule that it breaks.
    pub malformed: Malformed,
}

impl Notification {
    /// Validates an event from outside: the attributes that CloudEvents defines, by its rules. An attribute that is `null` is
    /// absent. `source` and `dataschema` may be any text, because nothing here resolves them and some producers send names that
    /// are not URIs. Extension attributes are not read.
    ///
    /// # Errors
    /// [`Malformed`] names the first rule that the event breaks. It never quotes a value: payloads are not logged.
    pub fn parse(event: impl Into<String>) -> Result<Self, Malformed> {
        Self::from_text(event.into()).map_err(|rejected| rejected.malformed)
    }

    /// Like [`Self::parse`], without a copy of the event. A rejected event is returned with its id.
    ///
    /// # Errors
    /// [`Rejected`] holds the event and the first rule that it breaks.
    pub fn from_text(event: String) -> Result<Self, Rejected> {
        let attributes = match Attributes::parse(&event) {
            Ok(attributes) => attributes,
            Err(malformed) => return Err(Rejected { event, id: None, malformed }),
        };
        let Checked { id, source, event_type, data } = match attributes.check(&event) {
            Ok(checked) => checked,
            Err(malformed) => {
                let id = attributes.notification_id().ok();
                return Err(Rejected { event, id, malformed });
            }
        };
        let notification = Self { id, source, event_type, event, data };
        let (bytes, max) = (notification.item_bytes(), limits::ITEM_MAX_BYTES - limits::ITEM_RESERVED_BYTES);
        if bytes <= max {
            return Ok(notification);
        }
        let Self { id, event, .. } = notification;
        Err(Rejected { event, id: Some(id), malformed: Malformed::TooLarge { bytes, max } })
    }

    /// The CloudEvents `id`.
    #[must_use]
    pub fn id(&self) -> &NotificationId {
        &self.id
    }

    /// The CloudEvents `source`.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The CloudEvents `type`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// The event as it was received, byte for byte.
    #[must_use]
    pub fn event(&self) -> &str {
        &self.event
    }

    /// The CloudEvents `data` as the original JSON text; `None` if the event has no `data`.
    #[must_use]
    pub fn data(&self) -> Option<&str> {
        self.event.get(self.data.clone()?)
    }

    /// Size of the table item in bytes: the UTF-8 lengths of its attribute names and values.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>
    #[must_use]
    pub fn item_bytes(&self) -> usize {
        const TIME: usize = "2026-11-22T10:00:00.000Z".len();
        const NUMBER: usize = limits::NUMBER_MAX_BYTES;
        let names = ["id", "status", "event", "source", "type", "received_at", "pending_since", "pending_shard"];
        names.iter().map(|name| name.len()).sum::<usize>()
            + self.id.as_str().len()
            + "INIT".len()
            + self.event.len()
            + self.source.len()
            + self.event_type.len()
            + 2 * TIME
            + NUMBER
    }
}

/// The id of a malformed event, if it can be read.
#[must_use]
pub fn readable_id(event: &str) -> Option<NotificationId> {
    Attributes::parse(event).ok()?.notification_id().ok()
}

/// The rule that an event breaks. Every one is a permanent failure: the same bytes will never be valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes are not JSON.
    #[error("not valid JSON at line {line}, column {column}")]
    NotJson {
        /// Line of the first error, from 1.
        line: usize,
        /// Column of the first error, from 1.
        column: usize,
    },
    /// The bytes are not UTF-8 text.
    #[error("not valid UTF-8")]
    NotUtf8,
    /// The message has no body at all.
    #[error("the message has no body")]
    NoBody,
    /// The record does not have the shape that its event source documents.
    #[error("the record does not have the shape of its event source")]
    NotARecord,
    /// JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// An attribute occurs twice in the object, so two readers could read two different events.
    #[error("an attribute occurs twice")]
    AttributeTwice,
    /// A required attribute is missing.
    #[error("the attribute \"{attribute}\" is missing")]
    Missing {
        /// Its name.
        attribute: &'static str,
    },
    /// An attribute that must be a string is not one.
    #[error("the attribute \"{attribute}\" is not a string")]
    NotAString {
        /// Its name.
        attribute: &'static str,
    },
    /// An attribute is the empty string.
    #[error("the attribute \"{attribute}\" is empty")]
    Empty {
        /// Its name.
        attribute: &'static str,
    },
    /// An attribute has a character that CloudEvents forbids in strings: it could manipulate an operator's terminal.
    #[error("the attribute \"{attribute}\" has a control character or a noncharacter")]
    ForbiddenCharacter {
        /// Its name.
        attribute: &'static str,
    },
    /// `specversion` is not the version that this service reads.
    #[error("the attribute \"specversion\" is not \"1.0\"")]
    SpecVersion,
    /// `time` is not RFC 3339.
    #[error("the attribute \"time\" is not an RFC 3339 timestamp")]
    Time,
    /// `datacontenttype` is not a media type.
    #[error("the attribute \"datacontenttype\" is not a media type such as \"application/json\"")]
    ContentType,
    /// `data_base64` is not base64.
    #[error("\"data_base64\" is not base64")]
    Base64,
    /// `data` and `data_base64` exclude each other.
    #[error("the event has both \"data\" and \"data_base64\"")]
    TwoPayloads,
    /// The id cannot serve as a key.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// The table item would be larger than DynamoDB allows.
    #[error("the item would have {bytes} bytes; at most {max} are allowed")]
    TooLarge {
        /// How many it would have.
        bytes: usize,
        /// How many it may have.
        max: usize,
    },
}

/// The members that CloudEvents defines, as raw JSON; no others are read. A member that is `null` is absent, except for `data`,
/// where `null` is a payload.
/// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md#22-type-system-mapping>
#[derive(Deserialize)]
pub(crate) struct Attributes<'a> {
    #[serde(borrow)]
    specversion: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) source: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    pub(crate) event_type: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) subject: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) datacontenttype: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) dataschema: Option<&'a RawValue>,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "keep_null")]
    pub(crate) data: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) data_base64: Option<&'a RawValue>,
}

impl From<&Malformed> for Failure {
    fn from(malformed: &Malformed) -> Self {
        Self::permanent(malformed.to_string()).with_code(ReasonCode::Malformed)
    }
}

impl<'a> Attributes<'a> {
    pub(crate) fn parse(event: &'a str) -> Result<Self, Malformed> {
        // serde_json's own text may quote the payload, so only its category and position are used.
        let not_json = |error: serde_json::Error| Malformed::NotJson { line: error.line(), column: error.column() };
        if !event.trim_start().starts_with('{') {
            // serde would also read a struct from an array.
            serde_json::from_str::<serde::de::IgnoredAny>(event).map_err(not_json)?;
            return Err(Malformed::NotAnObject);
        }
        serde_json::from_str(event).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Malformed::AttributeTwice,
            _ => not_json(error),
        })
    }
}

/// The attributes that a notification stores.
struct Checked {
    id: NotificationId,
    source: Box<str>,
    event_type: Box<str>,
    data: Option<Range<usize>>,
}

impl Attributes<'_> {
    fn notification_id(&self) -> Result<NotificationId, Malformed> {
        Ok(NotificationId::parse(&string("id", present("id", self.id)?)?)?)
    }

    /// Checks all attributes.
    fn check(&self, event: &str) -> Result<Checked, Malformed> {
        if &*required("specversion", self.specversion)? != "1.0" {
            return Err(Malformed::SpecVersion);
        }
        let id = self.notification_id()?;
        let source = required("source", self.source)?.into();
        let event_type = required("type", self.event_type)?.into();
        optional("subject", self.subject)?;
        optional("dataschema", self.dataschema)?;
        if optional("datacontenttype", self.datacontenttype)?.is_some_and(|text| !format::is_content_type(&text)) {
            return Err(Malformed::ContentType);
        }
        if let Some(time) = self.time
            && !format::is_date_time(&string("time", time)?)
        {
            return Err(Malformed::Time);
        }
        if let Some(data) = self.data_base64
            && !format::is_base64(&string("data_base64", data)?)
        {
            return Err(Malformed::Base64);
        }
        if self.data.is_some() && self.data_base64.is_some() {
            return Err(Malformed::TwoPayloads);
        }
        Ok(Checked { id, source, event_type, data: self.data.map(|data| place_of(data.get(), event)) })
    }
}

/// The range of a text that a part of it occupies.
fn place_of(part: &str, text: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    start..start + part.len()
}

fn keep_null<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

fn present<'a>(attribute: &'static str, raw: Option<&'a RawValue>) -> Result<&'a RawValue, Malformed> {
    raw.ok_or(Malformed::Missing { attribute })
}

fn string<'a>(attribute: &'static str, raw: &'a RawValue) -> Result<Cow<'a, str>, Malformed> {
    text::decoded(raw.get()).ok_or(Malformed::NotAString { attribute })
}

fn required<'a>(attribute: &'static str, raw: Option<&'a RawValue>) -> Result<Cow<'a, str>, Malformed> {
    checked(attribute, present(attribute, raw)?)
}

fn optional<'a>(attribute: &'static str, raw: Option<&'a RawValue>) -> Result<Option<Cow<'a, str>>, Malformed> {
    raw.map(|raw| checked(attribute, raw)).transpose()
}

fn checked<'a>(attribute: &'static str, raw: &'a RawValue) -> Result<Cow<'a, str>, Malformed> {
    let text = string(attribute, raw)?;
    if text.is_empty() {
        return Err(Malformed::Empty { attribute });
    }
    if text::has_forbidden(&text) {
        return Err(Malformed::ForbiddenCharacter { attribute });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALID: &str = r#"{"specversion":"1.0","id":"rfd-1","source":"urn:s","type":"t","time":"2026-11-22T10:00:00Z","data":{"b":1.10,"a":2}}"#;

    fn check(event: &str, expected: &Malformed) {
        assert_eq!(Notification::parse(event).unwrap_err(), *expected, "{event}");
    }

    #[test]
    fn an_event_is_stored_byte_for_byte() {
        let spaced = VALID.replace(',', " ,\n ");
        let notification = Notification::parse(spaced.as_str()).unwrap();
        assert_eq!(notification.event(), spaced);
        assert_eq!(notification.id().as_str(), "rfd-1");
        assert_eq!(notification.source(), "urn:s");
        assert_eq!(notification.event_type(), "t");
        assert_eq!(Notification::parse(VALID).unwrap().data(), Some(r#"{"b":1.10,"a":2}"#));
    }

    #[test]
    fn each_broken_rule_has_its_own_error() {
        check("", &Malformed::NotJson { line: 1, column: 0 });
        check(r#"{"id":"#, &Malformed::NotJson { line: 1, column: 6 });
        check("[]", &Malformed::NotAnObject);
        check(r#"["1.0","rfd-1","urn:s","t"]"#, &Malformed::NotAnObject);
        check("7", &Malformed::NotAnObject);
        check(&VALID.replace("\"source\":\"urn:s\",", ""), &Malformed::Missing { attribute: "source" });
        check(&VALID.replace("\"urn:s\"", "5"), &Malformed::NotAString { attribute: "source" });
        check(&VALID.replace("\"urn:s\"", "null"), &Malformed::Missing { attribute: "source" });
        check(&VALID.replace("\"t\",", "\"\","), &Malformed::Empty { attribute: "type" });
        check(&VALID.replace("\"t\",", "\"\\u001b[2J\","), &Malformed::ForbiddenCharacter { attribute: "type" });
        check(&VALID.replace("\"1.0\"", "\"0.3\""), &Malformed::SpecVersion);
        check(&VALID.replace("2026-11-22T", "22.11.2026 "), &Malformed::Time);
        check(&VALID.replace("\"data\":", "\"data_base64\":\"\",\"data\":"), &Malformed::TwoPayloads);
        check(&VALID.replace("\"rfd-1\"", "\"\""), &Malformed::Id(InvalidId::Empty));
        check(&VALID.replace("\"type\":", "\"id\":\"other\",\"type\":"), &Malformed::AttributeTwice);
    }

    #[test]
    fn rule_11_a_notification_above_the_item_limit_is_refused_and_one_at_the_limit_is_not() {
        let event = |padding: usize| VALID.replace("1.10", &format!("\"{}\"", "x".repeat(padding)));
        let max = limits::ITEM_MAX_BYTES - limits::ITEM_RESERVED_BYTES;
        let overhead = Notification::parse(event(0)).unwrap().item_bytes();
        assert_eq!(Notification::parse(event(max - overhead)).unwrap().item_bytes(), max);
        check(&event(max - overhead + 1), &Malformed::TooLarge { bytes: max + 1, max });
    }

    #[test]
    fn the_size_of_an_item_is_that_of_its_names_and_values() {
        let names = "id status event source type received_at pending_since pending_shard".replace(' ', "").len();
        let (status, times, number) = (4, 2 * 24, 21);
        let values = VALID.len() + "rfd-1".len() + "urn:s".len() + "t".len() + status + times + number;
        assert_eq!(Notification::parse(VALID).unwrap().item_bytes(), names + values);
    }

    #[test]
    fn no_error_quotes_the_payload() {
        for event in [
            r#"{"id":"secret" "#,
            r#""secret""#,
            r#"{"id":["secret"]}"#,
            r#"{"a":1,"id":"kinesis:secret","specversion":"1.0"}"#,
        ] {
            let error = Notification::parse(event).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_id_of_a_malformed_event_is_returned_if_it_can_be_read() {
        assert_eq!(readable_id(r#"{"id":"a"}"#).unwrap().as_str(), "a");
        assert_eq!(readable_id(r#"{"id":7}"#), None);
        assert_eq!(readable_id("no json"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_without_a_panic(text in any::<String>()) {
            let _ = Notification::parse(text.as_str());
            let _ = readable_id(&text);
        }

        #[test]
        fn a_parsed_event_has_the_written_attributes(id in "[a-zA-Z0-9/_.~ üß\"\\\\-]{1,64}", source in "\\PC{1,40}", kind in "\\PC{1,40}") {
            let event = serde_json::json!({"specversion": "1.0", "id": id, "source": source, "type": kind}).to_string();
            let parsed = Notification::parse(event.as_str()).unwrap();
            prop_assert_eq!(parsed.id().as_str(), id);
            prop_assert_eq!(parsed.source(), source);
            prop_assert_eq!(parsed.event_type(), kind);
        }
    }
}
