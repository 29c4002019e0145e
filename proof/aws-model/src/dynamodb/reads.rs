//! Reads of one item, and of a partition of an index.

use super::expression::{Comparison, Condition, Expressions};
use super::table::Place;
use super::value;
use super::{DynamoDb, consumed};
use crate::error::{Error, Members};
use serde_json::{Value, json};

/// The size of one page.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Query.html>
const PAGE_MAX_BYTES: usize = 1024 * 1024;

impl DynamoDb {
    pub(super) fn get_item(&self, body: &Value) -> Result<Value, Error> {
        let request = Members::of(body, &["TableName", "Key", "ConsistentRead"])?;
        if request.get("ConsistentRead") != Some(&Value::Bool(true)) {
            return Err(Error::validation("this model has only consistent reads"));
        }
        let table = self.table(request.text("TableName")?)?;
        let item = table.item(&table.only_key(request.required("Key")?)?);
        Ok(item.map_or_else(|| json!({}), |item| json!({"Item": item})))
    }

    /// One page of a partition of an index. A page that reaches its limit has a last key, even if nothing follows.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Query.Pagination.html>
    pub(super) fn query(&self, body: &Value) -> Result<Value, Error> {
        let request = Members::of(
            body,
            &[
                "TableName",
                "IndexName",
                "Select",
                "KeyConditionExpression",
                "ExpressionAttributeNames",
                "ExpressionAttributeValues",
                "ExclusiveStartKey",
                "Limit",
                "ReturnConsumedCapacity",
            ],
        )?;
        let name = request.text("TableName")?;
        let table = self.table(name)?;
        let index = table
            .indexes
            .get(request.text("IndexName")?)
            .ok_or_else(|| Error::validation("The table does not have the specified index"))?;
        let mut expressions = Expressions::of(request)?;
        let condition = expressions.condition("KeyConditionExpression")?;
        expressions.end()?;
        let (partition, range) = key_condition(condition, &index.hash.name, &index.range.name)?;
        let partition = partition
            .get(&index.hash.kind)
            .and_then(Value::as_str)
            .ok_or_else(|| Error::validation("Condition parameter type does not match schema type"))?;
        let part = |key: &Value, name: &str, kind: &str| Some(key.get(name)?.get(kind)?.as_str()?.to_owned());
        let after = match request.get("ExclusiveStartKey") {
            None => None,
            Some(key) => {
                let place = || {
                    Some(Place {
                        partition: part(key, &index.hash.name, &index.hash.kind).filter(|of| of == partition)?,
                        range: part(key, &index.range.name, &index.range.kind)?,
                        key: part(key, &table.key, "S")?,
                    })
                };
                let has_three = key.as_object().is_some_and(|key| key.len() == 3);
                Some(
                    place()
                        .filter(|_| has_three)
                        .ok_or_else(|| Error::validation("The provided starting key is invalid"))?,
                )
            }
        };
        let limit = request.count("Limit")?.unwrap_or(usize::MAX);
        let (mut items, mut last, mut bytes) = (Vec::new(), None, 0);
        for (place, item) in index.entries(partition, range, after) {
            items.push(Value::Object(item.clone()));
            bytes += value::size(item);
            if items.len() == limit || bytes >= PAGE_MAX_BYTES {
                last = Some(json!({
                    table.key.as_str(): {"S": place.key},
                    index.hash.name.as_str(): {index.hash.kind.as_str(): place.partition},
                    index.range.name.as_str(): {index.range.kind.as_str(): place.range},
                }));
                break;
            }
        }
        let mut answer = json!({"Count": items.len(), "ScannedCount": items.len()});
        match request.optional_text("Select")? {
            None => answer["Items"] = Value::Array(items),
            Some("COUNT") => {}
            Some(other) => return Err(Error::validation(format!("this model does not have Select {other}"))),
        }
        if let Some(last) = last {
            answer["LastEvaluatedKey"] = last;
        }
        match request.optional_text("ReturnConsumedCapacity")? {
            None | Some("NONE") => {}
            Some("TOTAL") => answer["ConsumedCapacity"] = consumed(name, bytes),
            Some(other) => {
                return Err(Error::validation(format!("this model does not have ReturnConsumedCapacity {other}")));
            }
        }
        Ok(answer)
    }
}

/// The partition that a key condition names, and its condition for the range key, if it has one.
fn key_condition(
    condition: Option<Condition>,
    hash: &str,
    range: &str,
) -> Result<(Value, Option<(Comparison, Value)>), Error> {
    let conditions = match condition {
        Some(Condition::All(conditions)) => conditions,
        Some(condition) => vec![condition],
        None => vec![],
    };
    let mut conditions = conditions.into_iter();
    let refused = || Error::validation("Query condition missed key schema element, or is not supported");
    let partition = match conditions.next() {
        Some(Condition::Compare(name, Comparison::Equal, value)) if name == hash => value,
        _ => return Err(refused()),
    };
    let range = match (conditions.next(), conditions.next()) {
        (None, _) => None,
        (Some(Condition::Compare(name, comparison, value)), None) if name == range => Some((comparison, value)),
        _ => return Err(refused()),
    };
    Ok((partition, range))
}
