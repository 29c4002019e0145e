//! When notifications arrived in the Kinesis stream, as Kinesis itself says.

use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use aws::SystemClock;
use aws_sdk_kinesis::Config;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::types::{Record, ShardIteratorType};
use aws_smithy_types::DateTime;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use notification::ports::Clock;
use notification::{Timestamp, limits};
use std::collections::HashMap;
use std::time::Duration;

/// Kinesis' clock and this machine's differ by less, surely: the time is widened by it, so that no record is missed.
const CLOCKS_DIFFER_BY: Duration = Duration::from_mins(1);

/// Time between two reads of a shard: half of the reads that it allows are left to Lambda's pollers.
const READ_EVERY: Duration = Duration::from_millis(2_000 / limits::GET_RECORDS_PER_SECOND as u64);

/// Attempts of one read. After an answer of 10 MB a shard refuses reads for five seconds, and other readers share its
/// quota, so these last longer than the SDK's own three.
/// <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html>
const READ_ATTEMPTS: u32 = 8;

/// The arrival of the first record of each id that begins with the prefix, among the records of a time on this
/// machine's clock. Later records of an id are repeats.
pub(crate) async fn first(
    stack: &Stack,
    prefix: &str,
    from: Timestamp,
    to: Timestamp,
) -> Result<HashMap<String, Timestamp>, Error> {
    let from = from.saturating_sub(CLOCKS_DIFFER_BY).unwrap_or(Timestamp::MIN);
    let to = to.saturating_add(CLOCKS_DIFFER_BY).unwrap_or(Timestamp::MAX);
    let shards = shards(stack).await?;
    let bar = output::progress(shards.len(), "reading");
    let mut reads =
        stream::iter(shards).map(|shard| read(stack, shard, from, to)).buffer_unordered(limits::CALLS_IN_FLIGHT);
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

/// All shards, closed ones too: the stream may have been resharded since.
async fn shards(stack: &Stack) -> Result<Vec<String>, Error> {
    let mut shards = Vec::new();
    let mut next: Option<String> = None;
    loop {
        // The API takes the stream or the token, and not both.
        let stream = next.is_none().then(|| stack.stream_name.clone());
        let answer = stack.kinesis.list_shards().set_stream_name(stream).set_next_token(next).send().await;
        let answer = answer.map_err(Error::aws("ListShards"))?;
        shards.extend(answer.shards.unwrap_or_default().into_iter().map(|shard| shard.shard_id));
        next = answer.next_token;
        if next.is_none() {
            return Ok(shards);
        }
    }
}

/// The partition keys and arrivals of a shard's records, up to the shard's end or the end of the time.
async fn read(stack: &Stack, shard: String, from: Timestamp, to: Timestamp) -> Result<Vec<(String, Timestamp)>, Error> {
    let mut iterator = stack
        .kinesis
        .get_shard_iterator()
        .stream_name(&stack.stream_name)
        .shard_id(shard)
        .shard_iterator_type(ShardIteratorType::AtTimestamp)
        .timestamp(DateTime::from_millis(from.as_millisecond()))
        .send()
        .await
        .map_err(Error::aws("GetShardIterator"))?
        .shard_iterator;
    let mut records = Vec::new();
    while let Some(next) = iterator.take() {
        let call = stack.kinesis.get_records().shard_iterator(next).limit(limits::GET_RECORDS_MAX);
        let retries = Config::builder().retry_config(RetryConfig::standard().with_max_attempts(READ_ATTEMPTS));
        let answer = call.customize().config_override(retries).send().await.map_err(Error::aws("GetRecords"))?;
        records.extend(answer.records.iter().filter_map(arrival));
        let is_past = records.last().is_some_and(|(_, arrived)| *arrived > to);
        // An empty answer may stand before records; only how far it is behind says whether there are more.
        if is_past || answer.millis_behind_latest.unwrap_or(0) == 0 {
            break;
        }
        iterator = answer.next_shard_iterator;
        SystemClock.sleep(READ_EVERY).await;
    }
    Ok(records)
}

/// A record's partition key, which is the notification id, and its arrival. It comes as a fraction of seconds that is
/// not exact, so it is rounded to the milliseconds that Kinesis has.
fn arrival(record: &Record) -> Option<(String, Timestamp)> {
    let nanos = record.approximate_arrival_timestamp?.as_nanos();
    let millis = i64::try_from((nanos + 500_000).div_euclid(1_000_000)).ok()?;
    Some((record.partition_key.clone()?, Timestamp::from_millisecond(millis).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_types::Blob;

    #[test]
    fn an_arrival_has_the_milliseconds_that_kinesis_sent() {
        for millis in 1_763_805_602_000..1_763_805_603_000 {
            #[allow(clippy::cast_precision_loss, reason = "this is how the SDK reads it")]
            let seconds = millis as f64 / 1_000.0;
            let record = Record::builder()
                .sequence_number("1")
                .data(Blob::new(b""))
                .partition_key("a")
                .approximate_arrival_timestamp(DateTime::from_secs_f64(seconds))
                .build()
                .unwrap();
            assert_eq!(arrival(&record), Some(("a".to_owned(), Timestamp::from_millisecond(millis).unwrap())));
        }
    }
}
