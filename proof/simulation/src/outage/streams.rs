//! An outage of downstream or of publisher: records wait in the stream, Lambda discards some, and the sweep publishes those
//! again.

use super::{Outage, PATIENCE};
use crate::template::Deployed;
use event_source::limits::{BACKOFF_BASE, BACKOFF_CAP};
use jiff::Timestamp;
use notification::limits;
use publisher::sweep::due::is_due;
use std::collections::VecDeque;
use std::time::Duration;

/// Notifications that were accepted within so many seconds are counted together.
const STEP: u64 = 10;

/// A notification that has been pending for so many seconds or less does not count as delayed.
const FRESH: u64 = 60;

/// The shortest time that a failing invocation takes, in seconds. The shorter it is, the sooner retries are used up.
const FAILS_AFTER: u64 = 1;

/// Shards of the stream: as many as a Kinesis stream on demand starts with.
const SHARDS: u64 = 4;

#[expect(clippy::cast_possible_truncation, reason = "there are 32")]
const PARTITIONS: usize = limits::PENDING_SHARDS as usize;

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Every record of Kinesis.
    Downstream,
    /// Every record of the table's stream, and everything that the sweep publishes.
    Publisher,
}

/// The settings that decide.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// `MaximumRetryAttempts`; `None` for no bound.
    pub retries: Option<u32>,
    /// `MaximumRecordAge`.
    pub record_age: Duration,
    /// `SweepSchedule`.
    pub sweep_every: Duration,
    /// `SweepAge`.
    pub sweep_age: Duration,
    /// Time for one run of the sweep.
    pub timeout: Duration,
    /// Records of a batch. It decides how fast retries are used up, as [`Self::lanes`] does.
    pub batch: u64,
    /// Shards of the stream, times the parallelization factor.
    pub lanes: u64,
}

/// What an outage does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOutcome {
    /// Records that Lambda discarded. Their notifications stay pending.
    pub given_up: u64,
    /// Notifications that the sweep published again.
    pub published_again: u64,
    /// The time from the end of the outage until nothing is delayed; `None` if that never happens.
    pub caught_up: Option<Duration>,
}

impl Settings {
    /// The template's.
    #[must_use]
    pub fn of(deployed: &Deployed) -> Self {
        let mapping = &deployed.downstream;
        Self {
            retries: mapping.maximum_retry_attempts,
            record_age: mapping.maximum_record_age.unwrap_or(deployed.kinesis_retention),
            sweep_every: deployed.sweep_every,
            sweep_age: deployed.sweep_age,
            timeout: deployed.stream_function_timeout,
            batch: mapping.batch_size as u64,
            lanes: SHARDS * mapping.parallelization_factor as u64,
        }
    }

    /// Records that Lambda discards in a second because their retries are used up.
    fn exhausted_per_second(self) -> u64 {
        let Some(retries) = self.retries else { return 0 };
        let wait = |retry: u32| BACKOFF_BASE.saturating_mul(1 << retry.min(16)).min(BACKOFF_CAP).as_secs();
        let takes = u64::from(retries + 1) * FAILS_AFTER + (0..retries).map(wait).sum::<u64>();
        self.lanes * self.batch / takes
    }
}

/// Lets one stage fail for a while.
#[must_use]
pub fn streams(stage: Stage, outage: Outage, settings: Settings) -> StreamOutcome {
    let mut world = World::new(stage, outage, settings);
    let ends = outage.lasts.as_secs();
    let last = ends + PATIENCE.as_secs();
    for now in (0..last).step_by(usize::try_from(STEP).unwrap_or(1)) {
        world.step(now);
        if now >= ends && world.oldest().is_none_or(|oldest| oldest + FRESH >= now) {
            world.outcome.caught_up = Some(Duration::from_secs(now - ends));
            break;
        }
    }
    world.outcome
}

/// Records that came into the stream together.
struct Records {
    published: u64,
    accepted: u64,
    /// The partition of the index, if the sweep published them.
    partition: Option<usize>,
    count: u64,
}

/// Notifications that were accepted together and are pending, by partition of the index.
struct Pending {
    accepted: u64,
    counts: [u64; PARTITIONS],
}

/// A pass of the sweep through a partition.
#[derive(Clone, Copy)]
struct Pass {
    began: u64,
    /// Notifications that were accepted earlier are done.
    next: u64,
    all_published: bool,
}

struct World {
    stage: Stage,
    outage: Outage,
    settings: Settings,
    stream: VecDeque<Records>,
    pending: VecDeque<Pending>,
    published_until: [Option<u64>; PARTITIONS],
    passes: [Option<Pass>; PARTITIONS],
    /// The partitions that the running sweep has not finished.
    sweeping: VecDeque<usize>,
    sweep_ends: u64,
    next_partition: usize,
    outcome: StreamOutcome,
}

impl World {
    fn new(stage: Stage, outage: Outage, settings: Settings) -> Self {
        Self {
            stage,
            outage,
            settings,
            stream: VecDeque::new(),
            pending: VecDeque::new(),
            published_until: [None; PARTITIONS],
            passes: [None; PARTITIONS],
            sweeping: VecDeque::new(),
            sweep_ends: 0,
            next_partition: 0,
            outcome: StreamOutcome { given_up: 0, published_again: 0, caught_up: None },
        }
    }

    fn step(&mut self, now: u64) {
        self.accept(now);
        let ends = self.outage.lasts.as_secs();
        let is_down = now < ends;
        self.give_up(now, is_down);
        let swept = self.sweep(now, is_down);
        // When the outage ends, each batch still waits for its next retry.
        if now >= ends + BACKOFF_CAP.as_secs() {
            let capacity = self.outage.capacity * STEP;
            // The sweep does not publish through the table's stream, but it uses the same capacity.
            self.process(if self.stage == Stage::Publisher { capacity.saturating_sub(swept) } else { capacity });
        }
        while self.pending.front().is_some_and(|pending| pending.counts.iter().all(|count| *count == 0)) {
            self.pending.pop_front();
        }
    }

    fn accept(&mut self, now: u64) {
        let count = self.outage.rate * STEP;
        let share = |partition: usize| {
            count / limits::PENDING_SHARDS + u64::from((partition as u64) < count % limits::PENDING_SHARDS)
        };
        self.pending.push_back(Pending { accepted: now, counts: std::array::from_fn(share) });
        self.stream.push_back(Records { published: now, accepted: now, partition: None, count });
    }

    /// Lets Lambda discard records that are too old, and during the outage those that have used up their retries.
    fn give_up(&mut self, now: u64, is_down: bool) {
        let age = self.settings.record_age.as_secs();
        while let Some(old) = self.stream.pop_front_if(|records| records.published + age < now) {
            self.outcome.given_up += old.count;
        }
        let mut exhausted = if is_down { self.settings.exhausted_per_second() * STEP } else { 0 };
        while let Some((_, count)) = take(&mut self.stream, &mut exhausted) {
            self.outcome.given_up += count;
        }
    }

    /// Processes so many records. A record whose notification is already settled costs the same.
    fn process(&mut self, mut capacity: u64) {
        while let Some((records, count)) = take(&mut self.stream, &mut capacity) {
            let Some(pending) = self.find(records.accepted) else { continue };
            let mut left = count;
            let partitions = records.partition.map_or(0..PARTITIONS, |partition| partition..partition + 1);
            for pending in &mut pending.counts[partitions] {
                let done = left.min(*pending);
                *pending -= done;
                left -= done;
            }
        }
    }

    fn find(&mut self, accepted: u64) -> Option<&mut Pending> {
        let first = self.pending.front()?.accepted;
        self.pending.get_mut(usize::try_from(accepted.checked_sub(first)? / STEP).ok()?)
    }

    /// When the oldest pending notification was accepted.
    fn oldest(&self) -> Option<u64> {
        self.pending.front().map(|pending| pending.accepted)
    }

    /// Runs the sweep for one step, and returns how many it published.
    fn sweep(&mut self, now: u64, is_down: bool) -> u64 {
        if now.is_multiple_of(self.settings.sweep_every.as_secs()) && self.sweeping.is_empty() {
            self.sweeping = (self.next_partition..PARTITIONS).chain(0..self.next_partition).collect();
            self.sweep_ends = now + self.settings.timeout.saturating_sub(limits::ACT_BEFORE_DEADLINE).as_secs();
        }
        let seconds = self.sweep_ends.saturating_sub(now).min(STEP);
        let budget = seconds * u64::from(limits::SWEEP_PER_SECOND);
        let mut published = 0;
        while let Some(&partition) = self.sweeping.front() {
            if published >= budget {
                if now + STEP >= self.sweep_ends {
                    self.next_partition = partition;
                    self.sweeping.clear();
                }
                break;
            }
            if self.pass(partition, now, is_down, budget, &mut published) {
                self.sweeping.pop_front();
            }
        }
        self.outcome.published_again += published;
        published
    }

    /// Continues the pass through a partition. `true` if it is finished.
    fn pass(&mut self, partition: usize, now: u64, is_down: bool, budget: u64, published: &mut u64) -> bool {
        let begin = Pass { began: now, next: 0, all_published: true };
        let mut pass = self.passes[partition].take().unwrap_or(begin);
        let until = pass.began.saturating_sub(self.settings.sweep_age.as_secs());
        let published_until = self.published_until[partition].map(at);
        let cannot_publish = is_down && self.stage == Stage::Publisher;
        for place in 0..self.pending.len() {
            let accepted = self.pending[place].accepted;
            if accepted > until {
                break;
            }
            let count = self.pending[place].counts[partition];
            if accepted < pass.next || count == 0 {
                continue;
            }
            if *published >= budget {
                pass.next = accepted;
                self.passes[partition] = Some(pass);
                return false;
            }
            if !is_due(at(accepted), self.settings.sweep_age, published_until, at(pass.began)) {
                continue;
            }
            if cannot_publish {
                pass.all_published = false;
                continue;
            }
            *published += count;
            match self.stage {
                Stage::Publisher => self.pending[place].counts[partition] = 0,
                Stage::Downstream => {
                    let partition = Some(partition);
                    self.stream.push_back(Records { published: now, accepted, partition, count });
                }
            }
        }
        if pass.all_published {
            self.published_until[partition] = Some(pass.began);
        }
        true
    }
}

/// Takes up to `most` of the first records, and returns them and their number.
fn take(stream: &mut VecDeque<Records>, most: &mut u64) -> Option<(Records, u64)> {
    let first = stream.front_mut()?;
    let count = first.count.min(*most);
    if count == 0 {
        return None;
    }
    *most -= count;
    first.count -= count;
    let taken = Records { count, ..*first };
    if first.count == 0 {
        stream.pop_front();
    }
    Some((taken, count))
}

fn at(second: u64) -> Timestamp {
    i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::of(&Deployed::read().unwrap())
    }

    fn outage(minutes: u64, capacity: u64) -> Outage {
        Outage { lasts: Duration::from_mins(minutes), rate: 1_000, capacity }
    }

    #[test]
    fn half_an_hour_without_downstream_or_publisher_is_caught_up_within_an_hour_and_nothing_is_given_up() {
        for stage in [Stage::Downstream, Stage::Publisher] {
            let outcome = streams(stage, outage(30, 2_000), settings());
            assert_eq!(outcome.given_up, 0, "{stage:?}");
            assert!(outcome.caught_up.unwrap() <= Duration::from_hours(1), "{stage:?}: {outcome:?}");
        }
    }

    #[test]
    fn what_lambda_gave_up_in_a_longer_outage_is_brought_back_by_the_sweep() {
        for stage in [Stage::Downstream, Stage::Publisher] {
            let outcome = streams(stage, outage(120, 2_000), settings());
            assert!(outcome.given_up > 1_000_000 && outcome.published_again > 0, "{stage:?}: {outcome:?}");
            assert!(outcome.caught_up.unwrap() <= Duration::from_hours(6), "{stage:?}: {outcome:?}");
        }
    }

    #[test]
    fn while_lambda_still_retries_a_record_the_sweep_does_not_publish_it_again() {
        let settings = settings();
        assert!(settings.record_age < settings.sweep_age);
        let outcome = streams(Stage::Downstream, outage(30, 2_000), settings);
        assert_eq!(outcome.published_again, 0, "{outcome:?}");
    }

    /// With little spare capacity, what the sweep adds keeps the backlog alive, and the backlog keeps the sweep going.
    #[test]
    fn a_sweep_of_what_lambda_still_retries_can_keep_an_outage_from_ever_being_caught_up() {
        let scarce = outage(30, 1_500);
        assert!(streams(Stage::Downstream, scarce, settings()).caught_up.is_some());
        let sweeps_too_soon = Settings { sweep_age: Duration::from_mins(15), ..settings() };
        assert_eq!(streams(Stage::Downstream, scarce, sweeps_too_soon).caught_up, None);
    }
}
