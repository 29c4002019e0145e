//! The Kinesis stream. DynamoDB Local has no Kinesis.

use crate::items::id;
use crate::world::{eventually, name_of_this_run, sdk};
use aws::KinesisStream;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{ShardIteratorType, StreamStatus};
use notification::limits;
use notification::ports::{Publication, Stream};

async fn status(client: &Client, name: &str) -> StreamStatus {
    let stream = client.describe_stream_summary().stream_name(name).send().await.unwrap();
    stream.stream_description_summary.unwrap().stream_status
}

#[tokio::test]
async fn kinesis_takes_every_id_as_partition_key_and_every_event_byte_for_byte_and_answers_for_each() {
    let client = Client::new(&sdk().await);
    let name = name_of_this_run();
    client.create_stream().stream_name(&name).shard_count(1).send().await.unwrap();
    eventually(StreamStatus::Active, || status(&client, &name)).await;

    let longest = "日".repeat(limits::ID_MAX_CHARS);
    let ids = ["a", "'\"?", "e\u{301}", &longest].map(id);
    let largest = "x".repeat(limits::ITEM_MAX_BYTES);
    let events = [&largest, "{}", "\u{0} é", "{\"n\": 1.0000000000000000000001}\n"];
    let publications: Vec<_> = ids.iter().zip(events).map(|(id, event)| Publication { id, event }).collect();
    let answers = KinesisStream::new(client.clone(), name.clone()).put(&publications).await.unwrap();
    assert_eq!(answers, vec![Ok(()); publications.len()]);

    let shards = client.list_shards().stream_name(&name).send().await.unwrap();
    let shard = shards.shards.unwrap().remove(0).shard_id;
    let iterator = client.get_shard_iterator().stream_name(&name).shard_id(shard);
    let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
    let records = client.get_records().set_shard_iterator(iterator.shard_iterator).send().await.unwrap().records;
    let put: Vec<_> = records.iter().map(|record| (record.partition_key(), record.data().as_ref())).collect();
    let sent: Vec<_> = publications.iter().map(|sent| (Some(sent.id.as_str()), sent.event.as_bytes())).collect();
    assert_eq!(put, sent);
}

#[tokio::test]
async fn kinesis_without_its_stream_fails_retryably_and_names_the_missing_resource() {
    let stream = KinesisStream::new(Client::new(&sdk().await), name_of_this_run());
    let failure = stream.put(&[Publication { id: &id("a"), event: "{}" }]).await.unwrap_err();
    assert!(failure.kind.is_retryable() && !failure.kind.may_have_happened(), "{failure}");
    assert!(failure.reason.contains("ResourceNotFound"), "{failure}");
}
