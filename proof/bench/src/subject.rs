//! What is measured: a function, in one of two variants, at one size of batch.

use clap::ValueEnum;
use serde::Serialize;

/// A function, with the action where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Function {
    Ingest,
    Publisher,
    /// Downstream with the action `record`.
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
            Self::Downstream => "downstream, record",
            Self::Ledger => "downstream, ledger",
        }
    }

    /// The sizes of batch that it is measured at. A queue's batch may have 10,000 messages, and so may a stream's; SQS is
    /// the one where a backlog makes it so by itself.
    pub(crate) fn batches(self) -> &'static [usize] {
        match self {
            Self::Ingest => &[10, 100, 1_000, 10_000],
            _ => &[10, 100, 1_000],
        }
    }
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Variant {
    /// The binary that goes to AWS.
    Deployed,
    /// What it is compared with, unless said otherwise: `src/bin/straightforward.rs`.
    Straightforward,
    /// What it is compared with otherwise: the binary that went to AWS at another commit, say.
    Other,
}

impl Variant {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Deployed => "deployed",
            Self::Straightforward => "straightforward",
            Self::Other => "other",
        }
    }
}

/// One thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) function: Function,
    pub(crate) variant: Variant,
    pub(crate) batch: usize,
}

impl Subject {
    /// The binary's name.
    pub(crate) fn binary(self) -> &'static str {
        match (self.variant, self.function) {
            (Variant::Straightforward, _) => "straightforward",
            (_, Function::Ingest) => "ingest",
            (_, Function::Publisher) => "publisher",
            (_, Function::Downstream | Function::Ledger) => "downstream",
        }
    }

    /// Its own environment variables, besides those that every function has.
    pub(crate) fn variables(self) -> Vec<(&'static str, &'static str)> {
        match (self.variant, self.function) {
            (Variant::Straightforward, Function::Ingest) => vec![("FUNCTION", "ingest")],
            (Variant::Straightforward, Function::Publisher) => vec![("FUNCTION", "publisher")],
            (Variant::Straightforward, Function::Downstream) => vec![("FUNCTION", "downstream")],
            (Variant::Straightforward, Function::Ledger) => vec![("FUNCTION", "ledger")],
            (_, Function::Ledger) => vec![("ACTION", "ledger")],
            (_, _) => vec![],
        }
    }
}
