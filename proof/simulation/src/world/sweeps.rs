//! The schedule of the sweep.

use super::state::World;
use crate::aws::lambda::{Ended, Task};
use crate::aws::source::Source;
use crate::rng;
use crate::scenario::Trouble;
use jiff::Timestamp;
use std::time::Duration;

/// For how long the sweep goes on after the last trouble.
const SWEEPS_FOR: Duration = Duration::from_hours(8);

impl World {
    /// Makes sure that the sweep runs on its schedule while there is something that it could find.
    pub(super) fn expect_sweep(&mut self) {
        let last = self.last_put_back().max(Some(self.scenario.healed_at())).unwrap_or(self.now) + SWEEPS_FOR;
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
        if !self.has_pending() && self.upstream.queue.messages().next().is_none() {
            return;
        }
        if !self.suffers(Trouble::NothingReads) && self.has_pending() {
            // A schedule delivers at least once.
            let twice =
                self.scenario.impatient && rng::numbered(self.scenario.seed, "schedule", self.calls).u8(0..4) == 0;
            for _ in 0..=u8::from(twice) {
                let payload = r#"{"sweep": true}"#.to_owned();
                self.invoke(Source::Schedule, vec![], payload, Box::new(Self::swept));
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
        if self.running.get(&task).is_none_or(|running| running.from != Source::Schedule) {
            return;
        }
        let other = self.publishing_sweep.replace(task).filter(|other| *other != task);
        if other.is_some_and(|other| self.running.contains_key(&other)) {
            self.violated("two sweeps publish at once".to_owned());
        }
    }
}
