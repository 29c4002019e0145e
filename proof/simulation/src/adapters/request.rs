//! What an HTTP request is about.

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use serde_json::Value;

/// An attempt of a call to AWS.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// The header `x-amz-target`.
    pub(super) target: String,
    pub(super) body: Value,
    /// The call. All its attempts have the same.
    /// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html>
    pub(super) invocation: String,
}

impl Request {
    pub(super) fn of(request: &HttpRequest) -> Self {
        let header = |name| request.headers().get(name).unwrap_or_default().to_owned();
        Self {
            target: header("x-amz-target"),
            body: request.body().bytes().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default(),
            invocation: header("amz-sdk-invocation-id"),
        }
    }

    /// For example `PutRecords`.
    pub(super) fn operation(&self) -> &str {
        self.target.rsplit_once('.').map_or(&self.target, |(_, operation)| operation)
    }

    pub(super) fn is_to_table(&self) -> bool {
        self.target.starts_with("DynamoDB")
    }

    /// What is called, as in traces.
    pub(super) fn called(&self) -> &'static str {
        match self.operation() {
            "PutRecords" => "Kinesis",
            "ChangeMessageVisibilityBatch" => "SQS",
            _ => "table",
        }
    }

    /// Whether it counts unresolved items, which only feeds a metric.
    pub(super) fn is_count(&self) -> bool {
        self.body["Select"] == "COUNT"
    }

    /// Whether it changes the status of an item.
    pub(super) fn changes_status(&self) -> bool {
        match self.operation() {
            "TransactWriteItems" => true,
            "BatchExecuteStatement" => list(&self.body["Statements"]).any(is_update),
            _ => false,
        }
    }

    /// The entries that can fail one by one, by their ids or handles. A call without such entries has the key that it is about.
    pub(super) fn entries(&self) -> Vec<String> {
        let body = &self.body;
        match self.operation() {
            "BatchExecuteStatement" => list(&body["Statements"]).map(|statement| text(id_of(statement))).collect(),
            "TransactWriteItems" => list(&body["TransactItems"]).map(|action| text(key_of(action))).collect(),
            "BatchGetItem" => {
                let tables = body["RequestItems"].as_object().into_iter().flatten();
                tables.flat_map(|(_, wanted)| list(&wanted["Keys"])).map(|key| text(&key["id"])).collect()
            }
            "PutRecords" => list(&body["Records"]).map(|record| text(&record["PartitionKey"])).collect(),
            "ChangeMessageVisibilityBatch" => {
                list(&body["Entries"]).map(|entry| text(&entry["ReceiptHandle"])).collect()
            }
            "Query" => vec![text(&body["IndexName"])],
            "UpdateItem" => vec![text(&body["Key"]["id"])],
            _ => vec![text(&body["Item"]["id"])],
        }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn is_update(statement: &Value) -> bool {
    statement["Statement"].as_str().is_some_and(|text| text.starts_with("UPDATE"))
}

/// The id of a statement: an INSERT begins with it, and an UPDATE has it after what it sets.
fn id_of(statement: &Value) -> &Value {
    let set = if is_update(statement) { statement["Statement"].as_str().unwrap_or_default() } else { "" };
    &statement["Parameters"][set.matches(" SET ").count()]
}

fn key_of(action: &Value) -> &Value {
    let update = &action["Update"]["Key"]["id"];
    if update.is_null() { &action["Put"]["Item"]["id"] } else { update }
}

/// The text of a string, or of an attribute that is one.
fn text(value: &Value) -> String {
    value.as_str().or_else(|| value["S"].as_str()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(target: &str, body: Value) -> Request {
        Request { target: target.to_owned(), body, invocation: String::new() }
    }

    #[test]
    fn the_entries_of_a_batch_are_named_by_their_ids() {
        let insert = json!({"Statement": "INSERT INTO …", "Parameters": [{"S": "a"}, {"S": "{}"}]});
        let update = json!({
            "Statement": r#"UPDATE "t" SET "status" = ? SET "done_at" = ? REMOVE "x" WHERE "id" = ?"#,
            "Parameters": [{"S": "DONE"}, {"S": "now"}, {"S": "b"}],
        });
        let batch = request("DynamoDB_20120810.BatchExecuteStatement", json!({"Statements": [insert, update]}));
        assert_eq!((batch.entries(), batch.changes_status()), (vec!["a".to_owned(), "b".to_owned()], true));
        let inserts = request("DynamoDB_20120810.BatchExecuteStatement", json!({"Statements": [insert]}));
        assert!(!inserts.changes_status());
        let items =
            json!({"TransactItems": [{"Update": {"Key": {"id": {"S": "a"}}}}, {"Put": {"Item": {"id": {"S": "b"}}}}]});
        assert_eq!(request("DynamoDB_20120810.TransactWriteItems", items).entries(), ["a", "b"]);
        let keys = json!({"RequestItems": {"t": {"Keys": [{"id": {"S": "a"}}]}}});
        assert_eq!(request("DynamoDB_20120810.BatchGetItem", keys).entries(), ["a"]);
    }
}
