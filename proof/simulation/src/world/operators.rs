//! Operators: people who are told of a notification that is FAILED, IN_DOUBT or claimed, look at it and at the receiver some time
//! later, and then run `notifyctl redrive` or `notifyctl resolve`. Their commands run what `notifyctl` runs, and their calls fail
//! like all others. There can be two of them, who do not know of each other, and a command can take effect minutes later.

use super::state::World;
use crate::aws::lambda::Task;
use crate::rng;
use crate::trace::Step;
use fastrand::Rng;
use jiff::Timestamp;
use notification::Status;
use notification::operator::{self, Decision};
use notification::testing::OwnedChange;
use std::time::Duration;

/// How often an operator decides on one notification, at most.
const DECISIONS_MAX: u8 = 3;

/// A command that an operator is about to run.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) task: Task,
    pub(crate) id: String,
    pub(crate) decision: Decision,
    /// What the operator saw of the notification when they decided.
    pub(crate) seen: Option<Timestamp>,
}

const fn words(decision: Decision) -> &'static str {
    match decision {
        Decision::Redrive => "redrive",
        Decision::ResolveRetry => "resolve --retry",
        Decision::ResolveDone => "resolve --done",
    }
}

impl World {
    /// Tells the operators of a notification whose status has changed.
    pub(super) fn tell_operators(&mut self, id: &str, status: Status) {
        if !matches!(status, Status::Failed | Status::InDoubt | Status::Claimed) {
            return;
        }
        for operator in 1..=self.scenario.operators {
            self.told += 1;
            let mut rng = rng::numbered(self.scenario.seed, "operator", self.told);
            // A claim is usually settled by its worker, so few people look at it.
            let (looks, waits) = match status {
                Status::Claimed => (8, [5_000, 60_000, 300_000, 900_000]),
                _ => (1, [300, 5_000, 20_000, 900_000]),
            };
            if rng.u8(0..looks) == 0 {
                let longest = waits[rng.usize(0..4)];
                let wait = Duration::from_millis(rng.u64(0..longest));
                let id = id.to_owned();
                self.after(wait, move |world| world.decide(operator, &id, rng));
            }
        }
    }

    /// Lets an operator look at a notification and at the receiver, and run a command.
    fn decide(&mut self, operator: u8, id: &str, mut rng: Rng) {
        let Some(stored) = self.table.read(id) else { return };
        let has_happened = self.effects.get(id).is_some_and(|effects| *effects > 0);
        let is_on_its_way = self.in_progress.get(id).is_some_and(|calls| *calls > 0);
        let is_in_progress = is_on_its_way || self.receiver.is_busy(id);
        let is_wrong = rng.u8(0..16) == 0;
        let decision = match stored.status {
            Some(Status::Failed) if !is_wrong => Decision::Redrive,
            Some(Status::InDoubt) if is_wrong => Decision::Redrive,
            _ if has_happened => Decision::ResolveDone,
            // The receiver cannot tell yet.
            _ if is_in_progress => return,
            Some(Status::InDoubt | Status::Claimed) => Decision::ResolveRetry,
            _ if is_wrong => Decision::ResolveRetry,
            _ => return,
        };
        let decisions = self.decisions.entry((operator, id.to_owned())).or_default();
        if *decisions == DECISIONS_MAX {
            return;
        }
        *decisions += 1;
        if is_wrong {
            self.note("an operator runs the wrong command");
        }
        let seen = operator::seen(&stored);
        let longest = [10, 10_000, 300_000][rng.usize(0..3)];
        let mut wait = Duration::from_millis(rng.u64(0..longest));
        // They run the same command again if they do not trust it.
        for _ in 0..if rng.u8(0..8) == 0 { 2 } else { 1 } {
            let id = id.to_owned();
            self.after(wait, move |world| world.command(operator, id, decision, seen));
            wait += Duration::from_millis(rng.u64(0..60_000));
        }
        if rng.u8(0..4) == 0 {
            // They look again soon, whatever the command said.
            let (id, wait) = (id.to_owned(), wait + Duration::from_millis(rng.u64(0..60_000)));
            self.after(wait, move |world| world.decide(operator, &id, rng));
        }
    }

    fn command(&mut self, operator: u8, id: String, decision: Decision, seen: Option<Timestamp>) {
        if self.commands_running.values().any(|(_, other)| *other == id) {
            self.note("two operators decide on one notification at once");
        }
        self.tasks += 1;
        let (task, name) = (self.tasks, format!("operator {operator}"));
        self.trace(|| Step::note_over(&name, format!("runs {} {id}", words(decision))));
        self.commands_running.insert(task, (name, id.clone()));
        self.commands.push(Command { task, id, decision, seen });
    }

    /// What follows from a change that was made.
    pub(super) fn changed(&mut self, change: &OwnedChange) {
        let what = match (change.from, change.to) {
            (Some(Status::Failed), Status::Init) => "an operator redrives a notification",
            (Some(Status::InDoubt), Status::Init) => "an operator puts back a notification in doubt",
            (Some(Status::InDoubt), Status::Done) => "an operator resolves a notification as done",
            (Some(Status::Claimed), Status::InDoubt) if self.commands_running.contains_key(&self.caller) => {
                "an operator settles an expired claim"
            }
            _ => return,
        };
        self.note(what);
        if change.to == Status::Init {
            self.put_back_at.insert(change.id.clone(), self.now);
            // The reason of a refusal may be gone by then, or not.
            if change.from == Some(Status::Failed) && rng::numbered(self.scenario.seed, "accepts", self.calls).bool() {
                self.accepted.insert(change.id.clone());
            }
        }
    }

    /// Whether the business refuses a notification that it is asked to process now.
    pub(crate) fn refuses(&mut self, id: &str) -> bool {
        let refuses = self.scenario.rejected.contains(id) && !self.accepted.contains(id);
        if refuses {
            self.refused_at.insert(id.to_owned(), self.now);
            if self.put_back_at.contains_key(id) {
                self.note("a notification that was put back is refused again");
            }
        }
        refuses
    }

    /// Whether the business has refused a notification since an operator put it back last.
    pub(crate) fn was_refused(&self, id: &str) -> bool {
        let refused = self.refused_at.get(id);
        refused.is_some_and(|refused| self.put_back_at.get(id).is_none_or(|put_back| refused > put_back))
    }

    /// Whether an operator has put a notification back since this time.
    pub(super) fn was_put_back_since(&self, id: &str, time: Timestamp) -> bool {
        self.put_back_at.get(id).is_some_and(|put_back| *put_back >= time)
    }

    /// The last time at which an operator put something back.
    pub(super) fn last_put_back(&self) -> Option<Timestamp> {
        self.put_back_at.values().max().copied()
    }
}
