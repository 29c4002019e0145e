//! What is measured: a function, in one of its variants, at one batch size.

use clap::ValueEnum;
use serde::Serialize;

/// A function, with its action if it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
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

    /// The batch sizes to measure. Batches of a queue and of a stream may have up to 10,000 records, but only SQS fills them
    /// after a backlog without further settings.
    pub(crate) fn batches(self) -> &'static [usize] {
        match self {
            Self::Ingest => &[10, 100, 1_000, 10_000],
            _ => &[10, 100, 1_000],
        }
    }
}

/// A variant of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Variant {
    /// The binary that is deployed to AWS.
    Deployed,
    /// The default baseline: `src/bin/straightforward.rs`.
    Straightforward,
    /// Another baseline, for example the deployed binary of another commit.
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

    /// Its environment variables, in addition to those that every function has.
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
