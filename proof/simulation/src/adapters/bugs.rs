//! Known bugs of such adapters, put back one at a time, by changing what is sent and what comes back. Everything that a bug
//! changes is in this file. Deployed code has no switch.

use super::ThroughAdapters;
use super::request::Request;
use aws_model::Response;
use serde_json::{Value, json};

macro_rules! bugs {
    ($($name:ident: $bug:literal in $place:literal,)*) => {
        /// A bug of an adapter.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum AdapterBug {
            $(#[doc = $bug] $name,)*
        }

        impl AdapterBug {
            /// All of them: the bug in words, and the file of `crates/aws` where it would be.
            pub const ALL: &[(Self, &'static str, &'static str)] = &[$((Self::$name, $bug, $place),)*];

            /// The deployment that has it.
            pub(crate) fn deployment(self) -> &'static ThroughAdapters {
                match self {
                    $(Self::$name => &ThroughAdapters { bug: Some(Self::$name) },)*
                }
            }
        }
    };
}

bugs! {
    ThrottleTakenForPermanent: "a throttle taken for permanent" in "classify",
    DuplicateTakenForSuccess: "DuplicateItem taken for success" in "table/batched",
    StatementConditionsLost: "the conditions of an UPDATE lost" in "table/update",
    ClaimKept: "a settled item keeps its claim" in "table/update",
    StaysPending: "DONE without leaving the pending index" in "table/update",
    ExpiryInMilliseconds: "the time to live in milliseconds" in "table/update",
    TransactionConditionsLost: "the conditions of a transaction lost" in "table/transaction",
    ReasonsJoinedWrongly: "cancellation reasons joined to the wrong notifications" in "table/transaction",
    ItemsJoinedByPlace: "items of BatchGetItem joined by their place" in "table",
    UnprocessedKeysIgnored: "UnprocessedKeys taken for absent items" in "table",
    LeaseConditionLost: "the condition of the sweep's lease lost" in "table/pending",
    FailedRecordsIgnored: "failed records of PutRecords taken for put" in "stream",
    FailedRecordsJoinedWrongly: "failures of PutRecords joined to the wrong records" in "stream",
    OnePartitionKey: "the event's type as partition key" in "stream",
    WaitInMilliseconds: "the visibility timeout in milliseconds" in "queue",
}

impl AdapterBug {
    /// What it makes of a request.
    pub(super) fn break_request(self, request: &mut Request) {
        let operation = request.operation().to_owned();
        let body = &mut request.body;
        match (self, operation.as_str()) {
            (Self::StatementConditionsLost, "BatchExecuteStatement") => {
                each(&mut body["Statements"], cut_conditions);
            }
            (Self::ClaimKept, "BatchExecuteStatement") => each(&mut body["Statements"], |statement| {
                replace(&mut statement["Statement"], r#" REMOVE "owner" REMOVE "lease_until""#, "");
            }),
            (Self::StaysPending, "BatchExecuteStatement") => each(&mut body["Statements"], |statement| {
                replace(&mut statement["Statement"], r#" REMOVE "pending_shard" REMOVE "pending_since""#, "");
            }),
            (Self::ExpiryInMilliseconds, "TransactWriteItems") => each(&mut body["TransactItems"], |action| {
                if let Some(seconds) = action.pointer_mut("/Update/ExpressionAttributeValues/:n_expires_at/N") {
                    append(seconds, "000");
                }
            }),
            (Self::TransactionConditionsLost, "TransactWriteItems") => each(&mut body["TransactItems"], |action| {
                for write in ["Update", "Put"] {
                    if let Some(write) = action.get_mut(write) {
                        cut_condition(write);
                    }
                }
            }),
            (Self::LeaseConditionLost, "UpdateItem") => cut_condition(body),
            (Self::OnePartitionKey, "PutRecords") => {
                each(&mut body["Records"], |record| record["PartitionKey"] = json!("refund.requested"));
            }
            (Self::WaitInMilliseconds, "ChangeMessageVisibilityBatch") => each(&mut body["Entries"], |entry| {
                entry["VisibilityTimeout"] = json!(entry["VisibilityTimeout"].as_u64().unwrap_or_default() * 1000);
            }),
            _ => {}
        }
    }

    /// What it makes of an answer.
    pub(super) fn break_answer(self, request: &Request, answer: &mut Response) {
        let mut body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        match (self, request.operation()) {
            (Self::ThrottleTakenForPermanent, _) if is_throttle(&body["__type"]) => {
                body["__type"] = json!("ValidationException");
            }
            (Self::ThrottleTakenForPermanent, "BatchExecuteStatement") => each(&mut body["Responses"], |response| {
                if let Some(code) = response.pointer_mut("/Error/Code") {
                    replace(code, "ThrottlingError", "ValidationError");
                }
            }),
            (Self::DuplicateTakenForSuccess, "BatchExecuteStatement") => each(&mut body["Responses"], |response| {
                if response["Error"]["Code"] == "DuplicateItem" {
                    *response = json!({});
                }
            }),
            (Self::ReasonsJoinedWrongly, "TransactWriteItems") => {
                // A notification has two actions here: its change and its entry.
                if let Some(reasons) = body["CancellationReasons"].as_array_mut() {
                    reasons.rotate_right(2);
                }
            }
            (Self::ItemsJoinedByPlace, "BatchGetItem") => {
                let ids = request.entries();
                let tables = body["Responses"].as_object_mut().into_iter().flatten();
                for (item, id) in tables.filter_map(|(_, items)| items.as_array_mut()).flatten().zip(ids) {
                    item["id"] = json!({"S": id});
                }
            }
            (Self::UnprocessedKeysIgnored, "BatchGetItem") if answer.status == 200 => {
                body["UnprocessedKeys"] = json!({});
            }
            (Self::FailedRecordsIgnored, "PutRecords") => each(&mut body["Records"], |record| {
                *record = json!({"SequenceNumber": "1", "ShardId": "shardId-000000000000"});
            }),
            (Self::FailedRecordsJoinedWrongly, "PutRecords") => {
                if let Some(records) = body["Records"].as_array_mut() {
                    records.rotate_right(1);
                }
            }
            _ => return,
        }
        answer.body = body.to_string();
    }
}

/// Changes each element of a list, if it is one.
fn each(list: &mut Value, change: impl FnMut(&mut Value)) {
    list.as_array_mut().into_iter().flatten().for_each(change);
}

/// Replaces a part of a text, if it is one.
fn replace(text: &mut Value, part: &str, by: &str) {
    if let Some(replaced) = text.as_str().map(|text| text.replace(part, by)) {
        *text = json!(replaced);
    }
}

fn append(text: &mut Value, end: &str) {
    if let Some(longer) = text.as_str().map(|text| format!("{text}{end}")) {
        *text = json!(longer);
    }
}

/// Cuts an UPDATE off after its id, with the parameters of what is cut.
fn cut_conditions(statement: &mut Value) {
    let text = statement["Statement"].as_str().unwrap_or_default();
    let Some(start) = text.find(" WHERE ") else { return };
    let Some(place) = text[start..].find(" AND ").map(|place| start + place) else { return };
    let lost = text[place..].matches('?').count();
    statement["Statement"] = json!(text[..place]);
    if let Some(parameters) = statement["Parameters"].as_array_mut() {
        parameters.truncate(parameters.len() - lost);
    }
}

/// Takes away the condition of a write, and the names and values that only the condition uses.
fn cut_condition(write: &mut Value) {
    let Some(write) = write.as_object_mut() else { return };
    if write.remove("ConditionExpression").is_none() {
        return;
    }
    let update = write.get("UpdateExpression").and_then(Value::as_str).unwrap_or_default().to_owned();
    for placeholders in ["ExpressionAttributeNames", "ExpressionAttributeValues"] {
        if let Some(defined) = write.get_mut(placeholders).and_then(Value::as_object_mut) {
            defined.retain(|name, _| update.split([' ', ',']).any(|used| used == name));
        }
    }
}

fn is_throttle(code: &Value) -> bool {
    let code = code.as_str().unwrap_or_default();
    ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"].contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_cut_off_with_their_parameters() {
        let statement = r#"UPDATE "t" SET "a" = ? WHERE "id" = ? AND "status" = ? AND "owner" = ? AND "x" IS MISSING"#;
        let mut statement = json!({"Statement": statement, "Parameters": [1, 2, 3, 4]});
        cut_conditions(&mut statement);
        assert_eq!(statement, json!({"Statement": r#"UPDATE "t" SET "a" = ? WHERE "id" = ?"#, "Parameters": [1, 2]}));
    }

    #[test]
    fn a_condition_is_cut_off_with_what_only_it_uses() {
        let mut write = json!({
            "UpdateExpression": "SET #a = :n_a REMOVE #b",
            "ConditionExpression": "#a = :o_a AND attribute_not_exists(#c)",
            "ExpressionAttributeNames": {"#a": "a", "#b": "b", "#c": "c"},
            "ExpressionAttributeValues": {":n_a": {"S": "1"}, ":o_a": {"S": "2"}},
        });
        cut_condition(&mut write);
        let left = json!({
            "UpdateExpression": "SET #a = :n_a REMOVE #b",
            "ExpressionAttributeNames": {"#a": "a", "#b": "b"},
            "ExpressionAttributeValues": {":n_a": {"S": "1"}},
        });
        assert_eq!(write, left);
    }
}
