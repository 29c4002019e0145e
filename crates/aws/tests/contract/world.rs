//! The tables of one test, and what it needs to prepare them and to look into them.

use crate::items::Item;
use crate::template::create_table;
use aws::config::{self, Process};
use aws::{DynamoTable, SdkConfig};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, TableStatus, WriteRequest};
use aws_sdk_dynamodbstreams::types as streams;
use aws_smithy_types::timeout::TimeoutConfig;
use futures_util::future::join_all;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::time::Duration;

/// How often, and for how long between, something is asked for that an engine may show a little later.
const ATTEMPTS: usize = 600;
const PAUSE: Duration = Duration::from_millis(100);

/// Time for one attempt of a call.
const PATIENCE: Duration = Duration::from_mins(1);

/// An item before and after a change, as the table's stream has them.
pub(crate) type Images = (Option<Item>, Option<Item>);

/// Tables of one test's own.
pub(crate) struct World {
    pub(crate) sdk: SdkConfig,
    pub(crate) client: Client,
    /// The table of notifications, by the adapter.
    pub(crate) table: DynamoTable,
    pub(crate) table_name: String,
    /// A table for effects.
    pub(crate) effects: String,
    streams: aws_sdk_dynamodbstreams::Client,
}

/// A name that begins as all names of this run do, so that whoever started it can delete what has them.
pub(crate) fn name_of_this_run() -> String {
    let prefix = std::env::var("CONTRACT_PREFIX").expect("no engine: use `make contract`");
    format!("{prefix}{:016x}", fastrand::u64(..))
}

/// The SDK's settings as the functions have them, but with more time: an engine on a busy machine may be slow. The
/// environment says which engine is spoken to.
pub(crate) async fn sdk() -> SdkConfig {
    let time = TimeoutConfig::builder().connect_timeout(PATIENCE).operation_attempt_timeout(PATIENCE).build();
    config::sdk(&Process).await.unwrap().into_builder().timeout_config(time).build()
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
            settles_at(Some(TableStatus::Active), || status(&client, name)).await;
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

    /// Puts items, whatever is there.
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

    /// Every change of each of these items up to now, as the table's stream has it. The items are overwritten: only what
    /// follows in the stream shows that nothing else came before.
    pub(crate) async fn changes<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Vec<Vec<Images>> {
        const LAST: &str = "last";
        let ids: Vec<&str> = ids.into_iter().collect();
        let last = |id: &&str| {
            HashMap::from([("id", *id), (LAST, "")].map(|(n, v)| (n.to_owned(), AttributeValue::S(v.to_owned()))))
        };
        self.put(ids.iter().map(last)).await;
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
        let iterator = async |shard: streams::Shard| {
            let call = self.streams.get_shard_iterator().stream_arn(&arn).set_shard_id(shard.shard_id);
            let call = call.shard_iterator_type(streams::ShardIteratorType::TrimHorizon);
            call.send().await.unwrap().shard_iterator
        };
        join_all(shards.into_iter().map(iterator)).await
    }

    /// The next records of a shard, each with its item's id; `None` where the shard is at its end.
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
    let image = |image: Option<HashMap<_, _>>| {
        let image: Item = image?.into_iter().map(|(name, value)| (name, of_stream(value))).collect();
        Some(image).filter(|image| !image.is_empty())
    };
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

/// The two clients have each a type of their own for the same values.
fn of_stream(value: streams::AttributeValue) -> AttributeValue {
    match value {
        streams::AttributeValue::S(text) => AttributeValue::S(text),
        streams::AttributeValue::N(number) => AttributeValue::N(number),
        streams::AttributeValue::B(bytes) => AttributeValue::B(bytes),
        other => panic!("a type that no item of the tests has: {other:?}"),
    }
}

/// Asks until the answer is as expected: AWS may show it a little later, and may throttle a new table.
pub(crate) async fn settles_at<T: PartialEq + Debug>(expected: T, ask: impl AsyncFn() -> T) {
    for _ in 1..ATTEMPTS {
        if ask().await == expected {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    assert_eq!(ask().await, expected);
}
