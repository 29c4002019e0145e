//! One SQS message: its identifier, its group, and the notification that it carries.

use aws_lambda_events::sqs::SqsMessage;
use notification::batch::isolate;
use notification::event::readable_id;
use notification::report::{Identifier, MissingIdentifier};
use notification::{Failure, Malformed, Notification};
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::Span;
use tracing::field::display;

/// One message, read as far as it can be.
#[derive(Debug)]
pub struct Message {
    /// Its `messageId`.
    pub message_id: Identifier,
    /// Its message group, in a FIFO queue. On a standard queue a group is for fairness and says nothing about order.
    pub fifo_group: Option<String>,
    /// How often it was received, this time included.
    pub receive_count: Option<u32>,
    /// Its notification, or why it has none.
    pub notification: Result<Notification, Failure>,
    /// Its span, with its identifiers.
    pub span: Span,
}

impl Message {
    /// Reads one record of the batch.
    ///
    /// # Errors
    /// [`MissingIdentifier`] where it has no `messageId`.
    pub fn read(record: &RawValue) -> Result<Self, MissingIdentifier> {
        let Ok(wire) = serde_json::from_str::<SqsMessage>(record.get()) else { return Self::unreadable(record) };
        let message_id = Identifier::parse(wire.message_id.as_deref())?;
        let mut malformed_id = None;
        let notification = isolate(|| {
            let body = wire.body.ok_or_else(|| Failure::permanent(Malformed::NoBody.to_string()))?;
            Notification::parse(body.as_str()).map_err(|malformed| {
                malformed_id = readable_id(&body);
                Failure::permanent(malformed.to_string())
            })
        });
        let id = notification.as_ref().ok().map(Notification::id).or(malformed_id.as_ref()).map(display);
        let span = tracing::error_span!("message", message_id = message_id.as_str(), id);
        // A queue's name, and so its ARN, ends in ".fifo" if and only if it is FIFO.
        let is_fifo = wire.event_source_arn.is_some_and(|arn| arn.rsplit('.').next() == Some("fifo"));
        let mut attributes = wire.attributes;
        Ok(Self {
            message_id,
            fifo_group: attributes.remove("MessageGroupId").filter(|_| is_fifo),
            receive_count: attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok()),
            notification,
            span,
        })
    }

    /// A record that does not have the shape of an SQS message: its failure can be reported if it has an identifier.
    fn unreadable(record: &RawValue) -> Result<Self, MissingIdentifier> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Identified {
            message_id: Option<String>,
        }
        let identified: Option<Identified> = serde_json::from_str(record.get()).ok();
        let message_id = Identifier::parse(identified.and_then(|record| record.message_id).as_deref())?;
        Ok(Self {
            span: tracing::error_span!("message", message_id = message_id.as_str()),
            message_id,
            fifo_group: None,
            receive_count: None,
            notification: Err(Failure::permanent(Malformed::NotARecord.to_string())),
        })
    }
}
