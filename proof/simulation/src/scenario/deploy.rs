//! Deployments in the middle of a run: parameters of the template that change while invocations run.

use super::{AT_MOST_ONCE, Disturbance, FEW_RETRIES, IDEMPOTENT, SOON, START, What, named, pick};
use crate::rng;
use fastrand::Rng;
use notification::{Guarantee, limits};
use std::fmt;
use std::time::Duration;

/// What a deployment changes. Invocations that run keep what they began with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deploy {
    /// The guarantee of the action, because the action or its settings are other ones.
    Guarantee(Guarantee),
    /// The batch size of every mapping.
    BatchSize(usize),
    /// Concurrent invocations for one shard.
    ParallelizationFactor(usize),
    /// Retries of a batch; `None` means no limit.
    Retries(Option<u32>),
    /// The age at which Lambda gives a record up.
    RecordAge(Duration),
    /// The age at which the sweep publishes a notification again.
    SweepAge(Duration),
    /// How often the sweep runs.
    SweepEvery(Duration),
    /// The timeout of publisher and downstream.
    Timeout(Duration),
    /// How long DONE items are kept, in days.
    DoneRetentionDays(u32),
}

/// The deployments of a run, within this time.
pub(super) fn draw(seed: u64, within: Duration) -> Vec<Disturbance> {
    let mut rng = rng::of(seed, "deployments");
    let count = pick(&mut rng, [0, 0, 0, 0, 1, 2, 3]);
    let within = u64::try_from(within.as_millis()).unwrap_or(1).max(1);
    (0..count)
        .map(|_| {
            // Half of them come while the first notifications are on their way.
            let within = if rng.bool() { within.min(30_000) } else { within };
            let at = START + Duration::from_millis(rng.u64(0..within));
            Disturbance { at, what: What::Deploy(Deploy::draw(&mut rng)) }
        })
        .collect()
}

impl Deploy {
    fn draw(rng: &mut Rng) -> Self {
        let minutes = Duration::from_mins;
        match rng.u8(0..16) {
            0..8 => Self::Guarantee(pick(rng, [Guarantee::Transactional, IDEMPOTENT, AT_MOST_ONCE])),
            8 => Self::BatchSize(pick(rng, [1, 3, 10, 100])),
            9 => Self::ParallelizationFactor(pick(rng, [1, 2, 10])),
            10 => Self::Retries(pick(rng, [None, Some(FEW_RETRIES)])),
            11 => Self::RecordAge(pick(rng, [minutes(5), minutes(40), minutes(120)])),
            12 => Self::SweepAge(pick(rng, [SOON, minutes(15), limits::SWEEP_AGE_DEFAULT])),
            13 => Self::SweepEvery(pick(rng, [minutes(1), minutes(5)])),
            // The template allows these for an action that takes as long as the webhook.
            14 => Self::Timeout(Duration::from_secs(pick(rng, [30, 60, 120, 300]))),
            _ => Self::DoneRetentionDays(pick(rng, [limits::DONE_RETENTION_MIN_DAYS, 60])),
        }
    }
}

impl fmt::Display for Deploy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guarantee(guarantee) => write!(f, "the action is {} from now on", named(*guarantee)),
            Self::BatchSize(size) => write!(f, "batches of {size}"),
            Self::ParallelizationFactor(factor) => write!(f, "{factor} concurrent invocations for each shard"),
            Self::Retries(None) => f.write_str("retries without a limit"),
            Self::Retries(Some(retries)) => write!(f, "{retries} retries"),
            Self::RecordAge(age) => write!(f, "a record age of {age:?}"),
            Self::SweepAge(age) => write!(f, "a sweep age of {age:?}"),
            Self::SweepEvery(period) => write!(f, "a sweep every {period:?}"),
            Self::Timeout(timeout) => write!(f, "a timeout of {timeout:?}"),
            Self::DoneRetentionDays(days) => write!(f, "DONE items are kept for {days} days"),
        }
    }
}
