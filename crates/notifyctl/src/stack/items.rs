//! Items of the table, as far as the tool needs them.

use crate::error::Error;
use crate::stack::Stack;
use aws::SystemClock;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use notification::{Clock, NotificationId, ReasonCode, Status, Timestamp, backoff, limits};
use std::collections::HashMap;

/// One item of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Item {
    /// `None` if it has no known status.
    pub(crate) status: Option<Status>,
    /// Its event; empty if it has none.
    pub(crate) event: Box<str>,
    /// When ingest accepted it.
    pub(crate) received_at: Option<Timestamp>,
    /// When it became DONE, in the text of the item and of its stream record.
    pub(crate) done_at: Option<String>,
}

impl Item {
    /// When it became DONE.
    pub(crate) fn done_time(&self) -> Option<Timestamp> {
        self.done_at.as_ref()?.parse().ok()
    }

    fn of(attributes: &HashMap<String, AttributeValue>) -> Self {
        Self {
            status: status(attributes),
            event: text(attributes, "event").unwrap_or_default().into(),
            received_at: text(attributes, "received_at").and_then(|time| time.parse().ok()),
            done_at: text(attributes, "done_at").map(str::to_owned),
        }
    }
}

/// An attribute of an item, if that is a text.
pub(crate) fn text<'a>(item: &'a HashMap<String, AttributeValue>, name: &str) -> Option<&'a str> {
    Some(item.get(name)?.as_s().ok()?)
}

/// How a notification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// `None` if it has no known status.
    pub(crate) status: Option<Status>,
    /// Whether its action has failed since it was last put back, and downstream has noted it. One that only had no time yet
    /// waits behind others, and has not failed.
    pub(crate) has_noted_failure: bool,
}

impl State {
    fn of(attributes: &HashMap<String, AttributeValue>) -> Self {
        let has_waited = text(attributes, "reason_code") == Some(ReasonCode::NoTime.as_str());
        let has_noted_failure = text(attributes, "last_failure_at").is_some() && !has_waited;
        Self { status: status(attributes), has_noted_failure }
    }
}

fn status(attributes: &HashMap<String, AttributeValue>) -> Option<Status> {
    text(attributes, "status")?.parse().ok()
}

/// What is read of an item.
struct View<T> {
    attributes: &'static str,
    of: fn(&HashMap<String, AttributeValue>) -> T,
}

const ITEM: View<Item> = View { attributes: "id, #status, event, received_at, done_at", of: Item::of };

const STATE: View<State> = View { attributes: "id, #status, last_failure_at, reason_code", of: State::of };

/// Reads the items with these ids, consistently. Returns those that exist, by their ids.
pub(crate) async fn read(stack: &Stack, ids: &[NotificationId]) -> Result<HashMap<String, Item>, Error> {
    read_as(stack, ids, &ITEM).await
}

/// Reads how the notifications with these ids are, consistently. Returns those that exist, by their ids.
pub(crate) async fn states(stack: &Stack, ids: &[NotificationId]) -> Result<HashMap<String, State>, Error> {
    read_as(stack, ids, &STATE).await
}

async fn read_as<T>(stack: &Stack, ids: &[NotificationId], view: &View<T>) -> Result<HashMap<String, T>, Error> {
    let calls = stream::iter(ids.chunks(limits::BATCH_GET_ITEM_MAX)).map(|batch| get(stack, batch, view));
    calls.buffer_unordered(limits::CALLS_IN_FLIGHT).try_concat().await
}

/// Reads a batch. An answer may leave out keys as unprocessed: those are read again.
async fn get<T>(stack: &Stack, ids: &[NotificationId], view: &View<T>) -> Result<HashMap<String, T>, Error> {
    let keys = ids.iter().map(|id| HashMap::from([("id".to_owned(), AttributeValue::S(id.to_string()))])).collect();
    let wanted = KeysAndAttributes::builder()
        .set_keys(Some(keys))
        .consistent_read(true)
        .projection_expression(view.attributes)
        .expression_attribute_names("#status", "status")
        .build()
        .map_err(Error::failed("BatchGetItem"))?;
    let mut found = HashMap::new();
    let mut unread = HashMap::from([(stack.table_name.clone(), wanted)]);
    for attempt in 1..=limits::ENTRY_ATTEMPTS {
        let answer = stack.dynamodb.batch_get_item().set_request_items(Some(unread)).send().await;
        let answer = answer.map_err(Error::aws("BatchGetItem"))?;
        for item in answer.responses.unwrap_or_default().into_values().flatten() {
            found.extend(text(&item, "id").map(|id| (id.to_owned(), (view.of)(&item))));
        }
        unread = answer.unprocessed_keys.unwrap_or_default();
        if unread.is_empty() {
            return Ok(found);
        }
        SystemClock.sleep(backoff::delay(attempt, SystemClock.now())).await;
    }
    Err(Error::failed("BatchGetItem")("it left some keys unprocessed each time; try again"))
}
