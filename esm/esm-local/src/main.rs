//! Lambda's event source mappings for a local AWS. This drives the engine of the crate event-source: it reads the streams
//! with the functions' roles, invokes the functions and keeps the time.
//!
//! | file | concern |
//! |---|---|
//! | `cli` | the options |
//! | `clock` | this machine's clock |
//! | `arn` | parts of an ARN |
//! | `endpoint` | the SDK's settings, for an endpoint on this machine only |
//! | `mapping` | which mappings there are, and their settings |
//! | `source` | a stream: its shards and records |
//! | `record` | a record of a stream, as the engine takes it |
//! | `function` | one invocation |
//! | `runner` | one mapping: when to read, when to invoke |
//! | `report` | what a person or a machine sees of it |
//! | `limits` | times and counts |

mod arn;
mod cli;
mod clock;
mod endpoint;
mod error;
mod function;
mod limits;
mod mapping;
mod output;
mod record;
mod report;
mod runner;
mod source;

use clap::Parser;
use cli::Cli;
use error::Error;
use futures_util::future::try_join_all;
use report::Report;
use runner::Runner;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::from(2)
        }
    }
}

async fn run(cli: &Cli) -> Result<(), Error> {
    let config = endpoint::config(std::env::var("AWS_ENDPOINT_URL").ok().as_deref()).await?;
    let mappings = mapping::find(&config, cli).await?;
    let report = Report::new(cli.json, cli.quiet, &mappings);
    let permits = Semaphore::new(limits::INVOCATIONS_AT_ONCE);
    let runners = mappings.iter().map(|mapping| Runner::new(mapping, &config, &permits, &report));
    let runners = try_join_all(runners).await?.into_iter().map(Runner::run);
    let mut terminated =
        signal(SignalKind::terminate()).map_err(|error| format!("cannot listen for signals: {error}"))?;
    // Invocations in flight go on in their functions. Nobody waits for their answers, as when a poller of Lambda's fails.
    tokio::select! {
        ended = try_join_all(runners) => ended.map(|_| ())?,
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
    output::remark(report.total());
    Ok(())
}
