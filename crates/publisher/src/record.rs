//! One record of the table's stream: its sequence number, and the notification to publish if it became INIT.

use notification::batch::isolate;
use notification::report::{Identifier, MissingIdentifier};
use notification::{Failure, Malformed, NotificationId, Status, Text};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use tracing::{Level, Span};

/// One record, read as far as it can be.
#[derive(Debug)]
pub struct Record {
    /// Its sequence number.
    pub sequence_number: Identifier,
    /// What it says about a notification.
    pub image: Image,
    /// The key of an item whose image cannot be published, where it is text.
    key: Option<Box<str>>,
}

/// The new image of a record.
#[derive(Debug)]
pub enum Image {
    /// A notification became INIT: it is to be published.
    Init {
        /// Its id.
        id: NotificationId,
        /// Its event, byte for byte.
        event: String,
    },
    /// Anything else that comes down the stream: DONE and FAILED writes, TTL removes. Nothing is to be done.
    Other,
    /// It should be published but cannot.
    Unpublishable(Failure),
}

/// A record as it comes. Only what is needed is read, so that nothing else can spoil it, nor costs anything.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, rename = "eventName")]
    event_name: Text<'a>,
    #[serde(borrow)]
    dynamodb: Change<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change<'a> {
    #[serde(borrow)]
    sequence_number: Option<Text<'a>>,
    #[serde(borrow)]
    keys: Option<Attributes<'a>>,
    #[serde(borrow)]
    new_image: Option<Attributes<'a>>,
    #[serde(borrow)]
    old_image: Option<Attributes<'a>>,
}

#[derive(Deserialize, Default)]
struct Attributes<'a> {
    #[serde(borrow)]
    id: Option<Attribute<'a>>,
    #[serde(borrow)]
    status: Option<Attribute<'a>>,
    #[serde(borrow)]
    event: Option<Attribute<'a>>,
}

/// The value of an attribute, if it is text.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html>
#[derive(Deserialize)]
struct Attribute<'a> {
    #[serde(borrow, rename = "S")]
    text: Option<Text<'a>>,
}

fn text(attribute: Option<Attribute<'_>>) -> Option<Cow<'_, str>> {
    attribute?.text.map(|text| text.0)
}

impl Record {
    /// Reads one record of the batch.
    ///
    /// # Errors
    /// [`MissingIdentifier`] where it has no sequence number.
    pub fn read(record: &RawValue) -> Result<Self, MissingIdentifier> {
        let Ok(wire) = serde_json::from_str::<Wire<'_>>(record.get()) else { return Self::unreadable(record) };
        let Change { sequence_number, keys, new_image, old_image } = wire.dynamodb;
        let sequence_number = Identifier::parse(sequence_number.as_deref())?;
        let image = isolate(|| image(&wire.event_name, new_image.unwrap_or_default(), old_image.unwrap_or_default()))
            .unwrap_or_else(Image::Unpublishable);
        let key = matches!(image, Image::Unpublishable(_)).then(|| text(keys?.id)).flatten().map(Into::into);
        Ok(Self { sequence_number, image, key })
    }

    /// A record that does not have the shape of the stream: it is passed, and named, if it has an identifier.
    fn unreadable(record: &RawValue) -> Result<Self, MissingIdentifier> {
        #[derive(Deserialize)]
        struct Identified {
            dynamodb: Sequenced,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Sequenced {
            sequence_number: Option<String>,
        }
        let identified: Option<Identified> = serde_json::from_str(record.get()).ok();
        let sequence_number = identified.and_then(|record| record.dynamodb.sequence_number);
        let sequence_number = Identifier::parse(sequence_number.as_deref())?;
        let image = Image::Unpublishable(Failure::permanent(Malformed::NotARecord.to_string()));
        Ok(Self { sequence_number, image, key: None })
    }

    /// A span with its identifiers, for what is logged of it. Most records need none.
    #[must_use]
    pub fn span(&self) -> Span {
        let id = match &self.image {
            Image::Init { id, .. } => Some(id.as_str()),
            Image::Other | Image::Unpublishable(_) => self.key.as_deref(),
        };
        tracing::error_span!("record", sequence_number = self.sequence_number.as_str(), id)
    }

    /// Logs what every good record would say, where that is wanted.
    pub(crate) fn debug(&self, what: &str) {
        if tracing::enabled!(Level::DEBUG) {
            self.span().in_scope(|| tracing::debug!("{what}"));
        }
    }
}

fn image(event_name: &str, new: Attributes<'_>, old: Attributes<'_>) -> Result<Image, Failure> {
    // The event source mapping filters too; this is what holds where it does not.
    let became_init =
        matches!(event_name, "INSERT" | "MODIFY") && text(new.status).as_deref() == Some(Status::Init.as_str());
    // A claim that was given back, or a call whose outcome is unknown, is retried by Kinesis itself. Published as well, each
    // retry would make one more record, with retries of its own.
    let was_pending = text(old.status).and_then(|status| status.parse().ok()).is_some_and(Status::is_pending);
    if !became_init || was_pending {
        return Ok(Image::Other);
    }
    let id = text(new.id).ok_or_else(|| Failure::permanent("the image has no id"))?;
    let id = NotificationId::parse(&id).map_err(|invalid| Failure::permanent(invalid.to_string()))?;
    match text(new.event).filter(|event| !event.is_empty()) {
        Some(event) => Ok(Image::Init { id, event: event.into_owned() }),
        None => Err(Failure::permanent(format!("the image of {id} has no event"))),
    }
}
