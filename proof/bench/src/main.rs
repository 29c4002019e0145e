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
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (options, effort, json) = (&cli.options, cli.effort(), cli.json);
    let done = match cli.command {
        None => compare::run(options, effort, json),
        Some(Command::Allocations) => allocations::run(options, json),
        Some(Command::Memory) => memory::run(options, effort, json),
        Some(Command::Profile { built }) => profile::run(&built, options, json),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::from(2)
        }
    }
}
