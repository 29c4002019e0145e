//! Output for people and machines. Colours follow NO_COLOR and pipes. Progress goes to standard error, results go to standard
//! output.

use comfy_table::{CellAlignment, Table, presets};
use console::style;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt::Display;
use std::io::Write;

/// Prints a line of the result. A closed pipe is not an error.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a result for machines.
pub(crate) fn json(value: &impl Serialize) {
    line(serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Prints an error.
pub(crate) fn error(error: &impl Display) {
    let _ = writeln!(std::io::stderr(), "{} {error}", style("error:").red().bold().for_stderr());
}

/// A progress bar on standard error; hidden unless that is a terminal.
pub(crate) fn progress(turns: usize) -> ProgressBar {
    let bar = ProgressBar::new(turns as u64);
    if let Ok(template) =
        ProgressStyle::with_template("{elapsed:>4} [{bar:40.green}] {human_pos} of {human_len}, {eta} left")
    {
        bar.set_style(template.progress_chars("=> "));
    }
    bar
}

/// Prints a table under a title. All columns but the first are numbers.
pub(crate) fn table(title: &str, headers: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headers.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    line(format_args!("\n{}", style(title).bold()));
    line(table.trim_fmt());
}

pub(crate) const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// A figure in a table; not a number if the function failed.
pub(crate) fn number(figure: f64, decimals: usize) -> String {
    if figure.is_nan() { style("fails").red().to_string() } else { format!("{figure:.decimals$}") }
}

/// A number with separators, for people.
pub(crate) fn thousands(number: usize) -> String {
    HumanCount(number as u64).to_string()
}
