//! Time and cost by memory setting. Lambda allocates CPU in proportion to memory, and bills memory × time: more memory is
//! faster, but also makes each millisecond of waiting more expensive.

use crate::binaries::Binaries;
use crate::cli::Options;
use crate::error::Error;
use crate::host::Conditions;
use crate::limits;
use crate::measure::{Cost, Effort, Metric, turn};
use crate::output;
use crate::subject::{Function, Subject, Variant};
use crate::throttle::Throttle;
use crate::tls::Authority;
use serde::Serialize;

/// Settings to measure, in megabytes.
const MEGABYTES: [u64; 6] = [128, 256, 512, 1_024, 1_536, limits::MEGABYTES_OF_A_CPU];

/// The figures of a function with one memory setting.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    function: Function,
    megabytes: u64,
    batch: usize,
    cost: Cost,
    /// Milliseconds per batch, when warm.
    wall_ms: f64,
    /// US dollars per billion notifications, for duration only.
    dollars: f64,
}

#[expect(clippy::cast_precision_loss, reason = "a batch is small")]
pub(crate) async fn run(options: &Options, effort: Effort, json: bool) -> Result<(), Error> {
    let (functions, batch) = (options.functions(), options.one_batch());
    let subject = |function| Subject { function, variant: Variant::Deployed(&options.binaries), batch };
    let binaries = Binaries::copied(functions.iter().map(|&function| subject(function).binary()), "make bench")?;
    let authority = Authority::make()?;
    let mut turns = Vec::new();
    for &function in functions {
        turns.extend(MEGABYTES.map(|megabytes| (function, megabytes, Vec::new())));
    }
    let bar = output::progress(turns.len() * effort.rounds);
    for _ in 0..effort.rounds {
        for (function, megabytes, samples) in &mut turns {
            let throttle = Some(&Throttle::of(*megabytes)?);
            let conditions = Conditions { behaviour: options.behaviour, authority: &authority, throttle };
            samples.push(turn(subject(*function), &binaries, conditions, effort).await?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();

    let mut rows = Vec::new();
    for (function, megabytes, samples) in turns {
        let cost = Cost::of(&samples);
        let wall_ms = cost.figure(Metric::WallUs).median * batch as f64 / 1e3;
        rows.push(Row { function, megabytes, batch, cost, wall_ms, dollars: dollars(megabytes, wall_ms, batch) });
    }
    if json {
        output::json(&rows);
        return Ok(());
    }
    let cold = "from exec until the first notification is settled";
    print(functions, &rows, &format!("Milliseconds {cold}"), 1, |row| row.cost.figure(Metric::SettledMs).median);
    print(functions, &rows, &format!("Milliseconds of CPU {cold}"), 1, |row| {
        row.cost.figure(Metric::SettledCpuMs).median
    });
    let batch = output::thousands(batch);
    print(functions, &rows, &format!("Milliseconds for a batch of {batch}"), 1, |row| row.wall_ms);
    print(functions, &rows, "US dollars for a billion notifications: duration alone", 2, |row| row.dollars);
    Ok(())
}

/// Prints a figure of each function by memory setting.
fn print(functions: &[Function], rows: &[Row], title: &str, decimals: usize, figure: fn(&Row) -> f64) {
    let headers: Vec<&str> = std::iter::once("memory").chain(functions.iter().map(|f| f.words())).collect();
    let lines = MEGABYTES.map(|megabytes| {
        let figures = rows.iter().filter(|row| row.megabytes == megabytes).map(figure);
        let cells = figures.map(|figure| output::number(figure, decimals));
        std::iter::once(format!("{megabytes} MB")).chain(cells).collect()
    });
    output::table(title, &headers, lines);
}

/// Lambda bills milliseconds, rounded up.
#[expect(clippy::cast_precision_loss, reason = "both are small")]
fn dollars(megabytes: u64, wall_ms: f64, batch: usize) -> f64 {
    let batches = 1e9 / batch as f64;
    let gigabyte_seconds = wall_ms.ceil() / 1e3 * megabytes as f64 / 1024.0 * batches;
    gigabyte_seconds * limits::DOLLARS_PER_GIGABYTE_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_billed_by_memory_and_by_milliseconds_rounded_up() {
        let of = dollars(1_024, 1_999.5, 1_000_000);
        assert!((of - 2_000.0 * limits::DOLLARS_PER_GIGABYTE_SECOND).abs() < 1e-9, "{of}");
        assert!((dollars(512, 1_999.5, 1_000_000) - of / 2.0).abs() < 1e-9);
    }
}
