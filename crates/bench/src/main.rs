//! What the functions cost: CPU, time, memory, backend calls, and the time to start; each against the straightforward
//! variant of the same function.
//!
//! | file | concern |
//! |---|---|
//! | `host` | the Lambda Runtime API, and the function's process |
//! | `backend`, `http` | the stub of DynamoDB and Kinesis |
//! | `events` | batches as the event sources send them |
//! | `subject`, `measure` | what is measured, and in which order |
//! | `output`, `plot` | tables, JSON, SVG |
//! | `backends`, `allocations`, `in_process` | questions that are asked of the adapters and handlers in this process |
//! | `bin/straightforward` | the functions as one would write them first |

mod allocations;
mod backend;
mod backends;
mod cli;
mod error;
mod events;
mod host;
mod http;
mod in_process;
mod measure;
mod output;
mod plot;
mod subject;

use backend::Behaviour;
use clap::Parser;
use cli::{Cli, Command, CompareArgs};
use error::Error;
use measure::{Comparison, Effort};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use subject::Variant;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (args, effort, json) = (&cli.compare, cli.effort(), cli.json);
    let done = match cli.command {
        None => compare(args, effort, json),
        Some(Command::Backends) => backends::run(effort, json),
        Some(Command::Allocations) => allocations::run(args.functions(), &args.batch, json),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            error.exit_code()
        }
    }
}

/// Measures functions in both variants.
#[tokio::main(flavor = "current_thread")]
async fn compare(args: &CompareArgs, effort: Effort, json: bool) -> Result<(), Error> {
    let binaries = Binaries::kept(&args.binaries)?;
    let turns = measure::pairs(args.functions(), &args.batch).len() * Variant::ALL.len() * effort.rounds;
    let bar = output::progress(turns);
    let work = measure::compare(&binaries.dir, args.functions(), &args.batch, args.behaviour(), effort, || bar.inc(1));
    // What is dropped ends the processes that it started.
    let comparisons = tokio::select! {
        comparisons = work => comparisons?,
        _ = tokio::signal::ctrl_c() => return Err(Error::Interrupted),
    };
    bar.finish_and_clear();
    if json {
        output::json(&Report {
            rounds: effort.rounds,
            backend: args.behaviour(),
            binaries: &binaries.sizes,
            comparisons: &comparisons,
        });
    } else {
        output::comparisons(&comparisons, &binaries.sizes);
    }
    match &args.plot {
        Some(path) => plot::draw(path, &comparisons),
        None => Ok(()),
    }
}

/// All that was measured, for machines.
#[derive(Serialize)]
struct Report<'a> {
    rounds: usize,
    backend: Behaviour,
    /// Bytes of each.
    binaries: &'a BTreeMap<&'static str, u64>,
    comparisons: &'a [Comparison],
}

/// The binaries that are measured: copies, so that a build in the meantime changes nothing.
struct Binaries {
    dir: PathBuf,
    sizes: BTreeMap<&'static str, u64>,
}

impl Binaries {
    fn kept(built: &Path) -> Result<Self, Error> {
        let names = ["ingest", "publisher", "downstream", "straightforward"];
        let path = |name| built.join(name).join("bootstrap");
        let error = |name| move |cause| Error::Binary { path: path(name), cause };
        for name in names {
            std::fs::metadata(path(name)).map_err(error(name))?;
        }
        let dir = built.join("measured");
        std::fs::create_dir_all(&dir).map_err(|cause| Error::File { path: dir.clone(), cause })?;
        let copied = |name| Ok((name, std::fs::copy(path(name), dir.join(name)).map_err(error(name))?));
        Ok(Self { sizes: names.into_iter().map(copied).collect::<Result<_, Error>>()?, dir })
    }
}
