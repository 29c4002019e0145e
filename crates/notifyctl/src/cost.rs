//! `notifyctl cost`: what a month costs, from counted calls and bytes. It calls nothing.
//!
//! The counts are those of docs/OPERATIONS.md and docs/PERFORMANCE.md, and a test compares them. The prices are in
//! `prices.json`, which `make aws-check` uses as well.

use crate::error::Error;
use crate::output;
use clap::{Args, ValueEnum};
use notification::limits;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  notifyctl cost --rate 100 --size 700
  notifyctl cost --rate 0                                  while idle
  notifyctl cost --rate 1000 --size 700 --action ledger --json | jq .usd

Exit status: 0.";

/// Estimate what a month costs, and what moves it most (without an AWS account)
///
/// Multiplies what a notification takes (SQS requests, write units of the table and its indexes, Kinesis units, invocations and
/// their duration, log lines) by list prices. It is calculated, not billed: no discount, no free tier, no tax.
///
/// Not included: duplicates and retries, the requests that Lambda makes to an empty queue, point-in-time recovery, KMS, the
/// receiver's answer time with the action webhook, the secret, data transfer, and, with an on-demand stream, its price by the GB.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub(crate) struct CostArgs {
    /// Notifications a second, on average over the month
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: f64,

    /// Bytes of an event
    #[arg(long, value_name = "BYTES", default_value_t = 700, value_parser = clap::value_parser!(u32).range(1..=390_000))]
    size: u32,

    /// What downstream does
    #[arg(long, value_enum, default_value_t = Action::MarkDone)]
    action: Action,

    /// How the Kinesis stream scales (KinesisStreamMode)
    #[arg(long, value_enum, default_value_t = StreamMode::Provisioned)]
    stream_mode: StreamMode,

    /// Records in an invocation [default: what arrives in a second, at most 1,000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: Option<u32>,

    /// Days for which DONE notifications are kept (DoneRetentionDays)
    #[arg(long, value_name = "DAYS", default_value_t = limits::DONE_RETENTION_DEFAULT_DAYS,
        value_parser = clap::value_parser!(u32).range(i64::from(limits::DONE_RETENTION_MIN_DAYS)..=3_650))]
    done_retention_days: u32,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=100_000.0).contains(&rate) { Ok(rate) } else { Err("must be from 0 to 100000".to_owned()) }
}

/// The action of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    MarkDone,
    Ledger,
    Webhook,
}

/// The capacity mode of the Kinesis stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum StreamMode {
    Provisioned,
    OnDemand,
}

/// What determines the cost.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Plan {
    /// Notifications a second.
    rate: f64,
    /// Bytes of an event.
    size: f64,
    action: Action,
    stream_mode: StreamMode,
    /// Records in an invocation.
    batch: f64,
    /// Messages in a call to SQS.
    messages_in_a_call: f64,
    done_retention_days: f64,
}

// ---- what a notification takes ---------------------------------------------------------------------------------------------

const SECONDS_OF_AN_HOUR: f64 = 3_600.0;

/// Hours of a month.
const HOURS: f64 = 730.0;

const KB: f64 = 1_024.0;

const GB: f64 = 1_024.0 * 1_024.0 * 1_024.0;

/// Bytes of an item besides its event: the names of its attributes, and the copies of its id, source and type.
const ITEM_BESIDES_EVENT: f64 = 250.0;

/// Requests for a message: sent, received, deleted.
const SQS_REQUESTS: f64 = 3.0;

/// SQS charges for each 64 KB of a message. <https://aws.amazon.com/sqs/pricing/>
const SQS_REQUEST_BYTES: f64 = 64.0 * KB;

/// Kinesis charges for each 25 KB of a record. <https://aws.amazon.com/kinesis/data-streams/pricing/>
const PUT_UNIT_BYTES: f64 = 25.0 * KB;

/// What a shard takes in a second.
/// <https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html>
const SHARD_RECORDS: f64 = 1_000.0;
const SHARD_BYTES: f64 = 1_024.0 * 1_024.0;

/// Memory of a function in GB: the template's `MemorySize`.
const MEMORY_GB: f64 = 0.5;

/// Milliseconds for a batch of 1,000 with 512 MB (docs/PERFORMANCE.md).
const INGEST_MILLIS: f64 = 28.3;
const PUBLISHER_MILLIS: f64 = 11.5;
const MARK_DONE_MILLIS: f64 = 25.0;
const LEDGER_MILLIS: f64 = 49.6;

/// Milliseconds for a batch, at least: one call to a backend that takes 4 ms (docs/PERFORMANCE.md, 100 a batch).
const BATCH_MILLIS_LEAST: f64 = 7.0;

/// Runs of the sweep in an hour, and the read units of each (docs/OPERATIONS.md).
const SWEEPS: f64 = 60.0;
const SWEEP_READ_UNITS: f64 = 48.0;

/// Metrics that are written all the time: those of the sweep, and `Inserted`, `Published`, `Done` and the three latencies. The
/// others are written only when what they count happens.
const METRICS_OF_THE_SWEEP: f64 = 4.0;
const METRICS_OF_NOTIFICATIONS: f64 = 6.0;

/// Bytes of log for an invocation, at most, unless something fails: one line with its metrics.
const LOG_BYTES: f64 = 2_000.0;

/// The template, which says how many alarms and dashboards there are.
const TEMPLATE: &str = include_str!("../../../template.yaml");

/// How much of each item of the price list.
type Quantities = BTreeMap<&'static str, f64>;

/// What this many notifications take.
fn of_notifications(plan: &Plan, notifications: f64) -> Quantities {
    let item = plan.size + ITEM_BESIDES_EVENT;
    let invocations = 3.0 * notifications / plan.batch;
    let chunks = (plan.size / SQS_REQUEST_BYTES).ceil().max(1.0);
    Quantities::from([
        // Each of a message's chunks counts when it is sent and received, but not when it is deleted.
        ("SQS requests", notifications * ((SQS_REQUESTS - 1.0) * chunks + 1.0) / plan.messages_in_a_call),
        ("DynamoDB write units", notifications * write_units(plan.action, item)),
        ("DynamoDB read units", notifications * read_units(plan.action, item)),
        ("Lambda requests", invocations),
        ("Lambda GB-seconds", notifications / plan.batch * batch_millis(plan) / 1_000.0 * MEMORY_GB),
        ("CloudWatch Logs GB", invocations * LOG_BYTES / GB),
        match plan.stream_mode {
            StreamMode::Provisioned => {
                ("Kinesis PUT payload units", notifications * (plan.size / PUT_UNIT_BYTES).ceil())
            }
            StreamMode::OnDemand => ("Kinesis PUT payload units", 0.0),
        },
    ])
}

/// Write units for a notification. Each write counts in the table, by the KB, and in the index of pending notifications, which
/// it enters with INIT and leaves with DONE. In a transaction, everything counts twice.
fn write_units(action: Action, item: f64) -> f64 {
    let (table, index) = ((item / KB).ceil(), 1.0);
    let init = table + index;
    match action {
        Action::MarkDone | Action::Webhook => init + table + index,
        Action::Ledger => {
            let entry = 1.0;
            init + 2.0 * (table + index + entry)
        }
    }
}

/// Read units for a notification: before a call to the outside, it is read consistently, 4 KB to a unit.
fn read_units(action: Action, item: f64) -> f64 {
    match action {
        Action::Webhook => (item / (4.0 * KB)).ceil(),
        Action::MarkDone | Action::Ledger => 0.0,
    }
}

/// Milliseconds for a batch, in all three functions together. The receiver's answer time is not in it.
fn batch_millis(plan: &Plan) -> f64 {
    let downstream = if plan.action == Action::Ledger { LEDGER_MILLIS } else { MARK_DONE_MILLIS };
    let of_function = |millis: f64| (millis * plan.batch / 1_000.0).max(BATCH_MILLIS_LEAST);
    [INGEST_MILLIS, PUBLISHER_MILLIS, downstream].into_iter().map(of_function).sum()
}

/// What this many hours take, whatever is sent.
fn of_hours(plan: &Plan, hours: f64) -> Quantities {
    let notifications_kept = plan.rate * SECONDS_OF_AN_HOUR * 24.0 * plan.done_retention_days;
    let metrics = METRICS_OF_THE_SWEEP + if plan.rate > 0.0 { METRICS_OF_NOTIFICATIONS } else { 0.0 };
    Quantities::from([
        ("DynamoDB read units", SWEEPS * hours * SWEEP_READ_UNITS),
        // Once the table has its size.
        ("DynamoDB GB-months", notifications_kept * (plan.size + ITEM_BESIDES_EVENT) / GB * hours / HOURS),
        match plan.stream_mode {
            StreamMode::Provisioned => ("Kinesis shard-hours", shards(plan) * hours),
            StreamMode::OnDemand => ("Kinesis on-demand stream-hours", hours),
        },
        ("Lambda requests", SWEEPS * hours),
        ("CloudWatch alarm-hours", resources("AWS::CloudWatch::Alarm") * hours),
        ("CloudWatch dashboard-hours", resources("AWS::CloudWatch::Dashboard") * hours),
        ("CloudWatch metric-hours", metrics * hours),
    ])
}

/// Shards that a provisioned stream needs.
fn shards(plan: &Plan) -> f64 {
    (plan.rate / SHARD_RECORDS).ceil().max((plan.rate * plan.size / SHARD_BYTES).ceil()).max(1.0)
}

#[allow(clippy::cast_precision_loss, reason = "few")]
fn resources(kind: &str) -> f64 {
    TEMPLATE.matches(&format!("Type: {kind}\n")).count() as f64
}

// ---- what it costs -----------------------------------------------------------------------------------------------------------

#[derive(Debug, Deserialize)]
struct PriceList {
    region: String,
    date: String,
    prices: Vec<Price>,
}

#[derive(Debug, Deserialize)]
struct Price {
    item: String,
    service: String,
    usd: f64,
    /// The price is for this many.
    per: f64,
}

impl PriceList {
    fn read() -> Result<Self, Error> {
        serde_json::from_str(include_str!("prices.json"))
            .map_err(|error| Error::Failed(format!("prices.json: {error}")))
    }

    /// The items of a bill, the dearest first.
    fn bill(&self, quantities: &[Quantities]) -> Vec<Charge<'_>> {
        let quantity = |item: &str| quantities.iter().filter_map(|quantities| quantities.get(item)).sum();
        let mut items: Vec<Charge<'_>> = self
            .prices
            .iter()
            .map(|price| {
                let quantity: f64 = quantity(&price.item);
                Charge { item: &price.item, service: &price.service, quantity, usd: quantity * price.usd / price.per }
            })
            .filter(|item| item.quantity > 0.0)
            .collect();
        items.sort_by(|a, b| b.usd.total_cmp(&a.usd));
        items
    }

    fn month(&self, plan: &Plan) -> Vec<Charge<'_>> {
        let notifications = plan.rate * SECONDS_OF_AN_HOUR * HOURS;
        self.bill(&[of_notifications(plan, notifications), of_hours(plan, HOURS)])
    }
}

/// What an item of the price list costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Charge<'a> {
    service: &'a str,
    item: &'a str,
    quantity: f64,
    usd: f64,
}

fn sum(items: &[Charge<'_>]) -> f64 {
    items.iter().map(|item| item.usd).sum()
}

/// What the plan would cost with one change.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Change {
    change: &'static str,
    /// The difference in a month.
    usd: f64,
}

/// What could be changed, the greatest effect first. Those without an effect are left out.
fn changes(prices: &PriceList, plan: &Plan) -> Vec<Change> {
    let now = sum(&prices.month(plan));
    let alternatives = [
        ("messages sent, received and deleted in tens", Plan { messages_in_a_call: 10.0, ..*plan }),
        ("10 records in an invocation", Plan { batch: 10.0, ..*plan }),
        ("1,000 records in an invocation", Plan { batch: 1_000.0, ..*plan }),
        ("the action mark-done", Plan { action: Action::MarkDone, ..*plan }),
        ("the action ledger", Plan { action: Action::Ledger, ..*plan }),
        ("events of half the size", Plan { size: plan.size / 2.0, ..*plan }),
        ("DoneRetentionDays=36", Plan { done_retention_days: 36.0, ..*plan }),
        ("an on-demand stream, without its price by the GB", Plan { stream_mode: StreamMode::OnDemand, ..*plan }),
        ("a provisioned stream", Plan { stream_mode: StreamMode::Provisioned, ..*plan }),
    ];
    let mut changes: Vec<Change> = alternatives
        .into_iter()
        .map(|(change, plan)| Change { change, usd: sum(&prices.month(&plan)) - now })
        .filter(|change| change.usd.abs() >= 0.005)
        .collect();
    changes.sort_by(|a, b| b.usd.abs().total_cmp(&a.usd.abs()));
    changes
}

/// Items that are named as those that cost most.
const NAMED: usize = 3;

pub(crate) fn run(args: &CostArgs, json: bool) -> Result<ExitCode, Error> {
    let prices = PriceList::read()?;
    let plan = Plan {
        rate: args.rate,
        size: f64::from(args.size),
        action: args.action,
        stream_mode: args.stream_mode,
        batch: args.batch.map_or(args.rate.clamp(1.0, 1_000.0), f64::from),
        messages_in_a_call: 1.0,
        done_retention_days: f64::from(args.done_retention_days),
    };
    let items = prices.month(&plan);
    let changes = changes(&prices, &plan);
    if json {
        output::json(&json!({
            "region": prices.region,
            "prices_of": prices.date,
            "notifications": plan.rate * SECONDS_OF_AN_HOUR * HOURS,
            "usd": sum(&items),
            "items": items,
            "changes": changes,
        }));
    } else {
        print(&prices, &plan, &items, &changes);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(prices: &PriceList, plan: &Plan, items: &[Charge<'_>], changes: &[Change]) {
    let total = sum(items);
    output::line(format_args!(
        "A month of {HOURS:.0} hours with {} notifications of {} bytes, in US dollars ({}, prices of {})",
        number(plan.rate * SECONDS_OF_AN_HOUR * HOURS),
        number(plan.size),
        prices.region,
        prices.date
    ));
    let row = |item: &Charge<'_>| {
        let share = format!("{:.0} %", 100.0 * item.usd / total);
        [item.item.to_owned(), number(item.quantity), money(item.usd), share]
    };
    let last = ["sum".to_owned(), String::new(), money(total), String::new()];
    output::table(items.iter().map(row).chain([last]), 3);
    let mut services: BTreeMap<&str, f64> = BTreeMap::new();
    for item in items {
        *services.entry(item.service).or_default() += item.usd;
    }
    let services: Vec<String> = services.iter().map(|(service, usd)| format!("{service} {}", money(*usd))).collect();
    output::line(format_args!("by service: {}", services.join(", ")));
    let most: Vec<&str> = items.iter().take(NAMED).map(|item| item.item).collect();
    output::line(format_args!("most of it: {}", most.join(", ")));
    output::line("with one change:");
    let rows = changes.iter().map(|change| [format!("  {}", change.change), signed(change.usd)]);
    output::table(rows, 1);
    output::line("`notifyctl cost --help` says what is not included");
}

/// Dollars with cents.
fn money(usd: f64) -> String {
    let cents = format!("{usd:.2}");
    let (whole, cents) = cents.split_once('.').unwrap_or((&cents, "00"));
    format!("{}.{cents}", whole.parse().map_or_else(|_| whole.to_owned(), output::thousands))
}

fn signed(usd: f64) -> String {
    format!("{}{}", if usd < 0.0 { "−" } else { "+" }, money(usd.abs()))
}

/// A quantity: whole, or with three digits if it is small.
fn number(quantity: f64) -> String {
    if quantity < 100.0 && quantity.fract() != 0.0 {
        return format!("{quantity:.3}");
    }
    format!("{quantity:.0}").parse().map_or_else(|_| format!("{quantity:.0}"), output::thousands)
}

#[cfg(test)]
mod tests;
