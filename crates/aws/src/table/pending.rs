//! The index of pending notifications, and the item that keeps where the sweep stopped.

use super::item::{number, text, time};
use crate::classify;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ConsumedCapacity, ReturnConsumedCapacity};
use notification::id::SWEEP_CURSOR_ID;
use notification::ports::{Cursor, PendingKey, PendingPage};
use notification::{Failure, NotificationId, Timestamp};
use std::collections::HashMap;

/// The index's name in the template.
const INDEX: &str = "pending";

/// Pages in a row of which no entry can be read, at most; more of them wait for the next sweep.
const UNREADABLE_PAGES_MAX: usize = 20;

type Item = HashMap<String, AttributeValue>;

pub(super) async fn page(
    client: &Client,
    table_name: &str,
    shard: u64,
    until: Timestamp,
    after: Option<&PendingKey>,
    limit: usize,
) -> Result<PendingPage, Failure> {
    let start: Option<Item> = after.map(|after| {
        let key =
            [("id", text(after.id.as_str())), ("pending_shard", number(&shard)), ("pending_since", time(after.since))];
        key.map(|(name, value)| (name.to_owned(), value)).into()
    });
    let mut page = PendingPage::default();
    let mut next = start;
    // Entries that no notification can have, e.g. put in by hand, must not hide what is behind them.
    for _ in 0..UNREADABLE_PAGES_MAX {
        let answer = client
            .query()
            .table_name(table_name)
            .index_name(INDEX)
            .key_condition_expression("pending_shard = :shard AND pending_since <= :until")
            .expression_attribute_values(":shard", number(&shard))
            .expression_attribute_values(":until", time(until))
            .set_exclusive_start_key(next)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await
            .map_err(|error| classify::failure("Query", &error))?;
        page.keys = answer.items().iter().filter_map(|item| key(item, "id", "pending_since")).collect();
        page.read_units += answer.consumed_capacity().and_then(ConsumedCapacity::capacity_units).unwrap_or_default();
        next = answer.last_evaluated_key.filter(|key| !key.is_empty());
        page.more = next.is_some();
        if !page.more || !page.keys.is_empty() {
            break;
        }
    }
    Ok(page)
}

/// The key of an item of the index; `None` where no notification can have it.
fn key(item: &Item, id: &str, since: &str) -> Option<PendingKey> {
    let attribute = |name: &str| item.get(name)?.as_s().ok();
    Some(PendingKey { id: NotificationId::parse(attribute(id)?).ok()?, since: attribute(since)?.parse().ok()? })
}

pub(super) async fn cursor(client: &Client, table_name: &str) -> Result<Option<Cursor>, Failure> {
    let call = client.get_item().table_name(table_name).key("id", text(SWEEP_CURSOR_ID)).consistent_read(true);
    let answer = call.send().await.map_err(|error| classify::failure("GetItem", &error))?;
    Ok(answer.item().and_then(|item| {
        let shard = item.get("after_shard")?.as_n().ok()?.parse().ok()?;
        Some(Cursor { shard, after: key(item, "after_id", "after_since") })
    }))
}

pub(super) async fn save_cursor(client: &Client, table_name: &str, cursor: Option<&Cursor>) -> Result<(), Failure> {
    let put = client.put_item().table_name(table_name).item("id", text(SWEEP_CURSOR_ID));
    let put = match cursor {
        None => put,
        Some(Cursor { shard, after: None }) => put.item("after_shard", number(shard)),
        Some(Cursor { shard, after: Some(after) }) => put
            .item("after_shard", number(shard))
            .item("after_id", text(after.id.as_str()))
            .item("after_since", time(after.since)),
    };
    put.send().await.map(drop).map_err(|error| classify::failure("PutItem", &error))
}
