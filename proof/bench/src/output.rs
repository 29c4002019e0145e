//! Output for people and machines. Colours follow NO_COLOR and pipes. Progress goes to standard error, results go to standard
//! output.

use crate::binaries::Binaries;
use crate::measure::{Comparison, Cost, Figure};
use crate::subject::{Subject, Variant};
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

/// Prints a line to standard error.
pub(crate) fn remark(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints an error.
pub(crate) fn error(error: &impl Display) {
    remark(format_args!("{} {error}", style("error:").red().bold().for_stderr()));
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

/// Prints comparisons as tables.
pub(crate) fn comparisons(comparisons: &[Comparison], binaries: &Binaries) {
    let baseline = match binaries.baseline {
        Variant::Straightforward => "straight-\nforward",
        other => other.words(),
    };
    let headers = ["", "batch", "CPU µs", baseline, "ratio", "wall µs", baseline, "ratio"];
    table("For a notification", &headers, comparisons.iter().map(time));

    let headers = [
        "",
        "batch",
        "calls for\n1,000",
        baseline,
        "KiB sent\nfor 1,000",
        baseline,
        "connec-\ntions",
        baseline,
        "peak\nMiB",
        baseline,
    ];
    table("Backend calls, and memory", &headers, comparisons.iter().map(calls));

    let functions = || comparisons.chunk_by(|a, b| a.function == b.function);
    let headers = ["", "binary\nMiB", baseline, "memory\nMiB", baseline];
    table("At start", &headers, functions().map(|of_function| size(of_function, binaries)));

    let headers = [
        "",
        "init\nms",
        baseline,
        "init\nCPU ms",
        baseline,
        "first\nms",
        baseline,
        "first\nCPU ms",
        baseline,
        "together\nms",
        baseline,
    ];
    table("From exec (init) until the first notification is settled (first)", &headers, functions().map(start));

    let spreads = comparisons
        .iter()
        .filter(|c| c.is_complete())
        .flat_map(|c| [c.deployed.cpu_us, c.baseline.cpu_us])
        .map(Figure::spread);
    let spread = Figure::of(spreads);
    line("");
    if spread.max > 0.0 {
        line(format_args!(
            "Between the rounds, CPU differs by {:.0} % of its median (in the median row; by {:.0} % in the worst one).",
            spread.median * 100.0,
            spread.max * 100.0
        ));
    }
    if comparisons.iter().any(|c| !c.is_complete()) {
        line(
            "fails: it reports failed records, or its process crashes. As on Lambda, it may have 1,024 files and sockets open.",
        );
    }
}

fn time(comparison: &Comparison) -> Vec<String> {
    let Comparison { function, batch, deployed, baseline, cpu_ratio, wall_ratio } = comparison;
    let micros = |cost: &Cost, figure: Figure| unless_failed(cost, format!("{:.1}", figure.median));
    let ratio = |figure: &Figure| {
        let text = if comparison.is_complete() { format!("{:.1}×", figure.median) } else { "–".to_owned() };
        style(text).bold().to_string()
    };
    vec![
        function.words().to_owned(),
        thousands(*batch),
        micros(deployed, deployed.cpu_us),
        micros(baseline, baseline.cpu_us),
        ratio(cpu_ratio),
        micros(deployed, deployed.wall_us),
        micros(baseline, baseline.wall_us),
        ratio(wall_ratio),
    ]
}

fn calls(comparison: &Comparison) -> Vec<String> {
    let pair = |of: fn(&Cost) -> String| {
        [&comparison.deployed, &comparison.baseline].map(|cost| unless_failed(cost, of(cost)))
    };
    [comparison.function.words().to_owned(), thousands(comparison.batch)]
        .into_iter()
        .chain(pair(|cost| format!("{:.0}", cost.calls)))
        .chain(pair(|cost| format!("{:.0}", cost.request_bytes / 1024.0)))
        .chain(pair(|cost| format!("{:.0}", cost.connections)))
        .chain(pair(|cost| format!("{:.1}", mebibytes(cost.peak_memory))))
        .collect()
}

fn size(of_function: &[Comparison], binaries: &Binaries) -> Vec<String> {
    let function = of_function[0].function;
    let size = |variant| {
        let bytes = binaries.size(Subject { function, variant, batch: 0 });
        format!("{:.1}", mebibytes(precise(bytes)))
    };
    vec![
        function.words().to_owned(),
        size(Variant::Deployed),
        size(binaries.baseline),
        median(of_function, |c| mebibytes(c.deployed.memory_at_start)),
        median(of_function, |c| mebibytes(c.baseline.memory_at_start)),
    ]
}

fn start(of_function: &[Comparison]) -> Vec<String> {
    let of: [fn(&Cost) -> Figure; 5] = [
        |cost| cost.init_ms,
        |cost| cost.init_cpu_ms,
        |cost| cost.first_ms,
        |cost| cost.first_cpu_ms,
        |cost| cost.settled_ms,
    ];
    let both = |of: fn(&Cost) -> Figure| {
        [median(of_function, |c| of(&c.deployed).median), median(of_function, |c| of(&c.baseline).median)]
    };
    std::iter::once(of_function[0].function.words().to_owned()).chain(of.into_iter().flat_map(both)).collect()
}

/// The median over all batch sizes.
fn median(of_function: &[Comparison], of: impl Fn(&Comparison) -> f64) -> String {
    format!("{:.1}", Figure::of(of_function.iter().map(of)).median)
}

fn unless_failed(cost: &Cost, figure: String) -> String {
    if cost.incomplete > 0.0 { style("fails").red().to_string() } else { figure }
}

pub(crate) fn mebibytes(bytes: f64) -> f64 {
    bytes / (1024.0 * 1024.0)
}

#[expect(clippy::cast_precision_loss, reason = "a file has fewer than 2^52 bytes")]
fn precise(bytes: u64) -> f64 {
    bytes as f64
}

/// A number with separators, for people.
pub(crate) fn thousands(number: usize) -> String {
    HumanCount(number as u64).to_string()
}
