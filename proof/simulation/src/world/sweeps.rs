//! The schedule of the sweep.

use super::state::World;
use crate::aws::lambda::{Ended, Function, Task};
use crate::rng;
use crate::scenario::What;
use jiff::Timestamp;
use std::time::Duration;

/// What invokes the sweep, in traces.
pub(super) const SCHEDULE: &str = "schedule";

/// For how long the sweep goes on after the last trouble.
const SWEEPS_FOR: Duration = Duration::from_hours(8);

impl World {
    /// Makes sure that the sweep runs on its schedule while there is something that it could find.
    pub(super) fn expect_sweep(&mut self) {
        let last = self.scenario.healed_at() + SWEEPS_FOR;
        if !self.wiring.sweeps || self.next_sweep.is_some() || self.now > last {
            return;
        }
        let period = i64::try_from(self.deployed.sweep_every.as_secs()).unwrap_or(i64::MAX).max(1);
        let next = (self.now.as_second() / period + 1) * period;
        let Ok(next) = Timestamp::from_second(next) else { return };
        self.next_sweep = Some(next);
        self.at(next, Self::scheduled_sweep);
    }

    fn has_pending(&self) -> bool {
        self.table.items().values().any(|item| item.status.is_pending())
    }

    fn scheduled_sweep(&mut self) {
        self.next_sweep = None;
        if !self.has_pending() && self.upstream.queue.messages().next().is_none() {
            return;
        }
        if !self.is_out(|what| matches!(what, What::NothingReads(_))) && self.has_pending() {
            // A schedule delivers at least once.
            let twice =
                self.scenario.impatient && rng::numbered(self.scenario.seed, "schedule", self.calls).u8(0..4) == 0;
            for _ in 0..=u8::from(twice) {
                let payload = r#"{"sweep": true}"#.to_owned();
                self.invoke(SCHEDULE, Function::Publisher, vec![], payload, Box::new(Self::swept));
            }
        }
        self.expect_sweep();
    }

    fn swept(&mut self, ended: Ended) {
        let Ended::Response(swept) = ended else { return };
        let swept: serde_json::Value = serde_json::from_str(&swept).unwrap_or_default();
        if swept["published"].as_u64() > Some(0) {
            self.note("the sweep publishes something again");
        }
    }

    /// Checks that only one sweep publishes at a time.
    pub(super) fn check_sweeps(&mut self, task: Task) {
        if !self.sweeps.contains(&task) {
            return;
        }
        let other = self.publishing_sweep.replace(task).filter(|other| *other != task);
        if other.is_some_and(|other| self.running.contains_key(&other)) {
            self.violated("two sweeps publish at once".to_owned());
        }
    }
}
