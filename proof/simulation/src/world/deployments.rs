//! Deployments in the middle of a run, and what is promised across them: whatever the guarantee was before, a call at most once is
//! made only by the worker that has claimed the notification, and nothing calls again after it.

use super::state::World;
use crate::aws::lambda::Task;
use crate::aws::source::{Function, Source};
use crate::scenario::{Deploy, named};
use event_source::settings::Settings;
use notification::testing::Item;
use notification::{Claim, Guarantee, Status};
use std::time::Duration;

impl World {
    pub(super) fn deploy(&mut self, deploy: Deploy) {
        if self.running.values().any(|running| running.from.function() == Function::Downstream) {
            self.note("a deployment meets a running invocation");
        }
        match deploy {
            Deploy::Guarantee(guarantee) => self.deploy_guarantee(guarantee),
            Deploy::BatchSize(size) => {
                self.deployed.ingest.batch_size = size;
                self.upstream.mapping.update(self.deployed.ingest.clone());
                self.update_mappings(|settings| settings.batch_size = size);
            }
            Deploy::ParallelizationFactor(factor) => {
                self.update_mappings(|settings| settings.parallelization_factor = factor);
            }
            Deploy::Retries(retries) => self.update_mappings(|settings| settings.maximum_retry_attempts = retries),
            Deploy::RecordAge(age) => self.update_mappings(|settings| settings.maximum_record_age = Some(age)),
            Deploy::SweepAge(age) => self.deployed.sweep_age = age,
            // A bug that is put back may have removed the sweep.
            Deploy::SweepEvery(period) if self.deployed.sweep_every < Duration::MAX => {
                self.deployed.sweep_every = period;
            }
            Deploy::SweepEvery(_) => {}
            Deploy::Timeout(timeout) => self.deployed.stream_function_timeout = timeout,
            // An item keeps the time of expiry that it was written with. The model has one retention for all of them, so it takes
            // the shortest.
            Deploy::DoneRetentionDays(days) => {
                let kept_for = Duration::from_hours(24 * u64::from(days));
                self.deployed.done_retention = self.deployed.done_retention.min(kept_for);
            }
        }
    }

    fn deploy_guarantee(&mut self, guarantee: Guarantee) {
        if self.guarantee == guarantee {
            return;
        }
        self.note("the guarantee of the action changes");
        if self.table.items().values().any(|item| item.status == Status::Claimed) {
            self.note("the guarantee changes while a notification is claimed");
        }
        self.guarantee = guarantee;
        self.guarantees.push(guarantee);
    }

    fn update_mappings(&mut self, change: impl Fn(&mut Settings)) {
        self.note("a mapping gets other settings");
        change(&mut self.deployed.publisher);
        change(&mut self.deployed.downstream);
        self.table_stream.update(&self.deployed.publisher);
        self.kinesis.update(&self.deployed.downstream);
        self.look_at(Source::TableStream, self.now);
        self.look_at(Source::Kinesis, self.now);
    }

    /// The guarantee that a worker keeps, also for a call that arrives after it has ended.
    pub(super) fn guarantee_of(&self, task: Task) -> Guarantee {
        let running = self.running.get(&task).map(|running| running.guarantee);
        running.or_else(|| self.ended.get(&task).copied()).unwrap_or(self.guarantee)
    }

    /// Checks that a worker may make the effect of these notifications happen.
    pub(super) fn check_call(&mut self, task: Task, ids: &[String]) {
        let Some(running) = self.running.get(&task).filter(|_| self.wiring.hands_over) else { return };
        let (began, guarantee) = (running.began, running.guarantee);
        for id in ids {
            let is_once = matches!(guarantee, Guarantee::AtMostOnce { .. });
            let wrong = if self.effects_at_most_once.get(id).is_some_and(|times| times.iter().any(|at| *at < began)) {
                "is called again after its call at most once"
            } else if is_once && !self.item(id).is_some_and(|item| is_claimed_by(item, task)) {
                "is called at most once by a worker that has not claimed it"
            } else if is_once && self.item(id).is_some_and(|item| item.unknown_call) {
                "is called at most once after a call with an unknown outcome"
            } else {
                continue;
            };
            self.violated(format!("{id} {wrong} ({})", named(guarantee)));
        }
    }

    /// Checks that a claim that is taken for expired is not that of a worker that is still at work.
    pub(super) fn check_lease(&mut self, id: &str, claim: &Claim) {
        let owner = owner(claim);
        if owner != Some(self.caller) && owner.is_some_and(|owner| self.running.contains_key(&owner)) {
            self.violated(format!("the claim of {id} is taken for expired, and its worker is at work"));
        }
    }
}

fn is_claimed_by(item: &Item, task: Task) -> bool {
    item.status == Status::Claimed && item.claim.as_ref().and_then(owner) == Some(task)
}

/// The worker that holds a claim, by the request id in it.
fn owner(claim: &Claim) -> Option<Task> {
    let (request_id, _) = claim.owner.strip_prefix("request-")?.split_once(':')?;
    request_id.parse().ok()
}
