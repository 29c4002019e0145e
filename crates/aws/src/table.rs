//! The DynamoDB table of notifications. Every write is one conditional write per item, so a repeat changes nothing.

mod batched;
mod item;
mod pending;
mod transaction;
mod update;

use crate::classify;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use item::{STORED_ATTRIBUTES, number, stored, text, time};
use notification::change::{Commit, Stored};
use notification::ports::{Answers, Committed, DownstreamTable, Orphan, TableReader};
use notification::{Failure, NotificationId, Reason, ReasonCode, Status, Timestamp, limits};
use std::collections::HashMap;

/// The table, by its name.
#[derive(Debug, Clone)]
pub struct DynamoTable {
    client: Client,
    table_name: String,
    insert_statement: String,
    done_retention_seconds: i64,
}

impl DynamoTable {
    /// The table of this name.
    #[must_use]
    pub fn new(client: Client, table_name: String) -> Self {
        let insert_statement = batched::insert_statement(&table_name);
        Self { client, table_name, insert_statement, done_retention_seconds: 0 }
            .with_done_retention(limits::DONE_RETENTION_DEFAULT_DAYS)
    }

    /// The same table with this retention of DONE items, in days.
    #[must_use]
    pub fn with_done_retention(self, days: u32) -> Self {
        Self { done_retention_seconds: i64::from(days) * 24 * 60 * 60, ..self }
    }
}

impl TableReader for DynamoTable {
    async fn read(&self, ids: &[&NotificationId]) -> Answers<Option<Stored>> {
        debug_assert!(ids.len() <= limits::BATCH_GET_ITEM_MAX);
        let keys = ids.iter().map(|id| HashMap::from([("id".to_owned(), text(id.as_str()))])).collect();
        let names = STORED_ATTRIBUTES.map(|name| (format!("#{name}"), name.to_owned()));
        let wanted = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .consistent_read(true)
            .projection_expression(names.each_ref().map(|(placeholder, _)| placeholder.as_str()).join(", "))
            .set_expression_attribute_names(Some(names.into()))
            .build()
            .map_err(|_| Failure::permanent("BatchGetItem: no keys"))?;
        let output = self
            .client
            .batch_get_item()
            .request_items(&self.table_name, wanted)
            .send()
            .await
            .map_err(|error| classify::failure("BatchGetItem", &error))?;

        // The answer has its own order, and may lack unprocessed keys.
        let items = output.responses().and_then(|tables| tables.get(&self.table_name)).into_iter().flatten();
        let mut found: HashMap<&str, _> = items.filter_map(|item| Some((key(item)?, Ok(Some(stored(item)))))).collect();
        let unprocessed = output.unprocessed_keys().and_then(|tables| tables.get(&self.table_name));
        for id in unprocessed.into_iter().flat_map(KeysAndAttributes::keys).filter_map(key) {
            found.insert(id, Err(Failure::retryable("BatchGetItem: this key was not processed")));
        }
        Ok(ids.iter().map(|id| found.get(id.as_str()).cloned().unwrap_or(Ok(None))).collect())
    }
}

fn key(item: &HashMap<String, AttributeValue>) -> Option<&str> {
    item.get("id")?.as_s().ok().map(String::as_str)
}

impl DownstreamTable for DynamoTable {
    async fn commit(&self, group: &[Commit<'_>], at: Timestamp) -> Answers<Committed> {
        transaction::commit(self, group, at).await
    }

    async fn quarantine(&self, orphan: Orphan<'_>, reason: &str, failed_at: Timestamp) -> Result<(), Failure> {
        let kept = &orphan.raw[..orphan.raw.len().min(limits::RAW_KEPT_MAX_BYTES)];
        let id = orphan.item_id();
        let unresolved = update::unresolved(Status::Failed, &id, failed_at);
        let reason = update::reason_attributes(Reason { code: ReasonCode::Orphan, text: reason });
        let put = unresolved
            .into_iter()
            .chain(reason)
            .fold(self.client.put_item(), |put, (name, value)| put.item(name, value))
            .table_name(&self.table_name)
            .item("id", text(id))
            .item("status", text(Status::Failed.as_str()))
            .item("raw", AttributeValue::B(Blob::new(kept)))
            .item("raw_bytes", number(&orphan.raw.len()))
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
    use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;
    use aws_sdk_dynamodb::types::{BatchStatementError, BatchStatementErrorCodeEnum, BatchStatementResponse};
    use aws_smithy_mocks::{Rule, mock, mock_client};
    use notification::change::Run;
    use notification::ports::{Table, Written};
    use notification::report::Identifier;
    use notification::testing::{NOTE, REJECTED};
    use notification::{Change, Claim, Notification, Outcome};
    use update::Update;

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
    async fn rule_12_a_refused_insert_returns_the_old_item_if_the_answer_has_it() {
        let rule = answers(vec![
            None,
            Some(("DuplicateItem", Some("DONE"))),
            Some(("DuplicateItem", None)),
            Some(("ThrottlingError", None)),
            Some(("ValidationError", None)),
        ]);
        let notifications = ["a", "b", "c", "d", "e"].map(notification);
        let inserts = notifications.each_ref().map(Change::insert);
        let answers = table(&rule).write(&inserts, Timestamp::UNIX_EPOCH).await.unwrap();
        let old = Stored { status: Some(Status::Done), event: "{}".into(), ..Stored::default() };
        assert_eq!(answers[0], Ok(Written::Yes));
        assert_eq!(answers[1], Ok(Written::Refused(old)));
        assert_eq!(answers[2], Ok(Written::RefusedUnseen));
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
                            number(&notification("a").id().pending_shard()),
                            text("1970-01-01T00:00:00.000Z"),
                        ]
            })
            .then_output(|| {
                BatchExecuteStatementOutput::builder().responses(BatchStatementResponse::builder().build()).build()
            });
        let notification = notification("a");
        let answers = table(&rule).write(&[Change::insert(&notification)], Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(answers, [Ok(Written::Yes)]);
    }

    fn done<'a>(id: &'a NotificationId, outcome: Option<&'a Outcome>) -> Change<'a> {
        Change::done(id, "{}", outcome)
    }

    #[tokio::test]
    async fn done_is_written_only_over_init_ends_pending_and_expires_after_its_retention() {
        let rule = mock!(Client::batch_execute_statement)
            .match_requests(|request| {
                let [plain, with_outcome] = request.statements() else { return false };
                let condition =
                    r#" REMOVE "pending_shard" REMOVE "pending_since" WHERE "id" = ? AND "status" = ? AND "event" = ?"#;
                let expires = AttributeValue::N("7776000".into());
                plain.statement()
                    == format!(r#"UPDATE "t" SET "status" = ? SET "done_at" = ? SET "expires_at" = ?{condition}"#)
                    && plain.parameters()
                        == [
                            text("DONE"),
                            text("1970-01-01T00:00:00.000Z"),
                            expires,
                            text("a"),
                            text("INIT"),
                            text("{}"),
                        ]
                    && with_outcome.statement().contains(r#"SET "outcome" = ?"#)
                    && with_outcome.parameters()[3..] == [text("true"), text("b"), text("INIT"), text("{}")]
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
        let (a, b, outcome) = (id("a"), id("b"), Outcome::new(&true.into()));
        let changes = [done(&a, None), done(&b, Some(&outcome))];
        let answers = table(&rule).write(&changes, Timestamp::UNIX_EPOCH).await.unwrap();
        let old = Stored { status: Some(Status::Failed), event: "{}".into(), ..Stored::default() };
        assert_eq!(answers, [Ok(Written::Yes), Ok(Written::Refused(old))]);
    }

    #[tokio::test]
    async fn a_claimed_notification_is_settled_only_under_its_own_claim() {
        let rule = mock!(Client::batch_execute_statement)
            .match_requests(|request| {
                let statement = &request.statements()[0];
                statement.statement().ends_with(
                    r#" REMOVE "owner" REMOVE "lease_until" REMOVE "pending_shard" REMOVE "pending_since" WHERE "id" = ? AND "status" = ? AND "owner" = ? AND "lease_until" = ?"#,
                ) && statement.parameters()[3..]
                    == [text("a"), text("CLAIMED"), text("me"), text("1970-01-01T00:00:09.000Z")]
            })
            .then_output(|| BatchExecuteStatementOutput::builder().responses(BatchStatementResponse::builder().build()).build());
        let claim = Claim { owner: "me".into(), lease_until: Timestamp::from_second(9).unwrap() };
        let id = id("a");
        assert_eq!(
            table(&rule).write(&[Change::done_claimed(&id, &claim, None)], Timestamp::UNIX_EPOCH).await.unwrap(),
            [Ok(Written::Yes)]
        );
    }

    /// The statement and parameters of one change.
    fn statement_of(change: &Change<'_>) -> (String, Vec<AttributeValue>) {
        Update::of(change, Timestamp::UNIX_EPOCH, 0).statement("t")
    }

    #[test]
    fn every_change_that_leaves_claimed_removes_the_whole_claim_readable_or_not() {
        let claim = Claim { owner: "me".into(), lease_until: Timestamp::UNIX_EPOCH };
        let a = id("a");
        for change in [
            Change::done_claimed(&a, &claim, None),
            Change::fail_claimed(&a, &claim, REJECTED),
            Change::release(&a, &claim, NOTE),
            Change::doubt_claimed(&a, &claim, REJECTED),
            Change::doubt_unreadable_claim(&a, REJECTED),
        ] {
            let (statement, _) = statement_of(&change);
            assert!(statement.contains(r#" REMOVE "owner" REMOVE "lease_until""#), "{statement}");
        }
    }

    #[test]
    fn a_claim_or_a_failure_is_written_only_if_no_call_has_an_unknown_outcome() {
        let claim = Claim { owner: "me".into(), lease_until: Timestamp::UNIX_EPOCH };
        let a = id("a");
        for change in [Change::claim(&a, "{}", &claim), Change::fail(&a, "{}", Run::Any, REJECTED)] {
            let (statement, parameters) = statement_of(&change);
            assert!(
                statement
                    .ends_with(r#" WHERE "id" = ? AND "status" = ? AND "event" = ? AND "unknown_call_at" IS MISSING"#),
                "{statement}"
            );
            assert_eq!(parameters[parameters.len() - 3..], [text("a"), text("INIT"), text("{}")]);
        }
    }

    #[test]
    fn an_unknown_outcome_is_noted_until_an_operator_moves_the_notification_back_to_init() {
        let a = id("a");
        let (statement, parameters) = statement_of(&Change::note_unknown_call(&a, "{}", NOTE));
        assert_eq!(
            statement,
            r#"UPDATE "t" SET "status" = ? SET "unknown_call_at" = ? SET "reason" = ? SET "reason_code" = ? SET "last_failure_at" = ? SET "failures" = ? WHERE "id" = ? AND "status" = ? AND "event" = ?"#
        );
        let now = text("1970-01-01T00:00:00.000Z");
        let noted = [text("could not connect"), text("receiver_unavailable"), now.clone(), number(&1)];
        assert_eq!(parameters[..2], [text("INIT"), now]);
        assert_eq!(parameters[2..6], noted);
        assert_eq!(parameters[6..], [text("a"), text("INIT"), text("{}")]);
        assert!(
            statement_of(&Change::resolve_retry(&a, Timestamp::UNIX_EPOCH, &[]))
                .0
                .contains(r#" REMOVE "unknown_call_at""#)
        );
    }

    #[test]
    fn an_item_has_the_time_of_its_status_to_the_millisecond() {
        let at = Timestamp::from_nanosecond(1_700_000_000_123_999_999).unwrap();
        for (status, name) in
            [("INIT", "pending_since"), ("DONE", "done_at"), ("FAILED", "failed_at"), ("IN_DOUBT", "in_doubt_at")]
        {
            let mut item = item(status);
            item.insert(name.into(), time(at));
            item.insert("other_at".into(), text("1970-01-01T00:00:00.000Z"));
            let since = stored(&item).since.unwrap();
            assert_eq!(since.as_millisecond(), at.as_millisecond(), "{status}");
        }
        assert_eq!(stored(&item("INIT")).since, None);
    }

    #[tokio::test]
    async fn a_condition_that_fails_without_an_old_item_is_refused_unseen() {
        let table = table(&answers(vec![Some(("ConditionalCheckFailed", None))]));
        let changed = table.write(&[done(&id("a"), None)], Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(changed, [Ok(Written::RefusedUnseen)]);
    }

    #[tokio::test]
    async fn a_transaction_has_done_and_the_effect_of_each_and_its_reasons_name_the_refused() {
        use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
        use aws_sdk_dynamodb::types::CancellationReason;
        use aws_sdk_dynamodb::types::error::TransactionCanceledException;
        use notification::{FailureKind, Put};

        let rule = mock!(Client::transact_write_items)
            .match_requests(|request| {
                request.transact_items().iter().enumerate().all(|(n, item)| match n % 2 {
                    0 => item.update().is_some_and(|update| {
                        update.condition_expression() == Some("#status = :o_status AND #event = :o_event")
                    }),
                    _ => item.put().is_some_and(|put| {
                        put.table_name() == "ledger" && put.condition_expression() == Some("attribute_not_exists(#key)")
                    }),
                }) && request.transact_items().len() == 8
            })
            .then_error(|| {
                let reason = |code: &str| CancellationReason::builder().code(code).build();
                let not_init =
                    CancellationReason::builder().code("ConditionalCheckFailed").set_item(Some(item("DONE")));
                let canceled = TransactionCanceledException::builder()
                    .set_cancellation_reasons(Some(vec![
                        not_init.build(),
                        reason("None"),
                        reason("None"),
                        reason("ConditionalCheckFailed"),
                        reason("TransactionConflict"),
                        reason("None"),
                        reason("None"),
                        reason("None"),
                    ]))
                    .build();
                TransactWriteItemsError::TransactionCanceledException(canceled)
            });
        let puts = [Put { table: "ledger".into(), key: "id", attributes: vec![("id", "a".into())] }];
        let ids = ["a", "b", "c", "d"].map(id);
        let group = ids.each_ref().map(|id| Commit { change: done(id, None), puts: &puts });
        let committed = table(&rule).commit(&group, Timestamp::UNIX_EPOCH).await.unwrap();
        let is_done = Stored { status: Some(Status::Done), event: "{}".into(), ..Stored::default() };
        assert_eq!(committed[0], Ok(Committed::Written(Written::Refused(is_done))));
        let kind = |n: usize| committed[n].as_ref().unwrap_err().kind;
        assert_eq!(kind(1), FailureKind::Permanent, "an item of the effect exists");
        assert_eq!(kind(2), FailureKind::Retryable, "in another transaction");
        assert_eq!(committed[3], Ok(Committed::HeldUp));
    }

    #[tokio::test]
    async fn a_read_is_consistent_is_joined_by_key_and_distinguishes_absent_from_unprocessed() {
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
        assert_eq!(
            answers[1],
            Ok(Some(Stored { status: Some(Status::Init), event: "{}".into(), ..Stored::default() }))
        );
        assert!(answers[2].as_ref().unwrap_err().kind.is_retryable());
    }

    #[tokio::test]
    async fn an_item_is_in_the_index_of_unresolved_items_only_while_it_is_failed_or_in_doubt() {
        let rule = mock!(Client::batch_execute_statement)
            .match_requests(|request| {
                let [failed, in_doubt, redriven, resolved, done] = request.statements() else { return false };
                let sets = r#" SET "unresolved_partition" = ? SET "unresolved_since" = ?"#;
                let removes = r#" REMOVE "unresolved_partition" REMOVE "unresolved_since""#;
                let time = text("1970-01-01T00:00:00.000Z");
                failed.statement().contains(sets)
                    && failed.parameters()[4..6] == [text("FAILED#12"), time.clone()]
                    && in_doubt.statement().contains(sets)
                    && in_doubt.parameters()[4..6] == [text("IN_DOUBT#12"), time]
                    && redriven.statement().contains(removes)
                    && resolved.statement().contains(removes)
                    && !done.statement().contains("unresolved")
            })
            .then_output(|| {
                BatchExecuteStatementOutput::builder().responses(BatchStatementResponse::builder().build()).build()
            });
        let a = id("a");
        let claim = Claim { owner: "me".into(), lease_until: Timestamp::from_second(9).unwrap() };
        let changes = [
            Change::fail(&a, "{}", Run::Any, REJECTED),
            Change::doubt_claimed(&a, &claim, REJECTED),
            Change::redrive(&a, Timestamp::UNIX_EPOCH, &[]),
            Change::resolve_done(&a, Timestamp::UNIX_EPOCH),
            done(&a, None),
        ];
        assert_eq!(table(&rule).write(&changes, Timestamp::UNIX_EPOCH).await.unwrap(), [Ok(Written::Yes)]);
    }

    #[tokio::test]
    async fn quarantining_an_orphan_twice_succeeds_and_stores_no_more_than_fits_into_an_item() {
        let rule = mock!(Client::put_item)
            .match_requests(|request| {
                let item = request.item().unwrap();
                item["id"] == text("kinesis:shardId-0:7")
                    && item["unresolved_partition"]
                        == text(format!("FAILED#{}", notification::id::index_shard("kinesis:shardId-0:7")))
                    && item["unresolved_since"] == item["failed_at"]
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
        let record = Orphan { shard: "shardId-0", sequence_number: &sequence_number, raw: &raw };
        assert_eq!(table(&rule).quarantine(record, "not valid UTF-8", Timestamp::UNIX_EPOCH).await, Ok(()));
    }
}
