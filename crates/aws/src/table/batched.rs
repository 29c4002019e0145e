//! Writes as `BatchExecuteStatement`: up to 25 conditional PartiQL statements a call, each with its own answer.

use super::item::{number, shortened, stored, text, time};
use super::{Executed, settlement};
use crate::classify;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementErrorCodeEnum, BatchStatementRequest, BatchStatementResponse,
    ReturnValuesOnConditionCheckFailure,
};
use notification::ports::{Answers, Done, Settlement};
use notification::{Failure, Notification, NotificationId, Timestamp, limits};

/// The PartiQL statements for one table, made once.
#[derive(Debug, Clone)]
pub(super) struct Batched {
    insert: String,
    done: String,
    done_with_outcome: String,
    failed: String,
}

impl Batched {
    pub(super) fn new(table_name: &str) -> Self {
        let settle = |set: &str| format!(r#"UPDATE "{table_name}" {set} WHERE "id" = ? AND "status" = 'INIT'"#);
        let done = r#"SET "status" = 'DONE' SET "done_at" = ? SET "expires_at" = ?"#;
        Self {
            // INSERT fails where the key exists.
            insert: format!(
                r#"INSERT INTO "{table_name}" VALUE {{'id': ?, 'status': 'INIT', 'event': ?, 'source': ?, 'type': ?, 'received_at': ?}}"#
            ),
            done: settle(done),
            done_with_outcome: settle(&format!(r#"{done} SET "outcome" = ?"#)),
            failed: settle(r#"SET "status" = 'FAILED' SET "failed_at" = ? SET "reason" = ?"#),
        }
    }

    pub(super) async fn insert(
        &self,
        client: &Client,
        notifications: &[&Notification],
        received_at: Timestamp,
    ) -> Answers<Executed> {
        let statement = |n: &&Notification| {
            let parameters =
                vec![text(n.id().as_str()), text(n.event()), text(n.source()), text(n.event_type()), time(received_at)];
            request(&self.insert, parameters)
        };
        execute(client, notifications.iter().map(statement).collect::<Result<_, _>>()?).await
    }

    pub(super) async fn complete(
        &self,
        client: &Client,
        done: &[Done<'_>],
        done_at: Timestamp,
        expires_at: i64,
    ) -> Answers<Executed> {
        let statement = |done: &Done<'_>| {
            let mut parameters = vec![time(done_at), number(&expires_at)];
            parameters.extend(done.outcome.map(|outcome| text(outcome.as_str())));
            parameters.push(text(done.id.as_str()));
            request(if done.outcome.is_some() { &self.done_with_outcome } else { &self.done }, parameters)
        };
        execute(client, done.iter().map(statement).collect::<Result<_, _>>()?).await
    }

    pub(super) async fn fail(
        &self,
        client: &Client,
        id: &NotificationId,
        reason: &str,
        failed_at: Timestamp,
    ) -> Result<Settlement, Failure> {
        let parameters = vec![time(failed_at), text(shortened(reason)), text(id.as_str())];
        let answer = execute(client, vec![request(&self.failed, parameters)?]).await?.pop();
        answer
            .unwrap_or_else(|| Err(Failure::may_have_happened("BatchExecuteStatement: the answer is empty")))
            .map(|executed| settlement(&executed))
    }
}

/// A statement that answers a failed condition with the old item.
fn request(statement: &str, parameters: Vec<AttributeValue>) -> Result<BatchStatementRequest, Failure> {
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
