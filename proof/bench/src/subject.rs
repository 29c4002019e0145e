//! What is measured: a function, in one of its variants, at one batch size.

use clap::ValueEnum;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A function, with its action if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Function {
    Ingest,
    Publisher,
    /// Downstream with the action `mark-done`.
    Downstream,
    /// Downstream with the action `ledger`.
    Ledger,
}

impl Function {
    pub(crate) const ALL: [Self; 4] = [Self::Ingest, Self::Publisher, Self::Downstream, Self::Ledger];

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Publisher => "publisher",
            Self::Downstream => "downstream, mark-done",
            Self::Ledger => "downstream, ledger",
        }
    }

    /// The name of its deployed binary.
    pub(crate) fn binary(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Publisher => "publisher",
            Self::Downstream | Self::Ledger => "downstream",
        }
    }

    /// The value of `ACTION`, which only downstream reads. Empty is the default, also in builds of commits with other names.
    pub(crate) fn action(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            _ => "",
        }
    }

    /// The batch sizes to measure. Batches of a queue and of a stream may have up to 10,000 records, but only SQS fills them
    /// after a backlog without further settings.
    pub(crate) fn batches(self) -> &'static [usize] {
        match self {
            Self::Ingest => &[10, 100, 1_000, 10_000],
            _ => &[10, 100, 1_000],
        }
    }
}

/// A variant of the functions, with the output directory of the `cargo lambda build` that made it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Variant<'a> {
    /// As they are deployed to AWS.
    Deployed(&'a Path),
    /// The default baseline: `src/bin/straightforward.rs`.
    Straightforward(&'a Path),
    /// Another baseline, for example the deployed functions of another commit.
    Other(&'a Path),
}

impl Variant<'_> {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Deployed(_) => "deployed",
            Self::Straightforward(_) => "straightforward",
            Self::Other(_) => "other",
        }
    }
}

/// One thing to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) function: Function,
    pub(crate) variant: Variant<'a>,
    pub(crate) batch: usize,
}

impl Subject<'_> {
    pub(crate) fn binary(self) -> PathBuf {
        let (built, name) = match self.variant {
            Variant::Deployed(built) | Variant::Other(built) => (built, self.function.binary()),
            Variant::Straightforward(built) => (built, "straightforward"),
        };
        built.join(name).join("bootstrap")
    }
}
