//! One Kinesis record: its sequence number, its bytes, and the notification in them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use notification::batch::isolate;
use notification::event::Rejected;
use notification::report::{Identifier, MissingIdentifier};
use notification::{Failure, Malformed, Notification, NotificationId, Text, Trace};
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::field::display;
use tracing::{Level, Span};

/// One record, read as far as possible.
#[derive(Debug)]
pub struct Record {
    /// Its sequence number.
    pub sequence_number: Identifier,
    /// Its shard.
    pub shard: String,
    /// The content of its bytes.
    pub content: Content,
}

/// The content of a record's bytes.
#[derive(Debug)]
pub enum Content {
    /// A notification.
    Notification(Notification),
    /// Anything else.
    Malformed {
        /// The bytes.
        bytes: Vec<u8>,
        /// Its id, if it can be read.
        id: Option<NotificationId>,
        /// The rule that it breaks.
        failure: Failure,
    },
}

/// The subject of a record: the table must have exactly this event under this id, or the record is an orphan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) id: &'a NotificationId,
    pub(crate) event: &'a str,
}

/// A record as Lambda sends it. Only the needed members are read, so no other can make it malformed, such as an unusual time.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    kinesis: Payload<'a>,
    #[serde(borrow, rename = "eventID")]
    event_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    #[serde(borrow)]
    sequence_number: Text<'a>,
    #[serde(borrow)]
    data: Text<'a>,
}

impl Record {
    /// Reads one record of the batch.
    ///
    /// # Errors
    /// [`MissingIdentifier`] if it has no sequence number.
    pub fn read(record: &RawValue) -> Result<Self, MissingIdentifier> {
        let Ok(wire) = serde_json::from_str::<Wire<'_>>(record.get()) else { return Self::of_another_shape(record) };
        let Ok(bytes) = BASE64_STANDARD.decode(&*wire.kinesis.data) else { return Self::of_another_shape(record) };
        let sequence_number = Identifier::parse(Some(&wire.kinesis.sequence_number))?;
        let content = isolate(|| Ok(Content::of(bytes))).unwrap_or_else(|failure| {
            let bytes = BASE64_STANDARD.decode(&*wire.kinesis.data).unwrap_or_default();
            Content::Malformed { bytes, id: None, failure }
        });
        Ok(Self::new(sequence_number, wire.event_id.as_deref(), content))
    }

    /// A record that does not have the shape of the stream's, without base64 for example: its bytes are all of it.
    fn of_another_shape(record: &RawValue) -> Result<Self, MissingIdentifier> {
        #[derive(Deserialize)]
        struct Identified {
            kinesis: Sequenced,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Sequenced {
            sequence_number: Option<String>,
        }
        #[derive(Deserialize)]
        struct Placed {
            #[serde(rename = "eventID")]
            event_id: Option<String>,
        }
        let identified: Identified = serde_json::from_str(record.get()).map_err(|_| MissingIdentifier)?;
        let sequence_number = Identifier::parse(identified.kinesis.sequence_number.as_deref())?;
        let event_id = serde_json::from_str::<Placed>(record.get()).ok().and_then(|placed| placed.event_id);
        let failure = Failure::from(&Malformed::NotARecord);
        let content = Content::Malformed { bytes: record.get().as_bytes().to_vec(), id: None, failure };
        Ok(Self::new(sequence_number, event_id.as_deref(), content))
    }

    fn new(sequence_number: Identifier, event_id: Option<&str>, content: Content) -> Self {
        // The event id is "<shard>:<sequence number>".
        let shard = event_id.and_then(|event_id| event_id.split_once(':')).map_or("unknown", |(shard, _)| shard);
        Self { sequence_number, shard: shard.to_owned(), content }
    }

    /// The notification id, if it can be read.
    #[must_use]
    pub fn id(&self) -> Option<&NotificationId> {
        match &self.content {
            Content::Notification(notification) => Some(notification.id()),
            Content::Malformed { id, .. } => id.as_ref(),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Notification(notification) => notification.event().as_bytes(),
            Content::Malformed { bytes, .. } => bytes,
        }
    }

    /// Its subject, if its id can be read.
    pub(crate) fn subject(&self) -> Option<Subject<'_>> {
        Some(Subject { id: self.id()?, event: std::str::from_utf8(self.bytes()).ok()? })
    }

    /// A span with its identifiers, for its log lines. Most records have none.
    #[must_use]
    pub fn span(&self) -> Span {
        let id = self.id().map(display);
        let trace = std::str::from_utf8(self.bytes()).ok().and_then(Trace::of);
        let trace_id = trace.as_ref().map(Trace::id);
        tracing::error_span!(
            "record",
            sequence_number = self.sequence_number.as_str(),
            shard = self.shard,
            id,
            trace_id
        )
    }

    /// Logs at DEBUG, without the cost of a span where that level is off.
    pub(crate) fn debug(&self, what: &str) {
        if tracing::enabled!(Level::DEBUG) {
            self.span().in_scope(|| tracing::debug!("{what}"));
        }
    }
}

impl Content {
    fn of(bytes: Vec<u8>) -> Self {
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => return Self::malformed(error.into_bytes(), None, &Malformed::NotUtf8),
        };
        match Notification::from_text(text) {
            Ok(notification) => Self::Notification(notification),
            Err(Rejected { event, id, malformed }) => Self::malformed(event.into_bytes(), id, &malformed),
        }
    }

    fn malformed(bytes: Vec<u8>, id: Option<NotificationId>, malformed: &Malformed) -> Self {
        Self::Malformed { bytes, id, failure: Failure::from(malformed) }
    }
}
