//! Writes as `BatchExecuteStatement`: up to 25 conditional PartiQL statements a call, each with its own answer.

use super::Executed;
use super::item::{number, stored, text, time};
use super::update::Update;
use crate::classify;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementErrorCodeEnum, BatchStatementRequest, BatchStatementResponse,
    ReturnValuesOnConditionCheckFailure,
};
use notification::ports::Answers;
use notification::{Failure, Notification, Timestamp, limits};

/// The statement that inserts; it fails where the key exists.
pub(super) fn insert_statement(table_name: &str) -> String {
    format!(
        r#"INSERT INTO "{table_name}" VALUE {{'id': ?, 'status': 'INIT', 'event': ?, 'source': ?, 'type': ?, 'received_at': ?, 'pending_shard': ?, 'pending_since': ?}}"#
    )
}

pub(super) async fn insert(
    client: &Client,
    statement: &str,
    notifications: &[&Notification],
    received_at: Timestamp,
) -> Answers<Executed> {
    let received_at = time(received_at);
    let request = |n: &&Notification| {
        let parameters = vec![
            text(n.id().as_str()),
            text(n.event()),
            text(n.source()),
            text(n.event_type()),
            received_at.clone(),
            number(&n.id().pending_shard()),
            received_at.clone(),
        ];
        request(statement.to_owned(), parameters)
    };
    execute(client, notifications.iter().map(request).collect::<Result<_, _>>()?).await
}

pub(super) async fn update(
    client: &Client,
    table_name: &str,
    updates: impl Iterator<Item = Update>,
) -> Answers<Executed> {
    let requests = updates.map(|update| {
        let (statement, parameters) = update.statement(table_name);
        request(statement, parameters)
    });
    execute(client, requests.collect::<Result<_, _>>()?).await
}

/// A statement that answers a failed condition with the old item.
fn request(statement: String, parameters: Vec<AttributeValue>) -> Result<BatchStatementRequest, Failure> {
    BatchStatementRequest::builder()
        .statement(statement)
        .set_parameters(Some(parameters))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .map_err(|_| Failure::permanent("BatchExecuteStatement: a statement lacks its text"))
}

async fn execute(client: &Client, statements: Vec<BatchStatementRequest>) -> Answers<Executed> {
    debug_assert!(statements.len() <= limits::BATCH_EXECUTE_STATEMENT_MAX);
    let call = client.batch_execute_statement().set_statements(Some(statements)).send().await;
    let output = call.map_err(|error| classify::failure("BatchExecuteStatement", &error))?;
    // 200 may hold failures.
    Ok(output.responses.unwrap_or_default().into_iter().map(executed).collect())
}

fn executed(response: BatchStatementResponse) -> Result<Executed, Failure> {
    let Some(error) = response.error else { return Ok(Executed::Yes) };
    match error.code {
        Some(BatchStatementErrorCodeEnum::ConditionalCheckFailed | BatchStatementErrorCodeEnum::DuplicateItem) => {
            Ok(Executed::ConditionFailed(error.item.as_ref().filter(|item| !item.is_empty()).map(stored)))
        }
        code => {
            let code = code.as_ref().map_or("unknown", |code| code.as_str());
            Err(classify::entry_failure("BatchExecuteStatement", code))
        }
    }
}
