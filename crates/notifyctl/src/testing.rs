//! A stack whose table is in the process: a model of DynamoDB, with the table as `template.yaml` defines it.

#[path = "../../aws/tests/contract/model.rs"]
mod model;
#[path = "../../aws/tests/contract/template.rs"]
mod template;

use crate::stack::signed::Calls;
use crate::stack::{Functions, Stack};
use aws::{DynamoTable, Environment, config};
use aws_sdk_dynamodb::config::SharedCredentialsProvider;
use notification::change::Run;
use notification::ports::{Table, Written};
use notification::testing::REJECTED;
use notification::{Change, Notification, Status, Timestamp, limits};
use stream_reader::dynamodb::TableStream;
use stream_reader::kinesis::DataStream;

/// The name of the stack, and of its table.
const NAME: &str = "s";

/// A stack with an empty table. The model has no queues, so nothing that reads these can be tested on it.
pub(crate) async fn stack() -> Stack {
    let sdk = config::sdk(&Environment::from_iter([("AWS_REGION", "us-east-1")])).await.unwrap().into_builder();
    let credentials = SharedCredentialsProvider::new(model::credentials());
    let sdk = sdk.http_client(model::http_client()).credentials_provider(credentials).build();
    let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
    template::create_table(&dynamodb, "Table", NAME).await;
    let (streams, kinesis) = (aws_sdk_dynamodbstreams::Client::new(&sdk), aws_sdk_kinesis::Client::new(&sdk));
    Stack {
        name: NAME.to_owned(),
        is_local: true,
        queue_url: String::new(),
        dead_letter_queue_url: String::new(),
        publisher_failures_url: String::new(),
        downstream_failures_url: String::new(),
        table_name: NAME.to_owned(),
        // The model has the name of the table here.
        table_stream_arn: NAME.to_owned(),
        table_stream: TableStream::new(streams, NAME.to_owned()),
        stream_name: String::new(),
        data_stream: DataStream::by_name(kinesis, String::new()),
        functions: Functions { ingest: String::new(), publisher: String::new(), downstream: String::new() },
        ledger_table_name: None,
        done_retention_days: 90,
        sqs: aws_sdk_sqs::Client::new(&sdk),
        dynamodb,
        calls: Calls::new(sdk.clone()),
        config: sdk,
    }
}

/// A notification with the id `n0000007`, if its number is 7.
pub(crate) fn notification(number: usize) -> Notification {
    Notification::parse(format!(r#"{{"specversion":"1.0","id":"n{number:07}","source":"s","type":"t"}}"#)).unwrap()
}

/// Puts this many notifications, and makes those DONE or FAILED that a rule says.
pub(crate) async fn put(stack: &Stack, numbers: std::ops::Range<usize>, settle: impl Fn(usize) -> Option<Status>) {
    let table = DynamoTable::new(stack.dynamodb.clone(), stack.table_name.clone());
    let numbers: Vec<_> = numbers.collect();
    for numbers in numbers.chunks(limits::BATCH_EXECUTE_STATEMENT_MAX) {
        let all: Vec<_> = numbers.iter().map(|&number| notification(number)).collect();
        let inserts: Vec<_> = all.iter().map(Change::insert).collect();
        let settled = numbers.iter().zip(&all).filter_map(|(&number, notification)| {
            let (id, event) = (notification.id(), notification.event());
            match settle(number)? {
                Status::Done => Some(Change::done(id, event, None)),
                Status::Failed => Some(Change::fail(id, event, Run::Any, REJECTED)),
                status => panic!("{status}"),
            }
        });
        let settled: Vec<_> = settled.collect();
        for changes in [inserts, settled].into_iter().filter(|changes| !changes.is_empty()) {
            let written = table.write(&changes, Timestamp::UNIX_EPOCH).await.unwrap();
            assert!(written.iter().all(|written| *written == Ok(Written::Yes)), "{written:?}");
        }
    }
}
