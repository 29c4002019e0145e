//! Kinesis: streams of one shard.
//! <https://docs.aws.amazon.com/kinesis/latest/APIReference/Welcome.html>

use crate::error::{Error, Members};
use crate::{EntryFault, EntryFaults};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Entries of one `PutRecords`, the size of one record with its key, and of all of them.
/// <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html>
const ENTRIES_MAX: usize = 500;
const RECORD_MAX_BYTES: usize = 1024 * 1024;
const REQUEST_MAX_BYTES: usize = 10 * 1024 * 1024;

/// The length of a partition key in characters.
const KEY_MAX_CHARS: usize = 256;

const SHARD: &str = "shardId-000000000000";

/// All streams of an account in a region.
#[derive(Debug, Default)]
pub struct Kinesis {
    streams: BTreeMap<String, Vec<Record>>,
}

/// A record of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its partition key.
    pub partition_key: String,
    /// Its data.
    pub data: Vec<u8>,
}

impl Kinesis {
    /// Takes the records that were put into a stream since the last time.
    pub fn take_records(&mut self, stream: &str) -> Vec<Record> {
        self.streams.get_mut(stream).map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn handle(
        &mut self,
        operation: &str,
        body: &Value,
        now: Timestamp,
        faults: EntryFaults<'_>,
    ) -> Result<Value, Error> {
        match operation {
            "CreateStream" => {
                let request = Members::of(body, &["StreamName", "ShardCount"])?;
                if request.count("ShardCount")? != Some(1) {
                    return Err(Error::validation("this model has streams of one shard"));
                }
                self.streams.insert(request.text("StreamName")?.to_owned(), vec![]);
                Ok(json!({}))
            }
            "DescribeStreamSummary" => {
                let name = Members::of(body, &["StreamName"])?.text("StreamName")?;
                self.stream(name)?;
                Ok(json!({"StreamDescriptionSummary": {
                    "StreamName": name,
                    "StreamARN": name,
                    "StreamStatus": "ACTIVE",
                    "RetentionPeriodHours": 24,
                    "StreamCreationTimestamp": now.as_second(),
                    "EnhancedMonitoring": [],
                    "OpenShardCount": 1,
                }}))
            }
            "ListShards" => {
                self.stream(Members::of(body, &["StreamName"])?.text("StreamName")?)?;
                let range = json!({"StartingHashKey": "0", "EndingHashKey": u128::MAX.to_string()});
                let sequence_numbers = json!({"StartingSequenceNumber": "0"});
                Ok(
                    json!({"Shards": [{"ShardId": SHARD, "HashKeyRange": range, "SequenceNumberRange": sequence_numbers}]}),
                )
            }
            "GetShardIterator" => {
                let request = Members::of(body, &["StreamName", "ShardId", "ShardIteratorType"])?;
                if (request.text("ShardId")?, request.text("ShardIteratorType")?) != (SHARD, "TRIM_HORIZON") {
                    return Err(Error::validation("this model reads its one shard from the beginning"));
                }
                Ok(json!({"ShardIterator": request.text("StreamName")?}))
            }
            "GetRecords" => {
                let records = self.stream(Members::of(body, &["ShardIterator"])?.text("ShardIterator")?)?;
                let records: Vec<Value> =
                    records.iter().enumerate().map(|(place, record)| read(place, record)).collect();
                Ok(json!({"Records": records, "MillisBehindLatest": 0}))
            }
            "PutRecords" => self.put_records(body, faults),
            _ => Err(Error::unknown_operation(operation)),
        }
    }

    fn stream(&self, name: &str) -> Result<&Vec<Record>, Error> {
        self.streams.get(name).ok_or_else(no_stream)
    }

    fn put_records(&mut self, body: &Value, faults: EntryFaults<'_>) -> Result<Value, Error> {
        let request = Members::of(body, &["StreamName", "Records"])?;
        let stream = self.streams.get_mut(request.text("StreamName")?).ok_or_else(no_stream)?;
        let entries = request.list("Records")?;
        if entries.is_empty() || entries.len() > ENTRIES_MAX {
            return Err(Error::validation(format!("{} records", entries.len())));
        }
        let records = entries.iter().map(record).collect::<Result<Vec<_>, _>>()?;
        let size = |record: &Record| record.partition_key.len() + record.data.len();
        if records.iter().any(|record| size(record) > RECORD_MAX_BYTES) {
            return Err(Error::validation("a record is larger than 1 MiB"));
        }
        if records.iter().map(size).sum::<usize>() > REQUEST_MAX_BYTES {
            return Err(Error::new("InvalidArgumentException", "the records are larger than 10 MiB"));
        }
        let (mut answers, mut failed) = (Vec::new(), 0);
        for (place, record) in records.into_iter().enumerate() {
            if let Some(fault) = faults(place) {
                failed += 1;
                answers.push(json!({"ErrorCode": error_code(fault), "ErrorMessage": "see the code"}));
            } else {
                answers.push(json!({"SequenceNumber": stream.len().to_string(), "ShardId": SHARD}));
                stream.push(record);
            }
        }
        Ok(json!({"FailedRecordCount": failed, "Records": answers}))
    }
}

fn record(entry: &Value) -> Result<Record, Error> {
    let entry = Members::of(entry, &["PartitionKey", "Data"])?;
    let partition_key = entry.text("PartitionKey")?;
    if partition_key.is_empty() || partition_key.chars().count() > KEY_MAX_CHARS {
        return Err(Error::validation("a partition key does not have 1 to 256 characters"));
    }
    let data = BASE64_STANDARD.decode(entry.text("Data")?);
    let data = data.map_err(|_| Error::new("SerializationException", "the data is not base64"))?;
    Ok(Record { partition_key: partition_key.to_owned(), data })
}

fn read(place: usize, record: &Record) -> Value {
    json!({
        "PartitionKey": record.partition_key,
        "Data": BASE64_STANDARD.encode(&record.data),
        "SequenceNumber": place.to_string(),
    })
}

fn no_stream() -> Error {
    Error::new("ResourceNotFoundException", "the stream does not exist")
}

fn error_code(fault: EntryFault) -> &'static str {
    match fault {
        EntryFault::Throttled | EntryFault::Conflict => "ProvisionedThroughputExceededException",
        EntryFault::Internal => "InternalFailure",
    }
}
