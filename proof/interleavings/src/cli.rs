//! The commands and their output.

use clap::Parser;
use comfy_table::{Table, presets};
use console::style;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use interleavings::bugs::{Bug, Known};
use interleavings::scenario::Scenario;
use interleavings::search::{self, Failure, Found, Search};
use serde_json::json;
use std::process::ExitCode;

/// Explores every order in which two workers' calls for one notification can complete, with faults
#[derive(Parser)]
#[command(after_help = "Examples:
  interleavings                                   every scenario, with one fault
  interleavings --faults 2                        with two faults, in some minutes
  interleavings --scenario 'at most once'         the scenarios whose name has this text
  interleavings --list                            the names of the scenarios
  interleavings --bugs                            known bugs put back, and a short schedule that shows each
  interleavings --bugs 'DONE not conditional'     one of them, and everything that happens in that schedule")]
pub(crate) struct Cli {
    /// How many faults a schedule may have
    #[arg(long, default_value_t = 1)]
    faults: usize,
    /// Only the scenarios whose name has this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    scenario: String,
    /// List the scenarios
    #[arg(long)]
    list: bool,
    /// Put known bugs back, or only those whose name has this text, and show how each is found
    #[arg(long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "")]
    bugs: Option<String>,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(cli: &Cli) -> ExitCode {
    if let Some(text) = &cli.bugs {
        return bugs(text, cli.json);
    }
    let mut scenarios = Scenario::all();
    scenarios.retain(|scenario| scenario.to_string().contains(&cli.scenario));
    if scenarios.is_empty() {
        say_error(&format!("no scenario has {:?} in its name; --list shows the names", cli.scenario));
        return ExitCode::from(2);
    }
    if cli.list {
        for scenario in scenarios {
            say(&scenario.to_string());
        }
        return ExitCode::SUCCESS;
    }
    explore(&scenarios, cli.faults, cli.json)
}

/// Explores scenarios, and shows what was found.
fn explore(scenarios: &[Scenario], faults: usize, json: bool) -> ExitCode {
    let bar = progress(scenarios.len());
    let results = search::explore_all(scenarios, faults, |search, found| {
        bar.println(format!("{}: {} states", search.scenario, HumanCount(found.states as u64)));
        bar.inc(1);
    });
    bar.finish_and_clear();
    if json {
        for (search, found) in &results {
            say(&as_json(search, found));
        }
    } else {
        show(&results);
    }
    let mut failed = false;
    for (search, found) in &results {
        if let Some(failure) = &found.failure {
            failed = true;
            say_error(&format!("{} breaks a rule: {}", search.scenario, failure.violation));
            show_trace(*search, failure);
        }
    }
    ExitCode::from(u8::from(failed))
}

fn as_json(search: &Search, found: &Found) -> String {
    json!({
        "guarantee": search.scenario.guarantee_name(),
        "situation": search.scenario.situation,
        "faults": search.faults,
        // JSON numbers are exact only up to 2^53.
        "schedules": found.schedules.to_string(),
        "states": found.states,
        "choices": found.choices,
        "violation": found.failure.as_ref().map(|failure| &failure.violation),
    })
    .to_string()
}

fn show(results: &[(Search, Found)]) {
    let mut table = table(&["guarantee", "situation", "schedules", "states", ""]);
    let (mut schedules, mut states) = (0, 0);
    for (search, found) in results {
        let verdict = match &found.failure {
            None => style("holds").green().to_string(),
            Some(failure) => style(&failure.violation).red().to_string(),
        };
        (schedules, states) = (schedules + found.schedules, states + found.states as u128);
        table.add_row([
            search.scenario.guarantee_name().to_owned(),
            search.scenario.situation.to_owned(),
            thousands(found.schedules),
            thousands(found.states as u128),
            verdict,
        ]);
    }
    say(&table.to_string());
    say(&format!("{} schedules, {} states", thousands(schedules), thousands(states)));
}

/// Puts known bugs back, and shows how each is found.
fn bugs(text: &str, json: bool) -> ExitCode {
    let mut known: Vec<&Known> = Bug::ALL.iter().collect();
    known.retain(|known| known.words.contains(text));
    if known.is_empty() {
        say_error(&format!("no bug has {text:?} in its name; --bugs shows the names"));
        return ExitCode::from(2);
    }
    let mut table = table(&["bug", "where", "scenario", "faults", "choices", "what breaks"]);
    let mut traces = Vec::new();
    let bar = progress(known.len());
    let mut missed = 0;
    for Known { bug, words, place, scenario, faults } in known {
        let search = Search::for_bug(*bug, scenario, *faults);
        let failure = search.and_then(Search::example);
        bar.inc(1);
        missed += usize::from(failure.is_none());
        let (choices, broken) = failure.as_ref().map_or_else(
            || ("–".to_owned(), style("not found").red().to_string()),
            |failure| (failure.schedule.len().to_string(), failure.violation.clone()),
        );
        if json {
            say(&json!({
                "bug": words,
                "where": place,
                "scenario": scenario,
                "faults": faults,
                "choices": failure.as_ref().map(|failure| failure.schedule.len()),
                "violation": failure.as_ref().map(|failure| &failure.violation),
            })
            .to_string());
        } else {
            table.add_row([*words, place, scenario, &faults.to_string(), &choices, &broken]);
        }
        traces.extend(search.zip(failure));
    }
    bar.finish_and_clear();
    if !json {
        say(&table.to_string());
        if !text.is_empty() {
            for (search, failure) in &traces {
                show_trace(*search, failure);
            }
        }
    }
    ExitCode::from(u8::from(missed > 0))
}

fn show_trace(search: Search, failure: &Failure) {
    say("");
    for line in search.trace(&failure.schedule) {
        say(&line);
    }
}

fn table(headers: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headers.iter().copied());
    table
}

fn progress(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    if let Ok(template) = ProgressStyle::with_template("{elapsed:>4} [{bar:40.green}] {human_pos} of {human_len}") {
        bar.set_style(template.progress_chars("=> "));
    }
    bar
}

/// A number with separators.
fn thousands(number: u128) -> String {
    u64::try_from(number).map_or_else(|_| number.to_string(), |number| HumanCount(number).to_string())
}

#[allow(clippy::print_stdout, reason = "this is the command's answer")]
fn say(text: &str) {
    println!("{text}");
}

#[allow(clippy::print_stderr, reason = "this is for people")]
fn say_error(text: &str) {
    eprintln!("{} {text}", style("error:").red().bold());
}
