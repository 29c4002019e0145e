//! The table's stream as evidence: how often each notification was inserted, and how often it became DONE.

use crate::error::Error;
use crate::stack::Stack;
use aws_sdk_dynamodbstreams::types::{AttributeValue, OperationType, Record, ShardIteratorType};
use notification::Status;
use std::collections::HashMap;

/// Empty answers in a row after which an open shard is taken as read.
const EMPTY_ANSWERS: usize = 2;

/// What the stream shows of one notification. It reaches back 24 hours.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) inserted: usize,
    pub(crate) done: usize,
}

/// Reads the whole stream.
pub(crate) async fn changes(stack: &Stack) -> Result<HashMap<String, Changes>, Error> {
    let mut changes: HashMap<String, Changes> = HashMap::new();
    for shard in shards(stack).await? {
        let mut iterator = stack
            .streams
            .get_shard_iterator()
            .stream_arn(&stack.table_stream_arn)
            .shard_id(shard)
            .shard_iterator_type(ShardIteratorType::TrimHorizon)
            .send()
            .await
            .map_err(Error::aws("GetShardIterator"))?
            .shard_iterator;
        let mut empty_answers = 0;
        while let Some(next) = iterator.take().filter(|_| empty_answers < EMPTY_ANSWERS) {
            let answer =
                stack.streams.get_records().shard_iterator(next).send().await.map_err(Error::aws("GetRecords"))?;
            empty_answers = if answer.records().is_empty() { empty_answers + 1 } else { 0 };
            for record in answer.records() {
                note(record, &mut changes);
            }
            iterator = answer.next_shard_iterator;
        }
    }
    Ok(changes)
}

async fn shards(stack: &Stack) -> Result<Vec<String>, Error> {
    let mut shards = Vec::new();
    let mut last = None;
    loop {
        let description = stack
            .streams
            .describe_stream()
            .stream_arn(&stack.table_stream_arn)
            .set_exclusive_start_shard_id(last)
            .send()
            .await
            .map_err(Error::aws("DescribeStream"))?
            .stream_description;
        let Some(description) = description else { return Ok(shards) };
        shards.extend(description.shards().iter().filter_map(|shard| shard.shard_id.clone()));
        last = description.last_evaluated_shard_id;
        if last.is_none() {
            return Ok(shards);
        }
    }
}

fn note(record: &Record, changes: &mut HashMap<String, Changes>) {
    let Some(change) = record.dynamodb() else { return };
    let text = |image: Option<&HashMap<String, AttributeValue>>, name: &str| {
        image.and_then(|image| image.get(name)).and_then(|value| value.as_s().ok().cloned())
    };
    let status = |image| text(image, "status").and_then(|status| status.parse::<Status>().ok());
    let Some(id) = text(change.keys(), "id") else { return };
    let entry = changes.entry(id).or_default();
    if record.event_name() == Some(&OperationType::Insert) {
        entry.inserted += 1;
    }
    // DONE over DONE as well: nothing may be written to a notification that is DONE.
    if status(change.new_image()) == Some(Status::Done) {
        entry.done += 1;
    }
}
