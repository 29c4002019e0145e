//! The rules. They know the documents, and nothing of the code under test: not its table of transitions either.

use crate::scenario::Receiver;
use crate::world::{CLOCKS_DIFFER_BY, Ended, Role, World};
use notification::testing::Item;
use notification::{Guarantee, Status};

/// Whether a status is still to be changed by the pipeline.
fn is_pending(status: Status) -> bool {
    matches!(status, Status::Init | Status::Claimed)
}

/// The changes of status that `docs/SEMANTICS.md` allows.
fn is_allowed(guarantee: Guarantee, role: Role, from: Status, to: Status) -> bool {
    use Status::{Claimed, Done, Failed, InDoubt, Init};
    if role == Role::Operator {
        return matches!((from, to), (Failed | InDoubt, Init) | (InDoubt, Done) | (Claimed, InDoubt));
    }
    match (from, to) {
        // A claim that has expired, and a call that was noted, count whatever the guarantee is by now. A note of a failure
        // changes nothing else.
        (Init | Claimed, InDoubt) | (Init, Init) => true,
        (Init, Done | Failed) => !matches!(guarantee, Guarantee::AtMostOnce { .. }),
        (Init, Claimed) | (Claimed, Init | Done | Failed) => matches!(guarantee, Guarantee::AtMostOnce { .. }),
        _ => false,
    }
}

impl World {
    /// Notes a broken rule. Only the first one counts.
    fn violated(&mut self, what: String) {
        if self.violation.is_none() {
            self.trace(|_| format!("BROKEN: {what}"));
            self.violation = Some(what);
        }
    }

    /// The effect happens.
    pub(crate) fn count_effect(&mut self, by: usize) {
        self.effects += 1;
        self.first_effect_by.get_or_insert(by);
        let name = &self.actors[by].name;
        if self.actors[by].role == Role::OrphanWorker {
            self.violated(format!("{name} made the effect happen for an event that the table does not have"));
        } else if self.effects > 1 && !matches!(self.scenario.guarantee, Guarantee::Idempotent { .. }) {
            self.violated("the effect happened twice".to_owned());
        }
    }

    /// The item was changed from `old`.
    pub(crate) fn check_change(&mut self, old: &Item) {
        let actor = &self.actors[self.in_turn];
        let (from, to) = (old.status, self.item().status);
        let holds_claim = old.claim.as_ref().is_none_or(|claim| {
            let is_own = claim.owner.split(':').next() == Some(&actor.name);
            is_own || (to == Status::InDoubt && claim.lease_until <= self.now + CLOCKS_DIFFER_BY)
        });
        let role = actor.role;
        if role == Role::OrphanWorker {
            self.violated(format!("{from} → {to}, by a record with another event"));
        } else if !is_allowed(self.scenario.guarantee, role, from, to) {
            self.violated(format!("{from} → {to}"));
        } else if !holds_claim {
            self.violated(format!("{from} → {to}, although another worker has claimed it"));
        }
        self.check_meaning(old, to);
        if !is_pending(to) {
            self.actors.iter_mut().for_each(|actor| actor.saw_settled = true);
        } else if matches!(from, Status::Failed | Status::InDoubt) {
            // It is published again.
            self.deliveries += 1;
        }
        self.is_decided |= role == Role::Operator && to != Status::InDoubt;
    }

    /// A status means what the documents say.
    fn check_meaning(&mut self, old: &Item, to: Status) {
        let is_at_most_once = matches!(self.scenario.guarantee, Guarantee::AtMostOnce { .. });
        let is_new_doubt = self.item().unknown_call && !old.unknown_call;
        let broken = match to {
            Status::Init if is_at_most_once && is_new_doubt => "INIT, after a call with an unknown outcome",
            Status::Done if self.effects == 0 => "DONE without the effect",
            Status::Failed if self.scenario.receiver == Receiver::Accepts => "FAILED, and nobody rejected it",
            Status::Failed if old.unknown_call => "FAILED in spite of a call with an unknown outcome",
            Status::Failed if self.effects > 0 && !self.is_admitted() => "FAILED, and the effect has happened",
            Status::InDoubt if !self.has_doubt => "IN_DOUBT, and no outcome was unknown",
            _ => return,
        };
        self.violated(broken.to_owned());
    }

    /// FAILED although the effect has happened is admitted for a receiver that rejects repeats in two cases: the worker whose
    /// call was accepted died or could not write that, or it is still at work, beside the one that was rejected.
    fn is_admitted(&self) -> bool {
        let Some(first) = self.first_effect_by.map(|first| &self.actors[first]) else { return false };
        let left_no_note = first.ended == Some(Ended::Died) || first.could_not_write;
        let receiver = self.scenario.receiver;
        receiver == Receiver::RejectsRepeats && (left_no_note || self.actors[self.in_turn].was_rejected_beside)
    }

    /// A worker or the operator has ended.
    pub(crate) fn check_end(&mut self, actor: usize, ended: Ended) {
        let (actor, status) = (&self.actors[actor], self.item().status);
        let is_orphan = actor.role == Role::OrphanWorker;
        let is_kept = if is_orphan { self.table.items().len() > 1 } else { actor.saw_settled };
        let broken = match ended {
            Ended::Acknowledged if !is_kept && is_orphan => "lost a record with another event".to_owned(),
            Ended::Acknowledged if !is_kept => format!("acknowledged a notification that is {status}"),
            Ended::ToldChanged if !self.is_decided => {
                "was told that the notification was changed, and it was not".to_owned()
            }
            Ended::ToldUnchanged if self.is_decided => "was told that nothing was changed, and it was".to_owned(),
            _ => return,
        };
        self.violated(format!("{} {broken}", actor.name));
    }

    /// Lambda ends a worker.
    pub(crate) fn check_timeout(&mut self, actor: usize) {
        self.violated(format!("{} ran into its timeout", self.actors[actor].name));
    }

    /// Nothing is left to happen, and a last worker has run without faults.
    pub(crate) fn check_settled(&mut self) {
        let status = self.item().status;
        let is_transactional = self.scenario.guarantee == Guarantee::Transactional;
        if is_pending(status) {
            self.violated(format!("it is {status} for ever"));
        } else if is_transactional && status == Status::Failed && self.effects > 0 {
            self.violated("FAILED, and the effect has happened".to_owned());
        }
    }
}
