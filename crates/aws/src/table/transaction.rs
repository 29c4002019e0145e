//! Effects and DONE in one `TransactWriteItems`, and the meaning of its cancellation reasons for each notification.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>

use super::DynamoTable;
use super::item::{refused, text};
use super::update::Update;
use crate::classify;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{CancellationReason, Put, TransactWriteItem};
use notification::change::Commit;
use notification::ports::{Answers, Committed, Written};
use notification::{Failure, Timestamp, limits};
use std::slice::Iter;

pub(super) async fn commit(table: &DynamoTable, group: &[Commit<'_>], at: Timestamp) -> Answers<Committed> {
    let mut items = Vec::with_capacity(group.iter().map(|commit| 1 + commit.puts.len()).sum());
    for Commit { change, puts } in group {
        if change.from().status().is_none() {
            return Err(Failure::permanent("TransactWriteItems: an insert is not part of a transaction"));
        }
        let update = Update::of(change, at, table.done_retention_seconds).action(&table.table_name)?;
        items.push(TransactWriteItem::builder().update(update).build());
        for new_item in *puts {
            items.push(TransactWriteItem::builder().put(put(new_item)?).build());
        }
    }
    debug_assert!(items.len() <= limits::TRANSACT_WRITE_ITEMS_MAX);
    // The SDK gives each call a client request token, so its own retries are the same transaction.
    let Err(error) = table.client.transact_write_items().set_transact_items(Some(items)).send().await else {
        return Ok(group.iter().map(|_| Ok(Committed::Written(Written::Yes))).collect());
    };
    let Some(TransactWriteItemsError::TransactionCanceledException(canceled)) = error.as_service_error() else {
        return Err(classify::failure("TransactWriteItems", &error));
    };
    let mut reasons = canceled.cancellation_reasons().iter();
    Ok(group.iter().map(|commit| refusal(commit, &mut reasons)).collect())
}

fn put(write: &notification::Put) -> Result<Put, Failure> {
    let item = write.attributes.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
    Put::builder()
        .set_item(Some(item))
        .table_name(&write.table)
        .condition_expression("attribute_not_exists(#key)")
        .expression_attribute_names("#key", write.key)
        .build()
        .map_err(|_| Failure::permanent("TransactWriteItems: a put lacks a part"))
}

/// The result of one notification by its reasons, which are in the order of its actions: the change of status, then the puts.
fn refusal(commit: &Commit<'_>, reasons: &mut Iter<'_, CancellationReason>) -> Result<Committed, Failure> {
    let change = reasons.next();
    let mut refused_put = None;
    for reason in reasons.by_ref().take(commit.puts.len()) {
        refused_put = refused_put.or(code(reason));
    }
    match (change.and_then(code), refused_put) {
        (Some("ConditionalCheckFailed"), _) => {
            Ok(Committed::Written(refused(change.and_then(CancellationReason::item))))
        }
        // The key exists although the notification is INIT: the effect must not overwrite another one.
        (None, Some("ConditionalCheckFailed")) => Err(Failure::permanent("an item of the effect exists already")),
        (Some(code), _) | (None, Some(code)) => Err(classify::entry_failure("TransactWriteItems", code)),
        (None, None) => Ok(Committed::HeldUp),
    }
}

/// The code with which an action was refused, if it was.
fn code(reason: &CancellationReason) -> Option<&str> {
    reason.code().filter(|code| *code != "None")
}
