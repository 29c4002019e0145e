//! The schedule of the sweep.

use super::state::World;
use crate::aws::lambda::{Ended, Task};
use crate::aws::source::Source;
use crate::rng;
use crate::scenario::{Deploy, SOON, Trouble, What};
use jiff::Timestamp;
use notification::id::index_shard;
use notification::limits;
use notification::testing::{Call, Item};
use std::collections::BTreeSet;
use std::time::Duration;

/// Longest time between two attempts of the sweep, as the documentation states it, or its age if that is longer.
const AGAIN_WITHIN: Duration = Duration::from_hours(2);

/// Everything is settled this long after the last trouble: the sweep publishes what is pending after its age or at the next
/// attempt, and it needs some runs for many.
pub(super) const SETTLED_WITHIN: Duration = Duration::from_mins(45 + 120 + 60);

/// For how long the sweep goes on after the last trouble.
const SWEEPS_FOR: Duration = Duration::from_hours(8);

/// How often sweeps have published a notification.
#[derive(Debug, Default)]
pub(super) struct Republished {
    /// Since when the notification is pending; `None` before the first time.
    since: Option<Timestamp>,
    times: u32,
}

/// How often a notification may be published again by this age: when it is `first` old, then at ages that double, and at least
/// every two hours. Clocks differ a little, so one more is allowed.
fn times_published(age: Duration, first: Duration) -> u32 {
    let ages = age.as_secs() / first.as_secs().max(1);
    let doubled = ages.checked_ilog2().map_or(0, |doubled| doubled + 1);
    doubled + u32::try_from(age.as_secs() / AGAIN_WITHIN.as_secs()).unwrap_or(u32::MAX) + 1
}

impl World {
    /// Makes sure that the sweep runs on its schedule while there is something that it could find.
    pub(crate) fn expect_sweep(&mut self) {
        let last = self.last_put_back().max(Some(self.healed_at)).unwrap_or(self.now) + SWEEPS_FOR;
        if !self.wiring.hands_over || self.now > last {
            return;
        }
        let period = i64::try_from(self.deployed.sweep_every.as_secs()).unwrap_or(i64::MAX).max(1);
        let next = (self.now.as_second() / period + 1) * period;
        if let Ok(next) = Timestamp::from_second(next) {
            self.look_at(Source::Schedule, next);
        }
    }

    fn has_pending(&self) -> bool {
        self.table.items().values().any(|item| item.status.is_pending())
    }

    pub(super) fn scheduled_sweep(&mut self) {
        if !self.has_pending() && self.upstream.queue.is_empty() {
            return;
        }
        if !self.suffers(Trouble::NothingReads) && self.has_pending() {
            // A schedule delivers at least once.
            let twice =
                self.scenario.impatient && rng::numbered(self.scenario.seed, "schedule", self.calls).u8(0..4) == 0;
            if twice {
                self.sweeps_at_once();
            }
            for _ in 0..=u8::from(twice) {
                let payload = r#"{"sweep": true}"#.to_owned();
                self.invoke(Source::Schedule, vec![], payload, Box::new(Self::swept));
            }
        }
        self.expect_sweep();
    }

    fn swept(&mut self, ended: Ended) {
        let Ended::Response(swept) = ended else { return self.sweep_failed(0..limits::PENDING_SHARDS) };
        let swept: serde_json::Value = serde_json::from_str(&swept).unwrap_or_default();
        if swept["complete"] == false && swept["skipped"] == false && swept["failedShards"] == 0 {
            self.note("a sweep stops at its deadline");
        }
        if swept["published"].as_u64() > Some(0) {
            self.note("the sweep publishes something again");
        }
    }

    /// Two sweeps begin at once. If the one whose clock is behind gets the lease last, what the other saved is in the future to it, and
    /// it publishes the same again.
    pub(super) fn sweeps_at_once(&mut self) {
        self.sweep_failed(0..limits::PENDING_SHARDS);
    }

    /// Counts a failure of a sweep in these partitions of the index: the next one may publish the same again.
    fn sweep_failed(&mut self, partitions: impl IntoIterator<Item = u64>) {
        for partition in partitions {
            *self.failed_sweeps.entry(partition).or_default() += 1;
        }
    }

    /// Counts a call of a sweep that fails.
    pub(super) fn call_of_sweep_fails(&mut self, call: &Call) {
        match call.method {
            "pending" => self.sweep_failed(call.ids.iter().filter_map(|shard| shard.parse().ok())),
            "read" | "put" => {
                let partitions: BTreeSet<u64> = call.ids.iter().map(|id| index_shard(id)).collect();
                self.sweep_failed(partitions);
            }
            _ => self.sweep_failed(0..limits::PENDING_SHARDS),
        }
    }

    /// Checks that the sweep does not publish a notification more often than its age allows, while downstream is slow or down.
    /// Where a sweep failed, the next one may publish the same again.
    fn check_republished(&mut self, ids: &[String]) {
        let ages = self.sweep_ages();
        for id in ids {
            let Some(since) = self.item(id).and_then(|item| item.pending_since) else { continue };
            let age = Duration::try_from(self.now.duration_since(since)).unwrap_or_default();
            let by_age: u32 = ages.iter().map(|first| times_published(age, *first)).sum();
            let allowed = by_age + self.failed_sweeps.get(&index_shard(id)).copied().unwrap_or(0);
            let republished = self.republished.entry(id.clone()).or_default();
            if republished.since != Some(since) {
                *republished = Republished { since: Some(since), times: 0 };
            }
            republished.times += 1;
            let times = republished.times;
            if times > allowed {
                let minutes = age.as_secs() / 60;
                return self.violated(format!(
                    "the sweep has published {id} {times} times, and it is pending for {minutes} min"
                ));
            }
        }
    }

    /// Every age from which the sweep publishes again in this run: a deployment may change it.
    fn sweep_ages(&self) -> BTreeSet<Duration> {
        let deployed = self.scenario.disturbances.iter().filter_map(|disturbance| match disturbance.what {
            What::Deploy(Deploy::SweepAge(age)) => Some(age),
            _ => None,
        });
        let first = if self.scenario.impatient { SOON } else { self.deployed.sweep_age };
        deployed.chain([first, self.deployed.sweep_age]).collect()
    }

    /// Checks that nothing is pending so long after the last trouble, except in a partition that cannot be read.
    pub(super) fn check_settled(&mut self) {
        let is_down = |id: &str| self.partition_down() == Some(index_shard(id));
        // An operator may have put it back since.
        let is_old = |item: &Item| item.pending_since.is_some_and(|since| since + SETTLED_WITHIN <= self.now);
        let pending = self.table.items().iter().find(|(id, item)| is_old(item) && !is_down(id));
        if let Some((id, item)) = pending {
            let (status, minutes) = (item.status, SETTLED_WITHIN.as_secs() / 60);
            self.violated(format!("{id} is {status} {minutes} min after the last trouble"));
        }
    }

    /// Checks that a sweep which publishes these is the only one that does, and that it publishes nothing too often.
    pub(super) fn check_sweep(&mut self, task: Task, ids: &[String]) {
        if self.running.get(&task).is_some_and(|running| running.from == Source::Schedule) {
            self.check_republished(ids);
            self.check_overlap(task);
        }
    }

    /// Checks that only one sweep publishes at a time.
    pub(crate) fn check_overlap(&mut self, task: Task) {
        if self.running.get(&task).is_none_or(|running| running.from != Source::Schedule) {
            return;
        }
        let other = self.publishing_sweep.replace(task).filter(|other| *other != task);
        if other.is_some_and(|other| self.running.contains_key(&other)) {
            self.violated("two sweeps publish at once".to_owned());
        }
    }
}
