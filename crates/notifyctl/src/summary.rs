//! `notifyctl summary`: counts the notifications of each status, and the messages in the queues.

use crate::error::Error;
use crate::items::text;
use crate::output;
use crate::stack::Stack;
use aws_sdk_sqs::types::QueueAttributeName;
use notification::Status;
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// The counts.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    pub(crate) notifications: BTreeMap<String, usize>,
    pub(crate) queue: Queue,
    pub(crate) dead_letter_queue: Queue,
    pub(crate) publisher_failures: Queue,
    pub(crate) downstream_failures: Queue,
}

/// Messages of one queue, as SQS counts them: approximately.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Queue {
    pub(crate) visible: usize,
    pub(crate) in_flight: usize,
    /// Sent with a delay that has not passed yet.
    pub(crate) delayed: usize,
}

impl Queue {
    pub(crate) fn all(self) -> usize {
        self.visible + self.in_flight + self.delayed
    }
}

impl Summary {
    pub(crate) async fn read(stack: &Stack) -> Result<Self, Error> {
        Ok(Self {
            queue: queue(stack, &stack.queue_url).await?,
            notifications: statuses(stack).await?,
            dead_letter_queue: queue(stack, &stack.dead_letter_queue_url).await?,
            publisher_failures: queue(stack, &stack.publisher_failures_url).await?,
            downstream_failures: queue(stack, &stack.downstream_failures_url).await?,
        })
    }

    pub(crate) fn count(&self, status: Status) -> usize {
        self.notifications.get(status.as_str()).copied().unwrap_or_default()
    }

    pub(crate) fn total(&self) -> usize {
        self.notifications.values().sum()
    }

    /// Notifications that are not settled.
    pub(crate) fn pending(&self) -> usize {
        Status::ALL.into_iter().filter(|status| status.is_pending()).map(|status| self.count(status)).sum()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.pending() == 0 && self.queue.all() == 0
    }
}

pub(crate) async fn run(stack: &Stack, json: bool) -> Result<ExitCode, Error> {
    let summary = Summary::read(stack).await?;
    if json {
        output::json(&summary);
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows =
        Status::ALL.map(|status| (status.as_str(), summary.count(status), meaning(status).to_owned())).to_vec();
    for (name, queue, meaning) in [
        ("queue", summary.queue, "messages on their way to ingest"),
        ("DLQ", summary.dead_letter_queue, "messages refused six times"),
        ("publisher failures", summary.publisher_failures, "batches that Lambda gave up on"),
        ("downstream failures", summary.downstream_failures, "batches that Lambda gave up on"),
    ] {
        rows.push((name, queue.all(), format!("{meaning} ({} in flight)", output::thousands(queue.in_flight))));
    }
    output::counts(rows);
    Ok(ExitCode::SUCCESS)
}

fn meaning(status: Status) -> &'static str {
    match status {
        Status::Init => "accepted, the effect is still to come",
        Status::Claimed => "a worker is making its one call, or died during it",
        Status::Done => "the effect has happened",
        Status::Failed => "it will not happen; `notifyctl status ID` has the reason",
        Status::InDoubt => "the effect may have happened: the outcome is unknown; `notifyctl resolve ID`",
    }
}

/// Counts the notifications of each status. DynamoDB has no such counts, so this reads the whole table.
async fn statuses(stack: &Stack) -> Result<BTreeMap<String, usize>, Error> {
    let mut pages = stack
        .dynamodb
        .scan()
        .table_name(&stack.table_name)
        .projection_expression("#status")
        .expression_attribute_names("#status", "status")
        .consistent_read(true)
        .into_paginator()
        .send();
    let mut counts = BTreeMap::new();
    while let Some(page) = pages.next().await {
        for item in page.map_err(Error::aws("Scan"))?.items() {
            if let Some(status) = text(item, "status") {
                *counts.entry(status.to_owned()).or_default() += 1;
            }
        }
    }
    Ok(counts)
}

/// Counts the messages of a queue, as SQS does: approximately.
pub(crate) async fn queue(stack: &Stack, url: &str) -> Result<Queue, Error> {
    let call = stack.sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
    let attributes = call.send().await.map_err(Error::aws("GetQueueAttributes"))?.attributes.unwrap_or_default();
    let number = |name| attributes.get(&name).and_then(|text| text.parse().ok()).unwrap_or_default();
    Ok(Queue {
        visible: number(QueueAttributeName::ApproximateNumberOfMessages),
        in_flight: number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
        delayed: number(QueueAttributeName::ApproximateNumberOfMessagesDelayed),
    })
}
