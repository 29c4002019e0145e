//! Writes as one `PutItem` or `UpdateItem` a notification, all of a batch in flight together: for a local AWS whose
//! PartiQL writes do not reach the table's stream, and to measure the batched writes against.

use super::item::{number, shortened, stored, text, time};
use super::{Executed, settlement};
use crate::classify;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure::AllOld;
use futures_util::future::join_all;
use notification::ports::{Answers, Done, Settlement};
use notification::{Failure, Notification, NotificationId, Status, Timestamp};

pub(super) async fn insert(
    client: &Client,
    table_name: &str,
    notifications: &[&Notification],
    received_at: Timestamp,
) -> Answers<Executed> {
    let put = async |n: &&Notification| {
        let call = client
            .put_item()
            .table_name(table_name)
            .item("id", text(n.id().as_str()))
            .item("status", text(Status::Init.as_str()))
            .item("event", text(n.event()))
            .item("source", text(n.source()))
            .item("type", text(n.event_type()))
            .item("received_at", time(received_at))
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

pub(super) async fn complete(
    client: &Client,
    table_name: &str,
    done: &[Done<'_>],
    done_at: Timestamp,
    expires_at: i64,
) -> Answers<Executed> {
    let update = async |done: &Done<'_>| {
        let set = "SET #status = :status, done_at = :done_at, expires_at = :expires_at";
        let call = settle(client, table_name, done.id, Status::Done)
            .expression_attribute_values(":done_at", time(done_at))
            .expression_attribute_values(":expires_at", number(&expires_at));
        let call = match done.outcome {
            None => call.update_expression(set),
            Some(outcome) => call
                .update_expression(format!("{set}, outcome = :outcome"))
                .expression_attribute_values(":outcome", text(outcome.as_str())),
        };
        send(call).await
    };
    Ok(join_all(done.iter().map(update)).await)
}

pub(super) async fn fail(
    client: &Client,
    table_name: &str,
    id: &NotificationId,
    reason: &str,
    failed_at: Timestamp,
) -> Result<Settlement, Failure> {
    let call = settle(client, table_name, id, Status::Failed)
        .update_expression("SET #status = :status, failed_at = :failed_at, reason = :reason")
        .expression_attribute_values(":failed_at", time(failed_at))
        .expression_attribute_values(":reason", text(shortened(reason)));
    send(call).await.map(|executed| settlement(&executed))
}

/// A change of a notification that is INIT.
fn settle(client: &Client, table_name: &str, id: &NotificationId, status: Status) -> UpdateItemFluentBuilder {
    client
        .update_item()
        .table_name(table_name)
        .key("id", text(id.as_str()))
        .condition_expression("#status = :init")
        .expression_attribute_names("#status", "status")
        .expression_attribute_values(":init", text(Status::Init.as_str()))
        .expression_attribute_values(":status", text(status.as_str()))
        .return_values_on_condition_check_failure(AllOld)
}

async fn send(call: UpdateItemFluentBuilder) -> Result<Executed, Failure> {
    match call.send().await {
        Ok(_) => Ok(Executed::Yes),
        Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => {
            let old = match error.err() {
                UpdateItemError::ConditionalCheckFailedException(failed) => failed.item().map(stored),
                _ => None,
            };
            Ok(Executed::ConditionFailed(old))
        }
        Err(error) => Err(classify::failure("UpdateItem", &error)),
    }
}
