//! Writes as one `PutItem` or `UpdateItem` a notification, all of a batch in flight together: for a local AWS whose
//! PartiQL writes do not reach the table's stream, and to measure the batched writes against.

use super::Executed;
use super::item::{stored, text, time};
use super::update::{Update, pending};
use crate::classify;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure::AllOld;
use futures_util::future::join_all;
use notification::ports::Answers;
use notification::{Notification, Status, Timestamp};

pub(super) async fn insert(
    client: &Client,
    table_name: &str,
    notifications: &[&Notification],
    received_at: Timestamp,
) -> Answers<Executed> {
    let put = async |n: &&Notification| {
        let [(shard, shard_value), (since, since_value)] = pending(n.id(), received_at);
        let call = client
            .put_item()
            .table_name(table_name)
            .item("id", text(n.id().as_str()))
            .item("status", text(Status::Init.as_str()))
            .item("event", text(n.event()))
            .item("source", text(n.source()))
            .item("type", text(n.event_type()))
            .item("received_at", time(received_at))
            .item(shard, shard_value)
            .item(since, since_value)
            .condition_expression("attribute_not_exists(id)")
            .return_values_on_condition_check_failure(AllOld)
            .send()
            .await;
        match call {
            Ok(_) => Ok(Executed::Yes),
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => {
                let old = match error.err() {
                    PutItemError::ConditionalCheckFailedException(failed) => failed.item().map(stored),
                    _ => None,
                };
                Ok(Executed::ConditionFailed(old))
            }
            Err(error) => Err(classify::failure("PutItem", &error)),
        }
    };
    Ok(join_all(notifications.iter().map(put)).await)
}

pub(super) async fn update(
    client: &Client,
    table_name: &str,
    updates: impl Iterator<Item = Update>,
) -> Answers<Executed> {
    let update = async |update: Update| match update.call(client, table_name).send().await {
        Ok(_) => Ok(Executed::Yes),
        Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => {
            let old = match error.err() {
                UpdateItemError::ConditionalCheckFailedException(failed) => failed.item().map(stored),
                _ => None,
            };
            Ok(Executed::ConditionFailed(old))
        }
        Err(error) => Err(classify::failure("UpdateItem", &error)),
    };
    Ok(join_all(updates.map(update)).await)
}
