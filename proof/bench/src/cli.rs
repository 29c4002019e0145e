//! The commands and their options.

use crate::backend::Behaviour;
use crate::measure::Effort;
use crate::subject::Function;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Measures what a notification costs, and what it costs in the straightforward variant of each function.
///
/// Runs the release binaries as Lambda does, each in a process of its own, against a backend on loopback that speaks TLS
/// and stores nothing. `make bench` builds them as they go to AWS, and runs this.
#[derive(Debug, Parser)]
#[command(name = "bench", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Print JSON, for machines
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Rounds; figures are medians of them
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,

    /// One short round, to see that all works; the figures are noise
    #[arg(long, global = true)]
    quick: bool,

    #[command(flatten)]
    pub(crate) compare: CompareArgs,
}

const EXAMPLES: &str = "\
Examples:
  make bench                                               build as for AWS, measure all, draw docs/bench.svg
  make bench ARGS='--quick'                                does it work?
  bench --function ingest --batch 1000 --rounds 21         one figure, and its spread
  bench --latency 4                                        with a backend that takes 4 ms for each call
  bench --against ../before/target/lambda                  with the binaries of another commit
  bench --throttled-entries 5                              with 5 % of the entries throttled inside a 200
  bench --json | jq '.comparisons[] | [.function, .batch, .cpu_ratio.median]'
  bench backends                                           how many calls should be in flight?
  bench allocations                                        allocations for a notification, by a counting allocator
  bench memory --latency 4                                 which memory setting is fast, and which is cheap? And from cold?
  make profile                                             where instructions and time go

CPU is user and system time of all threads of the process, ended ones included, in nanoseconds (clock_getcpuclockid).
Compare only figures of one run.";

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Measure only this function; repeatable
    #[arg(long, global = true, value_enum, value_name = "NAME")]
    function: Vec<Function>,

    /// Measure only batches of this size; repeatable
    #[arg(long, global = true, value_name = "N")]
    pub(crate) batch: Vec<usize>,

    /// Milliseconds until the backend answers, at least
    #[arg(long, global = true, value_name = "MS", default_value_t = 0)]
    latency: u64,

    /// Percent of the calls that the backend refuses
    #[arg(long, global = true, value_name = "PCT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    throttled_calls: u8,

    /// Percent of the entries of a batch call that fail inside its 200; the straightforward functions make no such calls
    #[arg(long, global = true, value_name = "PCT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    throttled_entries: u8,

    /// Have the functions trust the certificates in this file too: what does reading the system's cost at start?
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) roots: Option<PathBuf>,

    /// Draw CPU against size of batch into this SVG
    #[arg(long, value_name = "PATH")]
    pub(crate) plot: Option<PathBuf>,

    /// Compare with the binaries that `cargo lambda build` has put there, of another commit say, instead of the
    /// straightforward functions
    #[arg(long, value_name = "DIR")]
    pub(crate) against: Option<PathBuf>,

    /// Where `cargo lambda build` has put the binaries
    #[arg(long, global = true, value_name = "DIR", default_value = "target/lambda")]
    pub(crate) binaries: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Time and CPU for 1,000 notifications against the number of calls in flight and the backend's latency
    Backends,
    /// Allocations for a notification: handler, adapters and SDK, without the Lambda runtime
    Allocations,
    /// Time and cost against the memory setting, by which Lambda gives CPU (takes root, for a control group)
    Memory,
    /// Instructions and CPU time by owner, and flame graphs (takes valgrind and perf; `make profile` builds for it)
    Profile {
        /// Where `cargo build --profile profiling` has put the binaries
        #[arg(long, value_name = "DIR", default_value = "target/profiling")]
        built: PathBuf,

        /// Put the flame graphs there
        #[arg(long, value_name = "DIR", default_value = "target/profiles")]
        into: PathBuf,
    },
}

impl Cli {
    pub(crate) fn effort(&self) -> Effort {
        if self.quick { Effort::quick() } else { Effort::thorough(self.rounds.into()) }
    }
}

impl CompareArgs {
    pub(crate) fn functions(&self) -> &[Function] {
        if self.function.is_empty() { &Function::ALL } else { &self.function }
    }

    /// The size of batch for what is measured at one alone.
    pub(crate) fn one_batch(&self) -> usize {
        self.batch.first().copied().unwrap_or(1_000)
    }

    pub(crate) fn behaviour(&self) -> Behaviour {
        Behaviour {
            latency_ms: self.latency,
            throttled_calls: self.throttled_calls,
            throttled_entries: self.throttled_entries,
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
