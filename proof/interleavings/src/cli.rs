//! The commands and their output.

use clap::Parser;
use comfy_table::{Table, presets};
use console::style;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use interleavings::bugs::Bug;
use interleavings::scenario::Scenario;
use interleavings::search::{Found, Search};
use serde_json::json;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{num, thread};

/// Explores every order in which two workers' calls for one notification can complete, with faults
#[derive(Parser)]
#[command(after_help = "Examples:
  interleavings                                   every scenario, with one fault
  interleavings --faults 2                        with two faults
  interleavings --scenario 'at most once'         the scenarios whose name has this text
  interleavings --list                            the names of the scenarios
  interleavings --bugs                            known bugs put back, and the shortest schedule that shows each
  interleavings --bugs 'DONE not conditional'     one of them, and everything that happens in that schedule")]
pub(crate) struct Cli {
    /// How many faults a schedule may have
    #[arg(long, default_value_t = 1)]
    faults: usize,
    /// Only the scenarios whose name has this text
    #[arg(long, default_value = "")]
    scenario: String,
    /// List the scenarios
    #[arg(long)]
    list: bool,
    /// Put known bugs back, or the one with this name, and show how each is found
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    bugs: Option<String>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(cli: &Cli) -> ExitCode {
    let mut scenarios = Scenario::all();
    scenarios.retain(|scenario| scenario.to_string().contains(&cli.scenario));
    if scenarios.is_empty() {
        say_error(&format!("no scenario has {:?} in its name; --list shows them", cli.scenario));
        return ExitCode::from(2);
    }
    match &cli.bugs {
        _ if cli.list => {
            scenarios.iter().for_each(|scenario| say(&scenario.to_string()));
            ExitCode::SUCCESS
        }
        Some(name) => bugs(name, cli.json),
        None => explore(&scenarios, cli),
    }
}

/// A row of the table: what was searched, what was found, and how long it took.
struct Row {
    search: Search,
    found: Found,
    time: Duration,
}

/// Explores the scenarios on all cores.
fn explore(scenarios: &[Scenario], cli: &Cli) -> ExitCode {
    let bar = progress(scenarios.len());
    let rows = on_all_cores(scenarios, |&scenario| {
        let (search, began) = (Search { scenario, bug: None, faults: cli.faults }, Instant::now());
        let row = Row { search, found: search.every_schedule(), time: began.elapsed() };
        bar.println(if cli.json { row.json() } else { row.text() });
        bar.inc(1);
        row
    });
    bar.finish_and_clear();
    if cli.json {
        rows.iter().for_each(|row| say(&row.json()));
    } else {
        show(&rows);
    }
    let failed: Vec<&Row> = rows.iter().filter(|row| row.found.failure.is_some()).collect();
    for Row { search, .. } in &failed {
        say_error(&format!("{} breaks a rule; the shortest schedule that does:", search.scenario));
        if let Some(failure) = search.shortest_failure() {
            search.trace(&failure.schedule).iter().for_each(|line| say_error(line));
        }
    }
    ExitCode::from(u8::from(!failed.is_empty()))
}

impl Row {
    fn text(&self) -> String {
        let Self { search, found, time } = self;
        format!("{}: {} states, {:.1} s", search.scenario, HumanCount(found.states as u64), time.as_secs_f64())
    }

    fn json(&self) -> String {
        let Self { search, found, time } = self;
        json!({
            "guarantee": search.scenario.guarantee_name(),
            "situation": search.scenario.situation,
            "faults": search.faults,
            "schedules": found.schedules.to_string(),
            "states": found.states,
            "transitions": found.transitions,
            "seconds": time.as_secs_f64(),
            "violation": found.failure.as_ref().map(|failure| &failure.violation),
        })
        .to_string()
    }
}

fn show(rows: &[Row]) {
    let mut table = table(&["guarantee", "situation", "schedules", "states", "choices", "seconds", ""]);
    for Row { search, found, time } in rows {
        let verdict = match &found.failure {
            None => style("holds").green().to_string(),
            Some(failure) => style(&failure.violation).red().to_string(),
        };
        table.add_row([
            search.scenario.guarantee_name().to_owned(),
            search.scenario.situation.to_owned(),
            scientific(found.schedules),
            HumanCount(found.states as u64).to_string(),
            HumanCount(found.transitions).to_string(),
            format!("{:.1}", time.as_secs_f64()),
            verdict,
        ]);
    }
    say(&table.to_string());
}
