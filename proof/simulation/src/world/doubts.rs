//! Which notifications may be IN_DOUBT, and which may be FAILED although their effect happened: exactly those of which
//! a call or a write had an unknown outcome, and those that a worker held when it died.

use super::state::World;
use crate::action::CALL_TIMEOUT;
use crate::aws::lambda::Task;
use jiff::Timestamp;
use notification::Status;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A worker that could not write an outcome until then before its deadline has tried to the end: the longest backoff, and
/// the time in which no call starts.
const TO_THE_END: Duration = Duration::from_secs(3);

/// What is known about unknown outcomes.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// Ids whose effect may have an unknown outcome.
    pub(crate) ids: BTreeSet<String>,
    /// Ids of which a call succeeded or has an unknown outcome, and the table does not know, because the worker died or
    /// could not write until its deadline.
    pub(crate) not_noted: BTreeSet<String>,
    /// Calls that succeeded or have an unknown outcome, by worker; `true` if the outcome is unknown.
    open: BTreeMap<(Task, String), bool>,
    /// Reads and writes in flight, by the number of the call.
    in_flight: BTreeMap<u64, InFlight>,
    /// When a worker last learned that a read or a write of an id had failed.
    troubled: BTreeMap<(Task, String), Timestamp>,
    /// When Lambda ends each worker.
    deadlines: BTreeMap<Task, Timestamp>,
    /// Claims that take effect when their workers do not expect it any more: such a worker leaves its claim to expire.
    pub(crate) late_claims: BTreeSet<(Task, String)>,
    /// Workers that died.
    pub(crate) dead: BTreeSet<Task>,
}

/// A read or a write in flight.
#[derive(Debug)]
struct InFlight {
    task: Task,
    ids: Vec<String>,
    is_write: bool,
    /// The entries that its caller will learn to have failed.
    failed: Vec<String>,
}

impl Doubts {
    pub(super) fn begins(&mut self, task: Task, deadline: Timestamp) {
        self.deadlines.insert(task, deadline);
    }

    pub(crate) fn sent(&mut self, number: u64, task: Task, ids: Vec<String>, is_write: bool) {
        self.in_flight.insert(number, InFlight { task, ids, is_write, failed: vec![] });
    }

    /// Notes that the caller will learn that these entries failed, or all if `ids` is `None`.
    pub(crate) fn fails(&mut self, number: u64, ids: Option<Vec<String>>) {
        if let Some(call) = self.in_flight.get_mut(&number) {
            call.failed = ids.unwrap_or_else(|| call.ids.clone());
        }
    }

    pub(crate) fn answered(&mut self, number: u64, now: Timestamp) {
        let Some(call) = self.in_flight.remove(&number) else { return };
        for id in call.failed {
            self.troubled.insert((call.task, id), now);
        }
    }

    fn tried_to_the_end(&self, task: Task, id: &str) -> bool {
        let troubled = self.troubled.get(&(task, id.to_owned()));
        let deadline = self.deadlines.get(&task);
        troubled.zip(deadline).is_some_and(|(troubled, deadline)| *troubled + TO_THE_END >= *deadline)
    }
}

impl World {
    /// A call ends with an unknown outcome, and its caller knows that.
    pub(crate) fn call_is_unknown(&mut self, task: Task, id: &str) {
        self.doubts.ids.insert(id.to_owned());
        self.doubts.open.insert((task, id.to_owned()), true);
    }

    /// A call succeeds.
    pub(crate) fn call_succeeded(&mut self, task: Task, id: &str) {
        self.doubts.open.entry((task, id.to_owned())).or_insert(false);
    }

    /// The caller of a call stops waiting, or dies.
    pub(crate) fn call_is_given_up(&mut self, task: Task, id: &str, began: Timestamp) {
        self.call_is_unknown(task, id);
        if !self.doubts.dead.contains(&task) && began + CALL_TIMEOUT > self.now && self.scenario.clocks_agree() {
            self.violated(format!("a call of {id} was cut off before its time was over"));
        }
    }

    /// A worker notes that a call has an unknown outcome.
    pub(super) fn check_note(&mut self, id: &str) {
        let task = self.caller;
        // A write can take effect after its worker has ended.
        let is_unknown = self.doubts.open.get(&(task, id.to_owned())) == Some(&true);
        if self.running.contains_key(&task) && !is_unknown {
            self.violated(format!("a call of {id} is noted as unknown, and its answer came in time"));
        }
    }

    /// Whether a worker waits for a write.
    pub(crate) fn is_writing(&self, task: Task) -> bool {
        self.doubts.in_flight.values().any(|call| call.task == task && call.is_write)
    }

    /// A worker ends, or dies: whatever it leaves open is in doubt, and it may leave something open only if it died or could
    /// not write until its deadline.
    pub(crate) fn ended(&mut self, task: Task) {
        let has_died = self.doubts.dead.contains(&task);
        // A write in flight may still be made. A read in flight would have shown what became of one.
        let mut busy = BTreeSet::new();
        for call in self.doubts.in_flight.extract_if(.., |_, call| call.task == task).map(|(_, call)| call) {
            if call.is_write {
                self.doubts.ids.extend(call.ids.iter().cloned());
            }
            busy.extend(call.ids);
        }
        self.claims_left(task, has_died, &busy);
        self.calls_left(task, has_died, &busy);
        self.doubts.troubled.retain(|(of, _), _| *of != task);
        self.doubts.open.retain(|(of, _), _| *of != task);
        self.doubts.deadlines.remove(&task);
    }

    /// At most once: the claims that a worker leaves.
    fn claims_left(&mut self, task: Task, has_died: bool, busy: &BTreeSet<String>) {
        let is_exact = !self.scenario.has_changing_rules();
        let owner = format!("request-{task}:");
        let is_held = |claim: &notification::Claim| claim.owner.starts_with(&owner);
        let held = self
            .table
            .items()
            .iter()
            .filter(|(_, item)| item.status == Status::Claimed && item.claim.as_ref().is_some_and(is_held));
        for id in held.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            let is_late = self.doubts.late_claims.contains(&(task, id.clone()));
            if is_exact && !has_died && !is_late && !busy.contains(&id) && !self.doubts.tried_to_the_end(task, &id) {
                self.violated(format!("{id} was left CLAIMED by a worker that could have written its outcome"));
            }
            self.doubts.ids.insert(id);
        }
    }

    /// Idempotent: the calls whose outcomes a worker has not written.
    fn calls_left(&mut self, task: Task, has_died: bool, busy: &BTreeSet<String>) {
        let is_exact = !self.scenario.has_changing_rules();
        let of_task = (task, String::new())..(task + 1, String::new());
        let open: Vec<String> = self.doubts.open.range(of_task).map(|((_, id), _)| id.clone()).collect();
        for id in open {
            // Another worker's call may have been rejected meanwhile.
            let is_open = |item: &notification::testing::Item| match item.status {
                Status::Init => !item.unknown_call,
                Status::Failed => true,
                _ => false,
            };
            let Some(status) = self.item(&id).filter(|item| is_open(item)).map(|item| item.status) else { continue };
            let could_write = !has_died && !busy.contains(&id) && !self.doubts.tried_to_the_end(task, &id);
            if !could_write {
                self.doubts.not_noted.insert(id);
            } else if is_exact && status == Status::Init {
                self.violated(format!(
                    "{id} is INIT without a note of its call, and its worker could have written one"
                ));
            }
        }
    }
}
