//! The deployed stack: its queues, table and streams, and clients for them.

use crate::error::Error;
use aws::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use aws_sdk_cloudformation::types::Output;
use notification::limits;
use stream_reader::dynamodb::TableStream;
use stream_reader::kinesis::DataStream;

/// A deployed stack.
pub(crate) struct Stack {
    pub(crate) name: String,
    pub(crate) queue_url: String,
    pub(crate) dead_letter_queue_url: String,
    pub(crate) publisher_failures_url: String,
    pub(crate) downstream_failures_url: String,
    pub(crate) table_name: String,
    pub(crate) table_stream: TableStream,
    pub(crate) data_stream: DataStream,
    /// If the action is `ledger`.
    pub(crate) ledger_table_name: Option<String>,
    /// Days after which a DONE item expires.
    pub(crate) done_retention_days: u32,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
}

/// The outputs of a stack.
struct Outputs {
    stack: String,
    outputs: Vec<Output>,
}

impl Outputs {
    /// Reads the outputs of a stack.
    async fn read(config: &SdkConfig, stack: &str) -> Result<Self, Error> {
        let cloudformation = aws_sdk_cloudformation::Client::new(config);
        let described = cloudformation.describe_stacks().stack_name(stack).send().await;
        // "Stack with id … does not exist" has no error code of its own.
        let is_missing = described.as_ref().is_err_and(|error| error.code() == Some("ValidationError"));
        let stacks = if is_missing { None } else { described.map_err(Error::aws("DescribeStacks"))?.stacks };
        let Some(found) = stacks.unwrap_or_default().into_iter().next() else {
            let region = config.region().map(Region::to_string).unwrap_or_default();
            return Err(Error::NoStack { stack: stack.to_owned(), region });
        };
        Ok(Self { stack: stack.to_owned(), outputs: found.outputs.unwrap_or_default() })
    }

    /// The value of an output.
    fn get(&self, key: &'static str) -> Result<String, Error> {
        let found = self.outputs.iter().find(|output| output.output_key() == Some(key));
        found
            .and_then(|output| output.output_value())
            .map(str::to_owned)
            .ok_or_else(|| Error::NoOutput { stack: self.stack.clone(), output: key })
    }

    /// The value of an output that is a number.
    fn number(&self, key: &'static str) -> Result<u32, Error> {
        let value = self.get(key)?;
        value.parse().map_err(|_| Error::BadOutput { stack: self.stack.clone(), output: key, value })
    }
}

impl Stack {
    /// Finds a stack by its name, in its outputs.
    pub(crate) async fn find(name: &str) -> Result<Self, Error> {
        let config = aws_config::load_defaults(BehaviorVersion::v2026_01_12()).await;
        if config.region().is_none() {
            return Err(Error::NoRegion);
        }
        let outputs = Outputs::read(&config, name).await?;
        let streams = aws_sdk_dynamodbstreams::Client::new(&config);
        let retries = RetryConfig::standard().with_max_attempts(limits::STREAM_READ_ATTEMPTS);
        let kinesis = aws_sdk_kinesis::config::Builder::from(&config).retry_config(retries).build();
        let kinesis = aws_sdk_kinesis::Client::from_conf(kinesis);
        Ok(Self {
            name: name.to_owned(),
            queue_url: outputs.get("QueueUrl")?,
            dead_letter_queue_url: outputs.get("DeadLetterQueueUrl")?,
            publisher_failures_url: outputs.get("PublisherFailuresUrl")?,
            downstream_failures_url: outputs.get("DownstreamFailuresUrl")?,
            table_name: outputs.get("TableName")?,
            table_stream: TableStream::new(streams, outputs.get("TableStreamArn")?),
            data_stream: DataStream::by_name(kinesis, outputs.get("StreamName")?),
            ledger_table_name: outputs.get("LedgerTableName").ok(),
            done_retention_days: outputs.number("DoneRetentionDays")?,
            sqs: aws_sdk_sqs::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(outputs: &[(&str, &str)]) -> Result<u32, String> {
        let output = |(key, value): &(&str, &str)| Output::builder().output_key(*key).output_value(*value).build();
        let outputs = Outputs { stack: "s".into(), outputs: outputs.iter().map(output).collect() };
        outputs.number("DoneRetentionDays").map_err(|error| error.to_string())
    }

    #[test]
    fn an_output_that_is_missing_or_not_a_number_is_named() {
        assert_eq!(number(&[("Other", "1"), ("DoneRetentionDays", "90")]), Ok(90));
        assert!(number(&[]).unwrap_err().contains("the stack s has no output DoneRetentionDays"));
        let error = number(&[("DoneRetentionDays", "many")]).unwrap_err();
        assert_eq!(error, "the output DoneRetentionDays of the stack s is \"many\", not a number");
    }
}
