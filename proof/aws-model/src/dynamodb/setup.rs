//! What the contract suite needs to create its tables and to read their streams.

use super::DynamoDb;
use super::table::{Image, Index, KeyAttribute, Table};
use crate::error::{Error, Members};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Records of one `GetRecords`.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html>
const RECORDS_MAX: usize = 1000;

/// A table stream of this model has one shard.
const SHARD: &str = "shardId-00000000000000000000-00000000";

impl DynamoDb {
    pub(super) fn create_table(&mut self, body: &Value) -> Result<Value, Error> {
        let request = Members::of(
            body,
            &[
                "TableName",
                "BillingMode",
                "AttributeDefinitions",
                "KeySchema",
                "GlobalSecondaryIndexes",
                "StreamSpecification",
            ],
        )?;
        let name = request.text("TableName")?;
        let mut kinds = BTreeMap::new();
        for definition in request.list("AttributeDefinitions")? {
            let definition = Members::of(definition, &["AttributeName", "AttributeType"])?;
            kinds.insert(definition.text("AttributeName")?, definition.text("AttributeType")?);
        }
        let keys = key_schema(request, &kinds)?;
        let [key] = &keys[..] else { return Err(Error::validation("this model has tables with one key attribute")) };
        if key.kind != "S" {
            return Err(Error::validation("this model has tables whose key is a string"));
        }
        let mut indexes = BTreeMap::new();
        let definitions = request.get("GlobalSecondaryIndexes").and_then(Value::as_array);
        for definition in definitions.into_iter().flatten() {
            let definition = Members::of(definition, &["IndexName", "KeySchema", "Projection"])?;
            let index = index(definition, &kinds)?;
            indexes.insert(definition.text("IndexName")?.to_owned(), index);
        }
        let stream = request.get("StreamSpecification");
        let images = json!({"StreamEnabled": true, "StreamViewType": "NEW_AND_OLD_IMAGES"});
        if stream.is_some_and(|stream| *stream != images) {
            return Err(Error::validation("this model has streams with both images"));
        }
        if self.tables.contains_key(name) {
            return Err(Error::new("ResourceInUseException", "the table exists already"));
        }
        self.tables.insert(name.to_owned(), Table::new(key.name.clone(), stream.is_some(), indexes));
        Ok(json!({"TableDescription": description(name)}))
    }

    pub(super) fn describe_table(&self, body: &Value) -> Result<Value, Error> {
        let name = Members::of(body, &["TableName"])?.text("TableName")?;
        let table = self.table(name)?;
        let mut description = description(name);
        if table.has_stream {
            description["LatestStreamArn"] = json!(name);
        }
        Ok(json!({"Table": description}))
    }

    /// The operations of the streams. A stream's ARN is the name of its table here.
    pub(crate) fn handle_streams(&self, operation: &str, body: &Value, now: Timestamp) -> Result<Value, Error> {
        match operation {
            "DescribeStream" => {
                let arn = Members::of(body, &["StreamArn"])?.text("StreamArn")?;
                self.table(arn)?;
                Ok(json!({"StreamDescription": {"StreamArn": arn, "Shards": [{"ShardId": SHARD}]}}))
            }
            "GetShardIterator" => {
                let request = Members::of(body, &["StreamArn", "ShardId", "ShardIteratorType"])?;
                if (request.text("ShardId")?, request.text("ShardIteratorType")?) != (SHARD, "TRIM_HORIZON") {
                    return Err(Error::validation("this model reads its one shard from the beginning"));
                }
                let arn = request.text("StreamArn")?;
                Ok(json!({"ShardIterator": iterator(arn, self.table(arn)?.trimmed())}))
            }
            "GetRecords" => self.get_records(body, now),
            _ => Err(Error::unknown_operation(operation)),
        }
    }

    fn get_records(&self, body: &Value, now: Timestamp) -> Result<Value, Error> {
        let text = Members::of(body, &["ShardIterator"])?.text("ShardIterator")?;
        let parsed = text.rsplit_once('|').and_then(|(arn, place)| Some((arn, place.parse::<usize>().ok()?)));
        let (arn, place) = parsed.ok_or_else(|| Error::validation("the shard iterator is invalid"))?;
        let table = self.table(arn)?;
        let trimmed = || Error::new("TrimmedDataAccessException", "the stream no longer has this record");
        let changes = table.changes(place).ok_or_else(trimmed)?.take(RECORDS_MAX);
        let records: Vec<Value> = changes.map(|(place, change)| record(&table.key, place, change, now)).collect();
        Ok(json!({"NextShardIterator": iterator(arn, place + records.len()), "Records": records}))
    }
}

fn key_schema(of: Members<'_>, kinds: &BTreeMap<&str, &str>) -> Result<Vec<KeyAttribute>, Error> {
    let mut keys = Vec::new();
    for (place, key) in of.list("KeySchema")?.iter().enumerate() {
        let key = Members::of(key, &["AttributeName", "KeyType"])?;
        if key.text("KeyType")? != ["HASH", "RANGE"][place.min(1)] {
            return Err(Error::validation("the first key is not HASH, or the second not RANGE"));
        }
        let name = key.text("AttributeName")?;
        let kind = kinds.get(name).ok_or_else(|| Error::validation("a key attribute is not defined"))?;
        keys.push(KeyAttribute { name: name.to_owned(), kind: (*kind).to_owned() });
    }
    Ok(keys)
}

fn index(definition: Members<'_>, kinds: &BTreeMap<&str, &str>) -> Result<Index, Error> {
    let Ok([hash, range]) = <[_; 2]>::try_from(key_schema(definition, kinds)?) else {
        return Err(Error::validation("this model has indexes with two key attributes"));
    };
    if range.kind != "S" {
        return Err(Error::validation("this model has indexes that are sorted by a string"));
    }
    let projection = Members::of(definition.required("Projection")?, &["ProjectionType", "NonKeyAttributes"])?;
    let mut attributes = vec![hash.name.clone(), range.name.clone()];
    match projection.text("ProjectionType")? {
        "KEYS_ONLY" => {}
        "INCLUDE" => {
            let included = projection.list("NonKeyAttributes")?.iter().filter_map(Value::as_str);
            attributes.extend(included.map(str::to_owned));
        }
        other => return Err(Error::validation(format!("this model does not have the projection {other}"))),
    }
    Ok(Index::new(hash, range, attributes))
}

fn description(name: &str) -> Value {
    json!({"TableName": name, "TableStatus": "ACTIVE"})
}

fn iterator(arn: &str, place: usize) -> String {
    format!("{arn}|{place}")
}

fn record(key_name: &str, place: usize, change: &Image, now: Timestamp) -> Value {
    let name = match (&change.old, &change.new) {
        (None, _) => "INSERT",
        (Some(_), Some(_)) => "MODIFY",
        (Some(_), None) => "REMOVE",
    };
    let mut details = json!({
        "ApproximateCreationDateTime": now.as_second(),
        "Keys": {key_name: {"S": change.key}},
        "SequenceNumber": format!("{place:021}"),
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    });
    for (name, image) in [("OldImage", &change.old), ("NewImage", &change.new)] {
        if let Some(image) = image {
            details[name] = json!(image);
        }
    }
    json!({"eventID": place.to_string(), "eventName": name, "eventSource": "aws:dynamodb", "dynamodb": details})
}
