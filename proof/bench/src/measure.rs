//! Rounds of measurement. Each round measures every subject once, in a new process, so that a change of the machine's load
//! affects all of them. A ratio compares two figures of the same round.

use crate::binaries::Binaries;
use crate::error::Error;
use crate::events;
use crate::host::{Conditions, Host, Program};
use crate::subject::{Function, Subject, Variant};
use hyper::body::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// CPU time to measure of a process in one round.
    cpu: Duration,
    /// Longest time of a turn, even if it used less CPU.
    wall: Duration,
}

/// Minimum number of invocations in a turn.
const LEAST_INVOCATIONS: usize = 3;

impl Effort {
    pub(crate) fn thorough(rounds: usize) -> Self {
        Self { rounds, cpu: Duration::from_millis(300), wall: Duration::from_secs(3) }
    }

    /// For a smoke test; the figures are noise.
    pub(crate) fn quick() -> Self {
        Self { rounds: 1, cpu: Duration::from_millis(20), wall: Duration::from_millis(100) }
    }

    /// How long a process is warmed up before it is measured.
    fn warm_up(self) -> Duration {
        self.cpu / 3
    }
}

/// What is measured of a process. The work of a process that crashed has no figures.
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
    /// Fraction of invocations that reported failed records; 1 if the process crashed.
    Incomplete,
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

    pub(crate) fn times(self, factor: f64) -> Self {
        Self { median: self.median * factor, min: self.min * factor, max: self.max * factor }
    }

    /// The range of the rounds as a fraction of the median.
    pub(crate) fn spread(self) -> f64 {
        (self.max - self.min) / self.median
    }
}

/// The figures of a subject.
#[derive(Debug, Serialize)]
pub(crate) struct Cost(BTreeMap<Metric, Figure>);

impl Cost {
    pub(crate) fn of(samples: &[Sample]) -> Self {
        let metrics = samples.iter().flat_map(Sample::keys);
        Self(
            metrics
                .map(|metric| (*metric, Figure::of(samples.iter().filter_map(|s| s.get(metric).copied()))))
                .collect(),
        )
    }

    pub(crate) fn figure(&self, metric: Metric) -> Figure {
        self.0.get(&metric).copied().unwrap_or(Figure::of([]))
    }

    /// Whether all batches were processed.
    pub(crate) fn is_complete(&self) -> bool {
        self.figure(Metric::Incomplete).max == 0.0
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
    fn of(subject: Subject, deployed: &[Sample], baseline: &[Sample]) -> Self {
        Self {
            function: subject.function,
            batch: subject.batch,
            deployed: Cost::of(deployed),
            baseline: Cost::of(baseline),
            cpu_ratio: ratio(Metric::CpuUs, deployed, baseline),
            wall_ratio: ratio(Metric::WallUs, deployed, baseline),
        }
    }

    /// Whether both variants processed all batches.
    pub(crate) fn is_complete(&self) -> bool {
        self.deployed.is_complete() && self.baseline.is_complete()
    }
}

/// The ratio of the baseline to the deployed variant, of the rounds that have both.
fn ratio(metric: Metric, deployed: &[Sample], baseline: &[Sample]) -> Figure {
    let rounds = deployed.iter().zip(baseline);
    Figure::of(rounds.filter_map(|(deployed, baseline)| Some(baseline.get(&metric)? / deployed.get(&metric)?)))
}

/// Measures functions. `done` is called after each turn.
pub(crate) async fn compare(
    binaries: &Binaries,
    pairs: &[(Function, usize)],
    conditions: Conditions<'_>,
    effort: Effort,
    done: impl Fn(),
) -> Result<Vec<Comparison>, Error> {
    let mut turns = Vec::new();
    for &(function, batch) in pairs {
        let event = Bytes::from(events::batch(function, batch));
        for variant in [Variant::Deployed, binaries.baseline] {
            turns.push((Subject { function, variant, batch }, event.clone(), Vec::with_capacity(effort.rounds)));
        }
    }
    for _ in 0..effort.rounds {
        for (subject, event, samples) in &mut turns {
            samples.push(turn(&binaries.program(*subject), *subject, event, conditions, effort).await?);
            done();
        }
    }
    let (both, _) = turns.as_chunks();
    Ok(both
        .iter()
        .map(|[(subject, _, deployed), (_, _, baseline)]| Comparison::of(*subject, deployed, baseline))
        .collect())
}

/// Each function with each batch size to measure.
pub(crate) fn pairs(functions: &[Function], batches: &[usize]) -> Vec<(Function, usize)> {
    let mut pairs = Vec::new();
    for &function in functions {
        let wanted = function.batches().iter().filter(|batch| batches.is_empty() || batches.contains(batch));
        pairs.extend(wanted.map(|&batch| (function, batch)));
    }
    pairs
}

/// Measures a new process: its start, and its work when it is warm.
pub(crate) async fn turn(
    program: &Program,
    subject: Subject,
    event: &Bytes,
    conditions: Conditions<'_>,
    effort: Effort,
) -> Result<Sample, Error> {
    let mut host = Host::start(program, subject, conditions).await?;
    let mut sample = start(&mut host, subject).await?;
    match work(&mut host, event, subject.batch, effort).await {
        Ok(work) => sample.extend(work),
        // Without a free socket, it cannot even ask for another invocation.
        Err(Error::Ended { .. }) if subject.variant == Variant::Straightforward => {
            sample.insert(Metric::Incomplete, 1.0);
        }
        Err(error) => return Err(error),
    }
    host.stop().await;
    Ok(sample)
}

/// Has a process that has just started settle one notification.
async fn start(host: &mut Host, subject: Subject) -> Result<Sample, Error> {
    let (init, init_cpu, memory) = (host.init, host.cpu()?, host.memory("VmRSS:")?);
    let first = host.invoke(Bytes::from(events::batch(subject.function, 1))).await?.wall;
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

/// Warms a process up, and has it process batches.
#[expect(clippy::cast_precision_loss, reason = "the counts are far below 2^52")]
async fn work(host: &mut Host, event: &Bytes, batch: usize, effort: Effort) -> Result<Sample, Error> {
    let (mut warm_ups, mut warm_up) = (0, Duration::ZERO);
    while warm_ups < LEAST_INVOCATIONS || warm_up < effort.warm_up() {
        warm_up += host.invoke(event.clone()).await?.wall;
        warm_ups += 1;
    }

    let before = host.backend.counts();
    let cpu_before = host.cpu()?;
    let (mut invocations, mut incomplete) = (0, 0);
    let (mut cpu, mut wall) = (Duration::ZERO, Duration::ZERO);
    while invocations < LEAST_INVOCATIONS || (cpu < effort.cpu && wall < effort.wall) {
        let invocation = host.invoke(event.clone()).await?;
        wall += invocation.wall;
        incomplete += usize::from(!invocation.complete);
        invocations += 1;
        cpu = host.cpu()?.saturating_sub(cpu_before);
    }
    let after = host.backend.counts();
    let notifications = (invocations * batch) as f64;
    let thousands = notifications / 1e3;
    Ok(BTreeMap::from([
        (Metric::CpuUs, cpu.as_secs_f64() * 1e6 / notifications),
        (Metric::WallUs, wall.as_secs_f64() * 1e6 / notifications),
        (Metric::Calls, (after.calls - before.calls) as f64 / thousands),
        (Metric::RequestBytes, (after.bytes - before.bytes) as f64 / thousands),
        (Metric::Connections, after.connections as f64),
        (Metric::PeakMemory, host.memory("VmHWM:")?),
        (Metric::Incomplete, incomplete as f64 / invocations as f64),
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

    #[test]
    fn a_function_is_measured_only_at_its_own_batch_sizes() {
        assert_eq!(
            pairs(&[Function::Ingest, Function::Ledger], &[1_000, 10_000]),
            [(Function::Ingest, 1_000), (Function::Ingest, 10_000), (Function::Ledger, 1_000)]
        );
        assert_eq!(pairs(&Function::ALL, &[]).len(), 13);
    }
}
