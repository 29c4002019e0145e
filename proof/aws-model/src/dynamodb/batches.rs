//! Calls with several entries, each with its own result.

use super::expression::{Comparison, Condition, Expressions, Update};
use super::partiql::Statement;
use super::table::Table;
use super::value;
use super::writes::{Refusal, What, Write, returns_old};
use super::{DynamoDb, TwiceInBatch};
use crate::error::{Error, Members};
use crate::{EntryFault, EntryFaults};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Statements of one call.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html>
const STATEMENTS_MAX: usize = 25;

/// Keys of one `BatchGetItem`, and the size of its answer.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>
const GET_MAX_KEYS: usize = 100;
const GET_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Items of one `BatchWriteItem`.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html>
const WRITE_MAX_ITEMS: usize = 25;

impl DynamoDb {
    pub(super) fn batch_execute_statement(&mut self, body: &Value, faults: EntryFaults<'_>) -> Result<Value, Error> {
        let request = Members::of(body, &["Statements"])?;
        let statements = request.list("Statements")?;
        if statements.is_empty() || statements.len() > STATEMENTS_MAX {
            return Err(Error::validation(format!("a batch has {} statements", statements.len())));
        }
        let (mut responses, mut seen) = (Vec::new(), BTreeSet::new());
        for (place, statement) in statements.iter().enumerate() {
            responses.push(match (faults(place), self.statement_write(statement)) {
                (Some(fault), _) => entry_error(statement_code(fault), "the statement was not executed"),
                (None, Err(error)) => entry_error(statement_error(error.code), &error.message),
                (None, Ok((write, is_insert))) => {
                    let is_second = !seen.insert((write.table.clone(), write.key.clone()));
                    if is_second && self.choices.item_twice_in_batch == TwiceInBatch::RefusedTooLate {
                        return Err(Error::validation("two statements are for one item"));
                    }
                    self.execute(&write, is_insert)
                }
            });
        }
        Ok(json!({"Responses": responses}))
    }

    /// The write of a statement, and whether it is an insert.
    fn statement_write(&self, statement: &Value) -> Result<(Write, bool), Error> {
        let request = Members::of(statement, &["Statement", "Parameters", "ReturnValuesOnConditionCheckFailure"])?;
        let parameters = if request.get("Parameters").is_some() { request.list("Parameters")? } else { &[] };
        let statement = Statement::parse(request.text("Statement")?, parameters)?;
        let table = self.table(statement.table())?;
        let name = statement.table().to_owned();
        let returns_old = returns_old(request)?;
        match statement {
            Statement::Insert { item, .. } => {
                let condition = Some(Condition::Missing(table.key.clone()));
                let key = table.key_of(&item)?;
                Ok((Write { table: name, key, what: What::Put(item), condition, returns_old }, true))
            }
            Statement::Update { set, remove, conditions, .. } => {
                let key = key_of(table, &conditions)?;
                let what = What::Update(Update::new(set, remove, &table.key)?);
                let condition = Some(Condition::All(conditions));
                Ok((Write { table: name, key, what, condition, returns_old }, false))
            }
        }
    }

    fn execute(&mut self, write: &Write, is_insert: bool) -> Value {
        match self.outcome(write) {
            Ok(new) => {
                self.store(write, new);
                json!({"TableName": write.table})
            }
            Err(Refusal::Condition(old)) => {
                let code = if is_insert { "DuplicateItem" } else { "ConditionalCheckFailed" };
                let mut error = entry_error(code, "the condition does not hold");
                let is_returned = !is_insert || self.choices.duplicate_item_is_returned;
                if let Some(old) = old.filter(|_| is_returned) {
                    error["Error"]["Item"] = Value::Object(old);
                }
                error
            }
            Err(Refusal::Invalid(error)) => entry_error(statement_error(error.code), &error.message),
        }
    }

    pub(super) fn batch_get_item(&self, body: &Value, faults: EntryFaults<'_>) -> Result<Value, Error> {
        let request = Members::of(body, &["RequestItems"])?;
        let Some((name, wanted)) = request
            .map("RequestItems")?
            .iter()
            .next()
            .filter(|_| body["RequestItems"].as_object().is_some_and(|tables| tables.len() == 1))
        else {
            return Err(Error::validation("this model reads from exactly one table at a time"));
        };
        let wanted =
            Members::of(wanted, &["Keys", "ConsistentRead", "ProjectionExpression", "ExpressionAttributeNames"])?;
        if wanted.get("ConsistentRead") != Some(&Value::Bool(true)) {
            return Err(Error::validation("this model has only consistent reads"));
        }
        let table = self.table(name)?;
        let mut expressions = Expressions::of(wanted)?;
        let projection = expressions.projection("ProjectionExpression")?;
        expressions.end()?;
        let keys = wanted.list("Keys")?;
        let mut ids = Vec::with_capacity(keys.len());
        for key in keys {
            ids.push(table.only_key(key)?);
        }
        if ids.is_empty() || ids.len() > GET_MAX_KEYS {
            return Err(Error::validation(format!("{} keys", ids.len())));
        }
        if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
            return Err(Error::validation("Provided list of item keys contains duplicates"));
        }
        let (mut items, mut unprocessed, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (place, (id, key)) in ids.iter().zip(keys).enumerate() {
            let item = table.item(id);
            let size = item.map_or(0, value::size);
            if faults(place).is_some() || bytes + size > GET_MAX_BYTES {
                unprocessed.push(key.clone());
                continue;
            }
            bytes += size;
            items.extend(item.map(|item| {
                let mut item = item.clone();
                item.retain(|name, _| projection.contains(name));
                Value::Object(item)
            }));
        }
        if unprocessed.len() == ids.len() {
            return Err(Error::new("ProvisionedThroughputExceededException", "no key could be processed"));
        }
        // "DynamoDB does not return items in any particular order."
        items.reverse();
        let mut answer = json!({"Responses": {name.as_str(): items}, "UnprocessedKeys": {}});
        if !unprocessed.is_empty() {
            let mut rest = body["RequestItems"][name.as_str()].clone();
            rest["Keys"] = Value::Array(unprocessed);
            answer["UnprocessedKeys"] = json!({name.as_str(): rest});
        }
        Ok(answer)
    }

    /// Puts items without a condition, as tests do to prepare a table.
    pub(super) fn batch_write_item(&mut self, body: &Value) -> Result<Value, Error> {
        let request = Members::of(body, &["RequestItems"])?;
        let mut writes = Vec::new();
        for (name, requests) in request.map("RequestItems")? {
            let table = self.table(name)?;
            for request in requests.as_array().into_iter().flatten() {
                let put = Members::of(Members::of(request, &["PutRequest"])?.required("PutRequest")?, &["Item"])?;
                let item = value::stored_item(put.map("Item")?)?;
                table.check(&item)?;
                if value::is_too_large(&item) {
                    return Err(value::too_large());
                }
                let key = table.key_of(&item)?;
                writes.push((
                    Write {
                        table: name.clone(),
                        key,
                        what: What::Put(item.clone()),
                        condition: None,
                        returns_old: false,
                    },
                    item,
                ));
            }
        }
        let keys: BTreeSet<_> = writes.iter().map(|(write, _)| (&write.table, &write.key)).collect();
        if writes.is_empty() || writes.len() > WRITE_MAX_ITEMS || keys.len() < writes.len() {
            return Err(Error::validation("a batch has no items, too many, or one of them twice"));
        }
        for (write, item) in writes {
            self.store(&write, item);
        }
        Ok(json!({"UnprocessedItems": {}}))
    }
}

/// The key that an UPDATE names in its conditions, as it must.
fn key_of(table: &Table, conditions: &[Condition]) -> Result<String, Error> {
    let key = conditions.iter().find_map(|condition| match condition {
        Condition::Compare(name, Comparison::Equal, value) if *name == table.key => value::text(value),
        _ => None,
    });
    let missing = || Error::validation("Where clause does not contain a mandatory equality on all key attributes");
    key.filter(|key| !key.is_empty()).map(str::to_owned).ok_or_else(missing)
}

fn entry_error(code: &str, message: &str) -> Value {
    json!({"Error": {"Code": code, "Message": message}})
}

/// The code of an error inside a batch.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchStatementError.html>
fn statement_error(code: &str) -> &'static str {
    match code {
        "ResourceNotFoundException" => "ResourceNotFound",
        _ => "ValidationError",
    }
}

fn statement_code(fault: EntryFault) -> &'static str {
    match fault {
        EntryFault::Throttled => "ThrottlingError",
        EntryFault::Conflict => "TransactionConflict",
        EntryFault::Internal => "InternalServerError",
    }
}
