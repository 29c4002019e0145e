//! One SQS message: its identifier, its group, and the notification that it carries.

use notification::batch::isolate;
use notification::event::Rejected;
use notification::report::{Identifier, MissingIdentifier};
use notification::{Failure, Malformed, Notification, NotificationId, Text, Trace};
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::field::display;
use tracing::{Level, Span};

/// One message, read as far as possible.
#[derive(Debug)]
pub struct Message {
    /// Its `messageId`.
    pub message_id: Identifier,
    /// Its message group, in a FIFO queue. On a standard queue, a group is for fairness and has no order.
    pub fifo_group: Option<String>,
    /// How often it has been received, including this time.
    pub receive_count: Option<u32>,
    /// Its notification, or why it has none.
    pub notification: Result<Notification, Failure>,
    /// What a malformed notification still says about itself.
    malformed: Readable,
}

/// The id and the trace of a malformed notification, if they can be read.
#[derive(Debug, Default)]
struct Readable {
    id: Option<NotificationId>,
    trace: Option<Trace>,
}

/// A message as Lambda sends it. Only the needed members are read, so no other can make it malformed or cost time.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow)]
    message_id: Option<Text<'a>>,
    body: Option<String>,
    #[serde(borrow)]
    attributes: Option<Attributes<'a>>,
    #[serde(borrow, rename = "eventSourceARN")]
    event_source_arn: Option<Text<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Attributes<'a> {
    #[serde(borrow)]
    message_group_id: Option<Text<'a>>,
    #[serde(borrow)]
    approximate_receive_count: Option<Text<'a>>,
}

/// The receipt handle of a message. Few messages fail, so it is read only then.
pub(crate) fn receipt_handle(record: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Received {
        receipt_handle: Option<String>,
    }
    serde_json::from_str::<Received>(record.get()).ok()?.receipt_handle.filter(|handle| !handle.is_empty())
}

impl Message {
    /// Reads one record of the batch.
    ///
    /// # Errors
    /// [`MissingIdentifier`] if it has no `messageId`.
    pub fn read(record: &RawValue) -> Result<Self, MissingIdentifier> {
        let Ok(wire) = serde_json::from_str::<Wire<'_>>(record.get()) else { return Self::of_another_shape(record) };
        let message_id = Identifier::parse(wire.message_id.as_deref())?;
        let mut malformed = Readable::default();
        let notification = isolate(|| {
            let body = wire.body.ok_or_else(|| Failure::from(&Malformed::NoBody))?;
            Notification::from_text(body).map_err(|Rejected { event, id, malformed: rule }| {
                malformed = Readable { id, trace: Trace::of(&event) };
                Failure::from(&rule)
            })
        });
        // A queue's name, and so its ARN, ends in ".fifo" if and only if it is FIFO.
        let is_fifo = wire.event_source_arn.is_some_and(|arn| arn.rsplit('.').next() == Some("fifo"));
        let Attributes { message_group_id, approximate_receive_count } = wire.attributes.unwrap_or_default();
        Ok(Self {
            message_id,
            fifo_group: message_group_id.filter(|_| is_fifo).map(|group| group.0.into_owned()),
            receive_count: approximate_receive_count.and_then(|count| count.parse().ok()),
            notification,
            malformed,
        })
    }

    /// A record that does not have the shape of an SQS message. Its failure can be reported if it has an identifier.
    fn of_another_shape(record: &RawValue) -> Result<Self, MissingIdentifier> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Identified {
            message_id: Option<String>,
        }
        let identified: Option<Identified> = serde_json::from_str(record.get()).ok();
        let message_id = Identifier::parse(identified.and_then(|record| record.message_id).as_deref())?;
        Ok(Self {
            message_id,
            fifo_group: None,
            receive_count: None,
            notification: Err(Failure::from(&Malformed::NotARecord)),
            malformed: Readable::default(),
        })
    }

    /// A span with its identifiers, for its log lines. Most messages have none.
    #[must_use]
    pub fn span(&self) -> Span {
        let of_notification = self.notification.as_ref().ok().and_then(|notification| Trace::of(notification.event()));
        let trace = of_notification.as_ref().or(self.malformed.trace.as_ref());
        let id = self.notification.as_ref().ok().map(Notification::id).or(self.malformed.id.as_ref()).map(display);
        tracing::error_span!("message", message_id = self.message_id.as_str(), id, trace_id = trace.map(Trace::id))
    }

    /// Logs at DEBUG, without the cost of a span where that level is off.
    pub(crate) fn debug(&self, what: &str) {
        if tracing::enabled!(Level::DEBUG) {
            self.span().in_scope(|| tracing::debug!("{what}"));
        }
    }
}
