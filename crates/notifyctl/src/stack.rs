//! The deployed stack: which queues, table and streams it has, and clients for them.

use crate::error::Error;
use aws::SdkConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use aws_sdk_cloudformation::types::Output;

/// A deployed stack.
pub(crate) struct Stack {
    pub(crate) name: String,
    pub(crate) queue_url: String,
    pub(crate) dead_letter_queue_url: String,
    pub(crate) publisher_failures_url: String,
    pub(crate) downstream_failures_url: String,
    pub(crate) table_name: String,
    pub(crate) table_stream_arn: String,
    pub(crate) stream_name: String,
    /// Where the action is `ledger`.
    pub(crate) ledger_table_name: Option<String>,
    /// Days after which a DONE item expires.
    pub(crate) done_retention_days: u32,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) streams: aws_sdk_dynamodbstreams::Client,
    pub(crate) kinesis: aws_sdk_kinesis::Client,
}

/// The outputs of a stack.
pub(crate) struct Outputs {
    stack: String,
    outputs: Vec<Output>,
}

/// The SDK's settings: from the environment and the AWS profile, but for an endpoint that is set here.
pub(crate) async fn sdk_config(endpoint: Option<&str>) -> Result<SdkConfig, Error> {
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
    if let Some(endpoint) = endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let config = loader.load().await;
    if config.region().is_some() { Ok(config) } else { Err(Error::NoRegion) }
}

impl Outputs {
    /// Reads the outputs of a stack.
    pub(crate) async fn read(config: &SdkConfig, stack: &str) -> Result<Self, Error> {
        let region = config.region().map(Region::to_string).unwrap_or_default();
        let no_stack = || Error::NoStack { stack: stack.to_owned(), region: region.clone() };
        let described =
            aws_sdk_cloudformation::Client::new(config).describe_stacks().stack_name(stack).send().await.map_err(
                |error| match error.code() {
                    // "Stack with id … does not exist" has no code of its own.
                    Some("ValidationError") => no_stack(),
                    _ => Error::aws("DescribeStacks")(error),
                },
            )?;
        let found = described.stacks.unwrap_or_default().into_iter().next().ok_or_else(no_stack)?;
        Ok(Self { stack: stack.to_owned(), outputs: found.outputs.unwrap_or_default() })
    }

    /// The value of an output.
    pub(crate) fn get(&self, key: &'static str) -> Result<String, Error> {
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
        let config = sdk_config(None).await?;
        let outputs = Outputs::read(&config, name).await?;
        Ok(Self {
            name: name.to_owned(),
            queue_url: outputs.get("QueueUrl")?,
            dead_letter_queue_url: outputs.get("DeadLetterQueueUrl")?,
            publisher_failures_url: outputs.get("PublisherFailuresUrl")?,
            downstream_failures_url: outputs.get("DownstreamFailuresUrl")?,
            table_name: outputs.get("TableName")?,
            table_stream_arn: outputs.get("TableStreamArn")?,
            stream_name: outputs.get("StreamName")?,
            ledger_table_name: outputs.get("LedgerTableName").ok(),
            done_retention_days: outputs.number("DoneRetentionDays")?,
            sqs: aws_sdk_sqs::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            streams: aws_sdk_dynamodbstreams::Client::new(&config),
            kinesis: aws_sdk_kinesis::Client::new(&config),
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
    fn an_output_that_is_missing_or_no_number_is_named() {
        assert_eq!(number(&[("Other", "1"), ("DoneRetentionDays", "90")]), Ok(90));
        assert!(number(&[]).unwrap_err().contains("the stack s has no output DoneRetentionDays"));
        let error = number(&[("DoneRetentionDays", "many")]).unwrap_err();
        assert_eq!(error, "the output DoneRetentionDays of the stack s is \"many\", not a number");
    }
}
