//! Reads a deployed stack. A call that fails is the reason why something is not checked, and not the end of it.

use super::deployed::{Alarm, Deployed, Function, Grant, Index, Mapping, Queue, Read, Schedule, Stage, Stream, Table};
use crate::error::Error;
use crate::stack::{self, Stack, signed};
use crate::stage::mappings;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{IndexStatus, KeyType, PointInTimeRecoveryStatus, TimeToLiveStatus};
use aws_sdk_lambda::types::{EventSourceMappingConfiguration, FilterCriteria, FunctionResponseType};
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};
use std::fmt::Display;

/// A resource of the CloudFormation stack.
struct Resource {
    kind: String,
    logical_id: String,
    physical_id: String,
}

/// Reads everything that is checked.
///
/// # Errors
/// The resources of the stack could not be listed.
pub(super) async fn deployed(stack: &Stack) -> Result<Deployed, Error> {
    let cloudformation = aws_sdk_cloudformation::Client::new(&stack.config);
    let resources = resources(&cloudformation, &stack.name).await?;
    let production = is_production(&cloudformation, &stack.name).await?;
    let lambda = aws_sdk_lambda::Client::new(&stack.config);
    let (alarms, missing_alarms) = alarms(stack, &resources).await;
    Ok(Deployed {
        production,
        done_retention_days: stack.done_retention_days,
        table_stream_arn: stack.table_stream_arn.clone(),
        queue: queue(stack, &stack.queue_url).await,
        dead_letter_queue: queue(stack, &stack.dead_letter_queue_url).await,
        publisher_failures: queue(stack, &stack.publisher_failures_url).await,
        downstream_failures: queue(stack, &stack.downstream_failures_url).await,
        table: table(stack).await,
        time_to_live: time_to_live(stack).await,
        point_in_time_recovery: point_in_time_recovery(stack).await,
        stream: stream(stack).await,
        ingest: stage(stack, &lambda, "ingest", &stack.functions.ingest).await,
        publisher: stage(stack, &lambda, "publisher", &stack.functions.publisher).await,
        downstream: stage(stack, &lambda, "downstream", &stack.functions.downstream).await,
        sweep_retries: sweep_retries(stack, &lambda).await,
        sweep: sweep(stack, &resources).await,
        alarms,
        missing_alarms,
    })
}

/// All resources of a stack.
async fn resources(cloudformation: &aws_sdk_cloudformation::Client, stack: &str) -> Result<Vec<Resource>, Error> {
    let mut pages = cloudformation.list_stack_resources().stack_name(stack).into_paginator().send();
    let mut resources = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(Error::aws("ListStackResources"))?;
        resources.extend(page.stack_resource_summaries.unwrap_or_default().into_iter().map(|resource| Resource {
            kind: resource.resource_type.unwrap_or_default(),
            logical_id: resource.logical_resource_id.unwrap_or_default(),
            physical_id: resource.physical_resource_id.unwrap_or_default(),
        }));
    }
    Ok(resources)
}

async fn is_production(cloudformation: &aws_sdk_cloudformation::Client, stack: &str) -> Result<bool, Error> {
    let described = cloudformation.describe_stacks().stack_name(stack).send().await;
    let stacks = described.map_err(Error::aws("DescribeStacks"))?.stacks.unwrap_or_default();
    let mut parameters = stacks.into_iter().flat_map(|stack| stack.parameters.unwrap_or_default());
    Ok(parameters.any(|parameter| {
        parameter.parameter_key() == Some("Production") && parameter.parameter_value() == Some("true")
    }))
}

fn text(error: impl Display) -> String {
    error.to_string()
}

async fn queue(stack: &Stack, url: &str) -> Read<Queue> {
    let call = stack.sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
    let attributes = call.send().await.map_err(Error::aws("GetQueueAttributes")).map_err(text)?.attributes;
    let attributes = attributes.unwrap_or_default();
    let number = |name: QueueAttributeName| {
        let number = attributes.get(&name).and_then(|number| number.parse().ok());
        number.ok_or_else(|| format!("SQS does not say the {name} of {url}"))
    };
    let redrive = attributes.get(&QueueAttributeName::RedrivePolicy).and_then(|json| {
        let policy: Value = serde_json::from_str(json).ok()?;
        // Some answers have the number as text.
        let receives = &policy["maxReceiveCount"];
        let receives = receives.as_u64().or_else(|| receives.as_str()?.parse().ok())?;
        Some((policy["deadLetterTargetArn"].as_str()?.to_owned(), u32::try_from(receives).ok()?))
    });
    Ok(Queue {
        url: url.to_owned(),
        arn: attributes.get(&QueueAttributeName::QueueArn).cloned().unwrap_or_default(),
        retention: number(QueueAttributeName::MessageRetentionPeriod)?,
        visibility_timeout: number(QueueAttributeName::VisibilityTimeout)?,
        redrive,
    })
}

async fn table(stack: &Stack) -> Read<Table> {
    let described = stack.dynamodb.describe_table().table_name(&stack.table_name).send().await;
    let table = described.map_err(Error::aws("DescribeTable")).map_err(text)?.table;
    let table = table.ok_or_else(|| format!("DescribeTable: no answer for {}", stack.table_name))?;
    let indexes = table.global_secondary_indexes().iter().map(|index| {
        let key = |kind: &KeyType| {
            index
                .key_schema()
                .iter()
                .filter(|key| key.key_type() == kind)
                .map(|key| key.attribute_name().to_owned())
                .next()
        };
        Index {
            name: index.index_name().unwrap_or_default().to_owned(),
            keys: [key(&KeyType::Hash), key(&KeyType::Range)].into_iter().flatten().collect(),
            is_active: index.index_status() == Some(&IndexStatus::Active),
        }
    });
    let stream = table.stream_specification().and_then(|stream| stream.stream_view_type());
    Ok(Table {
        name: stack.table_name.clone(),
        arn: table.table_arn().unwrap_or_default().to_owned(),
        stream_arn: table.latest_stream_arn().map(str::to_owned),
        stream_view_type: stream.map(|view| view.as_str().to_owned()),
        indexes: indexes.collect(),
        deletion_protection: table.deletion_protection_enabled().unwrap_or_default(),
    })
}

async fn time_to_live(stack: &Stack) -> Read<Option<String>> {
    let described = stack.dynamodb.describe_time_to_live().table_name(&stack.table_name).send().await;
    let description = described.map_err(Error::aws("DescribeTimeToLive")).map_err(text)?.time_to_live_description;
    Ok(description.and_then(|description| {
        let is_on =
            matches!(description.time_to_live_status(), Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling));
        description.attribute_name.filter(|_| is_on)
    }))
}

async fn point_in_time_recovery(stack: &Stack) -> Read<bool> {
    let described = stack.dynamodb.describe_continuous_backups().table_name(&stack.table_name).send().await;
    let backups = described.map_err(Error::aws("DescribeContinuousBackups")).map_err(text)?;
    let description =
        backups.continuous_backups_description.and_then(|backups| backups.point_in_time_recovery_description);
    Ok(description
        .is_some_and(|recovery| recovery.point_in_time_recovery_status() == Some(&PointInTimeRecoveryStatus::Enabled)))
}

async fn stream(stack: &Stack) -> Read<Stream> {
    let kinesis = aws_sdk_kinesis::Client::new(&stack.config);
    let described = kinesis.describe_stream_summary().stream_name(&stack.stream_name).send().await;
    let summary = described.map_err(Error::aws("DescribeStreamSummary")).map_err(text)?.stream_description_summary;
    let summary = summary.ok_or_else(|| format!("DescribeStreamSummary: no answer for {}", stack.stream_name))?;
    Ok(Stream {
        name: stack.stream_name.clone(),
        arn: summary.stream_arn().to_owned(),
        retention_hours: u64::try_from(summary.retention_period_hours()).unwrap_or_default(),
    })
}

// ---- functions -----------------------------------------------------------------------------------------------------------

async fn stage(stack: &Stack, lambda: &aws_sdk_lambda::Client, name: &'static str, function_name: &str) -> Stage {
    let configuration = lambda.get_function_configuration().function_name(function_name).send().await;
    let configuration = configuration.map_err(Error::aws("GetFunctionConfiguration")).map_err(text);
    let role =
        configuration.as_ref().map(|function| function.role().unwrap_or_default().to_owned()).map_err(Clone::clone);
    let function = configuration.map(|configuration| {
        let logging = configuration.logging_config();
        Function {
            timeout: configuration.timeout().and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(3),
            variables: configuration
                .environment()
                .and_then(|environment| environment.variables())
                .map(|variables| variables.clone().into_iter().collect())
                .unwrap_or_default(),
            log_group: stack::log_group(logging, function_name),
            log_format: logging
                .and_then(|logging| logging.log_format())
                .map_or("Text", |format| format.as_str())
                .to_owned(),
            log_level: logging
                .and_then(|logging| logging.application_log_level())
                .map_or("INFO", |level| level.as_str())
                .to_owned(),
        }
    });
    let log_retention_days = match &function {
        Ok(function) => log_retention(stack, &function.log_group).await,
        Err(reason) => Err(reason.clone()),
    };
    let grants = match role {
        Ok(role) => grants(stack, &role, name).await,
        Err(reason) => Err(reason),
    };
    let found = mappings(lambda, function_name).await.map_err(text);
    Stage {
        name,
        stack_name: stack.name.clone(),
        function_name: function_name.to_owned(),
        function,
        mappings: found.map(|found| found.iter().map(mapping).collect()),
        log_retention_days,
        grants,
    }
}

fn mapping(mapping: &EventSourceMappingConfiguration) -> Mapping {
    let filters = mapping.filter_criteria().map(FilterCriteria::filters).unwrap_or_default();
    let on_failure = mapping.destination_config().and_then(|destinations| destinations.on_failure());
    Mapping {
        uuid: mapping.uuid().unwrap_or_default().to_owned(),
        source_arn: mapping.event_source_arn().unwrap_or_default().to_owned(),
        state: mapping.state().unwrap_or_default().to_owned(),
        batching_window: mapping
            .maximum_batching_window_in_seconds()
            .and_then(|it| u64::try_from(it).ok())
            .unwrap_or(0),
        reports_batch_item_failures: mapping
            .function_response_types()
            .contains(&FunctionResponseType::ReportBatchItemFailures),
        filters: filters.iter().filter_map(|filter| filter.pattern().map(str::to_owned)).collect(),
        maximum_record_age: mapping.maximum_record_age_in_seconds().map_or(-1, i64::from),
        maximum_retry_attempts: mapping.maximum_retry_attempts().map_or(-1, i64::from),
        bisects: mapping.bisect_batch_on_function_error().unwrap_or_default(),
        on_failure_arn: on_failure.and_then(|destination| destination.destination()).map(str::to_owned),
    }
}

async fn log_retention(stack: &Stack, log_group: &str) -> Read<Option<i32>> {
    let request = json!({"logGroupNamePrefix": log_group});
    let answer = stack.calls.json(&signed::DESCRIBE_LOG_GROUPS, &request).await?;
    let group = members(&answer, "logGroups").iter().find(|group| group["logGroupName"] == log_group);
    let group = group.ok_or_else(|| format!("there is no log group {log_group}"))?;
    Ok(group["retentionInDays"].as_i64().and_then(|days| i32::try_from(days).ok()))
}

/// What the role's own policy allows. The template names the policy like the stage.
async fn grants(stack: &Stack, role_arn: &str, policy: &str) -> Read<Vec<Grant>> {
    let role = role_arn.rsplit('/').next().unwrap_or_default();
    let document = stack.calls.role_policy(role, policy).await?;
    let document: Value = serde_json::from_str(&document).map_err(|error| format!("the policy of {role}: {error}"))?;
    Ok(allowed(&document))
}

/// The actions and resources that a policy allows. Conditions are not looked at.
fn allowed(document: &Value) -> Vec<Grant> {
    let mut grants = Vec::new();
    for statement in several(&document["Statement"]).filter(|statement| statement["Effect"] == "Allow") {
        for action in several(&statement["Action"]).filter_map(Value::as_str) {
            for resource in several(&statement["Resource"]).filter_map(Value::as_str) {
                grants.push(Grant { action: action.to_owned(), resource: resource.to_owned() });
            }
        }
    }
    grants
}

/// One value, or those of an array: policies may have either.
fn several(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice).iter()
}

// ---- the sweep, and alarms -------------------------------------------------------------------------------------------------

async fn sweep_retries(stack: &Stack, lambda: &aws_sdk_lambda::Client) -> Read<i32> {
    // Without a setting, Lambda repeats an asynchronous invocation twice.
    const DEFAULT: i32 = 2;
    let config = lambda.get_function_event_invoke_config().function_name(&stack.functions.publisher).send().await;
    if config.as_ref().is_err_and(|error| error.code() == Some("ResourceNotFoundException")) {
        return Ok(DEFAULT);
    }
    let config = config.map_err(Error::aws("GetFunctionEventInvokeConfig")).map_err(text)?;
    Ok(config.maximum_retry_attempts().unwrap_or(DEFAULT))
}

async fn sweep(stack: &Stack, resources: &[Resource]) -> Read<Schedule> {
    let rule = resources.iter().find(|resource| resource.kind == "AWS::Events::Rule");
    let rule = &rule.ok_or("the stack has no AWS::Events::Rule")?.physical_id;
    let described = stack.calls.json(&signed::DESCRIBE_RULE, &json!({"Name": rule})).await?;
    let targets = stack.calls.json(&signed::LIST_TARGETS_BY_RULE, &json!({"Rule": rule})).await?;
    let target = |target: &Value| (text_of(target, "Arn"), text_of(target, "Input"));
    Ok(Schedule {
        rule: rule.clone(),
        is_enabled: described["State"] == "ENABLED",
        expression: text_of(&described, "ScheduleExpression"),
        targets: members(&targets, "Targets").iter().map(target).collect(),
    })
}

/// The elements of a member that is an array.
fn members<'a>(json: &'a Value, name: &str) -> &'a [Value] {
    json[name].as_array().map_or(&[], Vec::as_slice)
}

fn text_of(json: &Value, name: &str) -> String {
    json[name].as_str().unwrap_or_default().to_owned()
}

/// Names that `DescribeAlarms` takes, and alarms that it returns.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html>
const ALARMS_IN_A_CALL: usize = 100;

/// An alarm, by the name that the template gives it.
fn alarm(name: &str, json: &Value) -> Alarm {
    Alarm {
        name: name.to_owned(),
        state: text_of(json, "StateValue"),
        actions_enabled: json["ActionsEnabled"].as_bool().unwrap_or(true),
        notifies: !members(json, "AlarmActions").is_empty(),
    }
}

/// The alarms of the stack, and those that CloudWatch does not have, by the names that the template gives them.
async fn alarms(stack: &Stack, resources: &[Resource]) -> (Read<Vec<Alarm>>, Read<Vec<String>>) {
    let of_stack: Vec<&Resource> =
        resources.iter().filter(|resource| resource.kind == "AWS::CloudWatch::Alarm").collect();
    let (mut alarms, mut missing) = (Vec::new(), Vec::new());
    for resources in of_stack.chunks(ALARMS_IN_A_CALL) {
        let names: Vec<&str> = resources.iter().map(|resource| resource.physical_id.as_str()).collect();
        let request = json!({"AlarmNames": names, "MaxRecords": ALARMS_IN_A_CALL});
        let answer = match stack.calls.json(&signed::DESCRIBE_ALARMS, &request).await {
            Ok(answer) => answer,
            Err(problem) => return (Err(problem.text.clone()), Err(problem.text)),
        };
        let found = members(&answer, "MetricAlarms");
        for resource in resources {
            match found.iter().find(|json| json["AlarmName"] == resource.physical_id.as_str()) {
                Some(json) => alarms.push(alarm(&resource.logical_id, json)),
                None => missing.push(resource.logical_id.clone()),
            }
        }
    }
    (Ok(alarms), Ok(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_has_its_state_and_says_whether_it_notifies_somebody() {
        let read = |json: Value| {
            let Alarm { name, state, actions_enabled, notifies } = alarm("a", &json);
            (name, state, actions_enabled, notifies)
        };
        let json = json!({"StateValue": "OK", "ActionsEnabled": false, "AlarmActions": ["arn"]});
        assert_eq!(read(json), ("a".to_owned(), "OK".to_owned(), false, true));
        let json = json!({"StateValue": "ALARM", "AlarmActions": []});
        assert_eq!(read(json), ("a".to_owned(), "ALARM".to_owned(), true, false));
    }

    #[test]
    fn a_policy_allows_each_of_its_actions_on_each_of_its_resources_and_nothing_that_it_denies() {
        let document = json!({"Statement": [
            {"Effect": "Allow", "Action": ["a:B", "a:C"], "Resource": "r"},
            {"Effect": "Deny", "Action": "a:D", "Resource": "*"},
            {"Effect": "Allow", "Action": "a:E", "Resource": ["s", "t"]},
        ]});
        let grants: Vec<String> =
            allowed(&document).into_iter().map(|grant| format!("{} {}", grant.action, grant.resource)).collect();
        assert_eq!(grants, ["a:B r", "a:C r", "a:E s", "a:E t"]);
    }
}
