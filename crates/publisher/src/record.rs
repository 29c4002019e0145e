//! One record of the table stream: its sequence number, and the notification to publish if it became INIT.
//!
//! This is *change data capture*: publisher learns about a notification only from the change of its item.

use notification::batch::isolate;
use notification::report::{Identifier, MissingIdentifier};
use notification::{Failure, Malformed, NotificationId, Status, Text, Trace};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use tracing::{Level, Span};

/// One record, read as far as possible.
#[derive(Debug)]
pub struct Record {
    /// Its sequence number.
    pub sequence_number: Identifier,
    /// The change of a notification that it contains.
    pub image: Image,
    /// The key of an item whose image cannot be published, if it is text.
    key: Option<Box<str>>,
}

/// The new image of a record.
#[derive(Debug)]
pub enum Image {
    /// A notification became INIT and must be published.
    Init {
        /// Its id.
        id: NotificationId,
        /// Its event, byte for byte.
        event: String,
    },
    /// Any other change, such as a write of DONE or FAILED, or a deletion by TTL. There is nothing to do.
    Other,
    /// It should be published but cannot be.
    Unpublishable(Failure),
}

/// A record as Lambda sends it. Only the needed members are read, so no other can make it malformed or cost time.
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
    keys: Option<Key<'a>>,
    #[serde(borrow)]
    new_image: Option<NewImage<'a>>,
    #[serde(borrow)]
    old_image: Option<OldImage<'a>>,
}

#[derive(Deserialize)]
struct Key<'a> {
    #[serde(borrow)]
    id: Option<Attribute<'a>>,
}

/// The old image: its event is not read, because only its status matters.
#[derive(Deserialize, Default)]
struct OldImage<'a> {
    #[serde(borrow)]
    status: Option<Attribute<'a>>,
}

#[derive(Deserialize, Default)]
struct NewImage<'a> {
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
    /// [`MissingIdentifier`] if it has no sequence number.
    pub fn read(record: &RawValue) -> Result<Self, MissingIdentifier> {
        let Ok(wire) = serde_json::from_str::<Wire<'_>>(record.get()) else { return Self::of_another_shape(record) };
        let Change { sequence_number, keys, new_image, old_image } = wire.dynamodb;
        let sequence_number = Identifier::parse(sequence_number.as_deref())?;
        let image = isolate(|| image(&wire.event_name, new_image.unwrap_or_default(), old_image.unwrap_or_default()))
            .unwrap_or_else(Image::Unpublishable);
        let key = matches!(image, Image::Unpublishable(_)).then(|| text(keys?.id)).flatten().map(Into::into);
        Ok(Self { sequence_number, image, key })
    }

    /// A record that does not have the shape of the table stream's. It is passed and logged, if it has an identifier.
    fn of_another_shape(record: &RawValue) -> Result<Self, MissingIdentifier> {
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
        let image = Image::Unpublishable(Failure::from(&Malformed::NotARecord));
        Ok(Self { sequence_number, image, key: None })
    }

    /// A span with its identifiers, for its log lines. Most records have none.
    #[must_use]
    pub fn span(&self) -> Span {
        let (id, trace) = match &self.image {
            Image::Init { id, event } => (Some(id.as_str()), Trace::of(event)),
            Image::Other | Image::Unpublishable(_) => (self.key.as_deref(), None),
        };
        let trace_id = trace.as_ref().map(Trace::id);
        tracing::error_span!("record", sequence_number = self.sequence_number.as_str(), id, trace_id)
    }

    /// Logs at DEBUG, without the cost of a span where that level is off.
    pub(crate) fn debug(&self, what: &str) {
        if tracing::enabled!(Level::DEBUG) {
            self.span().in_scope(|| tracing::debug!("{what}"));
        }
    }
}

fn image(event_name: &str, new: NewImage<'_>, old: OldImage<'_>) -> Result<Image, Failure> {
    // The event source mapping has the same filter; this check does not rely on it.
    let became_init =
        matches!(event_name, "INSERT" | "MODIFY") && text(new.status).as_deref() == Some(Status::Init.as_str());
    // A released claim, or a call whose outcome is unknown, is retried by Kinesis itself. If it were published as well, each
    // retry would make one more record, with its own retries.
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
