//! What a person or a machine sees of the mappings: a line for each invocation. Payloads are never shown.

use crate::arn;
use crate::clock;
use crate::function::Outcome;
use crate::mapping::Mapping;
use crate::output;
use console::{Color, style};
use event_source::stream::{Answered, Discarded, Invocation, Record};
use serde_json::{Value, json};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// Prints what happens, and counts it.
#[derive(Default)]
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

impl Report {
    pub(crate) fn new(json: bool, quiet: bool, mappings: &[Mapping]) -> Self {
        let function_width = mappings.iter().map(|mapping| mapping.function().len()).max().unwrap_or_default();
        Self { json, quiet, function_width, ..Self::default() }
    }

    /// A mapping is polled from now on.
    pub(crate) fn polls(&self, mapping: &Mapping) {
        let settings = &mapping.settings;
        let retries = settings.maximum_retry_attempts.map_or("any".to_owned(), |attempts| attempts.to_string());
        let line = format!(
            "{} polls {} (batches of {}, {} at once for a shard, {retries} retries)",
            style(mapping.function()).bold(),
            arn::stream_name(&mapping.stream_arn),
            settings.batch_size,
            settings.parallelization_factor,
        );
        let object = json!({
            "batch_size": settings.batch_size,
            "batching_window_seconds": settings.batching_window.as_secs(),
            "parallelization_factor": settings.parallelization_factor,
            "bisect_batch_on_function_error": settings.bisect_batch_on_function_error,
            "maximum_retry_attempts": settings.maximum_retry_attempts,
            "maximum_record_age_seconds": settings.maximum_record_age.map(|age| age.as_secs()),
            "reports_batch_item_failures": settings.reports_batch_item_failures,
            "filtered": settings.filter.is_some(),
            "on_failure": settings.on_failure,
        });
        if !self.quiet {
            self.print("polls", mapping, object, &line);
        }
        for not_supported in &mapping.not_supported {
            self.problem(mapping, not_supported);
        }
    }

    /// An invocation ended.
    pub(crate) fn invoked(
        &self,
        mapping: &Mapping,
        invocation: &Invocation,
        outcome: &Outcome,
        answered: &Answered,
        took: Duration,
    ) {
        let (count, done) = (invocation.records.len(), answered.done.len());
        self.invocations.set(self.invocations.get() + 1);
        self.records.set(self.records.get() + done);
        let (result, mark, colour, error) = match outcome {
            Outcome::Returned(_) if done == count => ("done", "✔", Color::Green, None),
            Outcome::Returned(_) if done > 0 => ("partial", "!", Color::Yellow, None),
            Outcome::Returned(_) => ("failed", "✘", Color::Red, None),
            Outcome::Failed(why) => ("failed", "✘", Color::Red, Some(why)),
            Outcome::NotRun(why) => ("not_run", "!", Color::Yellow, Some(why)),
        };
        if self.quiet && result == "done" {
            return;
        }
        let details = match error {
            Some(why) => why.clone(),
            None if done == count => String::new(),
            None => format!("{done} done, {} not", count - done),
        };
        self.shard_width.set(self.shard_width.get().max(invocation.shard.len()));
        let line = format!(
            "{} {} {:<function_width$}  {:<shard_width$}  {count:>5} {:<7} {:>6} ms  {:<7}  {details}{}",
            time_of_day(),
            style(mark).fg(colour).bold(),
            mapping.function(),
            invocation.shard,
            if count == 1 { "record" } else { "records" },
            took.as_millis(),
            style(result).fg(colour),
            if answered.bisected { ", retried in halves" } else { "" },
            function_width = self.function_width,
            shard_width = self.shard_width.get(),
        );
        let [first, last] = ends(&invocation.records);
        let object = json!({
            "shard": invocation.shard, "records": count, "first": first, "last": last, "result": result,
            "done": done, "halved": answered.bisected, "error": error,
            "milliseconds": took.as_millis(),
        });
        self.print("invoked", mapping, object, line.trim_end());
    }

    /// Records were discarded.
    pub(crate) fn gave_up(&self, mapping: &Mapping, discarded: &Discarded) {
        // As in the message to the on-failure destination.
        let condition = format!("{:?}", discarded.condition);
        let destination = mapping.settings.on_failure.as_deref();
        let line = format!(
            "{} {} {}: gave up {} of {} after {} invocations: {condition}{}",
            time_of_day(),
            style("✘").red().bold(),
            mapping.function(),
            counted(discarded.records.len()),
            discarded.shard,
            discarded.invocations,
            destination.map(|arn| format!("; see {}", arn::part(arn, 5))).unwrap_or_default(),
        );
        let [first, last] = ends(&discarded.records);
        let object = json!({
            "shard": discarded.shard, "records": discarded.records.len(), "first": first, "last": last,
            "condition": condition, "invocations": discarded.invocations, "destination": destination,
        });
        self.print("gave_up", mapping, object, &line);
    }

    /// A problem outside of an invocation, or its end.
    pub(crate) fn problem(&self, mapping: &Mapping, problem: &str) {
        if self.json {
            print_object("problem", mapping, json!({"problem": problem}));
        } else {
            output::remark(format_args!(
                "{} {} {}: {problem}",
                time_of_day(),
                style("!").yellow().bold().for_stderr(),
                arn::stream_name(&mapping.stream_arn),
            ));
        }
    }

    /// Prints what happened, as the options say.
    fn print(&self, kind: &str, mapping: &Mapping, object: Value, line: &str) {
        if self.json { print_object(kind, mapping, object) } else { output::line(line) }
    }

    /// The counts, in one line.
    pub(crate) fn total(&self) -> String {
        let (invocations, records) = (self.invocations.get(), counted(self.records.get()));
        format!("stopped after {invocations} invocations; {records} done")
    }
}

/// Prints a JSON object on a line.
fn print_object(kind: &str, mapping: &Mapping, more: Value) {
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
fn ends(records: &[Arc<Record>]) -> [&str; 2] {
    [records.first(), records.last()].map(|record| record.map_or("", |record| &record.sequence_number))
}

fn counted(records: usize) -> String {
    format!("{} {}", records, if records == 1 { "record" } else { "records" })
}

/// The time of day in UTC.
fn time_of_day() -> String {
    clock::now().strftime("%H:%M:%S%.3f").to_string()
}
