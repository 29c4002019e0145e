//! Measures the functions: CPU, time, memory, backend calls and the time to start, each compared with a straightforward
//! variant of the same function.
//!
//! | file | concern |
//! |---|---|
//! | `host` | the Lambda Runtime API, and the function's process |
//! | `backend`, `http`, `tls` | the stub of DynamoDB and Kinesis |
//! | `events` | batches as the event sources send them |
//! | `subject`, `binaries`, `measure` | what is measured, and in which order |
//! | `output`, `plot` | tables, JSON, SVG |
//! | `allocations`, `in_process` | allocations of the handlers and adapters in this process |
//! | `memory`, `throttle` | time and cost by the memory setting |
//! | `profile`, `callgrind`, `owner` | instructions by owner |
//! | `limits` | what Lambda gives a function, and its price |
//! | `bin/straightforward` | the straightforward variants |

mod allocations;
mod backend;
mod binaries;
mod callgrind;
mod cli;
mod error;
mod events;
mod host;
mod http;
mod in_process;
mod limits;
mod measure;
mod memory;
mod output;
mod owner;
mod plot;
mod profile;
mod subject;
mod throttle;
mod tls;

use binaries::Binaries;
use clap::Parser;
use cli::{Cli, Command, CompareArgs};
use error::Error;
use host::Conditions;
use measure::Effort;
use serde_json::json;
use std::process::ExitCode;
use tls::Authority;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (args, effort, json) = (&cli.compare, cli.effort(), cli.json);
    let done = match cli.command {
        None => compare(args, effort, json),
        Some(Command::Allocations) => allocations::run(args.functions(), &args.batch, json),
        Some(Command::Memory) => Binaries::kept(&args.binaries, None, args.functions())
            .and_then(|binaries| memory::run(&binaries, args, effort, json)),
        Some(Command::Profile { built }) => profile::run(&built, args.functions(), args.one_batch(), json),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            error.exit_code()
        }
    }
}

/// Measures both variants of the functions.
#[tokio::main(flavor = "current_thread")]
async fn compare(args: &CompareArgs, effort: Effort, json: bool) -> Result<(), Error> {
    let binaries = Binaries::kept(&args.binaries, args.against.as_deref(), args.functions())?;
    let authority = Authority::make()?;
    let conditions = Conditions { behaviour: args.behaviour(), authority: &authority, throttle: None };
    let pairs = measure::pairs(args.functions(), &args.batch);
    let bar = output::progress(2 * pairs.len() * effort.rounds);
    let work = measure::compare(&binaries, &pairs, conditions, effort, || bar.inc(1));
    // Dropping the work ends the processes that it started.
    let comparisons = tokio::select! {
        comparisons = work => comparisons?,
        _ = tokio::signal::ctrl_c() => return Err(Error::Interrupted),
    };
    bar.finish_and_clear();
    if json {
        output::json(&json!({
            "rounds": effort.rounds,
            "backend": args.behaviour(),
            "against": binaries.baseline.words(),
            "comparisons": comparisons,
        }));
    } else {
        output::comparisons(&comparisons, &binaries);
    }
    match &args.plot {
        Some(path) => plot::draw(path, &comparisons, binaries.baseline),
        None => Ok(()),
    }
}
