//! Rounds of measurement. Each round measures every subject once, in a new process, so that a change of the machine's load
//! affects all of them. A ratio compares two figures of the same round.

use crate::backend::Counts;
use crate::binaries::Binaries;
use crate::error::Error;
use crate::events;
use crate::host::{Conditions, Host};
use crate::subject::{Function, Subject, Variant};
use hyper::body::Bytes;
use serde::Serialize;
use std::time::Duration;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// CPU time to measure of a process in one round.
    pub(crate) cpu: Duration,
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

/// The figures of one turn.
#[derive(Debug, Clone, Copy)]
struct Sample {
    init_ms: f64,
    init_cpu_ms: f64,
    first_ms: f64,
    first_cpu_ms: f64,
    settled_ms: f64,
    memory_at_start: f64,
    peak_memory: f64,
    cpu_us: f64,
    wall_us: f64,
    calls: f64,
    bytes: f64,
    connections: f64,
    most_in_flight: f64,
    incomplete: f64,
}

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

/// The cost of a subject.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Cost {
    /// CPU per notification, in microseconds.
    pub(crate) cpu_us: Figure,
    /// Time per notification, in microseconds.
    pub(crate) wall_us: Figure,
    /// Backend calls per 1,000 notifications.
    pub(crate) calls: f64,
    /// Bytes of the requests per 1,000 notifications.
    pub(crate) request_bytes: f64,
    /// Connections to the backend that the process made.
    pub(crate) connections: f64,
    /// Largest number of calls in flight at once.
    pub(crate) most_in_flight: f64,
    /// From exec until it asks for its first invocation, in milliseconds.
    pub(crate) init_ms: Figure,
    /// CPU in that time, in milliseconds.
    pub(crate) init_cpu_ms: Figure,
    /// From then until its first notification is settled, TLS handshake included, in milliseconds.
    pub(crate) first_ms: Figure,
    /// CPU in that time, in milliseconds.
    pub(crate) first_cpu_ms: Figure,
    /// From exec until the first notification is settled, in milliseconds.
    pub(crate) settled_ms: Figure,
    /// Memory when it asked for its first invocation, in bytes.
    pub(crate) memory_at_start: f64,
    /// Largest memory, in bytes.
    pub(crate) peak_memory: f64,
    /// Fraction of invocations that reported failed records; 1 if the process crashed.
    pub(crate) incomplete: f64,
}

impl Cost {
    fn of(samples: &[Sample]) -> Self {
        let figure = |of: fn(&Sample) -> f64| Figure::of(samples.iter().map(of));
        Self {
            cpu_us: figure(|sample| sample.cpu_us),
            wall_us: figure(|sample| sample.wall_us),
            calls: figure(|sample| sample.calls).median,
            request_bytes: figure(|sample| sample.bytes).median,
            connections: figure(|sample| sample.connections).median,
            most_in_flight: figure(|sample| sample.most_in_flight).median,
            init_ms: figure(|sample| sample.init_ms),
            init_cpu_ms: figure(|sample| sample.init_cpu_ms),
            first_ms: figure(|sample| sample.first_ms),
            first_cpu_ms: figure(|sample| sample.first_cpu_ms),
            settled_ms: figure(|sample| sample.settled_ms),
            memory_at_start: figure(|sample| sample.memory_at_start).median,
            peak_memory: figure(|sample| sample.peak_memory).median,
            incomplete: figure(|sample| sample.incomplete).max,
        }
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
        let ratio = |of: fn(&Sample) -> f64| Figure::of(deployed.iter().zip(baseline).map(|(a, b)| of(b) / of(a)));
        Self {
            function: subject.function,
            batch: subject.batch,
            deployed: Cost::of(deployed),
            baseline: Cost::of(baseline),
            cpu_ratio: ratio(|sample| sample.cpu_us),
            wall_ratio: ratio(|sample| sample.wall_us),
        }
    }

    /// Whether both variants processed all batches.
    pub(crate) fn is_complete(&self) -> bool {
        self.deployed.incomplete + self.baseline.incomplete == 0.0
    }
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
            samples.push(turn(binaries, *subject, event, conditions, effort).await?);
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
    let of = |&function: &Function| {
        let wanted = function.batches().iter().filter(|batch| batches.is_empty() || batches.contains(batch));
        wanted.map(move |&batch| (function, batch))
    };
    functions.iter().flat_map(of).collect()
}

async fn turn(
    binaries: &Binaries,
    subject: Subject,
    event: &Bytes,
    conditions: Conditions<'_>,
    effort: Effort,
) -> Result<Sample, Error> {
    let mut host = Host::start(&binaries.program(subject), subject, conditions).await?;
    let start = Start::of(&mut host, subject).await?;
    let sample = match work(&mut host, event, effort).await {
        Ok(work) => Ok(Sample::of(&start, &work, subject.batch)),
        // Without a free socket, it cannot even ask for another invocation.
        Err(Error::Ended { .. }) if subject.variant == Variant::Straightforward => Ok(Sample::failed(&start)),
        Err(error) => Err(error),
    };
    host.stop().await;
    sample
}

/// Time per batch, when warm.
pub(crate) async fn wall(host: &mut Host, event: &Bytes, effort: Effort) -> Result<Duration, Error> {
    let work = work(host, event, effort).await?;
    Ok(work.wall.div_f64(f64::from(u32::try_from(work.invocations).unwrap_or(u32::MAX))))
}

/// The cold start of a process.
pub(crate) struct Start {
    /// From exec until it asked for its first invocation.
    pub(crate) init: Duration,
    pub(crate) init_cpu: Duration,
    memory: u64,
    /// From then until its first notification was settled.
    pub(crate) first: Duration,
    pub(crate) first_cpu: Duration,
}

impl Start {
    /// Has a process that has just started settle one notification.
    pub(crate) async fn of(host: &mut Host, subject: Subject) -> Result<Self, Error> {
        let (init_cpu, memory) = (host.cpu()?, host.memory()?.now);
        let first = host.invoke(Bytes::from(events::batch(subject.function, 1))).await?.wall;
        Ok(Self { init: host.init, init_cpu, memory, first, first_cpu: host.cpu()?.saturating_sub(init_cpu) })
    }
}

/// The work of a warm process.
struct Work {
    invocations: usize,
    incomplete: usize,
    cpu: Duration,
    wall: Duration,
    before: Counts,
    after: Counts,
    peak_memory: u64,
}

async fn work(host: &mut Host, event: &Bytes, effort: Effort) -> Result<Work, Error> {
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
    let (after, peak_memory) = (host.backend.counts(), host.memory()?.peak);
    Ok(Work { invocations, incomplete, cpu, wall, before, after, peak_memory })
}

#[expect(clippy::cast_precision_loss, reason = "the counts are far below 2^52")]
impl Sample {
    fn of(start: &Start, work: &Work, batch: usize) -> Self {
        let Work { invocations, incomplete, before, after, .. } = work;
        let notifications = (invocations * batch) as f64;
        let thousands = notifications / 1e3;
        Self {
            peak_memory: work.peak_memory as f64,
            cpu_us: work.cpu.as_secs_f64() * 1e6 / notifications,
            wall_us: work.wall.as_secs_f64() * 1e6 / notifications,
            calls: (after.all_calls() - before.all_calls()) as f64 / thousands,
            bytes: (after.bytes - before.bytes) as f64 / thousands,
            connections: after.connections as f64,
            most_in_flight: after.most_in_flight as f64,
            incomplete: *incomplete as f64 / *invocations as f64,
            ..Self::failed(start)
        }
    }

    /// Of a process that crashed.
    fn failed(start: &Start) -> Self {
        Self {
            init_ms: milliseconds(start.init),
            init_cpu_ms: milliseconds(start.init_cpu),
            first_ms: milliseconds(start.first),
            first_cpu_ms: milliseconds(start.first_cpu),
            settled_ms: milliseconds(start.init + start.first),
            memory_at_start: start.memory as f64,
            peak_memory: f64::NAN,
            cpu_us: f64::NAN,
            wall_us: f64::NAN,
            calls: f64::NAN,
            bytes: f64::NAN,
            connections: f64::NAN,
            most_in_flight: f64::NAN,
            incomplete: 1.0,
        }
    }
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
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
