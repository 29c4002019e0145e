//! What operators see: log lines and counters, and what they must say.

use super::state::World;
use crate::aws::lambda::Task;
use crate::emitted::{Emitted, Line};
use crate::scenario::PAYLOAD;
use notification::Status;
use notification::id::QUARANTINE_PREFIX;
use std::collections::{BTreeMap, BTreeSet};
use tracing::Level;

/// The log lines that each counter counts, by their beginnings.
const COUNTED: [(&str, &[&str]); 3] = [
    ("Failed", &["failed permanently;", "the record belongs to no notification;"]),
    ("InDoubt", &["IN_DOUBT:"]),
    ("LateEffect", &[LATE_EFFECT]),
];

const LATE_EFFECT: &str = "a call happened, or may have,";

/// The log lines with which a worker says that it does not know whether its write was made.
const UNTOLD: [&str; 2] = ["not settled;", "its new status could not be written;"];

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// Ids that a line at WARN or ERROR names.
    named: BTreeSet<String>,
    /// Ids that were counted as FAILED or IN_DOUBT, with a line that names them.
    counted: BTreeSet<String>,
    /// Ids of which a worker said that it could not write their status.
    untold: BTreeSet<(Task, String)>,
    /// Ids that are named as having had an effect after their status changed.
    pub(crate) late_effects: BTreeSet<String>,
    /// Who made each notification FAILED or IN_DOUBT.
    settled_by: BTreeMap<String, Task>,
}

impl World {
    /// A function has emitted this.
    pub(crate) fn observe(&mut self, task: Task, emitted: Emitted) {
        for (counter, beginnings) in COUNTED {
            let is_counted = |line: &&Line| beginnings.iter().any(|beginning| line.message.starts_with(beginning));
            let lines = emitted.lines.iter().filter(is_counted).count() as u64;
            let counted: u64 = emitted.counters.iter().filter(|(name, _)| name == counter).map(|(_, by)| by).sum();
            if lines != counted {
                self.violated(format!("{counted} were counted as {counter}, and {lines} named"));
            }
        }
        for line in emitted.lines {
            self.observe_line(task, line);
        }
    }

    fn observe_line(&mut self, task: Task, line: Line) {
        if line.message.contains(PAYLOAD) || line.fields.contains(PAYLOAD) {
            self.violated(format!("a payload is in a log line: {}{}", line.message, line.fields));
        }
        let Some(id) = line.id.filter(|_| line.level <= Level::WARN) else { return };
        let begins = |beginnings: &[&str]| beginnings.iter().any(|beginning| line.message.starts_with(beginning));
        if begins(&["failed permanently;", "IN_DOUBT:"]) {
            self.observed.counted.insert(id.clone());
        }
        if begins(&[LATE_EFFECT]) {
            self.note("an effect that comes too late is named");
            self.observed.late_effects.insert(id.clone());
        }
        if begins(&["settled before;"]) {
            self.note("a notification that is FAILED or IN_DOUBT is named again");
        }
        if begins(&UNTOLD) {
            self.observed.untold.insert((task, id.clone()));
        }
        self.observed.named.insert(id);
    }

    /// Remembers who made a notification FAILED or IN_DOUBT.
    pub(super) fn settles(&mut self, id: &str, status: Status) {
        // Orphans have no notification.
        let settled = matches!(status, Status::Failed | Status::InDoubt) && !id.starts_with(QUARANTINE_PREFIX);
        if settled && self.running.contains_key(&self.caller) {
            self.observed.settled_by.insert(id.to_owned(), self.caller);
        } else {
            self.observed.settled_by.remove(id);
        }
    }

    /// What is wrong with what operators saw of the notifications that are FAILED or IN_DOUBT.
    pub(crate) fn unseen(&self) -> Vec<String> {
        let mut violations = Vec::new();
        for (id, task) in &self.observed.settled_by {
            let Some(status) = self.item(id).map(|item| item.status) else { continue };
            // The metrics of the table's state show it. If its record is redelivered, it is named then.
            if self.doubts.dead.contains(task) {
                continue;
            }
            if !self.observed.named.contains(id) {
                violations.push(format!("{id} is {status}, and no log line names it"));
            }
            if !self.observed.counted.contains(id) && !self.observed.untold.contains(&(*task, id.clone())) {
                violations.push(format!("{id} is {status}, and no metric counted it"));
            }
        }
        violations
    }
}
