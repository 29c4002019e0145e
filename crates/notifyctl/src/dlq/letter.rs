//! One dead letter: when it was sent, and why it is one.

use crate::error::Error;
use crate::stack::Stack;
use crate::stack::items::{self, Item};
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use clap::ValueEnum;
use notification::event::readable_id;
use notification::{Notification, NotificationId, Status, Timestamp, content};
use serde::Serialize;
use std::collections::HashSet;
use std::fmt;

/// The message attribute with the time when a redriven message was first sent, in milliseconds since the Unix epoch. For SQS,
/// it is a new message.
pub(super) const FIRST_SENT_AT: &str = "first_sent_at";

/// Why a message was refused six times, as far as the message and the table show it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// Its event is not valid
    Malformed,
    /// The table has a different event with the same id
    Conflict,
    /// The table has its event: it was accepted after all, or sent twice
    Duplicate,
    /// The table does not have its id: it would be accepted now
    Good,
}

impl Reason {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Conflict => "conflict",
            Self::Duplicate => "duplicate",
            Self::Good => "good",
        }
    }

    pub(super) const fn what_to_do(self) -> &'static str {
        match self {
            Self::Malformed => "have upstream send a valid event, under the same id; then discard this message",
            Self::Conflict => {
                "upstream used one id for two events: have it send this one under a new id; then discard this message"
            }
            Self::Duplicate => "nothing is missing; discard this message",
            Self::Good => {
                "the table could not be written, or ingest died or was throttled: when that is fixed, redrive this message"
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A message of the dead-letter queue.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(super) message: Message,
    /// Its notification id, if that can be read.
    pub(super) id: Option<NotificationId>,
    pub(crate) reason: Reason,
    /// What shows the reason. It never quotes the event.
    pub(crate) why: String,
}

impl Letter {
    pub(crate) fn message_id(&self) -> &str {
        message_id(&self.message)
    }

    pub(super) fn body(&self) -> &str {
        self.message.body().unwrap_or_default()
    }

    /// When it was first sent, by its attribute or by SQS, whichever is earlier. `None` if SQS does not say when it was sent,
    /// or the attribute is not a time.
    pub(crate) fn first_sent_at(&self) -> Option<Timestamp> {
        let sent = self.sent_at()?;
        match self.message.message_attributes().and_then(|attributes| attributes.get(FIRST_SENT_AT)) {
            None => Some(sent),
            Some(carried) => Some(millis(carried.string_value()?)?.min(sent)),
        }
    }

    /// When it was sent, by SQS; for a redriven message, that is when it was redriven.
    pub(crate) fn sent_at(&self) -> Option<Timestamp> {
        millis(self.system_attribute(&MessageSystemAttributeName::SentTimestamp)?)
    }

    /// How often it was received, from the dead-letter queue as well.
    pub(crate) fn receives(&self) -> Option<u32> {
        self.system_attribute(&MessageSystemAttributeName::ApproximateReceiveCount)?.parse().ok()
    }

    pub(super) fn system_attribute(&self, name: &MessageSystemAttributeName) -> Option<&str> {
        self.message.attributes()?.get(name).map(String::as_str)
    }
}

pub(super) fn message_id(message: &Message) -> &str {
    message.message_id().unwrap_or_default()
}

fn millis(text: &str) -> Option<Timestamp> {
    Timestamp::from_millisecond(text.parse().ok()?).ok()
}

/// Decides why each of these messages is a dead letter: by the parser that ingest uses, and by the table.
pub(super) async fn judge(stack: &Stack, messages: Vec<Message>) -> Result<Vec<Letter>, Error> {
    let parsed = |message: &Message| Notification::parse(message.body().unwrap_or_default());
    let ids: HashSet<NotificationId> =
        messages.iter().filter_map(|message| Some(parsed(message).ok()?.id().clone())).collect();
    let table = items::read(stack, &ids.into_iter().collect::<Vec<_>>()).await?;
    Ok(messages.into_iter().map(|message| letter(message, |id| table.get(id.as_str()))).collect())
}

/// Decides why a message is a dead letter, given the items of the table.
fn letter<'a>(message: Message, item: impl Fn(&NotificationId) -> Option<&'a Item>) -> Letter {
    let body = message.body().unwrap_or_default();
    let (id, reason, why) = match Notification::parse(body) {
        Err(malformed) => (readable_id(body), Reason::Malformed, malformed.to_string()),
        Ok(notification) => {
            let (reason, why) = compare(&notification, item(notification.id()));
            (Some(notification.id().clone()), reason, why)
        }
    };
    Letter { message, id, reason, why }
}

fn compare(notification: &Notification, item: Option<&Item>) -> (Reason, String) {
    let Some(item) = item else { return (Reason::Good, "the table does not have this id".to_owned()) };
    let status = item.status.map_or("without a known status", Status::as_str);
    if content::same(notification.event(), &item.event) {
        (Reason::Duplicate, format!("the table has this event ({status})"))
    } else {
        (Reason::Conflict, format!("the table has a different event with this id ({status})"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use aws_sdk_sqs::types::MessageAttributeValue;

    pub(crate) const EVENT: &str =
        r#"{"specversion":"1.0","id":"a","source":"s","type":"t","time":"2026-11-22T10:00:00Z","data":{"n":1}}"#;

    /// A message that was sent at this second, with this attribute `first_sent_at`.
    pub(crate) fn message(sent: i64, carried: Option<&str>) -> Message {
        let message = Message::builder()
            .message_id("m")
            .receipt_handle("r")
            .body(EVENT)
            .attributes(MessageSystemAttributeName::SentTimestamp, (sent * 1000).to_string());
        let carried = carried
            .map(|millis| MessageAttributeValue::builder().data_type("Number").string_value(millis).build().unwrap());
        match carried {
            Some(carried) => message.message_attributes(FIRST_SENT_AT, carried).build(),
            None => message.build(),
        }
    }

    pub(crate) fn letter_of(message: Message) -> Letter {
        letter(message, |_| None)
    }

    fn judged(body: &str, event: Option<&str>) -> (Reason, String) {
        let item = event.map(|event| Item { status: Some(Status::Done), event: event.into(), ..Item::default() });
        let letter = letter(Message::builder().body(body).build(), |_| item.as_ref());
        (letter.reason, letter.why)
    }

    #[test]
    fn the_reason_is_that_of_ingests_parser_and_of_the_comparison_with_the_table() {
        let other = EVENT.replace("\"n\":1", "\"n\":2");
        let later = EVENT.replace("10:00:00Z", "11:00:00Z");
        for (body, item, reason, why) in [
            ("no JSON", None, Reason::Malformed, "not valid JSON at line 1, column 2"),
            (EVENT, None, Reason::Good, "the table does not have this id"),
            (EVENT, Some(EVENT), Reason::Duplicate, "the table has this event (DONE)"),
            (EVENT, Some(later.as_str()), Reason::Duplicate, "the table has this event (DONE)"),
            (EVENT, Some(other.as_str()), Reason::Conflict, "the table has a different event with this id (DONE)"),
            // An item without an event.
            (EVENT, Some(""), Reason::Conflict, "the table has a different event with this id (DONE)"),
        ] {
            assert_eq!(judged(body, item), (reason, why.to_owned()), "{body}");
        }
    }

    #[test]
    fn a_malformed_event_has_its_id_if_that_can_be_read_and_is_not_quoted() {
        let body = EVENT.replace("\"specversion\":\"1.0\",", "").replace("\"n\":1", "\"secret\":1");
        let letter = letter_of(Message::builder().body(body).build());
        assert_eq!(letter.id.map(|id| id.to_string()).as_deref(), Some("a"));
        assert_eq!((letter.reason, letter.why.contains("secret")), (Reason::Malformed, false));
    }

    #[test]
    fn a_message_that_was_redriven_before_counts_from_its_first_sending() {
        let first_sent = |sent, carried| letter_of(message(sent, carried)).first_sent_at();
        assert_eq!(first_sent(7, None), Timestamp::from_second(7).ok());
        assert_eq!(first_sent(7, Some("5000")), Timestamp::from_second(5).ok());
        // If upstream sets the attribute, it cannot make a message younger.
        assert_eq!(first_sent(7, Some("9000")), Timestamp::from_second(7).ok());
        for no_time in ["", "yesterday", "99999999999999999999"] {
            assert_eq!(first_sent(7, Some(no_time)), None, "{no_time}");
            assert_eq!(letter_of(message(7, Some(no_time))).sent_at(), Timestamp::from_second(7).ok(), "{no_time}");
        }
        assert_eq!(letter_of(Message::builder().message_id("m").build()).first_sent_at(), None);
    }
}
