//! Measures the functions: CPU, time, memory, backend calls and the time to start, each compared with a straightforward
//! variant of the same function.
//!
//! | file | concern |
//! |---|---|
//! | `subject`, `events` | what is measured: a function in a variant, with batches as the event sources send them |
//! | `binaries` | copies of the binaries to measure |
//! | `host`, `limits` | the Lambda Runtime API, and the function's process |
//! | `backend`, `http`, `tls` | the stub of DynamoDB and Kinesis |
//! | `measure` | rounds, and the figures of a process |
//! | `compare`, `plot` | `bench`: both variants, as tables, JSON and SVG |
//! | `allocations` | `bench allocations`: the handlers and adapters in this process |
//! | `memory`, `throttle` | `bench memory`: time and cost by the memory setting |
//! | `profile`, `callgrind`, `owner` | `bench profile`: instructions by owner |
//! | `bin/straightforward` | the straightforward variants |

mod allocations;
mod backend;
mod binaries;
mod callgrind;
mod cli;
mod compare;
mod error;
mod events;
mod host;
mod http;
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

use clap::Parser;
use cli::{Cli, Command};
use error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (options, effort, json) = (&cli.options, cli.effort(), cli.json);
    let done = match cli.command {
        None => until_interrupted(compare::run(options, effort, json)),
        // It starts no process and leaves no file, and has its own runtimes.
        Some(Command::Allocations) => allocations::run(options, json),
        Some(Command::Memory) => until_interrupted(memory::run(options, effort, json)),
        Some(Command::Profile { built }) => until_interrupted(profile::run(&built, options, json)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            error.exit_code()
        }
    }
}

/// Does the work of a command until Ctrl-C. Dropping the work ends its processes and removes its temporary files.
#[tokio::main(flavor = "current_thread")]
async fn until_interrupted(work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    tokio::select! {
        // Ctrl-C first: the processes get it too, and their end would be reported as a crash.
        biased;
        _ = tokio::signal::ctrl_c() => Err(Error::Interrupted),
        done = work => done,
    }
}
