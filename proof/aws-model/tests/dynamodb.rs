//! What the contract suite of `crates/aws` does not show, because the adapters never send it, or because engines differ.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use aws_model::dynamodb::{Choices, TwiceInBatch, TwiceInTransaction};
use aws_model::{Aws, DynamoDb, EntryFault, Request};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

/// A model with the table `t`, whose key is `id` and whose index `i` has the keys `shard` and `since`.
struct Model(Aws);

impl Model {
    fn new(choices: Choices) -> Self {
        let mut model = Self(Aws { dynamodb: DynamoDb::new(choices), ..Aws::default() });
        let attribute = |name: &str, kind: &str| json!({"AttributeName": name, "AttributeType": kind});
        let key = |name: &str, kind: &str| json!({"AttributeName": name, "KeyType": kind});
        let index = json!({
            "IndexName": "i",
            "KeySchema": [key("shard", "HASH"), key("since", "RANGE")],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        });
        let definitions = [attribute("id", "S"), attribute("shard", "N"), attribute("since", "S")];
        model.ok(
            "CreateTable",
            &json!({
                "TableName": "t",
                "AttributeDefinitions": definitions,
                "KeySchema": [key("id", "HASH")],
                "GlobalSecondaryIndexes": [index],
            }),
        );
        model
    }

    /// The status and the body of an answer.
    fn call_at(&mut self, now: Timestamp, operation: &str, body: &Value) -> (u16, Value) {
        let (target, body) = (format!("DynamoDB_20120810.{operation}"), body.to_string());
        let answer = self.0.handle(Request { target: &target, body: body.as_bytes() }, now, &|_| None);
        (answer.status, serde_json::from_str(&answer.body).unwrap())
    }

    fn ok(&mut self, operation: &str, body: &Value) -> Value {
        let (status, answer) = self.call_at(Timestamp::UNIX_EPOCH, operation, body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    fn error(&mut self, operation: &str, body: &Value) -> Value {
        let (status, answer) = self.call_at(Timestamp::UNIX_EPOCH, operation, body);
        assert_eq!(status, 400, "{answer}");
        answer["__type"].clone()
    }

    fn put(&mut self, id: &str, since: &str) {
        let item = json!({"id": {"S": id}, "shard": {"N": "7"}, "since": {"S": since}});
        self.ok("PutItem", &json!({"TableName": "t", "Item": item}));
    }

    fn batch(&mut self, statements: &[Value]) -> (u16, Value) {
        self.call_at(Timestamp::UNIX_EPOCH, "BatchExecuteStatement", &json!({"Statements": statements}))
    }

    fn item(&mut self, id: &str) -> Value {
        self.ok("GetItem", &json!({"TableName": "t", "Key": {"id": {"S": id}}, "ConsistentRead": true}))["Item"].clone()
    }

    fn in_index(&mut self) -> Value {
        let query = json!({"TableName": "t", "IndexName": "i", "KeyConditionExpression": "shard = :s",
            "ExpressionAttributeValues": {":s": {"N": "7"}}});
        self.ok("Query", &query)["Count"].clone()
    }
}

fn insert(id: &str) -> Value {
    json!({
        "Statement": r#"INSERT INTO "t" VALUE {'id': ?, 'a': '0'}"#,
        "Parameters": [{"S": id}],
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    })
}

fn update(id: &str, from: &str, to: &str) -> Value {
    json!({
        "Statement": r#"UPDATE "t" SET "a" = ? WHERE "id" = ? AND "a" = ?"#,
        "Parameters": [{"S": to}, {"S": id}, {"S": from}],
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    })
}

#[test]
fn the_old_item_is_in_the_error_of_a_statement_as_chosen() {
    for (duplicate, old) in [(false, false), (false, true), (true, false), (true, true)] {
        let choices =
            Choices { duplicate_item_is_returned: duplicate, old_item_is_returned: old, ..Choices::default() };
        let mut model = Model::new(choices);
        model.batch(&[insert("a")]);
        let (_, answer) = model.batch(&[insert("a"), update("a", "1", "2"), update("b", "0", "1")]);
        let errors: Vec<_> = (0..3).map(|place| &answer["Responses"][place]["Error"]).collect();
        let codes = ["DuplicateItem", "ConditionalCheckFailed", "ConditionalCheckFailed"];
        assert_eq!(errors.iter().map(|error| &error["Code"]).collect::<Vec<_>>(), codes);
        assert_eq!(errors[0]["Item"].is_object(), duplicate && old);
        assert_eq!(errors[1]["Item"].is_object(), old);
        assert!(errors[2]["Item"].is_null(), "there is no item");
    }
}

#[test]
fn two_statements_for_one_item_are_executed_or_the_call_is_refused_after_the_first() {
    let twice = [insert("a"), update("a", "0", "1"), insert("b")];
    let mut model = Model::new(Choices::default());
    assert_eq!(model.batch(&twice).0, 200);
    assert_eq!((model.item("a")["a"].clone(), model.item("b").is_object()), (json!({"S": "1"}), true));

    let mut model = Model::new(Choices { item_twice_in_batch: TwiceInBatch::RefusedTooLate, ..Choices::default() });
    let (status, answer) = model.batch(&twice);
    assert_eq!((status, &answer["__type"]), (400, &json!("ValidationException")));
    assert_eq!((model.item("a")["a"].clone(), model.item("b").is_object()), (json!({"S": "0"}), false));
}

#[test]
fn two_actions_on_one_item_are_refused_or_cancel_the_transaction() {
    let put = json!({"Put": {"TableName": "t", "Item": {"id": {"S": "a"}}}});
    let twice = json!({"TransactItems": [put, put]});
    for (choice, code) in [
        (TwiceInTransaction::Refused, "ValidationException"),
        (TwiceInTransaction::Canceled, "TransactionCanceledException"),
    ] {
        let mut model = Model::new(Choices { item_twice_in_transaction: choice, ..Choices::default() });
        assert_eq!(model.error("TransactWriteItems", &twice), code);
        assert!(model.item("a").is_null());
    }
}

#[test]
fn a_token_makes_a_transaction_idempotent_for_ten_minutes() {
    let mut model = Model::new(Choices::default());
    let transaction = |id: &str| {
        let put =
            json!({"TableName": "t", "Item": {"id": {"S": id}}, "ConditionExpression": "attribute_not_exists(id)"});
        json!({"TransactItems": [{"Put": put}], "ClientRequestToken": "x"})
    };
    let call = |model: &mut Model, seconds, id| {
        let at = Timestamp::from_second(seconds).unwrap();
        model.call_at(at, "TransactWriteItems", &transaction(id)).1["__type"].clone()
    };
    assert_eq!(call(&mut model, 0, "a"), Value::Null);
    assert_eq!(call(&mut model, 599, "a"), Value::Null);
    assert_eq!(call(&mut model, 599, "b"), "IdempotentParameterMismatchException");
    assert_eq!(call(&mut model, 600, "a"), "TransactionCanceledException", "it is a new transaction");
}

#[test]
fn an_index_follows_its_table_at_once_or_when_it_is_told_to() {
    let mut model = Model::new(Choices::default());
    model.put("a", "1");
    assert_eq!(model.in_index(), 1);
    model.0.dynamodb.let_indexes_lag();
    model.put("b", "2");
    assert_eq!(model.in_index(), 1);
    model.0.dynamodb.update_indexes("t", "b");
    assert_eq!(model.in_index(), 2);
    model.ok("UpdateItem", &json!({"TableName": "t", "Key": {"id": {"S": "b"}}, "UpdateExpression": "REMOVE since"}));
    assert_eq!(model.in_index(), 2);
    model.0.dynamodb.update_indexes("t", "b");
    assert_eq!(model.in_index(), 1);
}

#[test]
fn an_item_expires_when_its_time_to_live_is_over_and_its_removal_is_a_change() {
    let mut model = Model::new(Choices::default());
    for (id, seconds) in [("a", "100"), ("b", "101")] {
        model.ok("PutItem", &json!({"TableName": "t", "Item": {"id": {"S": id}, "ttl": {"N": seconds}}}));
    }
    model.put("c", "1");
    model.0.dynamodb.take_changes();
    model.0.dynamodb.expire("t", "ttl", Timestamp::UNIX_EPOCH + Duration::from_secs(100));
    let changes = model.0.dynamodb.take_changes();
    assert_eq!(
        changes.iter().map(|change| (&*change.image.key, change.image.new.is_none())).collect::<Vec<_>>(),
        [("a", true)]
    );
    assert!(model.item("a").is_null() && model.item("b").is_object());
}

#[test]
fn entries_that_fail_have_no_effect_and_say_so() {
    let mut model = Model::new(Choices::default());
    let mut failing = |target: &str, body: Value, fault: EntryFault| {
        let request = (format!("DynamoDB_20120810.{target}"), body.to_string());
        let request = Request { target: &request.0, body: request.1.as_bytes() };
        let answer = model.0.handle(request, Timestamp::UNIX_EPOCH, &|place| (place == 0).then_some(fault));
        serde_json::from_str::<Value>(&answer.body).unwrap()
    };
    let batch =
        failing("BatchExecuteStatement", json!({"Statements": [insert("a"), insert("b")]}), EntryFault::Throttled);
    assert_eq!(batch["Responses"][0]["Error"]["Code"], "ThrottlingError");
    let keys =
        json!({"Keys": [{"id": {"S": "a"}}, {"id": {"S": "b"}}], "ConsistentRead": true, "ProjectionExpression": "id"});
    let read = failing("BatchGetItem", json!({"RequestItems": {"t": keys}}), EntryFault::Throttled);
    assert_eq!(read["Responses"]["t"], json!([{"id": {"S": "b"}}]));
    assert_eq!(read["UnprocessedKeys"]["t"]["Keys"], json!([{"id": {"S": "a"}}]));
    let put = |id: &str| json!({"Put": {"TableName": "t", "Item": {"id": {"S": id}}}});
    let transaction =
        failing("TransactWriteItems", json!({"TransactItems": [put("c"), put("d")]}), EntryFault::Conflict);
    let codes: Vec<_> = (0..2).map(|place| transaction["CancellationReasons"][place]["Code"].clone()).collect();
    assert_eq!(codes, ["TransactionConflict", "None"]);
    assert!(["a", "c", "d"].iter().all(|id| model.item(id).is_null()) && model.item("b").is_object());
}

#[test]
fn a_request_that_breaks_a_limit_is_refused() {
    let mut model = Model::new(Choices::default());
    let statements: Vec<_> = (0..26).map(|number| insert(&number.to_string())).collect();
    assert_eq!(model.batch(&statements).0, 400);
    let actions: Vec<_> =
        (0..101).map(|id| json!({"Put": {"TableName": "t", "Item": {"id": {"S": id.to_string()}}}})).collect();
    assert_eq!(model.error("TransactWriteItems", &json!({"TransactItems": actions})), "ValidationException");
    let keys: Vec<_> = (0..101).map(|id| json!({"id": {"S": id.to_string()}})).collect();
    let read = |keys: &[Value]| json!({"RequestItems": {"t": {"Keys": keys, "ConsistentRead": true, "ProjectionExpression": "id"}}});
    assert_eq!(model.error("BatchGetItem", &read(&keys)), "ValidationException");
    assert_eq!(model.error("BatchGetItem", &read(&[keys[0].clone(), keys[0].clone()])), "ValidationException");
    let large = json!({"id": {"S": "a"}, "b": {"S": "x".repeat(400 * 1024)}});
    assert_eq!(model.error("PutItem", &json!({"TableName": "t", "Item": large})), "ValidationException");
}

#[test]
fn what_the_model_does_not_have_is_refused() {
    let mut model = Model::new(Choices::default());
    assert_eq!(model.error("Scan", &json!({"TableName": "t"})), "ValidationException");
    let put = json!({"TableName": "t", "Item": {"id": {"S": "a"}}, "ReturnItemCollectionMetrics": "SIZE"});
    assert_eq!(model.error("PutItem", &put), "ValidationException");
    let no_key = json!({"TableName": "t", "Item": {"id": {"S": ""}}});
    assert_eq!(model.error("PutItem", &no_key), "ValidationException");
    let wrong_type = json!({"TableName": "t", "Item": {"id": {"S": "a"}, "shard": {"S": "7"}}});
    assert_eq!(model.error("PutItem", &wrong_type), "ValidationException");
    let inconsistent = json!({"TableName": "t", "Key": {"id": {"S": "a"}}});
    assert_eq!(model.error("GetItem", &inconsistent), "ValidationException");
}
