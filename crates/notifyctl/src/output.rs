//! Output for people and machines. Colours follow NO_COLOR and pipes. Progress goes to standard error, results go to standard
//! output.

use comfy_table::{CellAlignment, Table, presets};
use console::{Style, style};
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

/// A result for machines, on one line.
pub(crate) fn compact(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Prints an error to standard error.
pub(crate) fn error(error: &impl Display) {
    let _ = writeln!(std::io::stderr(), "{} {error}", style("error:").red().bold().for_stderr());
}

/// The line after the first ones of a list, if it has more than are shown.
pub(crate) fn more(all: usize, shown: usize) -> Option<String> {
    (all > shown).then(|| format!("  … and {} more; --json has all", thousands(all - shown)))
}

/// Prints rows of a name and a value.
pub(crate) fn pairs<N: Display, V: Display>(rows: impl IntoIterator<Item = (N, V)>) {
    table(rows.into_iter().map(|(name, value)| [name.to_string(), value.to_string()]), 0);
}

/// Prints rows of a name, a number and a remark.
pub(crate) fn counts<'a>(rows: impl IntoIterator<Item = (&'a str, usize, String)>) {
    table(rows.into_iter().map(|(name, count, remark)| [name.to_owned(), thousands(count), remark]), 1);
}

/// Prints rows of a name, this many numbers, and a remark.
pub(crate) fn table<const N: usize>(rows: impl IntoIterator<Item = [String; N]>, numbers: usize) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).add_rows(rows.into_iter().map(|row| row.map(escaped)));
    for column in table.column_iter_mut().skip(1).take(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    line(table.trim_fmt());
}

/// Prints rows under heads.
pub(crate) fn table_with_heads<const N: usize>(heads: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heads).add_rows(rows.into_iter().map(|row| row.map(escaped)));
    line(table.trim_fmt());
}

/// A text whose control characters a terminal does not obey: it may come from an event or an action. A line break stays within
/// its cell.
fn escaped(text: String) -> String {
    let is_obeyed = |character: char| character.is_control() && character != '\n';
    if !text.contains(is_obeyed) {
        return text;
    }
    let escape =
        |character| if is_obeyed(character) { character.escape_default().to_string() } else { character.into() };
    text.chars().map(escape).collect()
}

/// Prints a remark for people to standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A number with separators, for people.
pub(crate) fn thousands(number: usize) -> String {
    HumanCount(number as u64).to_string()
}

/// A number and a noun, e.g. "1 notification" or "1,000 notifications".
pub(crate) fn plural(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// Good or bad, in words and colour.
pub(crate) fn verdict(good: bool, text: &str) -> String {
    let (mark, colour) = if good { ("✔", Style::new().green()) } else { ("✘", Style::new().red()) };
    colour.bold().apply_to(format!("{mark} {text}")).to_string()
}

/// Undecided, in words and colour.
pub(crate) fn undecided(text: &str) -> String {
    Style::new().yellow().bold().apply_to(format!("? {text}")).to_string()
}

/// Progress without a known end, on standard error; hidden unless that is a terminal. The caller ticks it.
pub(crate) fn spinner(what: &'static str) -> ProgressBar {
    styled(ProgressBar::new_spinner().with_message(what), "{spinner} {msg} {elapsed}")
}

/// A progress bar on standard error; hidden unless that is a terminal.
pub(crate) fn progress(total: usize, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(total as u64).with_message(what);
    styled(bar, "{msg:>10} [{bar:40.green}] {human_pos}/{human_len} {elapsed}")
}

/// A progress bar that looks like this.
pub(crate) fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_line_breaks_kept() {
        for (text, expected) in [("naïve\ntext", "naïve\ntext"), ("\u{1b}[2J\r\t\u{9b}", "\\u{1b}[2J\\r\\t\\u{9b}")] {
            assert_eq!(escaped(text.to_owned()), expected);
        }
    }

    #[test]
    fn numbers_are_separated_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }
}
