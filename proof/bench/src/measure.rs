//! The measurements of a process. Each round of a command measures every subject once, in a new process, so that a change of
//! the machine's load affects all of them.

use crate::binaries::Binaries;
use crate::error::Error;
use crate::events;
use crate::host::{Conditions, Host};
use crate::subject::{Function, Subject, Variant};
use hyper::body::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// CPU time to measure of a process in one round, after a third of it to warm up.
    pub(crate) cpu: Duration,
    /// Longest time of a turn, even if it used less CPU.
    pub(crate) wall: Duration,
}

/// Minimum number of invocations in a turn.
const LEAST_INVOCATIONS: usize = 3;

/// What is measured of a process. The work of a process that crashed or reported failed records has no figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// CPU per notification, in microseconds.
    CpuUs,
    /// Time per notification, in microseconds.
    WallUs,
    /// Backend calls per 1,000 notifications.
    Calls,
    /// Bytes of the requests per 1,000 notifications.
    RequestBytes,
    /// Connections to the backend that the process made.
    Connections,
    /// From exec until it asks for its first invocation, in milliseconds.
    InitMs,
    /// CPU in that time, in milliseconds.
    InitCpuMs,
    /// From then until its first notification is settled, TLS handshake included, in milliseconds.
    FirstMs,
    /// CPU in that time, in milliseconds.
    FirstCpuMs,
    /// From exec until the first notification is settled, in milliseconds.
    SettledMs,
    /// CPU in that time, in milliseconds.
    SettledCpuMs,
    /// Memory when it asked for its first invocation, in bytes.
    MemoryAtStart,
    /// Largest memory, in bytes.
    PeakMemory,
    /// Size of the binary, in bytes.
    BinarySize,
}

/// The measurements of one turn.
pub(crate) type Sample = BTreeMap<Metric, f64>;

/// The median of the rounds, and their range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Figure {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        let (low, high) = ((values.len().max(1) - 1) / 2, values.len() / 2);
        Self { median: f64::midpoint(at(low), at(high)), min: at(0), max: at(values.len().max(1) - 1) }
    }

    /// The range of the rounds as a fraction of the median.
    pub(crate) fn spread(self) -> f64 {
        (self.max - self.min) / self.median
    }
}

/// The figures of a subject, of those metrics that each of its samples has.
#[derive(Debug, Serialize)]
pub(crate) struct Cost(BTreeMap<Metric, Figure>);

impl Cost {
    pub(crate) fn of(samples: &[Sample]) -> Self {
        let mut figures = BTreeMap::new();
        for &metric in samples.iter().flat_map(Sample::keys) {
            let values: Option<Vec<f64>> = samples.iter().map(|sample| sample.get(&metric).copied()).collect();
            figures.extend(values.map(|values| (metric, Figure::of(values))));
        }
        Self(figures)
    }

    /// Not a number if a sample lacks it.
    pub(crate) fn figure(&self, metric: Metric) -> Figure {
        self.0.get(&metric).copied().unwrap_or(Figure::of([]))
    }

    pub(crate) fn medians(&self) -> Sample {
        self.0.iter().map(|(metric, figure)| (*metric, figure.median)).collect()
    }
}

/// A function at one batch size: both variants, and the ratios of the baseline to the deployed one.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) function: Function,
    pub(crate) batch: usize,
    pub(crate) deployed: Cost,
    pub(crate) baseline: Cost,
    pub(crate) cpu_ratio: Figure,
    pub(crate) wall_ratio: Figure,
}

impl Comparison {
    pub(crate) fn of(function: Function, batch: usize, deployed: &[Sample], baseline: &[Sample]) -> Self {
        Self {
            function,
            batch,
            deployed: Cost::of(deployed),
            baseline: Cost::of(baseline),
            cpu_ratio: ratio(Metric::CpuUs, deployed, baseline),
            wall_ratio: ratio(Metric::WallUs, deployed, baseline),
        }
    }
}

/// The ratio of the baseline to the deployed variant in each round. Not a number if a round lacks one of them.
fn ratio(metric: Metric, deployed: &[Sample], baseline: &[Sample]) -> Figure {
    let rounds = deployed.iter().zip(baseline);
    let ratios: Option<Vec<f64>> =
        rounds.map(|(deployed, baseline)| Some(baseline.get(&metric)? / deployed.get(&metric)?)).collect();
    Figure::of(ratios.unwrap_or_default())
}

/// Measures a new process: its start, and its work when it is warm.
#[expect(clippy::cast_precision_loss, reason = "a file has fewer than 2^52 bytes")]
pub(crate) async fn turn(
    subject: Subject<'_>,
    binaries: &Binaries,
    conditions: Conditions<'_>,
    effort: Effort,
) -> Result<Sample, Error> {
    let original = subject.binary();
    let binary = binaries.copy(&original);
    let size = std::fs::metadata(binary).map(|file| file.len());
    let size = size.map_err(Error::cannot(format!("find {}", binary.display())))?;
    let mut host = Host::start(Command::new(binary), subject.function, conditions).await?;
    let mut sample = start(&mut host, subject.function).await?;
    sample.insert(Metric::BinarySize, size as f64);
    match work(&mut host, subject, effort).await {
        Ok(work) => sample.extend(work),
        // Without a free socket, it cannot even ask for another invocation.
        Err(Error::Crashed { .. }) if matches!(subject.variant, Variant::Straightforward(_)) => {}
        Err(error) => return Err(error),
    }
    host.stop().await;
    Ok(sample)
}

/// Has a process that has just started settle one notification.
async fn start(host: &mut Host, function: Function) -> Result<Sample, Error> {
    let (init, init_cpu, memory) = (host.init, host.cpu()?, host.memory("VmRSS:")?);
    let first = host.invoke(Bytes::from(events::batch(function, 1))).await?.wall;
    let settled_cpu = host.cpu()?;
    Ok(BTreeMap::from([
        (Metric::InitMs, milliseconds(init)),
        (Metric::InitCpuMs, milliseconds(init_cpu)),
        (Metric::FirstMs, milliseconds(first)),
        (Metric::FirstCpuMs, milliseconds(settled_cpu.saturating_sub(init_cpu))),
        (Metric::SettledMs, milliseconds(init + first)),
        (Metric::SettledCpuMs, milliseconds(settled_cpu)),
        (Metric::MemoryAtStart, memory),
    ]))
}

/// Warms a process up, and has it process batches. There are no figures if it reports failed records.
#[expect(clippy::cast_precision_loss, reason = "the counts are far below 2^52")]
async fn work(host: &mut Host, subject: Subject<'_>, effort: Effort) -> Result<Sample, Error> {
    let event = Bytes::from(events::batch(subject.function, subject.batch));
    let (mut warm_ups, mut warm_up) = (0, Duration::ZERO);
    while warm_ups < LEAST_INVOCATIONS || warm_up < effort.cpu / 3 {
        warm_up += host.invoke(event.clone()).await?.wall;
        warm_ups += 1;
    }

    let before = host.backend.counts();
    let cpu_before = host.cpu()?;
    let (mut invocations, mut cpu, mut wall) = (0, Duration::ZERO, Duration::ZERO);
    while invocations < LEAST_INVOCATIONS || (cpu < effort.cpu && wall < effort.wall) {
        let invocation = host.invoke(event.clone()).await?;
        if !invocation.complete {
            return Ok(Sample::new());
        }
        wall += invocation.wall;
        invocations += 1;
        cpu = host.cpu()?.saturating_sub(cpu_before);
    }
    let after = host.backend.counts();
    let notifications = (invocations * subject.batch) as f64;
    let thousands = notifications / 1e3;
    Ok(BTreeMap::from([
        (Metric::CpuUs, cpu.as_secs_f64() * 1e6 / notifications),
        (Metric::WallUs, wall.as_secs_f64() * 1e6 / notifications),
        (Metric::Calls, (after.calls - before.calls) as f64 / thousands),
        (Metric::RequestBytes, (after.bytes - before.bytes) as f64 / thousands),
        (Metric::Connections, host.backend.server.connections() as f64),
        (Metric::PeakMemory, host.memory("VmHWM:")?),
    ]))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_median_of_the_rounds_with_their_range() {
        assert_eq!(Figure::of([3.0, 1.0, 2.0]), Figure { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Figure::of([4.0, 1.0, 2.0, 3.0]), Figure { median: 2.5, min: 1.0, max: 4.0 });
        assert!(Figure::of([]).median.is_nan());
    }
}
