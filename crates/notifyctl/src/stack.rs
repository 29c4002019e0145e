//! The deployed stack: its queues, table and streams, and clients for them.

pub(crate) mod dead_letters;
pub(crate) mod items;
pub(crate) mod signed;

use crate::error::Error;
use crate::stack::signed::Calls;
use aws::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use aws_sdk_lambda::types::LoggingConfig;
use notification::limits;
use std::collections::HashMap;
use std::net::IpAddr;
use stream_reader::dynamodb::TableStream;
use stream_reader::kinesis::DataStream;

/// The names of the functions.
pub(crate) struct Functions {
    pub(crate) ingest: String,
    pub(crate) publisher: String,
    pub(crate) downstream: String,
}

/// A deployed stack.
pub(crate) struct Stack {
    pub(crate) name: String,
    /// Whether its AWS is a local one: AWS_ENDPOINT_URL is an address of this machine.
    pub(crate) is_local: bool,
    pub(crate) queue_url: String,
    pub(crate) dead_letter_queue_url: String,
    pub(crate) publisher_failures_url: String,
    pub(crate) downstream_failures_url: String,
    pub(crate) table_name: String,
    pub(crate) table_stream_arn: String,
    pub(crate) table_stream: TableStream,
    pub(crate) stream_name: String,
    pub(crate) data_stream: DataStream,
    pub(crate) functions: Functions,
    /// If the action is `ledger`.
    pub(crate) ledger_table_name: Option<String>,
    /// Days after which a DONE item expires.
    pub(crate) done_retention_days: u32,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    /// For operations without a client of the SDK.
    pub(crate) calls: Calls,
    /// For the clients that few commands need.
    pub(crate) config: SdkConfig,
}

/// The log group of a function.
/// <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html>
pub(crate) fn log_group(logging: Option<&LoggingConfig>, function_name: &str) -> String {
    let configured = logging.and_then(|logging| logging.log_group());
    configured.map_or_else(|| format!("/aws/lambda/{function_name}"), str::to_owned)
}

impl Stack {
    /// Finds a stack by its name, in its outputs.
    pub(crate) async fn find(name: &str) -> Result<Self, Error> {
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(limits::NOTIFYCTL_ATTEMPT_TIMEOUT).build();
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12()).timeout_config(timeouts).load().await;
        if config.region().is_none() {
            let text = "no AWS region is set: set AWS_REGION, or a region in the AWS profile";
            return Err(Error::Failed(text.to_owned()));
        }
        let outputs = outputs(&config, name).await?;
        let output = |key| output(name, &outputs, key);
        let streams = aws_sdk_dynamodbstreams::Client::new(&config);
        let retries = RetryConfig::standard().with_max_attempts(limits::STREAM_READ_ATTEMPTS);
        let kinesis = aws_sdk_kinesis::config::Builder::from(&config).retry_config(retries).build();
        let kinesis = aws_sdk_kinesis::Client::from_conf(kinesis);
        Ok(Self {
            name: name.to_owned(),
            is_local: config.endpoint_url().is_some_and(is_loopback),
            queue_url: output("QueueUrl")?,
            dead_letter_queue_url: output("DeadLetterQueueUrl")?,
            publisher_failures_url: output("PublisherFailuresUrl")?,
            downstream_failures_url: output("DownstreamFailuresUrl")?,
            table_name: output("TableName")?,
            table_stream_arn: output("TableStreamArn")?,
            table_stream: TableStream::new(streams, output("TableStreamArn")?),
            stream_name: output("StreamName")?,
            data_stream: DataStream::by_name(kinesis, output("StreamName")?),
            functions: Functions {
                ingest: output("IngestFunction")?,
                publisher: output("PublisherFunction")?,
                downstream: output("DownstreamFunction")?,
            },
            ledger_table_name: output("LedgerTableName").ok(),
            done_retention_days: number(name, &outputs, "DoneRetentionDays")?,
            sqs: aws_sdk_sqs::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            calls: Calls::new(config.clone()),
            config,
        })
    }
}

/// Whether a URL's host is this machine, by its loopback address.
fn is_loopback(url: &str) -> bool {
    let uri: Option<hyper::Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(hyper::Uri::host).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback());
    address || host.eq_ignore_ascii_case("localhost")
}

/// The outputs of a stack, by their names.
async fn outputs(config: &SdkConfig, stack: &str) -> Result<HashMap<String, String>, Error> {
    let cloudformation = aws_sdk_cloudformation::Client::new(config);
    let described = cloudformation.describe_stacks().stack_name(stack).send().await;
    // "Stack with id … does not exist" has no error code of its own.
    let is_missing = described.as_ref().is_err_and(|error| error.code() == Some("ValidationError"));
    let stacks = if is_missing { None } else { described.map_err(Error::aws("DescribeStacks"))?.stacks };
    let Some(found) = stacks.unwrap_or_default().into_iter().next() else {
        let region = config.region().map(Region::to_string).unwrap_or_default();
        return Err(Error::Failed(format!(
            "there is no stack {stack} in {region}: name it with --stack, deploy it with `sam deploy`, or run `make up` for the \
             local one"
        )));
    };
    let outputs = found.outputs.unwrap_or_default().into_iter();
    Ok(outputs.filter_map(|output| Some((output.output_key?, output.output_value?))).collect())
}

fn output(stack: &str, outputs: &HashMap<String, String>, key: &str) -> Result<String, Error> {
    outputs.get(key).cloned().ok_or_else(|| {
        Error::Failed(format!(
            "the stack {stack} has no output {key}: was it deployed from another template, or an older one?"
        ))
    })
}

fn number(stack: &str, outputs: &HashMap<String, String>, key: &str) -> Result<u32, Error> {
    let value = output(stack, outputs, key)?;
    value
        .parse()
        .map_err(|_| Error::Failed(format!("the output {key} of the stack {stack} is {value:?}, not a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(outputs: &[(&str, &str)]) -> Result<u32, String> {
        let outputs = outputs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        number("s", &outputs, "DoneRetentionDays").map_err(|error| error.to_string())
    }

    #[test]
    fn only_a_loopback_address_is_this_machine() {
        for url in ["http://127.0.0.1:4566", "http://localhost:1", "http://[::1]:80/", "http://127.9.9.9"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["https://sqs.us-east-1.amazonaws.com", "http://127.0.0.1.example.com", "http://0.0.0.0:1", "", "x"]
        {
            assert!(!is_loopback(url), "{url}");
        }
    }

    #[test]
    fn an_output_that_is_missing_or_not_a_number_is_named() {
        assert_eq!(days(&[("Other", "1"), ("DoneRetentionDays", "90")]), Ok(90));
        assert!(days(&[]).unwrap_err().contains("the stack s has no output DoneRetentionDays"));
        let error = days(&[("DoneRetentionDays", "many")]).unwrap_err();
        assert_eq!(error, "the output DoneRetentionDays of the stack s is \"many\", not a number");
    }
}
