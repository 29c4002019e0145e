//! Compares the deployed functions with their baseline, in turns.

use crate::binaries::Binaries;
use crate::cli::Options;
use crate::error::Error;
use crate::host::Conditions;
use crate::measure::{Comparison, Cost, Effort, Figure, Metric, Sample, turn};
use crate::output::{self, MEBIBYTE, number, thousands};
use crate::plot;
use crate::subject::{Subject, Variant};
use crate::tls::Authority;
use console::style;
use serde_json::json;

/// Measures both variants of the functions.
pub(crate) async fn run(options: &Options, effort: Effort, json: bool) -> Result<(), Error> {
    let deployed = Variant::Deployed(&options.binaries);
    let baseline = options.against.as_deref().map_or(Variant::Straightforward(&options.binaries), Variant::Other);
    let subjects = options
        .pairs()
        .into_iter()
        .flat_map(|(function, batch)| [deployed, baseline].map(|variant| Subject { function, variant, batch }));
    let binaries = Binaries::copied(subjects.map(Subject::binary), "make bench")?;
    let authority = Authority::make()?;
    let conditions = Conditions { behaviour: options.behaviour, authority: &authority, throttle: None };
    let mut turns: Vec<_> =
        options.pairs().into_iter().map(|(function, batch)| (function, batch, Vec::new(), Vec::new())).collect();
    let bar = output::progress(turns.len() * effort.rounds);
    for _ in 0..effort.rounds {
        for (function, batch, of_deployed, of_baseline) in &mut turns {
            let subject = |variant| Subject { function: *function, variant, batch: *batch };
            of_deployed.push(turn(subject(deployed), &binaries, conditions, effort).await?);
            of_baseline.push(turn(subject(baseline), &binaries, conditions, effort).await?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();

    let comparisons: Vec<_> = turns
        .into_iter()
        .map(|(function, batch, deployed, baseline)| Comparison::of(function, batch, &deployed, &baseline))
        .collect();
    if json {
        output::json(&json!({
            "rounds": effort.rounds,
            "backend": options.behaviour,
            "against": baseline.words(),
            "comparisons": comparisons,
        }));
    } else {
        print(&comparisons, baseline);
    }
    match &options.plot {
        Some(path) => plot::draw(path, &comparisons, baseline.words()),
        None => Ok(()),
    }
}

/// A metric in a table, in its unit and with its decimals. The column of the baseline is next to it.
struct Column {
    heading: &'static str,
    metric: Metric,
    unit: f64,
    decimals: usize,
}

const CPU: Column = Column { heading: "CPU µs", metric: Metric::CpuUs, unit: 1.0, decimals: 1 };
const WALL: Column = Column { heading: "wall µs", metric: Metric::WallUs, unit: 1.0, decimals: 1 };

const CALLS: [Column; 4] = [
    Column { heading: "calls for\n1,000", metric: Metric::Calls, unit: 1.0, decimals: 0 },
    Column { heading: "KiB sent\nfor 1,000", metric: Metric::RequestBytes, unit: 1024.0, decimals: 0 },
    Column { heading: "connec-\ntions", metric: Metric::Connections, unit: 1.0, decimals: 0 },
    Column { heading: "peak\nMiB", metric: Metric::PeakMemory, unit: MEBIBYTE, decimals: 1 },
];

const SIZE: [Column; 2] = [
    Column { heading: "binary\nMiB", metric: Metric::BinarySize, unit: MEBIBYTE, decimals: 1 },
    Column { heading: "memory\nMiB", metric: Metric::MemoryAtStart, unit: MEBIBYTE, decimals: 1 },
];

const START: [Column; 5] = [
    Column { heading: "init\nms", metric: Metric::InitMs, unit: 1.0, decimals: 1 },
    Column { heading: "init\nCPU ms", metric: Metric::InitCpuMs, unit: 1.0, decimals: 1 },
    Column { heading: "first\nms", metric: Metric::FirstMs, unit: 1.0, decimals: 1 },
    Column { heading: "first\nCPU ms", metric: Metric::FirstCpuMs, unit: 1.0, decimals: 1 },
    Column { heading: "together\nms", metric: Metric::SettledMs, unit: 1.0, decimals: 1 },
];

/// Prints comparisons as tables.
fn print(comparisons: &[Comparison], baseline: Variant<'_>) {
    let baseline = match baseline {
        Variant::Straightforward(_) => "straight-\nforward",
        other => other.words(),
    };
    let headers = ["", "batch", CPU.heading, baseline, "ratio", WALL.heading, baseline, "ratio"];
    output::table("For a notification", &headers, comparisons.iter().map(time));
    let headers = headings(&["", "batch"], &CALLS, baseline);
    output::table("Backend calls, and memory", &headers, comparisons.iter().map(calls));
    let functions: Vec<_> = comparisons.chunk_by(|a, b| a.function == b.function).collect();
    for (title, columns) in
        [("At start", &SIZE[..]), ("From exec (init) until the first notification is settled (first)", &START[..])]
    {
        let rows = functions.iter().map(|of_function| over_all_batches(of_function, columns));
        output::table(title, &headings(&[""], columns, baseline), rows);
    }

    let costs = comparisons.iter().flat_map(|c| [&c.deployed, &c.baseline]);
    let spread = Figure::of(costs.map(|cost| cost.figure(Metric::CpuUs).spread()).filter(|spread| spread.is_finite()));
    output::line("");
    if spread.max > 0.0 {
        output::line(format_args!(
            "Between the rounds, CPU differs by {:.0} % of its median (in the median row; by {:.0} % in the worst one).",
            spread.median * 100.0,
            spread.max * 100.0
        ));
    }
    if comparisons.iter().any(|c| c.cpu_ratio.median.is_nan()) {
        output::line(
            "fails: it reports failed records, or its process crashes. As on Lambda, it may have 1,024 files and sockets open.",
        );
    }
}

/// The headings of columns and of their baselines, after those of the labels.
fn headings<'a>(labels: &[&'a str], columns: &'a [Column], baseline: &'a str) -> Vec<&'a str> {
    let figures = columns.iter().flat_map(|column| [column.heading, baseline]);
    labels.iter().copied().chain(figures).collect()
}

/// The figures of both variants.
fn figures(deployed: &Cost, baseline: &Cost, columns: &[Column]) -> Vec<String> {
    let mut cells = Vec::new();
    for Column { metric, unit, decimals, .. } in columns {
        for cost in [deployed, baseline] {
            cells.push(number(cost.figure(*metric).median / unit, *decimals));
        }
    }
    cells
}

fn time(Comparison { function, batch, deployed, baseline, cpu_ratio, wall_ratio }: &Comparison) -> Vec<String> {
    let mut row = vec![function.words().to_owned(), thousands(*batch)];
    for (column, ratio) in [(CPU, cpu_ratio.median), (WALL, wall_ratio.median)] {
        row.extend(figures(deployed, baseline, &[column]));
        let ratio = if ratio.is_nan() { "–".to_owned() } else { format!("{ratio:.1}×") };
        row.push(style(ratio).bold().to_string());
    }
    row
}

fn calls(comparison: &Comparison) -> Vec<String> {
    let mut row = vec![comparison.function.words().to_owned(), thousands(comparison.batch)];
    row.extend(figures(&comparison.deployed, &comparison.baseline, &CALLS));
    row
}

/// The medians over all batch sizes of a function.
fn over_all_batches(of_function: &[Comparison], columns: &[Column]) -> Vec<String> {
    let deployed: Vec<Sample> = of_function.iter().map(|c| c.deployed.medians()).collect();
    let baseline: Vec<Sample> = of_function.iter().map(|c| c.baseline.medians()).collect();
    let mut row = vec![of_function[0].function.words().to_owned()];
    row.extend(figures(&Cost::of(&deployed), &Cost::of(&baseline), columns));
    row
}
