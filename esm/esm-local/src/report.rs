//! What a person or a machine sees of the mappings: a line for each invocation. Payloads are never shown.

use crate::arn;
use crate::clock;
use crate::function::Outcome;
use crate::mapping::Mapping;
use crate::output;
use console::{Color, style};
use event_source::stream::{Discarded, Invocation, Record};
use serde_json::{Value, json};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// Prints what happens, and counts it.
pub(crate) struct Report {
    json: bool,
    /// Whether only failures are printed.
    quiet: bool,
    /// Widths of the columns for the function and the shard.
    function_width: usize,
    shard_width: Cell<usize>,
    invocations: Cell<usize>,
    records: Cell<usize>,
}

/// An invocation and its outcome.
pub(crate) struct Seen<'a> {
    pub(crate) mapping: &'a Mapping,
    pub(crate) invocation: &'a Invocation,
    pub(crate) outcome: &'a Outcome,
    /// Records that the function is done with.
    pub(crate) done: usize,
    /// Whether the batch is retried in two halves.
    pub(crate) halved: bool,
    pub(crate) took: Duration,
}

impl Seen<'_> {
    fn result(&self) -> &'static str {
        match self.outcome {
            Outcome::Returned(_) if self.done == self.invocation.records.len() => "done",
            Outcome::Returned(_) if self.done > 0 => "partial",
            Outcome::Returned(_) | Outcome::Failed(_) => "failed",
            Outcome::NotRun(_) => "not_run",
        }
    }

    /// The details after the result.
    fn remark(&self) -> String {
        let halved = if self.halved { ", retried in halves" } else { "" };
        match self.outcome {
            Outcome::Returned(_) if self.result() == "done" => String::new(),
            Outcome::Returned(_) => {
                let left = self.invocation.records.len() - self.done;
                format!("{} done, {left} not{halved}", self.done)
            }
            Outcome::Failed(why) => format!("{why}{halved}"),
            Outcome::NotRun(why) => why.clone(),
        }
    }
}

impl Report {
    pub(crate) fn new(json: bool, quiet: bool, mappings: &[Mapping]) -> Self {
        let function_width = mappings.iter().map(|mapping| mapping.function().len()).max().unwrap_or_default();
        Self {
            json,
            quiet,
            function_width,
            shard_width: Cell::new(0),
            invocations: Cell::new(0),
            records: Cell::new(0),
        }
    }

    /// A mapping is polled from now on.
    pub(crate) fn polls(&self, mapping: &Mapping) {
        if !self.quiet {
            self.settings(mapping);
        }
        for not_supported in &mapping.not_supported {
            self.problem(mapping, not_supported);
        }
    }

    fn settings(&self, mapping: &Mapping) {
        let settings = &mapping.settings;
        if self.json {
            object(
                "polls",
                mapping,
                json!({
                    "batch_size": settings.batch_size,
                    "batching_window_seconds": settings.batching_window.as_secs(),
                    "parallelization_factor": settings.parallelization_factor,
                    "bisect_batch_on_function_error": settings.bisect_batch_on_function_error,
                    "maximum_retry_attempts": settings.maximum_retry_attempts,
                    "maximum_record_age_seconds": settings.maximum_record_age.map(|age| age.as_secs()),
                    "reports_batch_item_failures": settings.reports_batch_item_failures,
                    "filtered": settings.filter.is_some(),
                    "on_failure": settings.on_failure,
                }),
            );
        } else {
            let retries = settings.maximum_retry_attempts.map_or("any".to_owned(), |attempts| attempts.to_string());
            output::line(format_args!(
                "{} polls {} (batches of {}, {} at once for a shard, {retries} retries)",
                style(mapping.function()).bold(),
                arn::stream_name(&mapping.stream_arn),
                settings.batch_size,
                settings.parallelization_factor,
            ));
        }
    }

    /// An invocation ended.
    pub(crate) fn invoked(&self, seen: &Seen<'_>) {
        let Seen { mapping, invocation, outcome, done, halved, took } = seen;
        let (result, count) = (seen.result(), invocation.records.len());
        self.invocations.set(self.invocations.get() + 1);
        self.records.set(self.records.get() + done);
        if self.quiet && result == "done" {
            return;
        }
        if self.json {
            let error = match outcome {
                Outcome::Returned(_) => None,
                Outcome::Failed(why) | Outcome::NotRun(why) => Some(why),
            };
            let (first, last) = ends(&invocation.records);
            object(
                "invoked",
                mapping,
                json!({
                    "shard": invocation.shard, "records": count, "first": first, "last": last, "result": result,
                    "done": done, "halved": halved, "error": error,
                    "milliseconds": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                }),
            );
            return;
        }
        self.shard_width.set(self.shard_width.get().max(invocation.shard.len()));
        let (mark, colour) = match result {
            "done" => ("✔", Color::Green),
            "partial" | "not_run" => ("!", Color::Yellow),
            _ => ("✘", Color::Red),
        };
        let line = format!(
            "{} {} {:<function_width$}  {:<shard_width$}  {count:>5} {:<7} {:>6} ms  {:<7}  {}",
            time_of_day(),
            style(mark).fg(colour).bold(),
            mapping.function(),
            invocation.shard,
            if count == 1 { "record" } else { "records" },
            took.as_millis(),
            style(result).fg(colour),
            seen.remark(),
            function_width = self.function_width,
            shard_width = self.shard_width.get(),
        );
        output::line(line.trim_end());
    }

    /// Records were discarded.
    pub(crate) fn gave_up(&self, mapping: &Mapping, discarded: &Discarded) {
        let (first, last) = ends(&discarded.records);
        // As in the message to the on-failure destination.
        let condition = format!("{:?}", discarded.condition);
        let destination = mapping.settings.on_failure.as_deref();
        if self.json {
            object(
                "gave_up",
                mapping,
                json!({
                    "shard": discarded.shard, "records": discarded.records.len(), "first": first, "last": last,
                    "condition": condition, "invocations": discarded.invocations, "destination": destination,
                }),
            );
            return;
        }
        output::line(format_args!(
            "{} {} {}: gave up {} of {} after {} invocations: {condition}{}",
            time_of_day(),
            style("✘").red().bold(),
            mapping.function(),
            counted(discarded.records.len()),
            discarded.shard,
            discarded.invocations,
            destination.map(|arn| format!("; see {}", arn::part(arn, 5))).unwrap_or_default(),
        ));
    }

    /// A problem outside of an invocation, or its end.
    pub(crate) fn problem(&self, mapping: &Mapping, problem: &str) {
        if self.json {
            object("problem", mapping, json!({"problem": problem}));
        } else {
            output::remark(format_args!(
                "{} {} {}: {problem}",
                time_of_day(),
                style("!").yellow().bold().for_stderr(),
                arn::stream_name(&mapping.stream_arn),
            ));
        }
    }

    /// The counts, in one line.
    pub(crate) fn total(&self) -> String {
        let (invocations, records) = (self.invocations.get(), counted(self.records.get()));
        format!("stopped after {invocations} invocations; {records} done")
    }
}

/// Prints a JSON object on a line.
fn object(kind: &str, mapping: &Mapping, more: Value) {
    let mut object = json!({
        "time": format!("{:.3}", clock::now()),
        "event": kind,
        "function": mapping.function(),
        "stream": mapping.stream_arn,
    });
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    output::line(object);
}

/// Sequence numbers of the first and the last record.
fn ends(records: &[Arc<Record>]) -> (&str, &str) {
    match records {
        [] => ("", ""),
        [first, .., last] => (&first.sequence_number, &last.sequence_number),
        [only] => (&only.sequence_number, &only.sequence_number),
    }
}

fn counted(records: usize) -> String {
    format!("{} {}", records, if records == 1 { "record" } else { "records" })
}

/// The time of day in UTC.
fn time_of_day() -> String {
    clock::now().strftime("%H:%M:%S%.3f").to_string()
}
