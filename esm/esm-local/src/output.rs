//! Lines for a person or a machine. Colours follow NO_COLOR and pipes.

use console::style;
use std::fmt::Display;
use std::io::Write;

/// Prints a line to standard output. A closed pipe is not an error.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a line to standard error.
pub(crate) fn remark(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints an error.
pub(crate) fn error(error: &impl Display) {
    remark(format_args!("{} {error}", style("error:").red().bold().for_stderr()));
}
