//! Output for people and machines. Colours follow NO_COLOR and pipes. Progress goes to standard error, results go to standard
//! output.

use crate::binaries::Binaries;
use crate::measure::{Comparison, Figure, Metric};
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

/// A metric in a table, in its unit and with its decimals. The column of the baseline is next to it.
struct Column {
    heading: &'static str,
    metric: Metric,
    unit: f64,
    decimals: usize,
}

pub(crate) const MEBIBYTE: f64 = 1024.0 * 1024.0;

const CALLS: [Column; 4] = [
    Column { heading: "calls for\n1,000", metric: Metric::Calls, unit: 1.0, decimals: 0 },
    Column { heading: "KiB sent\nfor 1,000", metric: Metric::RequestBytes, unit: 1024.0, decimals: 0 },
    Column { heading: "connec-\ntions", metric: Metric::Connections, unit: 1.0, decimals: 0 },
    Column { heading: "peak\nMiB", metric: Metric::PeakMemory, unit: MEBIBYTE, decimals: 1 },
];

const MEMORY: Column = Column { heading: "memory\nMiB", metric: Metric::MemoryAtStart, unit: MEBIBYTE, decimals: 1 };

const START: [Column; 5] = [
    Column { heading: "init\nms", metric: Metric::InitMs, unit: 1.0, decimals: 1 },
    Column { heading: "init\nCPU ms", metric: Metric::InitCpuMs, unit: 1.0, decimals: 1 },
    Column { heading: "first\nms", metric: Metric::FirstMs, unit: 1.0, decimals: 1 },
    Column { heading: "first\nCPU ms", metric: Metric::FirstCpuMs, unit: 1.0, decimals: 1 },
    Column { heading: "together\nms", metric: Metric::SettledMs, unit: 1.0, decimals: 1 },
];

/// Prints comparisons as tables.
pub(crate) fn comparisons(comparisons: &[Comparison], binaries: &Binaries) {
    let baseline = match binaries.baseline {
        Variant::Straightforward => "straight-\nforward",
        other => other.words(),
    };
    let headers = ["", "batch", "CPU µs", baseline, "ratio", "wall µs", baseline, "ratio"];
    table("For a notification", &headers, comparisons.iter().map(time));

    let headers: Vec<_> = ["", "batch"].into_iter().chain(headings(&CALLS, baseline)).collect();
    table("Backend calls, and memory", &headers, comparisons.iter().map(calls));

    let functions = || comparisons.chunk_by(|a, b| a.function == b.function);
    let headers = ["", "binary\nMiB", baseline, MEMORY.heading, baseline];
    table("At start", &headers, functions().map(|of_function| size(of_function, binaries)));

    let headers: Vec<_> = [""].into_iter().chain(headings(&START, baseline)).collect();
    table("From exec (init) until the first notification is settled (first)", &headers, functions().map(start));

    let complete = comparisons.iter().filter(|c| c.is_complete());
    let spreads = complete.flat_map(|c| [&c.deployed, &c.baseline]).map(|cost| cost.figure(Metric::CpuUs).spread());
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

/// The headings of columns and of their baselines.
fn headings<'a>(columns: &'a [Column], baseline: &'a str) -> impl Iterator<Item = &'a str> {
    columns.iter().flat_map(move |column| [column.heading, baseline])
}

fn time(comparison: &Comparison) -> Vec<String> {
    let Comparison { function, batch, cpu_ratio, wall_ratio, .. } = comparison;
    let mut row = vec![function.words().to_owned(), thousands(*batch)];
    for (metric, ratio) in [(Metric::CpuUs, cpu_ratio), (Metric::WallUs, wall_ratio)] {
        row.extend(unless_failed(comparison, &Column { heading: "", metric, unit: 1.0, decimals: 1 }));
        let ratio = if comparison.is_complete() { format!("{:.1}×", ratio.median) } else { "–".to_owned() };
        row.push(style(ratio).bold().to_string());
    }
    row
}

fn calls(comparison: &Comparison) -> Vec<String> {
    let mut row = vec![comparison.function.words().to_owned(), thousands(comparison.batch)];
    row.extend(CALLS.iter().flat_map(|column| unless_failed(comparison, column)));
    row
}

/// The figures of both variants.
fn unless_failed(comparison: &Comparison, column: &Column) -> [String; 2] {
    [&comparison.deployed, &comparison.baseline].map(|cost| {
        if cost.is_complete() { column.cell(cost.figure(column.metric)) } else { style("fails").red().to_string() }
    })
}

#[expect(clippy::cast_precision_loss, reason = "a file has fewer than 2^52 bytes")]
fn size(of_function: &[Comparison], binaries: &Binaries) -> Vec<String> {
    let function = of_function[0].function;
    let mut row = vec![function.words().to_owned()];
    for variant in [Variant::Deployed, binaries.baseline] {
        let bytes = binaries.size(Subject { function, variant, batch: 0 });
        row.push(format!("{:.1}", bytes as f64 / MEBIBYTE));
    }
    row.extend(MEMORY.of_all_batches(of_function));
    row
}

fn start(of_function: &[Comparison]) -> Vec<String> {
    let mut row = vec![of_function[0].function.words().to_owned()];
    row.extend(START.iter().flat_map(|column| column.of_all_batches(of_function)));
    row
}

impl Column {
    /// The medians of both variants over all batch sizes.
    fn of_all_batches(&self, of_function: &[Comparison]) -> [String; 2] {
        let deployed = of_function.iter().map(|c| c.deployed.figure(self.metric).median);
        let baseline = of_function.iter().map(|c| c.baseline.figure(self.metric).median);
        [self.cell(Figure::of(deployed)), self.cell(Figure::of(baseline))]
    }

    fn cell(&self, figure: Figure) -> String {
        format!("{:.*}", self.decimals, figure.median / self.unit)
    }
}

/// A number with separators, for people.
pub(crate) fn thousands(number: usize) -> String {
    HumanCount(number as u64).to_string()
}
