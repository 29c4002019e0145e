//! The operator's command line of the Atomic Notification Service.
//!
//! Each command is a module with its name, its options and its `run`; `decide` is `redrive` and `resolve`, and `stage` is
//! `pause` and `resume`. What several of them read is in `stack` (the deployed stack, items, dead letters), `attention` (the
//! indexes of what is not DONE) and `events` (files of events).

mod attention;
mod audit;
mod cli;
mod cost;
mod decide;
mod dlq;
mod doctor;
mod error;
mod events;
mod groups;
mod latency;
mod list;
mod output;
mod send;
mod stack;
mod stage;
mod status;
mod summary;
#[cfg(test)]
mod testing;
mod time;
mod ui;
mod verify;
mod watch;

use clap::Parser;
use cli::{Cli, Command};
use error::Error;
use stack::Stack;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // The command comes first: it may have something to say when it is interrupted.
    let result = tokio::select! {
        biased;
        result = run(&cli) => result,
        () = interrupted(&cli.command) => Err(Error::Interrupted("interrupted".to_owned())),
    };
    result.unwrap_or_else(|error| {
        output::error(&error);
        error.exit_code()
    })
}

/// Ctrl-C, except for a command that ends itself then.
async fn interrupted(command: &Command) {
    if matches!(command, Command::Verify(args) if args.follow) {
        return std::future::pending().await;
    }
    let _ = tokio::signal::ctrl_c().await;
}

async fn run(cli: &Cli) -> Result<ExitCode, Error> {
    if let Command::Cost(args) = &cli.command {
        return cost::run(args, cli.json);
    }
    let stack = Stack::find(&cli.stack).await?;
    match &cli.command {
        Command::Send(args) => send::run(&stack, args, cli.json).await,
        Command::Status(args) => status::run(&stack, args, cli.json).await,
        Command::Summary(args) => summary::run(&stack, args, cli.json).await,
        Command::Groups(args) => groups::run(&stack, args, cli.json).await,
        Command::List(args) => list::run(&stack, args, cli.json).await,
        Command::Watch(args) => watch::run(&stack, args, cli.json).await,
        Command::Redrive(args) => decide::redrive(&stack, args, cli.json).await,
        Command::Dlq(command) => dlq::run(&stack, command, cli.json).await,
        Command::Resolve(args) => decide::resolve(&stack, args, cli.json).await,
        Command::Audit(args) => audit::run(&stack, args, cli.json).await,
        Command::Verify(args) => verify::run(&stack, args, cli.json).await,
        Command::Latency(args) => latency::run(&stack, args, cli.json).await,
        Command::Pause(args) => stage::pause(&stack, args, cli.json).await,
        Command::Resume(args) => stage::resume(&stack, args, cli.json).await,
        Command::Doctor(args) => doctor::run(&stack, args, cli.json).await,
        Command::Cost(args) => cost::run(args, cli.json),
        Command::Ui(args) => ui::run(stack, args).await,
    }
}
