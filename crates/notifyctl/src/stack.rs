//! The deployed stack: which queues, table and streams it has, and clients for them.

use crate::error::Error;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_cloudformation::error::ProvideErrorMetadata;

/// A deployed stack.
pub(crate) struct Stack {
    pub(crate) queue_url: String,
    pub(crate) dead_letter_queue_url: String,
    pub(crate) publisher_failures_url: String,
    pub(crate) downstream_failures_url: String,
    pub(crate) table_name: String,
    pub(crate) table_stream_arn: String,
    /// Where the action is `ledger`.
    pub(crate) ledger_table_name: Option<String>,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) streams: aws_sdk_dynamodbstreams::Client,
}

impl Stack {
    /// Finds a stack by its name, in its outputs.
    pub(crate) async fn find(name: &str) -> Result<Self, Error> {
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12()).load().await;
        let region = config.region().map(Region::as_ref).ok_or(Error::NoRegion)?.to_owned();
        let no_stack = || Error::NoStack { stack: name.to_owned(), region: region.clone() };

        let described =
            aws_sdk_cloudformation::Client::new(&config).describe_stacks().stack_name(name).send().await.map_err(
                |error| match error.code() {
                    // "Stack with id … does not exist" has no code of its own.
                    Some("ValidationError") => no_stack(),
                    _ => Error::aws("DescribeStacks")(error),
                },
            )?;
        let stack = described.stacks().first().ok_or_else(no_stack)?;
        let output = |key: &'static str| {
            let found = stack.outputs().iter().find(|output| output.output_key() == Some(key));
            found
                .and_then(|output| output.output_value())
                .map(str::to_owned)
                .ok_or_else(|| Error::NoOutput { stack: name.to_owned(), output: key })
        };
        Ok(Self {
            queue_url: output("QueueUrl")?,
            dead_letter_queue_url: output("DeadLetterQueueUrl")?,
            publisher_failures_url: output("PublisherFailuresUrl")?,
            downstream_failures_url: output("DownstreamFailuresUrl")?,
            table_name: output("TableName")?,
            table_stream_arn: output("TableStreamArn")?,
            ledger_table_name: output("LedgerTableName").ok(),
            sqs: aws_sdk_sqs::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            streams: aws_sdk_dynamodbstreams::Client::new(&config),
        })
    }
}
