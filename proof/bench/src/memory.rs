//! Time and cost by memory setting. Lambda allocates CPU in proportion to memory, and bills memory × time: more memory is
//! faster, but also makes each millisecond of waiting more expensive.

use crate::binaries::Binaries;
use crate::cli::CompareArgs;
use crate::error::Error;
use crate::events;
use crate::host::{Conditions, Program};
use crate::limits;
use crate::measure::{Cost, Effort, Figure, Metric, Sample, turn};
use crate::output;
use crate::subject::{Function, Subject, Variant};
use crate::throttle::Throttle;
use crate::tls::Authority;
use hyper::body::Bytes;
use serde::Serialize;

/// Settings to measure, in megabytes.
const MEGABYTES: [u64; 6] = [128, 256, 512, 1_024, 1_536, limits::MEGABYTES_OF_A_CPU];

/// What is measured: a function, or the straightforward ingest on one of tokio's runtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Contestant {
    Deployed(Function),
    Straightforward { runtime: &'static str },
}

impl Contestant {
    /// The functions; if ingest is among them, also the straightforward ingest on each runtime.
    fn of(functions: &[Function]) -> Vec<Self> {
        let deployed = functions.iter().map(|&function| Self::Deployed(function));
        let runtimes = ["current-thread", "multi-thread"].map(|runtime| Self::Straightforward { runtime });
        let straightforward = if functions.contains(&Function::Ingest) { runtimes.to_vec() } else { vec![] };
        deployed.chain(straightforward).collect()
    }

    fn words(self) -> String {
        match self {
            Self::Deployed(function) => function.words().to_owned(),
            Self::Straightforward { runtime } => format!("straightforward\ningest, {runtime}"),
        }
    }

    fn subject(self, batch: usize) -> Subject {
        match self {
            Self::Deployed(function) => Subject { function, variant: Variant::Deployed, batch },
            Self::Straightforward { .. } => {
                Subject { function: Function::Ingest, variant: Variant::Straightforward, batch }
            }
        }
    }

    fn program(self, binaries: &Binaries, batch: usize) -> Program {
        let program = binaries.program(self.subject(batch));
        match self {
            Self::Deployed(_) => program,
            Self::Straightforward { runtime } => Program { variables: vec![("RUNTIME", runtime)], ..program },
        }
    }
}

/// The figures of a contestant with one memory setting.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    contestant: Contestant,
    megabytes: u64,
    batch: usize,
    /// From exec until the first notification is settled, in milliseconds.
    settled_ms: Figure,
    /// CPU in that time, in milliseconds.
    settled_cpu_ms: Figure,
    /// Milliseconds per batch, when warm.
    wall_ms: Figure,
    /// US dollars per billion notifications, for duration only.
    dollars: f64,
}

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(binaries: &Binaries, args: &CompareArgs, effort: Effort, json: bool) -> Result<(), Error> {
    let batch = args.one_batch();
    let authority = Authority::make()?;
    let contestants = Contestant::of(args.functions());
    let bar = output::progress(contestants.len() * MEGABYTES.len() * effort.rounds);
    let mut turns = Vec::new();
    for &contestant in &contestants {
        let event = Bytes::from(events::batch(contestant.subject(batch).function, batch));
        turns.extend(MEGABYTES.map(|megabytes| (contestant, megabytes, event.clone(), Vec::new())));
    }
    for _ in 0..effort.rounds {
        for (contestant, megabytes, event, samples) in &mut turns {
            let throttle = Throttle::of(*megabytes)?;
            let conditions =
                Conditions { behaviour: args.behaviour(), authority: &authority, throttle: Some(&throttle) };
            let program = contestant.program(binaries, batch);
            samples.push(turn(&program, contestant.subject(batch), event, conditions, effort).await?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let rows: Vec<Row> = turns
        .into_iter()
        .map(|(contestant, megabytes, _, samples)| Row::of(contestant, megabytes, batch, &samples))
        .collect();
    if json {
        output::json(&rows);
        return Ok(());
    }
    let cold = "from exec until the first notification is settled";
    print(&contestants, &rows, &format!("Milliseconds {cold}"), |row| format!("{:.1}", row.settled_ms.median));
    print(&contestants, &rows, &format!("Milliseconds of CPU {cold}"), |row| {
        format!("{:.1}", row.settled_cpu_ms.median)
    });
    let batch = format!("Milliseconds for a batch of {}", output::thousands(batch));
    print(&contestants, &rows, &batch, |row| format!("{:.1}", row.wall_ms.median));
    let dollars = "US dollars for a billion notifications: duration alone";
    print(&contestants, &rows, dollars, |row| format!("{:.2}", row.dollars));
    Ok(())
}

/// Prints a figure of each contestant by memory setting.
fn print(contestants: &[Contestant], rows: &[Row], title: &str, cell: fn(&Row) -> String) {
    let names: Vec<String> = contestants.iter().map(|contestant| contestant.words()).collect();
    let headers: Vec<&str> = std::iter::once("memory").chain(names.iter().map(String::as_str)).collect();
    let lines = MEGABYTES.map(|megabytes| {
        let cells = rows.iter().filter(|row| row.megabytes == megabytes).map(cell);
        std::iter::once(format!("{megabytes} MB")).chain(cells).collect()
    });
    output::table(title, &headers, lines);
}

#[expect(clippy::cast_precision_loss, reason = "a batch is small")]
impl Row {
    fn of(contestant: Contestant, megabytes: u64, batch: usize, samples: &[Sample]) -> Self {
        let cost = Cost::of(samples);
        let wall_ms = cost.figure(Metric::WallUs).times(batch as f64 / 1e3);
        Self {
            contestant,
            megabytes,
            batch,
            settled_ms: cost.figure(Metric::SettledMs),
            settled_cpu_ms: cost.figure(Metric::SettledCpuMs),
            wall_ms,
            dollars: dollars(megabytes, wall_ms.median, batch),
        }
    }
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
