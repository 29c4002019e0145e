//! Writes by `BatchExecuteStatement`: up to 25 conditional PartiQL statements per call, each with its own result.

use super::DynamoTable;
use super::item::{number, refused, text, time};
use super::update::Update;
use crate::classify;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementErrorCodeEnum, BatchStatementRequest, BatchStatementResponse,
    ReturnValuesOnConditionCheckFailure,
};
use notification::change::{After, Change};
use notification::ports::{Answers, Table, Written};
use notification::{Failure, Notification, Timestamp, limits};

/// The statement that inserts; it fails where the key exists.
pub(super) fn insert_statement(table_name: &str) -> String {
    format!(
        r#"INSERT INTO "{table_name}" VALUE {{'id': ?, 'status': 'INIT', 'event': ?, 'source': ?, 'type': ?, 'received_at': ?, 'pending_shard': ?, 'pending_since': ?}}"#
    )
}

impl Table for DynamoTable {
    async fn write(&self, changes: &[Change<'_>], at: Timestamp) -> Answers<Written> {
        debug_assert!(changes.len() <= limits::BATCH_EXECUTE_STATEMENT_MAX);
        let mut statements = Vec::with_capacity(changes.len());
        for change in changes {
            let (statement, parameters) = match change.to() {
                After::Inserted(notification) => (self.insert_statement.clone(), inserted(notification, at)),
                _ => Update::of(change, at, self.done_retention_seconds).statement(&self.table_name),
            };
            statements.push(request(statement, parameters)?);
        }
        let call = self.client.batch_execute_statement().set_statements(Some(statements)).send().await;
        let output = call.map_err(|error| classify::failure("BatchExecuteStatement", &error))?;
        // A 200 response may contain failures.
        Ok(output.responses.unwrap_or_default().into_iter().map(written).collect())
    }
}

fn inserted(notification: &Notification, received_at: Timestamp) -> Vec<AttributeValue> {
    let received_at = time(received_at);
    vec![
        text(notification.id().as_str()),
        text(notification.event()),
        text(notification.source()),
        text(notification.event_type()),
        received_at.clone(),
        number(&notification.id().pending_shard()),
        received_at,
    ]
}

/// A statement whose answer contains the old item if the condition failed.
fn request(statement: String, parameters: Vec<AttributeValue>) -> Result<BatchStatementRequest, Failure> {
    BatchStatementRequest::builder()
        .statement(statement)
        .set_parameters(Some(parameters))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .map_err(|_| Failure::permanent("BatchExecuteStatement: a statement lacks its text"))
}

fn written(response: BatchStatementResponse) -> Result<Written, Failure> {
    let Some(error) = response.error else { return Ok(Written::Yes) };
    match error.code {
        Some(BatchStatementErrorCodeEnum::ConditionalCheckFailed | BatchStatementErrorCodeEnum::DuplicateItem) => {
            Ok(refused(error.item.as_ref()))
        }
        code => {
            let code = code.as_ref().map_or("unknown", |code| code.as_str());
            Err(classify::entry_failure("BatchExecuteStatement", code))
        }
    }
}
