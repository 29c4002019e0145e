//! The straightforward variant of each function, as a baseline for the deployed ones: one call to the table per record, all
//! calls of a batch joined (but 500 records per `PutRecords`, which is common), the general types of `aws_lambda_events`, and
//! the defaults of `lambda_runtime`, tokio and the SDK. It has no logs, no metrics and no deadline.
//!
//! `FUNCTION` chooses the function, and `ACTION` the action of downstream.

use aws_config::BehaviorVersion;
use aws_lambda_events::dynamodb::Event as DynamoDbEvent;
use aws_lambda_events::kinesis::KinesisEvent;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use aws_lambda_events::streams::{DynamoDbBatchItemFailure, DynamoDbEventResponse, KinesisEventResponse};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem, Update};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use futures_util::future::join_all;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use notification::limits::PUT_RECORDS_MAX_ENTRIES;
use serde::Deserialize;
use std::collections::HashMap;
use std::env;
use std::error::Error as StdError;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = aws_config::load_defaults(BehaviorVersion::v2026_01_12()).await;
    let table = &Table { client: aws_sdk_dynamodb::Client::new(&config), name: env::var("TABLE_NAME")? };
    match env::var("FUNCTION")?.as_str() {
        "ingest" => run(service_fn(|event| ingest(table, event))).await,
        "publisher" => {
            let stream = &Stream { client: aws_sdk_kinesis::Client::new(&config), name: env::var("STREAM_NAME")? };
            run(service_fn(|event| publish(stream, event))).await
        }
        "downstream" => {
            let ledger = env::var("LEDGER_TABLE_NAME")?;
            let ledger = (env::var("ACTION")? == "ledger").then_some(ledger.as_str());
            run(service_fn(|event| downstream(table, ledger, event))).await
        }
        other => Err(format!("there is no function {other:?}").into()),
    }
}

/// The fields of a notification's event that are needed.
#[derive(Deserialize)]
struct Event {
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    data: Refund,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refund {
    order_id: String,
    amount: String,
    currency: String,
}

struct Table {
    client: aws_sdk_dynamodb::Client,
    name: String,
}

struct Stream {
    client: aws_sdk_kinesis::Client,
    name: String,
}

async fn ingest(table: &Table, event: LambdaEvent<SqsEvent>) -> Result<SqsBatchResponse, Error> {
    let messages = event.payload.records;
    let results = join_all(messages.iter().map(|message| insert(table, message))).await;
    let mut response = SqsBatchResponse::default();
    for (message, result) in messages.iter().zip(results) {
        if result.is_err() {
            response.add_failure(message.message_id.clone().unwrap_or_default());
        }
    }
    Ok(response)
}

async fn insert(table: &Table, message: &SqsMessage) -> Result<(), Error> {
    let body = message.body.as_deref().unwrap_or_default();
    let event: Event = serde_json::from_str(body)?;
    let put = table
        .client
        .put_item()
        .table_name(&table.name)
        .item("id", text(event.id))
        .item("status", text("INIT"))
        .item("event", text(body))
        .item("source", text(event.source))
        .item("type", text(event.kind))
        .item("received_at", now())
        .condition_expression("attribute_not_exists(id)")
        .send()
        .await;
    unless_refused(put)
}

async fn publish(stream: &Stream, event: LambdaEvent<DynamoDbEvent>) -> Result<DynamoDbEventResponse, Error> {
    let mut sequence_numbers = Vec::new();
    let mut entries = Vec::new();
    for record in event.payload.records {
        let mut image = record.change.new_image.into_inner();
        if take(&mut image, "status").as_deref() == Some("INIT")
            && let (Some(id), Some(event)) = (take(&mut image, "id"), take(&mut image, "event"))
        {
            sequence_numbers.push(record.change.sequence_number);
            entries.push(PutRecordsRequestEntry::builder().partition_key(id).data(Blob::new(event)).build()?);
        }
    }
    let puts = entries.chunks(PUT_RECORDS_MAX_ENTRIES).map(async |entries| {
        stream.client.put_records().stream_name(&stream.name).set_records(Some(entries.to_vec())).send().await
    });
    let mut response = DynamoDbEventResponse::default();
    for (sequence_numbers, put) in sequence_numbers.chunks(PUT_RECORDS_MAX_ENTRIES).zip(join_all(puts).await) {
        let put = put?;
        for (sequence_number, entry) in sequence_numbers.iter().zip(put.records()) {
            if entry.error_code().is_some() {
                let mut failure = DynamoDbBatchItemFailure::default();
                failure.item_identifier.clone_from(sequence_number);
                response.batch_item_failures.push(failure);
            }
        }
    }
    Ok(response)
}

fn take(image: &mut HashMap<String, serde_dynamo::AttributeValue>, name: &str) -> Option<String> {
    match image.remove(name) {
        Some(serde_dynamo::AttributeValue::S(value)) => Some(value),
        _ => None,
    }
}

async fn downstream(
    table: &Table,
    ledger: Option<&str>,
    event: LambdaEvent<KinesisEvent>,
) -> Result<KinesisEventResponse, Error> {
    let records = event.payload.records.iter();
    let results = join_all(records.map(|record| settle(table, ledger, &record.kinesis.data))).await;
    let mut response = KinesisEventResponse::default();
    for (record, result) in event.payload.records.iter().zip(results) {
        if result.is_err() {
            response.add_failure(record.kinesis.sequence_number.clone());
        }
    }
    Ok(response)
}

async fn settle(table: &Table, ledger: Option<&str>, data: &[u8]) -> Result<(), Error> {
    let event: Event = serde_json::from_slice(data)?;
    match ledger {
        None => done(table, event).await,
        Some(ledger) => done_with_entry(table, ledger, event).await,
    }
}

const SET_DONE: &str = "SET #status = :done, done_at = :now";

async fn done(table: &Table, event: Event) -> Result<(), Error> {
    let update = table
        .client
        .update_item()
        .table_name(&table.name)
        .key("id", text(event.id))
        .update_expression(SET_DONE)
        .condition_expression("#status = :init")
        .expression_attribute_names("#status", "status")
        .expression_attribute_values(":init", text("INIT"))
        .expression_attribute_values(":done", text("DONE"))
        .expression_attribute_values(":now", now())
        .send()
        .await;
    unless_refused(update)
}

async fn done_with_entry(table: &Table, ledger: &str, event: Event) -> Result<(), Error> {
    let update = Update::builder()
        .table_name(&table.name)
        .key("id", text(&event.id))
        .update_expression(SET_DONE)
        .condition_expression("#status = :init")
        .expression_attribute_names("#status", "status")
        .expression_attribute_values(":init", text("INIT"))
        .expression_attribute_values(":done", text("DONE"))
        .expression_attribute_values(":now", now())
        .build()?;
    let put = Put::builder()
        .table_name(ledger)
        .item("id", text(event.id))
        .item("order_id", text(event.data.order_id))
        .item("amount", text(event.data.amount))
        .item("currency", text(event.data.currency))
        .item("source", text(event.source))
        .condition_expression("attribute_not_exists(id)")
        .build()?;
    let transaction = table
        .client
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().update(update).build())
        .transact_items(TransactWriteItem::builder().put(put).build());
    transaction.send().await?;
    Ok(())
}

/// A write whose condition is not met was made before.
fn unless_refused<T, E: ProvideErrorMetadata + StdError + Send + Sync + 'static>(
    write: Result<T, SdkError<E>>,
) -> Result<(), Error> {
    match write {
        Err(error) if error.code() != Some("ConditionalCheckFailedException") => Err(error.into()),
        _ => Ok(()),
    }
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

#[expect(clippy::disallowed_methods, reason = "the straightforward variant has no clock port")]
fn now() -> AttributeValue {
    text(format!("{:.3}", jiff::Timestamp::now()))
}
