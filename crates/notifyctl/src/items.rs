//! Items of the table, as far as the tool needs them.

use crate::error::Error;
use crate::stack::Stack;
use aws::{SystemClock, classify};
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use notification::batch::{Attempts, by_count, call_in_batches};
use notification::ports::Answers;
use notification::{Deadline, Failure, NotificationId, Status, Timestamp, limits};
use std::collections::HashMap;

/// One item of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        let text = |name: &str| attributes.get(name).and_then(|value| value.as_s().ok());
        Self {
            status: text("status").and_then(|status| status.parse().ok()),
            event: text("event").map(|event| event.as_str().into()).unwrap_or_default(),
            received_at: text("received_at").and_then(|time| time.parse().ok()),
            done_at: text("done_at").cloned(),
        }
    }
}

/// Reads the items with these ids, consistently.
pub(crate) async fn read(stack: &Stack, ids: &[NotificationId]) -> Result<HashMap<String, Item>, Error> {
    let refs: Vec<&NotificationId> = ids.iter().collect();
    let ranges = by_count(refs.len(), limits::BATCH_GET_ITEM_MAX);
    let read = |batch: Vec<_>| async move { get(stack, &batch).await };
    let items =
        call_in_batches(&SystemClock, Deadline::at(Timestamp::MAX), Attempts::Limited, &refs, ranges, read).await;
    let mut found = HashMap::new();
    for (id, item) in ids.iter().zip(items) {
        let item = item.map_err(Error::failed("BatchGetItem"))?;
        found.extend(item.map(|item| (id.to_string(), item)));
    }
    Ok(found)
}

async fn get(stack: &Stack, ids: &[&NotificationId]) -> Answers<Option<Item>> {
    let keys = ids.iter().map(|id| HashMap::from([("id".to_owned(), AttributeValue::S(id.to_string()))])).collect();
    let wanted = KeysAndAttributes::builder()
        .set_keys(Some(keys))
        .consistent_read(true)
        .projection_expression("id, #status, event, received_at, done_at")
        .expression_attribute_names("#status", "status")
        .build()
        .map_err(|_| Failure::permanent("BatchGetItem: no keys"))?;
    let answer = stack.dynamodb.batch_get_item().request_items(&stack.table_name, wanted).send().await;
    let answer = answer.map_err(|error| classify::failure("BatchGetItem", &error))?;

    // The answer has its own order, and may leave out keys as unprocessed.
    let items = answer.responses.unwrap_or_default().into_values().flatten();
    let mut found: HashMap<String, Item> = items.filter_map(|item| Some((key(&item)?, Item::of(&item)))).collect();
    let unprocessed = answer.unprocessed_keys.unwrap_or_default().into_values().flat_map(|rest| rest.keys);
    let unprocessed: Vec<String> = unprocessed.filter_map(|item| key(&item)).collect();
    let mut results = Vec::with_capacity(ids.len());
    for id in ids {
        results.push(if unprocessed.iter().any(|key| key == id.as_str()) {
            Err(Failure::retryable("BatchGetItem: this key was not processed"))
        } else {
            Ok(found.remove(id.as_str()))
        });
    }
    Ok(results)
}

fn key(item: &HashMap<String, AttributeValue>) -> Option<String> {
    item.get("id")?.as_s().ok().cloned()
}
