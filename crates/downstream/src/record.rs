//! One Kinesis record: its sequence number, its bytes, and the notification that they hold.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use notification::batch::isolate;
use notification::event::readable_id;
use notification::report::{Identifier, MissingIdentifier};
use notification::{Failure, Malformed, Notification, NotificationId, Text};
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::field::display;
use tracing::{Level, Span};

/// One record, read as far as it can be.
#[derive(Debug)]
pub struct Record {
    /// Its sequence number.
    pub sequence_number: Identifier,
    /// Its shard.
    pub shard: String,
    /// Its bytes.
    pub data: Vec<u8>,
    /// What they hold.
    pub content: Content,
}

/// What the bytes of a record hold.
#[derive(Debug)]
pub enum Content {
    /// A notification.
    Notification(Notification),
    /// No notification, or a malformed one.
    Malformed {
        /// Its id, where it can be read.
        id: Option<NotificationId>,
        /// What is wrong.
        failure: Failure,
    },
}

impl Content {
    /// The notification id, where it can be read.
    #[must_use]
    pub fn id(&self) -> Option<&NotificationId> {
        match self {
            Self::Notification(notification) => Some(notification.id()),
            Self::Malformed { id, .. } => id.as_ref(),
        }
    }
}

/// A record that holds a notification: what is to be done for it is worked out from here on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) record: &'a Record,
    pub(crate) notification: &'a Notification,
}

impl<'a> Task<'a> {
    /// The task of a record, if it holds a notification.
    pub(crate) fn of(record: &'a Record) -> Option<Self> {
        match &record.content {
            Content::Notification(notification) => Some(Self { record, notification }),
            Content::Malformed { .. } => None,
        }
    }

    pub(crate) fn id(&self) -> &'a NotificationId {
        self.notification.id()
    }

    pub(crate) fn subject(&self) -> Subject<'a> {
        Subject { id: self.notification.id(), event: self.notification.event() }
    }
}

/// What a record is about: the table must have exactly this event under this id, or the record is not the table's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) id: &'a NotificationId,
    pub(crate) event: &'a str,
}

/// A record as it comes. Only what is needed is read, so that nothing else can spoil it (e.g. a time in microseconds).
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
    /// [`MissingIdentifier`] where it has no sequence number.
    pub fn read(record: &RawValue) -> Result<Self, MissingIdentifier> {
        let Ok(wire) = serde_json::from_str::<Wire<'_>>(record.get()) else { return Self::unreadable(record) };
        let Ok(data) = BASE64_STANDARD.decode(&*wire.kinesis.data) else { return Self::unreadable(record) };
        let sequence_number = Identifier::parse(Some(&wire.kinesis.sequence_number))?;
        let content = isolate(|| Ok(content(&data))).unwrap_or_else(|failure| Content::Malformed { id: None, failure });
        Ok(Self::new(sequence_number, wire.event_id.as_deref(), data, content))
    }

    /// A record that does not have the shape of the stream, e.g. without base64: all of it is its bytes then.
    fn unreadable(record: &RawValue) -> Result<Self, MissingIdentifier> {
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
        let failure = Failure::permanent(Malformed::NotARecord.to_string());
        let content = Content::Malformed { id: None, failure };
        Ok(Self::new(sequence_number, event_id.as_deref(), record.get().as_bytes().to_vec(), content))
    }

    fn new(sequence_number: Identifier, event_id: Option<&str>, data: Vec<u8>, content: Content) -> Self {
        // The event id is "<shard>:<sequence number>".
        let shard =
            event_id.and_then(|event_id| event_id.split_once(':')).map_or("unknown", |(shard, _)| shard).to_owned();
        Self { sequence_number, shard, data, content }
    }

    /// What it is about, where its id can be read.
    pub(crate) fn subject(&self) -> Option<Subject<'_>> {
        Some(Subject { id: self.content.id()?, event: std::str::from_utf8(&self.data).ok()? })
    }

    /// A span with its identifiers, for what is logged of it. Most records need none.
    #[must_use]
    pub fn span(&self) -> Span {
        let id = self.content.id().map(display);
        tracing::error_span!("record", sequence_number = self.sequence_number.as_str(), shard = self.shard, id)
    }

    /// Logs what every good record would say, where that is wanted.
    pub(crate) fn debug(&self, what: &str) {
        if tracing::enabled!(Level::DEBUG) {
            self.span().in_scope(|| tracing::debug!("{what}"));
        }
    }
}

fn content(data: &[u8]) -> Content {
    let Ok(text) = std::str::from_utf8(data) else {
        return Content::Malformed { id: None, failure: Failure::permanent(Malformed::NotUtf8.to_string()) };
    };
    Notification::parse(text).map_or_else(
        |malformed| Content::Malformed { id: readable_id(text), failure: Failure::permanent(malformed.to_string()) },
        Content::Notification,
    )
}
