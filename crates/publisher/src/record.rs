//! One record of the table's stream: its sequence number, and the notification to publish if it became INIT.

use aws_lambda_events::dynamodb::EventRecord;
use notification::batch::isolate;
use notification::report::{Identifier, MissingIdentifier};
use notification::{Failure, Malformed, NotificationId, Status};
use serde::Deserialize;
use serde_dynamo::{AttributeValue, Item};
use serde_json::value::RawValue;
use tracing::Span;

/// One record, read as far as it can be.
#[derive(Debug)]
pub struct Record {
    /// Its sequence number.
    pub sequence_number: Identifier,
    /// What it says about a notification.
    pub image: Image,
    /// Its span, with its identifiers.
    pub span: Span,
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

impl Record {
    /// Reads one record of the batch.
    ///
    /// # Errors
    /// [`MissingIdentifier`] where it has no sequence number.
    pub fn read(record: &RawValue) -> Result<Self, MissingIdentifier> {
        let Ok(wire) = serde_json::from_str::<EventRecord>(record.get()) else { return Self::unreadable(record) };
        let sequence_number = Identifier::parse(wire.change.sequence_number.as_deref())?;
        let id = match wire.change.keys.inner().get("id") {
            Some(AttributeValue::S(id)) => Some(id.clone()),
            _ => None,
        };
        let image = isolate(|| image(&wire.event_name, wire.change.new_image, &wire.change.old_image))
            .unwrap_or_else(Image::Unpublishable);
        let span = tracing::error_span!("record", sequence_number = sequence_number.as_str(), id);
        Ok(Self { sequence_number, image, span })
    }

    /// A record that does not have the shape of the stream: it is passed, and named, if it has an identifier.
    fn unreadable(record: &RawValue) -> Result<Self, MissingIdentifier> {
        #[derive(Deserialize)]
        struct Identified {
            dynamodb: Change,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Change {
            sequence_number: Option<String>,
        }
        let identified: Option<Identified> = serde_json::from_str(record.get()).ok();
        let sequence_number = identified.and_then(|record| record.dynamodb.sequence_number);
        let sequence_number = Identifier::parse(sequence_number.as_deref())?;
        Ok(Self {
            span: tracing::error_span!("record", sequence_number = sequence_number.as_str()),
            sequence_number,
            image: Image::Unpublishable(Failure::permanent(Malformed::NotARecord.to_string())),
        })
    }
}

fn image(event_name: &str, new_image: Item, old_image: &Item) -> Result<Image, Failure> {
    let mut attributes = new_image.into_inner();
    let mut take = |name| match attributes.remove(name) {
        Some(AttributeValue::S(text)) => Some(text),
        _ => None,
    };
    // The event source mapping filters too; this is what holds where it does not.
    let became_init =
        matches!(event_name, "INSERT" | "MODIFY") && take("status").as_deref() == Some(Status::Init.as_str());
    // A claim that was given back comes again by Kinesis's own retries. Published as well, each retry would make one more
    // record, with retries of its own.
    let claimed = Some(Status::Claimed.as_str());
    let given_back =
        matches!(old_image.inner().get("status"), Some(AttributeValue::S(old)) if Some(old.as_str()) == claimed);
    if !became_init || given_back {
        return Ok(Image::Other);
    }
    let id = take("id").ok_or_else(|| Failure::permanent("the image has no id"))?;
    let id = NotificationId::parse(&id).map_err(|invalid| Failure::permanent(invalid.to_string()))?;
    match take("event").filter(|event| !event.is_empty()) {
        Some(event) => Ok(Image::Init { id, event }),
        None => Err(Failure::permanent(format!("the image of {id} has no event"))),
    }
}
