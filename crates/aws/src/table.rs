//! The DynamoDB table of notifications. Every write is one conditional write per item, so that a repeat changes nothing.

mod batched;
mod item;
mod single;

use crate::classify;
use crate::config::TableWrites;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use batched::Batched;
use item::{number, shortened, stored, text, time};
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
    /// The statements of batched writes; none where each write is a call of its own.
    batched: Option<Batched>,
    done_retention_seconds: i64,
}

impl DynamoTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: Client, table_name: String) -> Self {
        let batched = Some(Batched::new(&table_name));
        Self { client, table_name, batched, done_retention_seconds: 0 }
            .with_done_retention(limits::DONE_RETENTION_DEFAULT_DAYS)
    }

    /// How notifications are written; batched unless said otherwise.
    #[must_use]
    pub fn with_writes(self, writes: TableWrites) -> Self {
        let batched = (writes == TableWrites::Batched).then(|| Batched::new(&self.table_name));
        Self { batched, ..self }
    }

    /// DONE items expire after so many days.
    #[must_use]
    pub fn with_done_retention(self, days: u32) -> Self {
        Self { done_retention_seconds: i64::from(days) * 24 * 60 * 60, ..self }
    }
}

/// What became of one conditional write: it took place, or its condition failed (with the old item, where the answer
/// has it).
enum Executed {
    Yes,
    ConditionFailed(Option<Stored>),
}

fn insertion(executed: Executed) -> Insertion {
    match executed {
        Executed::Yes => Insertion::Inserted,
        Executed::ConditionFailed(old) => Insertion::Exists(old),
    }
}

fn settlement(executed: &Executed) -> Settlement {
    match executed {
        Executed::Yes => Settlement::Settled,
        Executed::ConditionFailed(Some(Stored { status: Some(status), .. })) => Settlement::Already(*status),
        Executed::ConditionFailed(_) => Settlement::NotInit,
    }
}

/// Each entry's answer in the terms of its port.
fn each<A, B>(answers: Answers<A>, of: impl Fn(A) -> B) -> Answers<B> {
    Ok(answers?.into_iter().map(|answer| answer.map(&of)).collect())
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
        let answers = match &self.batched {
            Some(batched) => batched.insert(&self.client, notifications, received_at).await,
            None => single::insert(&self.client, &self.table_name, notifications, received_at).await,
        };
        each(answers, insertion)
    }
}

impl DownstreamTable for DynamoTable {
    async fn complete(&self, done: &[Done<'_>], done_at: Timestamp) -> Answers<Settlement> {
        let expires_at = done_at.as_second() + self.done_retention_seconds;
        let answers = match &self.batched {
            Some(batched) => batched.complete(&self.client, done, done_at, expires_at).await,
            None => single::complete(&self.client, &self.table_name, done, done_at, expires_at).await,
        };
        each(answers, |executed| settlement(&executed))
    }

    async fn fail(&self, id: &NotificationId, reason: &str, failed_at: Timestamp) -> Result<Settlement, Failure> {
        match &self.batched {
            Some(batched) => batched.fail(&self.client, id, reason, failed_at).await,
            None => single::fail(&self.client, &self.table_name, id, reason, failed_at).await,
        }
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
            .item("raw_bytes", number(&record.raw.len()))
            .item("reason", text(shortened(reason)))
            .item("failed_at", time(failed_at))
            .condition_expression("attribute_not_exists(id)")
            .send()
            .await;
        match put {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => Ok(()),
            Err(error) => Err(classify::failure("PutItem", &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::operation::batch_execute_statement::BatchExecuteStatementOutput;
    use aws_sdk_dynamodb::operation::batch_get_item::BatchGetItemOutput;
    use aws_sdk_dynamodb::operation::put_item::PutItemError;
    use aws_sdk_dynamodb::operation::put_item::PutItemOutput;
    use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
    use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;
    use aws_sdk_dynamodb::types::{BatchStatementError, BatchStatementErrorCodeEnum, BatchStatementResponse};
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

    /// With one call a write, the same questions have the same answers.
    #[tokio::test]
    async fn single_writes_answer_as_batched_ones_do() {
        let put = mock!(Client::put_item).sequence().output(|| PutItemOutput::builder().build()).error(|| {
            let failed = ConditionalCheckFailedException::builder().set_item(Some(item("DONE"))).build();
            PutItemError::ConditionalCheckFailedException(failed)
        });
        let table = table(&put.build()).with_writes(TableWrites::Single);
        let (a, b) = (notification("a"), notification("b"));
        let answers = table.insert(&[&a, &b], Timestamp::UNIX_EPOCH).await.unwrap();
        let old = Stored { status: Some(Status::Done), event: "{}".into() };
        assert_eq!(answers, [Ok(Insertion::Inserted), Ok(Insertion::Exists(Some(old)))]);
    }

    #[tokio::test]
    async fn single_writes_settle_only_over_init() {
        let refused = || {
            mock!(Client::update_item)
                .match_requests(|request| {
                    let values = request.expression_attribute_values().unwrap();
                    request.condition_expression() == Some("#status = :init") && values[":init"] == text("INIT")
                })
                .then_error(|| {
                    let failed = ConditionalCheckFailedException::builder().set_item(Some(item("DONE"))).build();
                    UpdateItemError::ConditionalCheckFailedException(failed)
                })
        };
        let done = [Done { id: &id("a"), outcome: Some(&Outcome::new(&true.into())) }];
        let already = Ok(Settlement::Already(Status::Done));
        let single = || table(&refused()).with_writes(TableWrites::Single);
        assert_eq!(single().fail(&id("a"), "no", Timestamp::UNIX_EPOCH).await, already);
        assert_eq!(single().complete(&done, Timestamp::UNIX_EPOCH).await.unwrap(), [already]);
    }
}
