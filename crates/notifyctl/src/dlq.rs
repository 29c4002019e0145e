//! `notifyctl dlq`: looks at dead letters, moves them back to the queue, or deletes them.
//!
//! | file | concern |
//! |---|---|
//! | `letter` | one dead letter: when it was sent, and why it is one |
//! | `chosen` | reads the dead letters that an operator chose, and acts on them |
//! | `results` | what became of them, and of the others |
//! | `list`, `show` | what the queue has |
//! | `redrive` | back to the queue, at a rate |
//! | `discard` | into a file, then deleted |

mod chosen;
mod discard;
mod letter;
mod list;
mod redrive;
mod results;
mod show;
#[cfg(test)]
mod testing;

pub(crate) use letter::Letter;
pub(crate) use show::{Found, find};

use crate::error::Error;
use crate::stack::Stack;
use clap::Subcommand;
use clap::builder::RangedI64ValueParser;
use notification::limits;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    List(list::DlqListArgs),
    Show(show::DlqShowArgs),
    Redrive(redrive::DlqRedriveArgs),
    Discard(discard::DlqDiscardArgs),
}

pub(crate) async fn run(stack: &Stack, command: &DlqCommand, json: bool) -> Result<ExitCode, Error> {
    match command {
        DlqCommand::List(args) => list::run(stack, args, json).await,
        DlqCommand::Show(args) => show::run(stack, args, json).await,
        DlqCommand::Redrive(args) => redrive::run(stack, args, json).await,
        DlqCommand::Discard(args) => discard::run(stack, args, json).await,
    }
}

/// The values of `--max`.
fn max() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(limits::DEAD_LETTERS_MAX))
}
