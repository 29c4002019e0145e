//! `notifyctl summary`: counts the notifications that are not DONE, and the messages in the queues.

use crate::attention;
use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use crate::stack::items::text;
use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use aws_sdk_sqs::types::QueueAttributeName;
use clap::Args;
use notification::Status;
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  notifyctl summary
  notifyctl summary --json | jq .notifications.FAILED

Exit status: 0, whatever the counts are.";

/// Count the notifications that are not DONE, and the messages in the queues
///
/// The counts are from the table's indexes, which lag a little behind the table. Their cost is in proportion to what is counted.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SummaryArgs {
    /// Count every status, DONE too: reads the whole table
    #[arg(long)]
    pub(crate) all: bool,
}

/// The counts.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Summary {
    /// By status; `PENDING` is INIT and CLAIMED together, where the indexes are counted.
    pub(crate) notifications: BTreeMap<String, usize>,
    pub(crate) queue: Queue,
    pub(crate) dead_letter_queue: Queue,
    pub(crate) publisher_failures: Queue,
    pub(crate) downstream_failures: Queue,
    /// Read capacity units that counting the notifications took.
    pub(crate) read_units: f64,
}

/// In the counts: INIT and CLAIMED together.
const PENDING: &str = "PENDING";

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// What is not DONE, in the table's sparse indexes: reads in proportion to that.
    Indexes,
    /// Every status, in the whole table, read consistently.
    WholeTable,
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
    pub(crate) async fn read(stack: &Stack, counted: Counted) -> Result<Self, Error> {
        // The queue first: a message that leaves it is then in the table.
        let queue_first = queue(stack, &stack.queue_url).await?;
        let (notifications, read_units) = match counted {
            Counted::Indexes => unsettled(stack).await?,
            Counted::WholeTable => statuses(stack).await?,
        };
        Ok(Self {
            queue: queue_first,
            notifications,
            read_units,
            dead_letter_queue: queue(stack, &stack.dead_letter_queue_url).await?,
            publisher_failures: queue(stack, &stack.publisher_failures_url).await?,
            downstream_failures: queue(stack, &stack.downstream_failures_url).await?,
        })
    }

    /// Whether another reading found the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let queues = |summary: &Self| {
            [summary.queue, summary.dead_letter_queue, summary.publisher_failures, summary.downstream_failures]
        };
        self.notifications == other.notifications && queues(self) == queues(other)
    }

    pub(crate) fn count(&self, status: Status) -> usize {
        self.notifications.get(status.as_str()).copied().unwrap_or_default()
    }

    pub(crate) fn total(&self) -> usize {
        self.notifications.values().sum()
    }

    /// Notifications that are not settled.
    pub(crate) fn pending(&self) -> usize {
        let statuses = Status::ALL.into_iter().filter(|status| status.is_pending()).map(Status::as_str);
        statuses.chain([PENDING]).filter_map(|name| self.notifications.get(name)).sum()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.pending() == 0 && self.queue.all() == 0
    }
}

pub(crate) async fn run(stack: &Stack, args: &SummaryArgs, json: bool) -> Result<ExitCode, Error> {
    let counted = if args.all { Counted::WholeTable } else { Counted::Indexes };
    let summary = Summary::read(stack, counted).await?;
    if json {
        output::json(&summary);
        return Ok(ExitCode::SUCCESS);
    }
    let row = |status: Status| (status.as_str(), summary.count(status), meaning(status).to_owned());
    let mut rows = if args.all {
        Status::ALL.map(row).to_vec()
    } else {
        let pending = (PENDING, summary.pending(), "accepted, the effect is still to come".to_owned());
        vec![pending, row(Status::Failed), row(Status::InDoubt)]
    };
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
        Status::Failed => "it will not happen; `notifyctl groups` has the reasons",
        Status::InDoubt => "the effect may have happened: the outcome is unknown; `notifyctl resolve ID`",
    }
}

/// Counts the notifications that are not DONE, in the indexes that have only these.
async fn unsettled(stack: &Stack) -> Result<(BTreeMap<String, usize>, f64), Error> {
    let counts = attention::count(stack).await?;
    let failed = (Status::Failed.as_str(), counts.failed);
    let in_doubt = (Status::InDoubt.as_str(), counts.in_doubt);
    let counted = [(PENDING, counts.pending), failed, in_doubt];
    Ok((counted.map(|(name, count)| (name.to_owned(), count)).into(), counts.read_units))
}

/// Counts the notifications of each status. DynamoDB has no such counts, so this reads the whole table.
async fn statuses(stack: &Stack) -> Result<(BTreeMap<String, usize>, f64), Error> {
    let mut pages = stack
        .dynamodb
        .scan()
        .table_name(&stack.table_name)
        .projection_expression("#status")
        .expression_attribute_names("#status", "status")
        .consistent_read(true)
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .into_paginator()
        .send();
    let (mut counts, mut units) = (BTreeMap::new(), 0.0);
    while let Some(page) = pages.next().await {
        let page = page.map_err(Error::aws("Scan"))?;
        units += page.consumed_capacity().and_then(|consumed| consumed.capacity_units).unwrap_or_default();
        for item in page.items() {
            if let Some(status) = text(item, "status") {
                *counts.entry(status.to_owned()).or_default() += 1;
            }
        }
    }
    Ok((counts, units))
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
