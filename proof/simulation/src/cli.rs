//! The commands and their output.

use clap::{Parser, Subcommand};
use comfy_table::{Table, presets};
use console::style;
use indicatif::{ProgressBar, ProgressStyle};
use notification::{Guarantee, limits};
use simulation::adapters::AdapterBug;
use simulation::designs::{Design, Invariant};
use simulation::mutants::Mutant;
use simulation::outage::{self, Outage, Settings, Stage};
use simulation::run::Subject;
use simulation::scenario::{self, AT_MOST_ONCE, IDEMPOTENT, Scenario};
use simulation::search::{self, Found};
use simulation::template::Deployed;
use std::process::ExitCode;
use std::time::Duration;

/// Runs the whole pipeline in virtual time, with faults, and looks for anything that is lost or happens twice
#[derive(Parser)]
#[command(after_help = "Examples:
  simulation --seeds 100000            many runs, on all cores
  simulation --seed 88578              one run, and everything that happens in it
  simulation large --seeds 100         runs of 1,000 to 10,000 notifications
  simulation large --seed 3            one of them, and everything that happens in it
  simulation sweep                     every fault at every call, singly and in pairs
  simulation outage                    how soon an outage is caught up, with several settings
  simulation mutants                   known bugs put back, and how soon each is found
  simulation --adapters --seeds 1000   with the adapters and the SDK
  simulation adapter-bugs              known bugs of adapters put back, and how soon each is found
  simulation designs                   the designs before this one, and what each breaks
  simulation designs --diagrams        the same, with a sequence diagram of the shortest run that shows it")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// How many seeds to run
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run only this seed, and show what happens
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Run the adapters and the SDK as well, over a model of AWS that answers HTTP requests
    #[arg(long)]
    adapters: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Large runs: 1,000 to 10,000 notifications, with the batch sizes of the template
    Large {
        /// How many seeds to run
        #[arg(long, default_value_t = 20)]
        seeds: u64,
        /// The first seed
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Run only this seed, and show what happens
        #[arg(long, conflicts_with_all = ["seeds", "from"])]
        seed: Option<u64>,
    },
    /// Every fault at every call of a small run, singly and in pairs
    Sweep,
    /// Let ingest, publisher or downstream fail for a while, and count how soon the backlog is caught up
    Outage {
        /// How long the outage lasts
        #[arg(long, default_value_t = 30)]
        minutes: u64,
        /// How many notifications can be processed in a second; 1,000 are sent
        #[arg(long, default_value_t = 2_000)]
        capacity: u64,
    },
    /// Put known bugs back one at a time, and count the seeds until each is found
    Mutants,
    /// Put known bugs of adapters back one at a time, and count the seeds until each is found
    AdapterBugs,
    /// Compare the designs that were tried
    Designs {
        /// Show the shortest run that breaks each invariant as a sequence diagram
        #[arg(long)]
        diagrams: bool,
    },
}

pub(crate) fn run(cli: &Cli) -> ExitCode {
    let deployed = match Deployed::read() {
        Ok(deployed) => deployed,
        Err(error) => {
            say_error(&error.to_string());
            return ExitCode::from(2);
        }
    };
    let subject = if cli.adapters { Subject::through_adapters(&deployed) } else { Subject::new(&deployed) };
    match &cli.command {
        None => match cli.seed {
            Some(seed) => show_run(subject, &Scenario::of(seed)),
            None => seeds(subject, cli),
        },
        Some(Command::Large { seed: Some(seed), .. }) => show_run(subject, &Scenario::large(*seed)),
        Some(Command::Large { seeds, from, seed: None }) => large(subject, *from, *seeds),
        Some(Command::Sweep) => sweep(subject),
        Some(Command::Outage { minutes, capacity }) => {
            outage(Outage { lasts: Duration::from_mins(*minutes), rate: 1_000, capacity: *capacity }, &deployed)
        }
        Some(Command::Mutants) => mutants(subject),
        Some(Command::AdapterBugs) => adapter_bugs(&deployed),
        Some(Command::Designs { diagrams }) => designs(subject, *diagrams),
    }
}

fn seeds(subject: Subject<'_>, cli: &Cli) -> ExitCode {
    let bar = progress(cli.seeds);
    let found = search::seeds(subject, cli.from..cli.from + cli.seeds, 1, || bar.inc(1));
    bar.finish_and_clear();
    show_found(&found);
    verdict(subject, &found)
}

fn large(subject: Subject<'_>, from: u64, seeds: u64) -> ExitCode {
    let bar = progress(seeds);
    let found = search::seeds_of(subject, Scenario::large, from..from + seeds, 1, || bar.inc(1));
    bar.finish_and_clear();
    show_found(&found);
    let Some((scenario, violations)) = found.failures.first() else { return verdict(subject, &found) };
    // To leave out each of thousands of messages would take as many runs.
    for violation in violations {
        say_error(violation);
    }
    let (failed, seed) = (style("FAIL").red().bold(), scenario.seed);
    say(&format!("{failed}: seed {seed} (large --seed {seed} shows all of it)"));
    ExitCode::FAILURE
}

fn show_found(found: &Found) {
    show_seen(found);
    say(&format!(
        "{} runs, {} notifications in {} messages, {} calls, {} faults",
        thousands(found.runs),
        thousands(found.notifications),
        thousands(found.messages),
        thousands(found.calls),
        thousands(found.faults)
    ));
}

fn sweep(subject: Subject<'_>) -> ExitCode {
    let mut all_well = true;
    for guarantee in [Guarantee::Transactional, IDEMPOTENT, AT_MOST_ONCE] {
        let found = search::every_fault(subject, guarantee);
        say(&format!("{}: {} runs", scenario::named(guarantee), thousands(found.runs)));
        all_well &= verdict(subject, &found) == ExitCode::SUCCESS;
    }
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn outage(outage: Outage, deployed: &Deployed) -> ExitCode {
    let minutes = |time: Duration| format!("{} min", time.as_secs().div_ceil(60));
    let after = |time: Option<Duration>| time.map_or_else(|| "never".to_owned(), minutes);
    let mut table =
        table(&["the table fails: waits between receives", "caught up after", "dead letters", "calls to hide"]);
    for (name, waits) in [
        ("as ingest sets them", limits::RETRY_WAITS),
        ("the queue's visibility timeout", [deployed.visibility_timeout; limits::RETRY_WAITS.len()]),
    ] {
        let outcome = outage::queue(outage, &waits);
        table.add_row([name.to_owned(), after(outcome.caught_up), thousands(outcome.dead), thousands(outcome.calls)]);
    }
    say(&format!("{table}\n"));
    let template = Settings::of(deployed);
    let minute = |minutes| Duration::from_mins(minutes);
    let six = Settings { retries: Some(6), record_age: minute(360), ..template };
    let rows = [
        template,
        Settings { sweep_every: minute(5), ..template },
        Settings { record_age: minute(60), sweep_age: minute(15), ..template },
        Settings { record_age: minute(10), sweep_age: minute(15), ..template },
        Settings { sweep_every: minute(1), sweep_age: minute(15), ..six },
        Settings { sweep_every: minute(5), sweep_age: minute(15), ..six },
    ];
    for stage in [Stage::Downstream, Stage::Publisher] {
        let headers =
            ["retries", "record age", "sweep every", "sweep age", "caught up after", "given up", "published again"];
        let mut table = self::table(&headers);
        for settings in rows {
            let outcome = outage::streams(stage, outage, settings);
            table.add_row([
                settings.retries.map_or_else(|| "no bound".to_owned(), |retries| retries.to_string()),
                minutes(settings.record_age),
                minutes(settings.sweep_every),
                minutes(settings.sweep_age),
                after(outcome.caught_up),
                thousands(outcome.given_up),
                thousands(outcome.published_again),
            ]);
        }
        say(&format!("{stage:?} fails; the settings of the template first\n{table}\n"));
    }
    ExitCode::SUCCESS
}

fn mutants(subject: Subject<'_>) -> ExitCode {
    let bugs = Mutant::ALL.map(|(mutant, bug, place)| PutBack {
        subject: subject.with_mutant(mutant),
        bug,
        place,
        draw: if mutant.is_large() { Scenario::just_large } else { Scenario::of },
        most: if mutant.is_large() { 100 } else { 10_000 },
    });
    put_back(bugs.into())
}

fn adapter_bugs(deployed: &Deployed) -> ExitCode {
    let subject = Subject::through_adapters(deployed);
    let bugs = AdapterBug::ALL.iter().map(|&(adapter_bug, bug, place)| PutBack {
        subject: subject.with_adapter_bug(adapter_bug),
        bug,
        place,
        draw: Scenario::of,
        most: 10_000,
    });
    put_back(bugs.collect())
}

/// A known bug that is put back.
struct PutBack<'a> {
    subject: Subject<'a>,
    /// The bug in words.
    bug: &'static str,
    /// Where it would be.
    place: &'static str,
    /// The runs that are searched for it.
    draw: fn(u64) -> Scenario,
    /// How many seeds at most.
    most: u64,
}

/// Searches for each of these bugs.
fn put_back(bugs: Vec<PutBack<'_>>) -> ExitCode {
    let count = bugs.len();
    let mut table = table(&["bug", "where", "seeds", "what breaks"]);
    let bar = progress(count as u64);
    let mut missed = 0;
    for PutBack { subject, bug, place, draw, most } in bugs {
        let found = search::first_failure_of(subject, draw, 0..most);
        bar.inc(1);
        missed += usize::from(found.is_none());
        let (seeds, broken) = found.map_or_else(
            || ("–".to_owned(), style("not found").red().to_string()),
            |(scenario, violations)| (thousands(scenario.seed + 1), violations[0].clone()),
        );
        table.add_row([bug.to_owned(), place.to_owned(), seeds, broken]);
    }
    bar.finish_and_clear();
    say(&table.to_string());
    say(&format!("{} of {count} found", count - missed));
    ExitCode::from(u8::from(missed > 0))
}

fn designs(subject: Subject<'_>, diagrams: bool) -> ExitCode {
    let headers: Vec<&str> = ["design"].into_iter().chain(Invariant::ALL.map(Invariant::words)).collect();
    let mut table = table(&headers);
    let mut as_known = true;
    let mut shown = Vec::new();
    for design in Design::ALL {
        let broken = design.broken(subject, 300);
        let mut row = vec![design.words().to_owned()];
        for invariant in Invariant::ALL {
            row.push(match broken.get(&invariant) {
                None => style("holds").green().to_string(),
                Some(_) => style("broken").red().to_string(),
            });
        }
        table.add_row(row);
        as_known &= broken.keys().eq(design.breaks());
        shown.extend(broken.into_values().map(|broken| (design, broken)));
    }
    say(&table.to_string());
    for (design, broken) in shown {
        say(&format!("\n{} — {}", style(design.words()).bold(), broken.violation));
        say(&if diagrams { format!("```mermaid\n{}```", broken.trace.diagram()) } else { broken.trace.text() });
    }
    ExitCode::from(u8::from(!as_known))
}

fn show_run(subject: Subject<'_>, scenario: &Scenario) -> ExitCode {
    let report = subject.run(scenario, true);
    say(&report.trace.text());
    for violation in &report.violations {
        say_error(violation);
    }
    ExitCode::from(u8::from(!report.violations.is_empty()))
}

/// Shows the verdict of a search: PASS, or the first failure, shrunk.
fn verdict(subject: Subject<'_>, found: &Found) -> ExitCode {
    let Some((scenario, _)) = found.failures.first() else {
        say(&format!("{}: no rule is broken", style("PASS").green().bold()));
        return ExitCode::SUCCESS;
    };
    let smallest = search::shrink(subject, scenario);
    let failed = style("FAIL").red().bold();
    if *scenario == Scenario::of(scenario.seed) {
        let seed = scenario.seed;
        say(&format!(
            "{failed}: seed {seed}; parts that do not matter are left out here (--seed {seed} shows all of it)\n"
        ));
    } else {
        say(&format!("{failed}: {:?}\n", smallest.faults));
    }
    show_run(subject, &smallest)
}

fn show_seen(found: &Found) {
    let mut table = table(&["times", "what happened in the runs"]);
    let mut seen: Vec<_> = found.seen.iter().collect();
    seen.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (what, count) in seen {
        table.add_row([format!("{:>12}", thousands(*count)), (*what).to_owned()]);
    }
    say(&table.to_string());
}

fn table(headers: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headers.iter().copied());
    table
}

fn progress(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(template) =
        ProgressStyle::with_template("{elapsed:>4} [{bar:40.green}] {human_pos} of {human_len}, {eta} left")
    {
        bar.set_style(template.progress_chars("=> "));
    }
    bar
}

fn thousands(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

#[allow(clippy::print_stdout, reason = "this is the command's answer")]
fn say(text: &str) {
    println!("{text}");
}

#[allow(clippy::print_stderr, reason = "this is for people")]
fn say_error(text: &str) {
    eprintln!("{} {text}", style("broken:").red().bold());
}
