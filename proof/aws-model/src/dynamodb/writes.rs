//! Conditional writes, one at a time and in transactions.

use super::expression::{Condition, Expressions, Update};
use super::table::Table;
use super::value::{self, Item};
use super::{DynamoDb, TwiceInTransaction, no_table};
use crate::error::{Error, Members};
use crate::{EntryFault, EntryFaults};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Actions of a transaction, and their size together.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
const TRANSACTION_MAX_ACTIONS: usize = 100;
const TRANSACTION_MAX_BYTES: usize = 4 * 1024 * 1024;

/// For how long a client request token makes a transaction idempotent.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
const TOKEN_VALID_FOR: Duration = Duration::from_mins(10);

/// A transaction that was committed.
#[derive(Debug)]
pub(super) struct Committed {
    at: Timestamp,
    items: Value,
}

/// One conditional write of one item.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) table: String,
    pub(super) key: String,
    pub(super) what: What,
    pub(super) condition: Option<Condition>,
    /// Whether the error of a failed condition should have the item.
    pub(super) returns_old: bool,
}

#[derive(Debug)]
pub(super) enum What {
    Put(Item),
    Update(Update),
}

/// Why a write is not made.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Its condition does not hold. The item is there if the request asks for it.
    Condition(Option<Item>),
    Invalid(Error),
}

const PUT: [&str; 6] = [
    "TableName",
    "Item",
    "ConditionExpression",
    "ExpressionAttributeNames",
    "ExpressionAttributeValues",
    "ReturnValuesOnConditionCheckFailure",
];

const UPDATE: [&str; 8] = [
    "TableName",
    "Key",
    "UpdateExpression",
    "ConditionExpression",
    "ExpressionAttributeNames",
    "ExpressionAttributeValues",
    "ReturnValuesOnConditionCheckFailure",
    "ReturnValues",
];

/// Whether a request asks for the old item.
pub(super) fn returns_old(request: Members<'_>) -> Result<bool, Error> {
    match request.optional_text("ReturnValuesOnConditionCheckFailure")? {
        None | Some("NONE") => Ok(false),
        Some("ALL_OLD") => Ok(true),
        Some(other) => Err(Error::validation(format!("ReturnValuesOnConditionCheckFailure is {other}"))),
    }
}

impl Write {
    fn put(tables: &BTreeMap<String, Table>, request: Members<'_>) -> Result<Self, Error> {
        let name = request.text("TableName")?;
        let table = tables.get(name).ok_or_else(no_table)?;
        let mut expressions = Expressions::of(request)?;
        let condition = expressions.condition("ConditionExpression")?;
        expressions.end()?;
        let item = value::stored_item(request.map("Item")?)?;
        table.check(&item)?;
        if value::is_too_large(&item) {
            return Err(value::too_large());
        }
        Ok(Self {
            table: name.to_owned(),
            key: table.key_of(&item)?,
            what: What::Put(item),
            condition,
            returns_old: returns_old(request)?,
        })
    }

    fn update(tables: &BTreeMap<String, Table>, request: Members<'_>) -> Result<Self, Error> {
        let name = request.text("TableName")?;
        let table = tables.get(name).ok_or_else(no_table)?;
        let mut expressions = Expressions::of(request)?;
        let update = expressions.update("UpdateExpression", &table.key)?;
        let condition = expressions.condition("ConditionExpression")?;
        expressions.end()?;
        Ok(Self {
            table: name.to_owned(),
            key: table.only_key(request.required("Key")?)?,
            what: What::Update(update),
            condition,
            returns_old: returns_old(request)?,
        })
    }
}

impl DynamoDb {
    pub(super) fn put_item(&mut self, body: &Value) -> Result<Value, Error> {
        let write = Write::put(&self.tables, Members::of(body, &PUT)?)?;
        self.write(&write)?;
        Ok(json!({}))
    }

    pub(super) fn update_item(&mut self, body: &Value) -> Result<Value, Error> {
        let request = Members::of(body, &UPDATE)?;
        let write = Write::update(&self.tables, request)?;
        let returned = match request.optional_text("ReturnValues")? {
            None | Some("NONE") => false,
            Some("ALL_NEW") => true,
            Some(other) => return Err(Error::validation(format!("this model does not have ReturnValues {other}"))),
        };
        let new = self.write(&write)?;
        Ok(if returned { json!({"Attributes": new}) } else { json!({}) })
    }

    /// Makes a write, and returns the new item.
    fn write(&mut self, write: &Write) -> Result<Item, Error> {
        let new = self.outcome(write).map_err(|refusal| match refusal {
            Refusal::Invalid(error) => error,
            Refusal::Condition(old) => {
                let mut error = Error::new("ConditionalCheckFailedException", "The conditional request failed");
                error.details.extend(old.map(|old| ("Item".to_owned(), Value::Object(old))));
                error
            }
        })?;
        self.store(write, new.clone());
        Ok(new)
    }

    /// The item as a write would leave it.
    pub(super) fn outcome(&self, write: &Write) -> Result<Item, Refusal> {
        let table = self.table(&write.table).map_err(Refusal::Invalid)?;
        let old = table.item(&write.key);
        if write.condition.as_ref().is_some_and(|condition| !condition.holds(old)) {
            let is_returned = write.returns_old && self.choices.old_item_is_returned;
            return Err(Refusal::Condition(old.filter(|_| is_returned).cloned()));
        }
        let new = match &write.what {
            What::Put(item) => item.clone(),
            What::Update(update) => {
                let key = || Item::from_iter([(table.key.clone(), json!({"S": write.key}))]);
                let mut item = old.cloned().unwrap_or_else(key);
                update.apply(&mut item);
                item
            }
        };
        table.check(&new).map_err(Refusal::Invalid)?;
        if value::is_too_large(&new) {
            return Err(Refusal::Invalid(value::too_large()));
        }
        Ok(new)
    }

    /// Stores the outcome of a write.
    pub(super) fn store(&mut self, write: &Write, new: Item) {
        let lags = self.indexes_lag;
        if let Some(table) = self.tables.get_mut(&write.table) {
            table.put(write.key.clone(), new, lags);
        }
    }

    pub(super) fn transact_write_items(
        &mut self,
        body: &Value,
        now: Timestamp,
        faults: EntryFaults<'_>,
    ) -> Result<Value, Error> {
        let request = Members::of(body, &["TransactItems", "ClientRequestToken"])?;
        let actions = request.list("TransactItems")?;
        if actions.is_empty() || actions.len() > TRANSACTION_MAX_ACTIONS {
            return Err(Error::validation(format!("a transaction has {} actions", actions.len())));
        }
        let token = request.optional_text("ClientRequestToken")?;
        let valid_since = now.saturating_sub(TOKEN_VALID_FOR).unwrap_or(Timestamp::MIN);
        self.committed.retain(|_, committed| committed.at > valid_since);
        if let Some(committed) = token.and_then(|token| self.committed.get(token)) {
            if committed.items == *request.required("TransactItems")? {
                return Ok(json!({}));
            }
            return Err(Error::new("IdempotentParameterMismatchException", "another transaction had this token"));
        }
        let writes = actions.iter().map(|action| self.action(action)).collect::<Result<Vec<_>, _>>()?;
        let items: BTreeSet<_> = writes.iter().map(|write| (&write.table, &write.key)).collect();
        if items.len() < writes.len() && self.choices.item_twice_in_transaction == TwiceInTransaction::Refused {
            return Err(Error::validation("Transaction request cannot include multiple operations on one item"));
        }
        let outcomes = self.outcomes(&writes, faults)?;
        for (write, new) in writes.iter().zip(outcomes) {
            self.store(write, new);
        }
        if let Some(token) = token {
            let items = request.required("TransactItems")?.clone();
            self.committed.insert(token.to_owned(), Committed { at: now, items });
        }
        Ok(json!({}))
    }

    fn action(&self, action: &Value) -> Result<Write, Error> {
        let action = Members::of(action, &["Put", "Update"])?;
        match (action.get("Put"), action.get("Update")) {
            (Some(put), None) => Write::put(&self.tables, Members::of(put, &PUT)?),
            (None, Some(update)) => Write::update(&self.tables, Members::of(update, &UPDATE[..UPDATE.len() - 1])?),
            _ => Err(Error::validation("an action of a transaction is not exactly one of Put and Update")),
        }
    }

    /// The new items of a transaction, or the reasons why it is cancelled: one for each action, in their order.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_CancellationReason.html>
    fn outcomes(&self, writes: &[Write], faults: EntryFaults<'_>) -> Result<Vec<Item>, Error> {
        let (mut outcomes, mut reasons) = (Vec::new(), Vec::new());
        let (mut bytes, mut seen) = (0, BTreeSet::new());
        for (place, write) in writes.iter().enumerate() {
            let outcome = match faults(place) {
                Some(fault) => Err(reason(cancellation_code(fault))),
                None if !seen.insert((&write.table, &write.key)) => Err(reason("ConditionalCheckFailed")),
                None => self.outcome(write).map_err(|refusal| match refusal {
                    Refusal::Condition(old) => {
                        let mut reason = reason("ConditionalCheckFailed");
                        if let Some(old) = old {
                            reason["Item"] = Value::Object(old);
                        }
                        reason
                    }
                    Refusal::Invalid(_) => reason("ValidationError"),
                }),
            };
            match outcome {
                Ok(item) => {
                    bytes += value::size(&item);
                    outcomes.push(item);
                    reasons.push(json!({"Code": "None"}));
                }
                Err(reason) => reasons.push(reason),
            }
        }
        if outcomes.len() < writes.len() {
            let mut error = Error::new("TransactionCanceledException", "Transaction cancelled");
            error.details.insert("CancellationReasons".to_owned(), Value::Array(reasons));
            return Err(error);
        }
        if bytes > TRANSACTION_MAX_BYTES {
            return Err(Error::validation("the items of a transaction are larger than 4 MB"));
        }
        Ok(outcomes)
    }
}

fn reason(code: &str) -> Value {
    json!({"Code": code, "Message": "see the code"})
}

fn cancellation_code(fault: EntryFault) -> &'static str {
    match fault {
        EntryFault::Throttled => "ProvisionedThroughputExceeded",
        EntryFault::Conflict => "TransactionConflict",
        EntryFault::Internal => "ThrottlingError",
    }
}
