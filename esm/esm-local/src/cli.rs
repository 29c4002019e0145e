//! The options.

use clap::Parser;

/// Poll the streams of a local AWS and invoke functions, as Lambda's event source mappings do
///
/// A local AWS that polls streams itself may skip records that a function reports as failed, and may not know retry limits.
/// esm-local does what Lambda does: partial batch responses, retries, bisecting, parallelization factor, batching window,
/// filters, maximum record age and on-failure queues, with the settings of the deployed mappings. Disable the mappings in the
/// local AWS (Enabled: false), or both deliver each record.
///
/// It polls only an AWS_ENDPOINT_URL on this machine. It keeps no checkpoints: after a restart it reads from the starting
/// position of each mapping, and functions see records again. Ctrl-C ends it.
#[derive(Debug, Parser)]
#[command(name = "esm-local", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// Poll only the streams of this function, by name or ARN; repeatable
    #[arg(long, value_name = "NAME", conflicts_with = "stack")]
    function: Vec<String>,

    /// Poll only the streams of the functions of this CloudFormation stack
    #[arg(long, value_name = "NAME")]
    stack: Option<String>,

    /// Print a JSON object for each event
    #[arg(long)]
    pub(crate) json: bool,

    /// Show only failures
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

const AFTER_HELP: &str = "\
Examples:
  esm-local                                          all mappings of streams that the local AWS has
  esm-local --stack my-stack                         those of one stack
  esm-local --function orders --function invoices    those of these functions
  esm-local --json | jq 'select(.event == \"gave_up\")'

Exit status:
  0  ended by Ctrl-C or SIGTERM
  2  nothing to poll, or a stream no longer answers";

/// Whose streams are polled.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Selection<'a> {
    /// Those of all functions.
    All,
    /// Those of these functions.
    Functions(&'a [String]),
    /// Those of the functions of a stack.
    Stack(&'a str),
}

impl Cli {
    pub(crate) fn selection(&self) -> Selection<'_> {
        match &self.stack {
            Some(stack) => Selection::Stack(stack),
            None if self.function.is_empty() => Selection::All,
            None => Selection::Functions(&self.function),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_options_are_consistent() {
        Cli::command().debug_assert();
    }
}
