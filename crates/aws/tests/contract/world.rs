//! The tables of one test, and the SDK calls that prepare and inspect them.

use crate::items::{Item, item};
use crate::model;
use crate::template::create_table;
use aws::{DynamoTable, Environment, SdkConfig, config};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::SharedCredentialsProvider;
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, TableStatus, WriteRequest};
use aws_sdk_dynamodbstreams::types as streams;
use aws_smithy_types::timeout::TimeoutConfig;
use futures_util::future::join_all;
use notification::Put;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::time::Duration;

/// How often a test asks for a result that an engine may show a little later, and how long it waits in between.
const ATTEMPTS: usize = 600;
const PAUSE: Duration = Duration::from_millis(100);

/// The timeout of one attempt of a call.
const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(1);

/// The attribute that marks the last write to an item.
const LAST: &str = "last";

/// An item before and after a change, as the table stream has them.
pub(crate) type Images = (Option<Item>, Option<Item>);

/// The tables of one test.
pub(crate) struct World {
    pub(crate) sdk: SdkConfig,
    pub(crate) client: Client,
    /// The table of notifications, through the adapter.
    pub(crate) table: DynamoTable,
    pub(crate) table_name: String,
    /// The name of a table for effects.
    pub(crate) effects: String,
    streams: aws_sdk_dynamodbstreams::Client,
}

/// The prefix of all names on a real engine; `None` if the tests run on the model. `make contract` sets it.
fn prefix() -> Option<String> {
    std::env::var("CONTRACT_PREFIX").ok()
}

/// A new name with this run's prefix. Whoever started the run deletes the tables and streams with that prefix.
pub(crate) fn name_of_this_run() -> String {
    format!("{}{:016x}", prefix().unwrap_or_default(), fastrand::u64(..))
}

/// The SDK's settings of the functions, with longer timeouts because an engine on a busy machine may be slow. The
/// environment selects the engine; without one, it is a new model.
pub(crate) async fn sdk() -> SdkConfig {
    let timeouts =
        TimeoutConfig::builder().connect_timeout(ATTEMPT_TIMEOUT).operation_attempt_timeout(ATTEMPT_TIMEOUT).build();
    if prefix().is_some() {
        let sdk = config::sdk(&Environment::of_process()).await.unwrap();
        return sdk.into_builder().timeout_config(timeouts).build();
    }
    let environment = Environment::from_iter([("AWS_REGION", "us-east-1")]);
    let sdk = config::sdk(&environment).await.unwrap().into_builder().timeout_config(timeouts);
    let credentials = SharedCredentialsProvider::new(model::credentials());
    sdk.http_client(model::http_client()).credentials_provider(credentials).build()
}

impl World {
    pub(crate) async fn new() -> Self {
        let table_name = name_of_this_run();
        let effects = format!("{table_name}.effects");
        let sdk = sdk().await;
        let client = Client::new(&sdk);
        for (resource, name) in [("Table", &table_name), ("LedgerTable", &effects)] {
            create_table(&client, resource, name).await;
        }
        for name in [&table_name, &effects] {
            eventually(Some(TableStatus::Active), || status(&client, name)).await;
        }
        Self {
            table: DynamoTable::new(client.clone(), table_name.clone()),
            streams: aws_sdk_dynamodbstreams::Client::new(&sdk),
            sdk,
            client,
            table_name,
            effects,
        }
    }

    /// Puts items, and replaces those that exist.
    pub(crate) async fn put(&self, items: impl IntoIterator<Item = Item>) {
        let put = |item| PutRequest::builder().set_item(Some(item)).build().unwrap();
        let requests: Vec<_> =
            items.into_iter().map(|item| WriteRequest::builder().put_request(put(item)).build()).collect();
        for batch in requests.chunks(25) {
            let mut left = Some(HashMap::from([(self.table_name.clone(), batch.to_vec())]));
            while left.as_ref().is_some_and(|left| !left.is_empty()) {
                let call = self.client.batch_write_item().set_request_items(left);
                left = call.send().await.unwrap().unprocessed_items;
            }
        }
    }

    pub(crate) async fn get(&self, id: &str) -> Option<Item> {
        self.get_from(&self.table_name, id).await
    }

    /// The effect with this id.
    pub(crate) async fn effect(&self, id: &str) -> Option<Item> {
        self.get_from(&self.effects, id).await
    }

    async fn get_from(&self, table: &str, id: &str) -> Option<Item> {
        let key = AttributeValue::S(id.to_owned());
        self.client.get_item().table_name(table).key("id", key).consistent_read(true).send().await.unwrap().item
    }

    /// A new item for the table of effects.
    pub(crate) fn new_effect(&self, attributes: Vec<(&'static str, String)>) -> Put {
        Put { table: self.effects.clone(), key: "id", attributes }
    }

    /// Every change of each of these items so far, as the table stream has it. This overwrites the items: only a later record
    /// shows that the stream has all the earlier ones.
    pub(crate) async fn changes<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Vec<Vec<Images>> {
        let ids: Vec<&str> = ids.into_iter().collect();
        self.put(ids.iter().map(|&id| item([("id", id.to_owned()), (LAST, String::new())]))).await;
        let mut open: HashSet<String> = ids.iter().map(|&id| id.to_owned()).collect();
        let mut changes: HashMap<String, Vec<Images>> = HashMap::new();
        let mut iterators = self.shard_iterators().await;
        for _ in 0..ATTEMPTS {
            for iterator in &mut iterators {
                let Some(records) = self.records(iterator).await else { continue };
                for (id, images) in records {
                    if images.1.as_ref().is_some_and(|new| new.contains_key(LAST)) {
                        open.remove(&id);
                    } else {
                        changes.entry(id).or_default().push(images);
                    }
                }
            }
            if open.is_empty() {
                return ids.iter().map(|&id| changes.remove(id).unwrap_or_default()).collect();
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("the stream lacks the last write of {open:?}");
    }

    async fn shard_iterators(&self) -> Vec<Option<String>> {
        let table = self.client.describe_table().table_name(&self.table_name).send().await.unwrap();
        let arn = table.table.unwrap().latest_stream_arn.unwrap();
        let stream = self.streams.describe_stream().stream_arn(&arn).send().await.unwrap();
        let shards = stream.stream_description.unwrap().shards.unwrap_or_default();
        join_all(shards.into_iter().map(|shard| self.shard_iterator(&arn, shard))).await
    }

    async fn shard_iterator(&self, stream_arn: &str, shard: streams::Shard) -> Option<String> {
        let call = self.streams.get_shard_iterator().stream_arn(stream_arn).set_shard_id(shard.shard_id);
        let call = call.shard_iterator_type(streams::ShardIteratorType::TrimHorizon);
        call.send().await.unwrap().shard_iterator
    }

    /// The next records of a shard, each with its item's id; `None` at the end of the shard.
    async fn records(&self, iterator: &mut Option<String>) -> Option<Vec<(String, Images)>> {
        let call = self.streams.get_records().shard_iterator(iterator.take()?);
        let answer = call.send().await.unwrap();
        *iterator = answer.next_shard_iterator;
        Some(answer.records.unwrap_or_default().into_iter().map(id_and_images).collect())
    }
}

async fn status(client: &Client, table_name: &str) -> Option<TableStatus> {
    client.describe_table().table_name(table_name).send().await.unwrap().table.unwrap().table_status
}

fn id_and_images(record: streams::Record) -> (String, Images) {
    let change = record.dynamodb.unwrap();
    let id = change.keys.unwrap()["id"].as_s().unwrap().clone();
    let images = (image(change.old_image), image(change.new_image));
    let name = match images {
        (None, Some(_)) => "INSERT",
        (Some(_), Some(_)) => "MODIFY",
        (_, None) => "REMOVE",
    };
    assert_eq!(record.event_name.unwrap().as_str(), name, "{id}");
    (id, images)
}

/// The item of an image; `None` where the record has no such image.
fn image(image: Option<HashMap<String, streams::AttributeValue>>) -> Option<Item> {
    let image: Item = image?.into_iter().map(|(name, value)| (name, of_stream(value))).collect();
    Some(image).filter(|image| !image.is_empty())
}

/// Converts a value: each of the two clients has its own type for it.
fn of_stream(value: streams::AttributeValue) -> AttributeValue {
    match value {
        streams::AttributeValue::S(text) => AttributeValue::S(text),
        streams::AttributeValue::N(number) => AttributeValue::N(number),
        streams::AttributeValue::B(bytes) => AttributeValue::B(bytes),
        streams::AttributeValue::L(values) => AttributeValue::L(values.into_iter().map(of_stream).collect()),
        other => panic!("the tests write no values of this type: {other:?}"),
    }
}

/// Asks until the answer is as expected. AWS may show a write a little later, and may throttle a new table.
pub(crate) async fn eventually<T: PartialEq + Debug>(expected: T, ask: impl AsyncFn() -> T) {
    for _ in 1..ATTEMPTS {
        if ask().await == expected {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    assert_eq!(ask().await, expected);
}
