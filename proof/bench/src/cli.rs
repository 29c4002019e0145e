//! The commands and their options.

use crate::backend::Behaviour;
use crate::measure::Effort;
use crate::subject::Function;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Measure the cost of a notification, in the deployed and in the straightforward variant of each function
///
/// Runs the release binaries as Lambda does, each in its own process, against a backend on loopback that speaks TLS and stores
/// nothing. `make bench` builds the binaries as they are deployed to AWS, and runs this.
#[derive(Debug, Parser)]
#[command(name = "bench", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Number of rounds; figures are medians over them
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,

    /// Run one short round, as a smoke test; its figures are noise
    #[arg(long, global = true)]
    quick: bool,

    #[command(flatten)]
    pub(crate) options: Options,
}

const EXAMPLES: &str = "\
Examples:
  make bench                                               build as for AWS, measure everything, draw docs/bench.svg
  make bench ARGS='--quick'                                smoke test
  bench --function ingest --batch 1000 --rounds 21         one figure, and its spread
  bench --latency 4                                        with a backend that takes 4 ms per call
  bench --against ../before/target/lambda                  with the binaries of another commit
  bench --throttled-entries 5                              with 5 % of the entries throttled inside a 200
  bench --json | jq '.comparisons[] | [.function, .batch, .cpu_ratio.median]'
  bench allocations                                        allocations per notification
  bench memory --latency 4                                 speed and cost of each memory setting, cold starts included
  make profile                                             where instructions go

CPU is the user and system time of all threads of the process, including those that have ended, in nanoseconds
(clock_getcpuclockid). Compare only figures of the same run.";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Measure only this function; repeatable
    #[arg(long, global = true, value_enum, value_name = "NAME")]
    function: Vec<Function>,

    /// Measure only this batch size; repeatable
    #[arg(long, global = true, value_name = "N")]
    pub(crate) batch: Vec<usize>,

    #[command(flatten)]
    pub(crate) behaviour: Behaviour,

    /// Draw CPU by batch size into this SVG file
    #[arg(long, value_name = "PATH")]
    pub(crate) plot: Option<PathBuf>,

    /// Compare with the binaries of another `cargo lambda build`, for example of another commit, instead of the
    /// straightforward functions
    #[arg(long, value_name = "DIR")]
    pub(crate) against: Option<PathBuf>,

    /// Output directory of `cargo lambda build`
    #[arg(long, global = true, value_name = "DIR", default_value = "target/lambda")]
    pub(crate) binaries: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Count allocations per notification: handler, adapters and SDK, without the Lambda runtime
    Allocations,
    /// Measure time and cost by memory setting, which determines the CPU (needs root, for a control group)
    Memory,
    /// Count instructions per notification by owner, without the kernel (needs valgrind; see `make profile`)
    Profile {
        /// Output directory of `cargo build --profile profiling`
        #[arg(long, value_name = "DIR", default_value = "target/profiling")]
        built: PathBuf,
    },
}

impl Cli {
    pub(crate) fn effort(&self) -> Effort {
        if self.quick {
            return Effort { rounds: 1, cpu: Duration::from_millis(20), wall: Duration::from_millis(100) };
        }
        Effort { rounds: self.rounds.into(), cpu: Duration::from_millis(300), wall: Duration::from_secs(3) }
    }
}

impl Options {
    pub(crate) fn functions(&self) -> &[Function] {
        if self.function.is_empty() { &Function::ALL } else { &self.function }
    }

    /// The batch size of commands that measure only one.
    pub(crate) fn one_batch(&self) -> usize {
        self.batch.first().copied().unwrap_or(1_000)
    }

    /// Each function with each batch size to measure.
    pub(crate) fn pairs(&self) -> Vec<(Function, usize)> {
        let mut pairs = Vec::new();
        for &function in self.functions() {
            let sizes = function.batches().iter().filter(|size| self.batch.is_empty() || self.batch.contains(size));
            pairs.extend(sizes.map(|&size| (function, size)));
        }
        pairs
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

    #[test]
    fn a_function_is_measured_only_at_its_own_batch_sizes() {
        let pairs = |arguments: &[&str]| Cli::parse_from(arguments).options.pairs();
        assert_eq!(
            pairs(&["bench", "--function", "ingest", "--function", "ledger", "--batch", "1000", "--batch", "10000"]),
            [(Function::Ingest, 1_000), (Function::Ingest, 10_000), (Function::Ledger, 1_000)]
        );
        assert_eq!(pairs(&["bench"]).len(), 13);
    }
}
