//! When notifications arrived in the Kinesis stream, according to Kinesis.

use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use aws::SystemClock;
use aws_sdk_kinesis::types::Record;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use notification::{Clock, Timestamp, limits};
use std::collections::HashMap;
use stream_reader::timestamp;

/// When the first record of each id with this prefix arrived, among those that arrived between two times of this machine's
/// clock. Later records of an id are repeats.
pub(crate) async fn first(
    stack: &Stack,
    prefix: &str,
    from: Timestamp,
    to: Timestamp,
) -> Result<HashMap<String, Timestamp>, Error> {
    let from = from.saturating_sub(limits::CLOCKS_DIFFER_BY).unwrap_or(Timestamp::MIN);
    let to = to.saturating_add(limits::CLOCKS_DIFFER_BY).unwrap_or(Timestamp::MAX);
    let shards = stack.data_stream.shards().await?;
    let bar = output::progress(shards.len(), "reading");
    let reads = stream::iter(&shards).map(|shard| read(stack, &shard.id, from, to));
    let mut reads = reads.buffer_unordered(limits::CALLS_IN_FLIGHT);
    let mut first: HashMap<String, Timestamp> = HashMap::new();
    while let Some(records) = reads.try_next().await? {
        for (id, arrived) in records.into_iter().filter(|(id, _)| id.starts_with(prefix)) {
            first.entry(id).and_modify(|time| *time = arrived.min(*time)).or_insert(arrived);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(first)
}

/// The partition keys and arrivals of a shard's records, up to the end of the shard or of the time.
async fn read(stack: &Stack, shard: &str, from: Timestamp, to: Timestamp) -> Result<Vec<(String, Timestamp)>, Error> {
    let mut iterator = stack.data_stream.iterator_at(shard, from).await?;
    let mut records = Vec::new();
    while let Some(next) = iterator {
        let page = stack.data_stream.records(next).await?;
        records.extend(page.records.iter().filter_map(arrival));
        let is_past = records.last().is_some_and(|(_, arrived)| *arrived > to);
        // Records may follow an empty answer. Only the distance to the end of the stream shows that there are no more.
        if is_past || page.millis_behind_latest.unwrap_or(0) == 0 {
            break;
        }
        iterator = page.next;
        SystemClock.sleep(limits::KINESIS_READ_EVERY).await;
    }
    Ok(records)
}

/// A record's partition key, which is the notification id, and its arrival.
fn arrival(record: &Record) -> Option<(String, Timestamp)> {
    let arrived = timestamp(record.approximate_arrival_timestamp()?)?;
    Some((record.partition_key.clone()?, arrived))
}
