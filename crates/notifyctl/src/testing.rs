//! A stack whose table is in the process: a model of DynamoDB, with the table as `template.yaml` defines it.

#[path = "../../aws/tests/contract/model.rs"]
mod model;
#[path = "../../aws/tests/contract/template.rs"]
mod template;

use crate::stack::{Functions, Stack};
use aws::{Environment, config};
use aws_sdk_dynamodb::config::SharedCredentialsProvider;
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
        config: sdk,
    }
}
