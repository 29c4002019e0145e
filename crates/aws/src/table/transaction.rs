//! Effects and DONE in one `TransactWriteItems`, and what its cancellation reasons say of each notification.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>

use super::item::{stored, text};
use super::update::Update;
use crate::classify;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{CancellationReason, Put, TransactWriteItem};
use notification::ports::{After, Before, Change, Commit, NotCommitted, Refused};
use notification::{Failure, Timestamp, limits};

pub(super) async fn commit(
    client: &Client,
    table_name: &str,
    group: &[Commit<'_>],
    done_at: Timestamp,
    done_retention_seconds: i64,
) -> Result<(), NotCommitted> {
    let mut items = Vec::with_capacity(group.iter().map(|commit| 1 + commit.effect.writes.len()).sum());
    for commit in group {
        let to = After::Done(commit.effect.outcome.as_ref());
        let change = Change { id: commit.id, from: Before::Event(commit.event), to };
        let update = Update::of(&change, done_at, done_retention_seconds).action(table_name);
        items.push(TransactWriteItem::builder().update(update.map_err(NotCommitted::Failed)?).build());
        for write in &commit.effect.writes {
            items.push(TransactWriteItem::builder().put(put(write).map_err(NotCommitted::Failed)?).build());
        }
    }
    debug_assert!(items.len() <= limits::TRANSACT_WRITE_ITEMS_MAX);
    // The SDK gives each call a client request token, so that its own repeats of it are one transaction.
    match client.transact_write_items().set_transact_items(Some(items)).send().await {
        Ok(_) => Ok(()),
        Err(SdkError::ServiceError(error)) if error.err().is_transaction_canceled_exception() => {
            let reasons = match error.err() {
                TransactWriteItemsError::TransactionCanceledException(canceled) => canceled.cancellation_reasons(),
                _ => &[],
            };
            Err(NotCommitted::Refused(refusals(group, reasons)))
        }
        Err(error) => Err(NotCommitted::Failed(classify::failure("TransactWriteItems", &error))),
    }
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

/// Reasons stand in the order of the actions: each notification's change of status, then its writes.
fn refusals(group: &[Commit<'_>], reasons: &[CancellationReason]) -> Vec<Option<Refused>> {
    let mut reasons = reasons.iter();
    let mut refusal = |commit: &Commit<'_>| {
        let status = reasons.next().and_then(|reason| match reason.code()? {
            "None" => None,
            "ConditionalCheckFailed" => Some(Refused::NotAsExpected(reason.item().map(stored))),
            code => Some(Refused::Failed(classify::entry_failure("TransactWriteItems", code))),
        });
        let mut writes = None;
        for _ in &commit.effect.writes {
            let refused = reasons.next().and_then(|reason| match reason.code()? {
                "None" => None,
                // Its key exists although the notification is INIT: the effect must not happen over another one.
                "ConditionalCheckFailed" => Some(Failure::permanent("the effect's item exists already")),
                code => Some(classify::entry_failure("TransactWriteItems", code)),
            });
            writes = writes.or(refused);
        }
        status.or_else(|| writes.map(Refused::Failed))
    };
    group.iter().map(&mut refusal).collect()
}
