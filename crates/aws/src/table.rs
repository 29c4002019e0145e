//! The DynamoDB table of notifications. Every write is one conditional write per item, so that a repeat changes nothing.

use crate::classify;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementErrorCodeEnum, BatchStatementRequest, BatchStatementResponse, KeysAndAttributes,
    ReturnValuesOnConditionCheckFailure,
};
use notification::ports::{
    Answers, Done, DownstreamTable, IngestTable, Insertion, Settlement, Stored, TableReader, Unreadable,
};
use notification::{Failure, Notification, NotificationId, Status, Timestamp, limits};
use std::collections::HashMap;

/// The table, by its name.
#[derive(Debug, Clone)]
pub struct DynamoTable {
    client: Client,
    table_name: String,
    done_retention_seconds: i64,
    statements: Statements,
}

/// The PartiQL statements, made once.
#[derive(Debug, Clone)]
struct Statements {
    insert: String,
    done: String,
    done_with_outcome: String,
    failed: String,
}

impl Statements {
    fn new(table_name: &str) -> Self {
        let settle = |set: &str| format!(r#"UPDATE "{table_name}" {set} WHERE "id" = ? AND "status" = 'INIT'"#);
        let done = r#"SET "status" = 'DONE' SET "done_at" = ? SET "expires_at" = ?"#;
        Self {
            insert: format!(
                r#"INSERT INTO "{table_name}" VALUE {{'id': ?, 'status': 'INIT', 'event': ?, 'source': ?, 'type': ?, 'received_at': ?}}"#
            ),
            done: settle(done),
            done_with_outcome: settle(&format!(r#"{done} SET "outcome" = ?"#)),
            failed: settle(r#"SET "status" = 'FAILED' SET "failed_at" = ? SET "reason" = ?"#),
        }
    }
}

impl DynamoTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: Client, table_name: String) -> Self {
        let statements = Statements::new(&table_name);
        Self { client, table_name, statements, done_retention_seconds: 0 }
            .with_done_retention(limits::DONE_RETENTION_DEFAULT_DAYS)
    }

    /// DONE items expire after so many days.
    #[must_use]
    pub fn with_done_retention(self, days: u32) -> Self {
        Self { done_retention_seconds: i64::from(days) * 24 * 60 * 60, ..self }
    }

    /// One `BatchExecuteStatement`.
    async fn batch<R>(
        &self,
        statements: Vec<BatchStatementRequest>,
        answer: impl Fn(BatchStatementResponse) -> Result<R, Failure>,
    ) -> Answers<R> {
        debug_assert!(statements.len() <= limits::BATCH_EXECUTE_STATEMENT_MAX);
        let output = self
            .client
            .batch_execute_statement()
            .set_statements(Some(statements))
            .send()
            .await
            .map_err(|error| classify::failure("BatchExecuteStatement", &error))?;
        Ok(output.responses.unwrap_or_default().into_iter().map(answer).collect())
    }
}

/// A statement that answers a failed condition with the old item.
fn statement_request(statement: &str, parameters: Vec<AttributeValue>) -> Result<BatchStatementRequest, Failure> {
    BatchStatementRequest::builder()
        .statement(statement)
        .set_parameters(Some(parameters))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .map_err(|_| Failure::permanent("BatchExecuteStatement: a statement lacks its text"))
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// RFC 3339, UTC, milliseconds.
fn time(at: Timestamp) -> AttributeValue {
    AttributeValue::S(format!("{at:.3}"))
}

fn stored(item: &HashMap<String, AttributeValue>) -> Stored {
    let attribute = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
    Stored {
        status: attribute("status").and_then(|status| status.parse().ok()),
        event: attribute("event").map(|event| event.as_str().into()).unwrap_or_default(),
    }
}

/// What became of one statement: it was executed, or its condition failed (with the old item, where the answer has it).
enum Executed {
    Yes,
    ConditionFailed(Option<Stored>),
}

fn executed(response: BatchStatementResponse) -> Result<Executed, Failure> {
    let Some(error) = response.error else { return Ok(Executed::Yes) };
    match error.code {
        Some(BatchStatementErrorCodeEnum::ConditionalCheckFailed | BatchStatementErrorCodeEnum::DuplicateItem) => {
            Ok(Executed::ConditionFailed(error.item.as_ref().filter(|item| !item.is_empty()).map(stored)))
        }
        code => {
            Err(classify::entry_failure("BatchExecuteStatement", code.as_ref().map_or("unknown", |code| code.as_str())))
        }
    }
}

fn settlement(response: BatchStatementResponse) -> Result<Settlement, Failure> {
    Ok(match executed(response)? {
        Executed::Yes => Settlement::Settled,
        Executed::ConditionFailed(Some(Stored { status: Some(status), .. })) => Settlement::Already(status),
        Executed::ConditionFailed(_) => Settlement::NotInit,
    })
}

impl TableReader for DynamoTable {
    async fn read(&self, ids: &[&NotificationId]) -> Answers<Option<Stored>> {
        debug_assert!(ids.len() <= limits::BATCH_GET_ITEM_MAX);
        let keys = ids.iter().map(|id| HashMap::from([("id".to_owned(), text(id.as_str()))])).collect();
        let wanted = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .consistent_read(true)
            .projection_expression("#id, #status, #event")
            .expression_attribute_names("#id", "id")
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#event", "event")
            .build()
            .map_err(|_| Failure::permanent("BatchGetItem: no keys"))?;
        let output = self
            .client
            .batch_get_item()
            .request_items(&self.table_name, wanted)
            .send()
            .await
            .map_err(|error| classify::failure("BatchGetItem", &error))?;

        // The answer has its own order, and may leave keys out as unprocessed.
        let key = |item: &HashMap<String, AttributeValue>| item.get("id").and_then(|id| id.as_s().ok().cloned());
        let found: HashMap<_, _> = output
            .responses()
            .and_then(|tables| tables.get(&self.table_name))
            .into_iter()
            .flatten()
            .filter_map(|item| Some((key(item)?, stored(item))))
            .collect();
        let unprocessed: Vec<_> = output
            .unprocessed_keys()
            .and_then(|tables| tables.get(&self.table_name))
            .map(KeysAndAttributes::keys)
            .into_iter()
            .flatten()
            .filter_map(key)
            .collect();
        let result = |id: &&NotificationId| {
            if unprocessed.iter().any(|key| key == id.as_str()) {
                return Err(Failure::retryable("BatchGetItem: this key was not processed"));
            }
            Ok(found.get(id.as_str()).cloned())
        };
        Ok(ids.iter().map(result).collect())
    }
}

impl IngestTable for DynamoTable {
    async fn insert(&self, notifications: &[&Notification], received_at: Timestamp) -> Answers<Insertion> {
        let statement = |n: &&Notification| {
            let parameters =
                vec![text(n.id().as_str()), text(n.event()), text(n.source()), text(n.event_type()), time(received_at)];
            statement_request(&self.statements.insert, parameters)
        };
        let statements = notifications.iter().map(statement).collect::<Result<_, _>>()?;
        self.batch(statements, |response| {
            Ok(match executed(response)? {
                Executed::Yes => Insertion::Inserted,
                Executed::ConditionFailed(old) => Insertion::Exists(old),
            })
        })
        .await
    }
}

impl DownstreamTable for DynamoTable {
    async fn complete(&self, done: &[Done<'_>], done_at: Timestamp) -> Answers<Settlement> {
        let expires_at = done_at.as_second() + self.done_retention_seconds;
        let statement = |done: &Done<'_>| {
            let id = text(done.id.as_str());
            let times = [time(done_at), AttributeValue::N(expires_at.to_string())];
            match done.outcome {
                None => statement_request(&self.statements.done, times.into_iter().chain([id]).collect()),
                Some(outcome) => {
                    let parameters = times.into_iter().chain([text(outcome.as_str()), id]).collect();
                    statement_request(&self.statements.done_with_outcome, parameters)
                }
            }
        };
        let statements = done.iter().map(statement).collect::<Result<_, _>>()?;
        self.batch(statements, settlement).await
    }

    async fn fail(&self, id: &NotificationId, reason: &str, failed_at: Timestamp) -> Result<Settlement, Failure> {
        let parameters = vec![time(failed_at), text(shortened(reason)), text(id.as_str())];
        let statement = statement_request(&self.statements.failed, parameters)?;
        let mut answers = self.batch(vec![statement], settlement).await?;
        answers.pop().unwrap_or_else(|| Err(Failure::may_have_happened("BatchExecuteStatement: the answer is empty")))
    }

    async fn keep(&self, record: Unreadable<'_>, reason: &str, failed_at: Timestamp) -> Result<(), Failure> {
        let kept = &record.raw[..record.raw.len().min(limits::RAW_KEPT_MAX_BYTES)];
        let put = self
            .client
            .put_item()
            .table_name(&self.table_name)
            .item("id", text(record.item_id()))
            .item("status", text(Status::Failed.as_str()))
            .item("raw", AttributeValue::B(Blob::new(kept)))
            .item("raw_bytes", AttributeValue::N(record.raw.len().to_string()))
            .item("reason", text(shortened(reason)))
            .item("failed_at", time(failed_at))
            .condition_expression("attribute_not_exists(id)")
            .send()
            .await;
        match put {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(error)) if error.err().code() == Some("ConditionalCheckFailedException") => {
                Ok(())
            }
            Err(error) => Err(classify::failure("PutItem", &error)),
        }
    }
}

/// A reason within its limit, cut between characters.
fn shortened(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(limits::REASON_MAX_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::operation::batch_execute_statement::BatchExecuteStatementOutput;
    use aws_sdk_dynamodb::operation::batch_get_item::BatchGetItemOutput;
    use aws_sdk_dynamodb::operation::put_item::PutItemError;
    use aws_sdk_dynamodb::types::BatchStatementError;
    use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;
    use aws_smithy_mocks::{Rule, mock, mock_client};
    use notification::Outcome;
    use notification::report::Identifier;

    fn table(rule: &Rule) -> DynamoTable {
        DynamoTable::new(mock_client!(aws_sdk_dynamodb, [rule]), "t".to_owned())
    }

    fn notification(id: &str) -> Notification {
        Notification::parse(format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"k"}}"#)).unwrap()
    }

    fn id(id: &str) -> NotificationId {
        NotificationId::parse(id).unwrap()
    }

    fn item(status: &str) -> HashMap<String, AttributeValue> {
        HashMap::from([("id".into(), text("a")), ("status".into(), text(status)), ("event".into(), text("{}"))])
    }

    fn answers(errors: Vec<Option<(&'static str, Option<&'static str>)>>) -> Rule {
        mock!(Client::batch_execute_statement).then_output(move || {
            let response = |error: &Option<(&str, Option<&str>)>| {
                let error = error.map(|(code, status)| {
                    BatchStatementError::builder().code(code.into()).set_item(status.map(item)).build()
                });
                BatchStatementResponse::builder().set_error(error).build()
            };
            BatchExecuteStatementOutput::builder().set_responses(Some(errors.iter().map(response).collect())).build()
        })
    }

    #[tokio::test]
    async fn rule_12_a_failed_insert_tells_the_old_item_where_the_answer_holds_it() {
        let rule = answers(vec![
            None,
            Some(("DuplicateItem", Some("DONE"))),
            Some(("DuplicateItem", None)),
            Some(("ThrottlingError", None)),
            Some(("ValidationError", None)),
        ]);
        let notifications = ["a", "b", "c", "d", "e"].map(notification);
        let batch: Vec<_> = notifications.iter().collect();
        let answers = table(&rule).insert(&batch, Timestamp::UNIX_EPOCH).await.unwrap();
        let old = Stored { status: Some(Status::Done), event: "{}".into() };
        assert_eq!(answers[0], Ok(Insertion::Inserted));
        assert_eq!(answers[1], Ok(Insertion::Exists(Some(old))));
        assert_eq!(answers[2], Ok(Insertion::Exists(None)));
        assert!(answers[3].as_ref().unwrap_err().kind.is_retryable());
        assert!(!answers[4].as_ref().unwrap_err().kind.is_retryable());
    }

    #[tokio::test]
    async fn an_insert_is_one_conditional_statement_with_the_event_byte_for_byte() {
        let rule = mock!(Client::batch_execute_statement)
            .match_requests(|request| {
                let statement = &request.statements()[0];
                statement.statement().starts_with(r#"INSERT INTO "t" VALUE {'id': ?, 'status': 'INIT'"#)
                    && statement.parameters()
                        == [
                            text("a"),
                            text(r#"{"specversion":"1.0","id":"a","source":"s","type":"k"}"#),
                            text("s"),
                            text("k"),
                            text("1970-01-01T00:00:00.000Z"),
                        ]
            })
            .then_output(|| {
                BatchExecuteStatementOutput::builder().responses(BatchStatementResponse::builder().build()).build()
            });
        let answers = table(&rule).insert(&[&notification("a")], Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(answers, [Ok(Insertion::Inserted)]);
    }

    #[tokio::test]
    async fn done_is_written_only_over_init_and_expires_after_its_retention() {
        let rule = mock!(Client::batch_execute_statement)
            .match_requests(|request| {
                let [plain, with_outcome] = request.statements() else { return false };
                let condition = r#"WHERE "id" = ? AND "status" = 'INIT'"#;
                plain.statement().ends_with(condition)
                    && with_outcome.statement().ends_with(condition)
                    && plain.parameters()
                        == [text("1970-01-01T00:00:00.000Z"), AttributeValue::N("7776000".into()), text("a")]
                    && with_outcome.parameters()[2..] == [text("{\"paid\":true}"), text("b")]
            })
            .then_output(|| {
                let error = BatchStatementError::builder()
                    .code(BatchStatementErrorCodeEnum::ConditionalCheckFailed)
                    .set_item(Some(item("FAILED")))
                    .build();
                BatchExecuteStatementOutput::builder()
                    .responses(BatchStatementResponse::builder().build())
                    .responses(BatchStatementResponse::builder().error(error).build())
                    .build()
            });
        let outcome = Outcome::new(&true.into());
        assert_eq!(outcome.as_str(), "true");
        let outcome = Outcome::new(&[("paid", true)].into_iter().collect());
        let (a, b) = (id("a"), id("b"));
        let done = [Done { id: &a, outcome: None }, Done { id: &b, outcome: Some(&outcome) }];
        let answers = table(&rule).complete(&done, Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(answers, [Ok(Settlement::Settled), Ok(Settlement::Already(Status::Failed))]);
    }

    #[tokio::test]
    async fn a_condition_that_fails_without_an_old_item_leaves_the_question_open() {
        let answers = table(&answers(vec![Some(("ConditionalCheckFailed", None))]));
        assert_eq!(answers.fail(&id("a"), "no", Timestamp::UNIX_EPOCH).await, Ok(Settlement::NotInit));
    }

    #[tokio::test]
    async fn a_read_is_consistent_joined_by_key_and_tells_absent_from_unprocessed() {
        let rule = mock!(Client::batch_get_item)
            .match_requests(|request| request.request_items().unwrap()["t"].consistent_read() == Some(true))
            .then_output(|| {
                let skipped = KeysAndAttributes::builder().keys(HashMap::from([("id".into(), text("c"))])).build();
                BatchGetItemOutput::builder()
                    .responses("t", vec![item("INIT")])
                    .unprocessed_keys("t", skipped.unwrap())
                    .build()
            });
        let ids = [id("b"), id("a"), id("c")];
        let answers = table(&rule).read(&ids.iter().collect::<Vec<_>>()).await.unwrap();
        assert_eq!(answers[0], Ok(None));
        assert_eq!(answers[1], Ok(Some(Stored { status: Some(Status::Init), event: "{}".into() })));
        assert!(answers[2].as_ref().unwrap_err().kind.is_retryable());
    }

    #[tokio::test]
    async fn keeping_a_record_twice_is_a_success_and_keeps_no_more_than_an_item_holds() {
        let rule = mock!(Client::put_item)
            .match_requests(|request| {
                let item = request.item().unwrap();
                item["id"] == text("kinesis:shardId-0:7")
                    && item["raw_bytes"] == AttributeValue::N("500000".into())
                    && item["raw"].as_b().unwrap().as_ref().len() == limits::RAW_KEPT_MAX_BYTES
                    && request.condition_expression() == Some("attribute_not_exists(id)")
            })
            .then_error(|| {
                PutItemError::ConditionalCheckFailedException(
                    ConditionalCheckFailedException::builder()
                        .meta(
                            aws_sdk_dynamodb::error::ErrorMetadata::builder()
                                .code("ConditionalCheckFailedException")
                                .build(),
                        )
                        .build(),
                )
            });
        let sequence_number = Identifier::parse(Some("7")).unwrap();
        let raw = vec![0xFF; 500_000];
        let record = Unreadable { shard: "shardId-0", sequence_number: &sequence_number, raw: &raw };
        assert_eq!(table(&rule).keep(record, "not valid UTF-8", Timestamp::UNIX_EPOCH).await, Ok(()));
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(shortened(&"é".repeat(600)).len(), 1024);
        assert_eq!(shortened(&format!("x{}", "é".repeat(600))).len(), 1023);
    }
}
