//! What the functions' calls do: to the model of the table, to Kinesis and to the queue.

use super::state::World;
use crate::aws::source::Function;
use crate::judge;
use crate::mutants::{self, Reader};
use jiff::Timestamp;
use notification::ports::{Answers, Committed, IndexKey, PendingPage, SweepState, Written};
use notification::testing::{Backend, Entries, Item, OwnedChange, OwnedCommit, Refused, Table, each};
use notification::{Status, Stored};
use std::collections::BTreeMap;
use std::time::Duration;

impl Backend for World {
    fn table(&mut self) -> &mut Table {
        &mut self.table
    }

    fn read(&mut self, ids: &[String], refused: Refused<'_>) -> Entries<Option<Stored>> {
        let seen = |stored| mutants::seen(self.mutant, self.claim_seen(stored), self.now);
        let stored = each(ids, refused, |id| Ok(self.table.read(id).map(seen)));
        let stored = mutants::read_answers(self.mutant, stored);
        self.capture();
        stored
    }

    fn write(&mut self, changes: &[OwnedChange], at: Timestamp, refused: Refused<'_>) -> Entries<Written> {
        let written = each(changes, refused, |change| Ok(self.change(change, at)));
        self.capture();
        written
    }

    fn commit(&mut self, group: &[OwnedCommit], at: Timestamp) -> Answers<Committed> {
        let group = mutants::commits(self.mutant, group);
        self.check_size_of_commit(&group);
        let committed = self.table.commit(&group, at).inspect_err(|failure| self.violated(failure.reason.clone()))?;
        for (OwnedCommit { change, puts }, committed) in group.iter().zip(&committed) {
            let events = puts.iter().flat_map(|put| &put.attributes).filter(|(name, _)| *name == "event");
            for (_, event) in events.filter(|_| *committed == Ok(Committed::Written(Written::Yes))) {
                self.check_content(&change.id, event);
            }
        }
        if committed.iter().any(|committed| *committed != Ok(Committed::Written(Written::Yes))) {
            self.note("a transaction is refused");
        }
        self.capture();
        Ok(committed)
    }

    fn quarantine(&mut self, id: &str, raw: &[u8], reason: &str, at: Timestamp) {
        self.note("an orphan is quarantined");
        self.table.quarantine(id, raw, reason, at);
        self.capture();
    }

    fn pending(&mut self, shard: u64, until: Timestamp, after: Option<&IndexKey>, limit: usize) -> PendingPage {
        let page = self.table.pending(shard, until, after, limit);
        if after.is_some() && !page.keys.is_empty() {
            self.note("a second page of the index is read");
        }
        if !page.invalid.is_empty() {
            self.note("an entry of the index is no notification");
        }
        mutants::page(self.mutant, page)
    }

    fn begin_sweep(&mut self, now: Timestamp, lease_until: Timestamp) -> Option<SweepState> {
        let now = if mutants::ignores_lease(self.mutant) { Timestamp::MAX } else { now };
        let state = self.table.begin_sweep(now, lease_until);
        match &state {
            None => self.note("a sweep leaves the work to another one"),
            Some(state) if state.shards.values().any(|shard| shard.unfinished.is_some()) => {
                self.note("a sweep continues where the last one stopped");
            }
            Some(_) => {}
        }
        state.map(|state| mutants::sweep_state(self.mutant, state))
    }

    fn put(&mut self, records: &[(String, String)], refused: Refused<'_>) -> Entries<()> {
        self.check_size_of_put(records);
        let answers = each(records, refused, |(id, event)| {
            self.publish(id, event);
            Ok(())
        });
        self.capture();
        mutants::put_answers(self.mutant, answers, self.applies_later_chunk)
    }

    fn hide(&mut self, messages: &[(String, Duration)], refused: Refused<'_>) -> Entries<()> {
        let hidden = each(messages, refused, |(handle, wait)| self.hide_message(handle, *wait));
        self.capture();
        hidden
    }
}

impl World {
    /// An item.
    pub(super) fn item(&self, id: &str) -> Option<&Item> {
        self.table.items().get(id)
    }

    /// An item, or what it was before it expired.
    pub(super) fn ever(&self, id: &str) -> Option<&Item> {
        self.item(id).or_else(|| self.expired.get(id))
    }

    /// Every item, with those that expired. An id that was used again after its item expired has its last item only.
    pub(crate) fn every_item(&self) -> BTreeMap<&str, &Item> {
        self.expired.iter().chain(self.table.items()).map(|(id, item)| (id.as_str(), item)).collect()
    }

    /// How the claim on an item is read by the task whose call takes effect now.
    fn claim_seen(&self, stored: Stored) -> Stored {
        let is_operator = self.commands_running.contains_key(&self.caller);
        let reader = match self.running.get(&self.caller) {
            Some(running) if running.from.function() == Function::Downstream => Reader::Downstream(running.guarantee),
            None if is_operator => Reader::Operator,
            _ => Reader::Other,
        };
        mutants::claim_seen(self.mutant, stored, reader)
    }

    /// Makes a change if the item is as it expects.
    fn change(&mut self, change: &OwnedChange, at: Timestamp) -> Written {
        if mutants::forgets(self.mutant, change) {
            return Written::Yes;
        }
        let old = self.item(&change.id).cloned();
        let change = mutants::change(self.mutant, old.as_ref(), change.clone());
        if let Some(item) = &old {
            self.note_change(&change, item);
        }
        let forced = old.filter(|item| mutants::ignores_condition(self.mutant, item, &change, at));
        let written = match forced {
            None => match self.table.write(&change, at) {
                Written::Refused(old) => Written::Refused(self.claim_seen(old)),
                written => written,
            },
            Some(old) => {
                if change.event.as_ref().is_some_and(|event| !judge::same(&old.event, event)) {
                    let (id, status) = (&change.id, old.status);
                    self.violated(format!("{id}: a conflict overwrote the content of a notification that is {status}"));
                }
                self.table.apply(&change, at)
            }
        };
        if let (Written::Yes, Status::InDoubt, Some(claim)) = (&written, change.to, &change.if_claim) {
            self.check_lease(&change.id, claim);
        }
        if written == Written::Yes {
            self.changed(&change);
        } else if self.commands_running.contains_key(&self.caller) {
            self.note("an operator's change is refused");
        }
        let Some(event) = &change.event else { return written };
        let inserted = mutants::inserted(self.mutant, written, event);
        match &inserted {
            Written::Refused(old) if judge::same(&old.event, event) => self.note("a duplicate is suppressed"),
            Written::Refused(_) => self.note("a conflict is refused"),
            Written::RefusedUnseen => self.note("an answer lacks the old item"),
            Written::Yes => {}
        }
        inserted
    }

    fn note_change(&mut self, change: &OwnedChange, item: &Item) {
        let is_expired = item.claim.as_ref().is_some_and(|claim| claim.lease_until <= self.now);
        let what = match (change.from, change.to) {
            (Some(Status::Claimed), Status::InDoubt) if is_expired => "an expired claim becomes IN_DOUBT",
            (Some(Status::Claimed), Status::InDoubt) => "a call with an unknown outcome becomes IN_DOUBT",
            (Some(Status::Claimed), Status::Init) => "a claim is released",
            (Some(Status::Claimed), Status::Done) if item.claim != change.if_claim => "a late worker is fenced",
            (Some(Status::Init), Status::Claimed) if item.status == Status::Claimed && !is_expired => {
                "a claimed notification reaches another worker"
            }
            (Some(Status::Init), Status::Init) if change.unknown_call => {
                self.check_note(&change.id);
                "a call with an unknown outcome is noted"
            }
            (Some(Status::Init), Status::Init) => "why an action failed is noted",
            _ => return,
        };
        self.note(what);
    }

    fn publish(&mut self, id: &str, event: &str) {
        if self.kinesis.shards.count(id) > 0 {
            self.note("Kinesis has a notification twice");
        }
        let key = mutants::partition_key(self.mutant, id, self.now);
        let event = mutants::published(self.mutant, event);
        self.put_record(&key, event.as_bytes());
    }
}
