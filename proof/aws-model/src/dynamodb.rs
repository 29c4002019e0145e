//! DynamoDB: tables with a string as key, sparse indexes, conditional writes, batches, transactions and streams.
//!
//! | file | concern |
//! |---|---|
//! | `table` | one table: its items, its indexes and what changed |
//! | `value` | values of attributes |
//! | `expression`, `partiql` | conditions, updates and statements |
//! | `writes` | `PutItem`, `UpdateItem`, `TransactWriteItems` |
//! | `batches` | `BatchExecuteStatement`, `BatchGetItem`, `BatchWriteItem` |
//! | `reads` | `GetItem`, `Query` |
//! | `setup` | `CreateTable`, `DescribeTable`, and the operations of the table's stream |

mod batches;
mod expression;
mod partiql;
mod reads;
mod setup;
mod table;
mod value;
mod writes;

use crate::EntryFaults;
use crate::error::{Error, Members};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use table::Table;
pub use table::{Change, Image};
pub use value::{Item, text};
use writes::Committed;

/// What DynamoDB may do where its documentation is silent, or where the engines differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choices {
    /// Whether the error of an INSERT whose key exists has the item. No engine that was tried returns it.
    pub duplicate_item_is_returned: bool,
    /// Whether the errors of other failed conditions have the item, as documented if the request asks for it.
    pub old_item_is_returned: bool,
    /// What happens if one `BatchExecuteStatement` has two statements for one item.
    pub item_twice_in_batch: TwiceInBatch,
    /// What happens if one transaction has two actions on one item.
    pub item_twice_in_transaction: TwiceInTransaction,
}

/// Two statements for one item in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TwiceInBatch {
    /// They are executed one after the other, as MiniStack does.
    Executed,
    /// The call is refused after the statements before the second one were executed, as DynamoDB Local does.
    RefusedTooLate,
}

/// Two actions on one item in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TwiceInTransaction {
    /// The call is refused, as documented.
    Refused,
    /// The transaction is cancelled because of a condition, as DynamoDB Local does.
    Canceled,
}

impl Default for Choices {
    /// What AWS documents, or else what most engines do.
    fn default() -> Self {
        Self {
            duplicate_item_is_returned: false,
            old_item_is_returned: true,
            item_twice_in_batch: TwiceInBatch::Executed,
            item_twice_in_transaction: TwiceInTransaction::Refused,
        }
    }
}

/// All tables of an account in a region.
#[derive(Debug, Default)]
pub struct DynamoDb {
    choices: Choices,
    tables: BTreeMap<String, Table>,
    indexes_lag: bool,
    /// The transactions of the last minutes, by their client request tokens.
    committed: BTreeMap<String, Committed>,
}

impl DynamoDb {
    /// Without tables.
    #[must_use]
    pub fn new(choices: Choices) -> Self {
        Self { choices, ..Self::default() }
    }

    /// Lets indexes follow their tables only when [`Self::update_indexes`] is called.
    pub fn let_indexes_lag(&mut self) {
        self.indexes_lag = true;
    }

    /// Lets the indexes of a table follow the item with this key.
    pub fn update_indexes(&mut self, table: &str, key: &str) {
        if let Some(table) = self.tables.get_mut(table) {
            table.update_indexes(key);
        }
    }

    /// An item, consistently.
    #[must_use]
    pub fn item(&self, table: &str, key: &str) -> Option<&Item> {
        self.tables.get(table)?.item(key)
    }

    /// All items of a table by their keys.
    pub fn items(&self, table: &str) -> impl Iterator<Item = (&String, &Item)> {
        self.tables.get(table).into_iter().flat_map(Table::items)
    }

    /// Takes what changed since the last time, in all tables, so the streams no longer have it.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, table) in &mut self.tables {
            changes.extend(table.take_changes().into_iter().map(|image| Change { table: name.clone(), image }));
        }
        changes
    }

    /// Removes the items whose time to live, in seconds since the epoch, is over.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/howitworks-ttl.html>
    pub fn expire(&mut self, table: &str, time_to_live: &str, now: Timestamp) {
        let lags = self.indexes_lag;
        if let Some(table) = self.tables.get_mut(table) {
            table.expire(time_to_live, now, lags);
        }
    }

    pub(crate) fn handle(
        &mut self,
        operation: &str,
        body: &Value,
        now: Timestamp,
        faults: EntryFaults<'_>,
    ) -> Result<Value, Error> {
        match operation {
            "CreateTable" => self.create_table(body),
            "DescribeTable" => self.describe_table(body),
            "GetItem" => self.get_item(body),
            "PutItem" => self.put_item(body),
            "UpdateItem" => self.update_item(body),
            "TransactWriteItems" => self.transact_write_items(body, now, faults),
            "BatchExecuteStatement" => self.batch_execute_statement(body, faults),
            "ExecuteStatement" => execute_statement(body),
            "BatchGetItem" => self.batch_get_item(body, faults),
            "BatchWriteItem" => self.batch_write_item(body),
            "Query" => self.query(body),
            _ => Err(Error::unknown_operation(operation)),
        }
    }

    fn table(&self, name: &str) -> Result<&Table, Error> {
        self.tables.get(name).ok_or_else(no_table)
    }
}

/// The adapters execute statements in batches only. The contract suite sends one that is not well formed.
fn execute_statement(body: &Value) -> Result<Value, Error> {
    let request = Members::of(body, &["Statement"])?;
    partiql::Statement::parse(request.text("Statement")?, &[])?;
    Err(Error::unknown_operation("ExecuteStatement"))
}

fn no_table() -> Error {
    Error::new("ResourceNotFoundException", "Requested resource not found")
}

/// What a call consumed. An empty page costs half a unit, as an eventually consistent read of up to 4 KB does.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html>
fn consumed(table: &str, bytes: usize) -> Value {
    let units = u32::try_from(bytes.div_ceil(4 * 1024)).unwrap_or(u32::MAX).max(1);
    json!({"TableName": table, "CapacityUnits": f64::from(units) / 2.0})
}
