//! The DynamoDB table, its index of pending notifications, its stream, and the tables that transactions write beside it.

use super::captured::Captured;
use crate::mutants::{self, Mutant};
use jiff::Timestamp;
use notification::id::index_shard;
use notification::ports::{
    Claim, IndexKey, Insertion, PendingKey, PendingPage, Refused, Stored, SweepState, UnresolvedCount,
};
use notification::{Effect, Failure, Notification, NotificationId, Outcome, Status, content, status};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

/// One item.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Its status.
    pub(crate) status: Status,
    /// Its event.
    pub(crate) event: Box<str>,
    /// Why it is FAILED or IN_DOUBT.
    pub(crate) reason: Option<String>,
    /// Who has it, while it is CLAIMED.
    pub(crate) claim: Option<Claim>,
    /// Since when it is pending.
    pub(crate) pending_since: Option<Timestamp>,
    /// Since when it has its status.
    pub(crate) since: Option<Timestamp>,
    /// Whether a call ended with an unknown outcome.
    pub(crate) unknown_call: bool,
    /// When it expires.
    pub(crate) expires_at: Option<Timestamp>,
    /// How often it became DONE.
    pub(crate) done: usize,
}

/// One conditional change, like [`notification::ports::Change`], but it owns its parts.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// The id.
    pub(crate) id: NotificationId,
    /// What must be there.
    pub(crate) from: From,
    /// What becomes of it.
    pub(crate) to: To,
}

/// What must be there for a change to be made.
#[derive(Debug, Clone)]
pub(crate) enum From {
    /// This status.
    Status(Status),
    /// INIT, with this event, and no call with an unknown outcome.
    Untouched(Box<str>),
    /// INIT, with this event.
    Event(Box<str>),
    /// CLAIMED, by this claim.
    Claim(Claim),
}

/// What becomes of an item.
#[derive(Debug, Clone)]
pub(crate) enum To {
    /// INIT.
    Init,
    /// INIT, with the note that the outcome of a call is unknown.
    UnknownCall,
    /// CLAIMED.
    Claimed(Claim),
    /// DONE.
    Done(Option<Outcome>),
    /// FAILED.
    Failed(String),
    /// IN_DOUBT.
    InDoubt(String),
}

impl To {
    /// The status that it has then.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Init | Self::UnknownCall => Status::Init,
            Self::Claimed(_) => Status::Claimed,
            Self::Done(_) => Status::Done,
            Self::Failed(_) => Status::Failed,
            Self::InDoubt(_) => Status::InDoubt,
        }
    }
}

/// One notification's part of a transaction, like [`notification::ports::Commit`], but it owns its parts.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// The id.
    pub(crate) id: NotificationId,
    /// The event that the effect was made from.
    pub(crate) event: Box<str>,
    /// The effect.
    pub(crate) effect: Effect,
}

/// The tables.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// The items by id.
    pub(crate) items: BTreeMap<String, Item>,
    /// Items that expired.
    pub(crate) expired: BTreeMap<String, Item>,
    /// What transactions wrote into other tables: by table and key.
    pub(crate) others: BTreeMap<String, Vec<(&'static str, String)>>,
    /// What changed and is not in the stream yet.
    pub(crate) captured: Vec<Captured>,
    /// Writes that broke a rule of the table itself.
    pub(crate) wrong_writes: Vec<String>,
    index: BTreeSet<(u64, Timestamp, String)>,
    indexed: BTreeMap<String, Timestamp>,
    sweep_state: SweepState,
    sweep_lease: Option<Timestamp>,
    /// How long DONE items are kept.
    pub(crate) done_retention: Duration,
    /// Whether a failed condition answers without the old item.
    pub(crate) hides_old_items: bool,
    /// A bug to be put back.
    pub(crate) mutant: Option<Mutant>,
}

impl Item {
    fn stored(&self) -> Stored {
        Stored {
            status: Some(self.status),
            event: self.event.clone(),
            claim: self.claim.clone(),
            since: self.since,
            unknown_call: self.unknown_call,
            // Operators change nothing in a run.
            put_back_at: None,
        }
    }
}

impl Table {
    /// An empty table.
    pub(crate) fn new(done_retention: Duration, hides_old_items: bool, mutant: Option<Mutant>) -> Self {
        Self { done_retention, hides_old_items, mutant, ..Self::default() }
    }

    fn capture(&mut self, id: &str, event_name: &'static str, old: Option<Status>) {
        let new = self.items.get(id).map(|item| (item.status, item.event.clone()));
        self.captured.push(Captured { id: id.to_owned(), event_name, new, old });
    }

    fn old(&self, item: &Item) -> Option<Stored> {
        (!self.hides_old_items).then(|| item.stored())
    }

    /// Reads an item, consistently.
    pub(crate) fn read(&self, id: &str) -> Option<Stored> {
        self.items.get(id).map(Item::stored)
    }

    /// Puts a notification with status INIT, if its id is new. The old item comes with a failed condition.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.ConditionExpressions.html>
    pub(crate) fn insert(&mut self, notification: &Notification, now: Timestamp) -> Insertion {
        let id = notification.id().as_str();
        if let Some(item) = self.items.get(id).filter(|_| !mutants::overwrites(self.mutant)) {
            return Insertion::Exists(self.old(item));
        }
        if let Some(item) = self.items.get(id).filter(|item| !content::same(&item.event, notification.event())) {
            self.wrong_writes
                .push(format!("{id}: a conflict overwrote the content of a notification that is {}", item.status));
        }
        let done = self.items.get(id).or_else(|| self.expired.get(id)).map_or(0, |item| item.done);
        let item = Item {
            status: Status::Init,
            event: notification.event().into(),
            reason: None,
            claim: None,
            pending_since: Some(now),
            since: Some(now),
            unknown_call: false,
            expires_at: None,
            done,
        };
        let old = self.items.insert(id.to_owned(), item);
        self.capture(id, if old.is_some() { "MODIFY" } else { "INSERT" }, old.map(|old| old.status));
        Insertion::Inserted
    }

    /// Makes one change, if the item is as it is expected. `Ok` where it was made, else what is there.
    ///
    /// # Errors
    /// The old item, where answers have it.
    pub(crate) fn change(&mut self, change: &Change, now: Timestamp) -> Result<(), Option<Stored>> {
        let id = change.id.as_str();
        let to = change.to.status();
        let Some(item) = self.items.get(id) else { return Err(None) };
        let from = item.status;
        let expected = match &change.from {
            From::Status(status) => from == *status,
            From::Event(event) => from == Status::Init && item.event == *event,
            From::Untouched(event) => from == Status::Init && item.event == *event && !item.unknown_call,
            From::Claim(claim) => from == Status::Claimed && item.claim.as_ref() == Some(claim),
        };
        let takes_over = item.claim.as_ref().is_some_and(|claim| claim.lease_until <= now);
        let sabotaged = mutants::ignores_condition(self.mutant, from, to, takes_over);
        if !expected && !sabotaged {
            return Err(self.old(item));
        }
        if !sabotaged && !status::is_allowed(Some(from), to) {
            self.wrong_writes.push(format!("{id}: {from} → {to} is no allowed change"));
        }
        let kept_since = item.pending_since;
        let Some(item) = self.items.get_mut(id) else { return Err(None) };
        item.status = to;
        item.claim = None;
        item.pending_since = None;
        item.since = Some(now);
        match &change.to {
            To::Init if matches!(change.from, From::Claim(_)) => item.pending_since = kept_since,
            To::Init => {
                item.pending_since = Some(now);
                item.unknown_call = false;
            }
            To::UnknownCall => {
                item.pending_since = kept_since;
                item.unknown_call = true;
            }
            To::Claimed(claim) => {
                item.claim = Some(claim.clone());
                item.pending_since = kept_since;
            }
            To::Done(_) => {
                item.done += 1;
                item.expires_at = now.checked_add(self.done_retention).ok();
            }
            To::Failed(reason) | To::InDoubt(reason) => item.reason = Some(reason.clone()),
        }
        self.capture(id, "MODIFY", Some(from));
        Ok(())
    }

    /// Writes effects and DONE in one transaction: all of it, or nothing. The refusals say which notifications prevent it.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
    ///
    /// # Errors
    /// A place for each notification, with why it is refused, if it is.
    pub(crate) fn commit(&mut self, group: &[Part], now: Timestamp) -> Result<(), Vec<Option<Refused>>> {
        let actions: usize = group.iter().map(|part| 1 + part.effect.writes.len()).sum();
        if actions > notification::limits::TRANSACT_WRITE_ITEMS_MAX {
            self.wrong_writes.push(format!("a transaction has {actions} actions"));
        }
        let key = |write: &notification::Put| {
            let value = write.attributes.iter().find(|(name, _)| *name == write.key).map_or("", |(_, value)| value);
            format!("{}/{value}", write.table)
        };
        let refusal = |part: &Part| {
            let item = self.items.get(part.id.as_str());
            let is_expected = item.is_some_and(|item| item.status == Status::Init && item.event == part.event);
            if !is_expected && !mutants::ignores_condition(self.mutant, Status::Init, Status::Done, false) {
                return Some(Refused::NotAsExpected(item.and_then(|item| self.old(item))));
            }
            let exists = part.effect.writes.iter().any(|write| self.others.contains_key(&key(write)));
            exists.then(|| Refused::Failed(Failure::permanent("an item of the effect exists already")))
        };
        let refusals: Vec<_> = group.iter().map(refusal).collect();
        if refusals.iter().any(Option::is_some) {
            return Err(refusals);
        }
        for Part { id, effect, .. } in group {
            for write in &effect.writes {
                self.others.insert(key(write), write.attributes.clone());
            }
            let from = From::Status(Status::Init);
            let done = Change { id: id.clone(), from, to: To::Done(effect.outcome.clone()) };
            drop(self.change(&done, now));
        }
        Ok(())
    }

    /// Keeps a record that belongs to no notification, unless it is kept already.
    pub(crate) fn keep(&mut self, id: &str, reason: &str, failed_at: Timestamp) {
        if self.items.contains_key(id) {
            return;
        }
        let item = Item {
            status: Status::Failed,
            event: "".into(),
            reason: Some(reason.to_owned()),
            claim: None,
            pending_since: None,
            since: Some(failed_at),
            unknown_call: false,
            expires_at: None,
            done: 0,
        };
        self.items.insert(id.to_owned(), item);
        self.capture(id, "INSERT", None);
    }

    /// Removes expired items; the removals come down the stream.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/time-to-live-ttl-streams.html>
    pub(crate) fn expire(&mut self, now: Timestamp) -> usize {
        let is_expired = |item: &Item| item.expires_at.is_some_and(|at| at <= now);
        let ids: Vec<String> =
            self.items.iter().filter(|(_, item)| is_expired(item)).map(|(id, _)| id.clone()).collect();
        for id in &ids {
            if let Some(item) = self.items.remove(id) {
                let old = Some(item.status);
                self.expired.insert(id.clone(), item);
                self.capture(id, "REMOVE", old);
            }
        }
        ids.len()
    }

    /// When the next item expires.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        self.items.values().filter_map(|item| item.expires_at).min()
    }

    /// Brings an item's entry in the index up to date. The index follows the table with a delay.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.html>
    pub(crate) fn update_index(&mut self, id: &str) {
        let Ok(parsed) = NotificationId::parse(id) else { return };
        let shard = parsed.pending_shard();
        if let Some(since) = self.indexed.remove(id) {
            self.index.remove(&(shard, since, id.to_owned()));
        }
        if let Some(since) = self.items.get(id).and_then(|item| item.pending_since) {
            self.index.insert((shard, since, id.to_owned()));
            self.indexed.insert(id.to_owned(), since);
        }
    }

    /// One page of a partition of the index.
    pub(crate) fn pending(&self, shard: u64, until: Timestamp, after: Option<&IndexKey>, limit: usize) -> PendingPage {
        let start = match after.and_then(|key| Some((key.since.parse().ok()?, key.id.to_string()))) {
            Some((since, id)) => Bound::Excluded((shard, since, id)),
            None => Bound::Included((shard, Timestamp::MIN, String::new())),
        };
        let mut keys: Vec<PendingKey> = self
            .index
            .range((start, Bound::Unbounded))
            .take_while(|(of, since, _)| *of == shard && *since <= until)
            .filter_map(|(_, since, id)| Some(PendingKey { id: NotificationId::parse(id).ok()?, since: *since }))
            .take(limit + 1)
            .collect();
        let more = keys.len() > limit;
        keys.truncate(limit);
        let last = keys.last().filter(|_| more);
        let next = last.map(|key| IndexKey { since: key.since.to_string().into(), id: key.id.as_str().into() });
        PendingPage { keys, unreadable: vec![], next, read_units: 0.5 }
    }

    /// Counts what is FAILED or IN_DOUBT since a time.
    pub(crate) fn count_unresolved(
        &self,
        status: Status,
        shard: u64,
        since: Timestamp,
        limit: usize,
    ) -> UnresolvedCount {
        let is_counted = |(id, item): &(&String, &Item)| {
            item.status == status && index_shard(id) == shard && item.since.is_some_and(|at| at >= since)
        };
        let count = self.items.iter().filter(is_counted).count();
        UnresolvedCount { count: count.min(limit), more: count > limit, read_units: 0.5 }
    }

    /// Gives the sweep's lease to a run, unless another one has it, and says how far the sweep is.
    pub(crate) fn begin_sweep(&mut self, now: Timestamp, lease_until: Timestamp) -> Option<SweepState> {
        let is_taken = self.sweep_lease.is_some_and(|until| until > now);
        if is_taken && !mutants::ignores_lease(self.mutant) {
            return None;
        }
        self.sweep_lease = Some(lease_until);
        Some(self.sweep_state.clone())
    }

    /// Saves how far the sweep is and takes the lease back; `false` where another run has it.
    pub(crate) fn end_sweep(&mut self, state: &SweepState, lease_until: Timestamp) -> bool {
        if self.sweep_lease.is_some_and(|until| until != lease_until) {
            return false;
        }
        self.sweep_lease = None;
        self.sweep_state = state.clone();
        true
    }

    /// An item.
    pub(crate) fn item(&self, id: &str) -> Option<&Item> {
        self.items.get(id)
    }

    /// An item, or what it was before it expired.
    pub(crate) fn ever(&self, id: &str) -> Option<&Item> {
        self.items.get(id).or_else(|| self.expired.get(id))
    }

    /// Takes what changed since the last time.
    pub(crate) fn take_captured(&mut self) -> Vec<Captured> {
        std::mem::take(&mut self.captured)
    }

    /// Takes the writes that broke a rule of the table since the last time.
    pub(crate) fn take_wrong_writes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.wrong_writes)
    }

    /// Whether something is pending.
    pub(crate) fn has_pending(&self) -> bool {
        self.items.values().any(|item| item.status.is_pending())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;
    use notification::Put;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn notification(id: &str, amount: u32) -> Notification {
        Notification::parse(scenario::event(id, amount, false)).unwrap()
    }

    fn change(id: &str, from: Status, to: To) -> Change {
        Change { id: NotificationId::parse(id).unwrap(), from: From::Status(from), to }
    }

    #[test]
    fn a_put_takes_place_only_where_the_id_is_new_and_answers_with_the_old_item() {
        let mut table = Table::default();
        assert_eq!(table.insert(&notification("a", 1), at(0)), Insertion::Inserted);
        let Insertion::Exists(Some(old)) = table.insert(&notification("a", 2), at(1)) else { panic!("it exists") };
        assert_eq!(&*old.event, notification("a", 1).event());
        assert_eq!(table.captured.len(), 1, "nothing was written");
    }

    #[test]
    fn a_change_takes_place_only_where_the_item_is_as_expected() {
        let mut table = Table::default();
        table.insert(&notification("a", 1), at(0));
        assert!(table.change(&change("a", Status::Init, To::Done(None)), at(1)).is_ok());
        let old = table.change(&change("a", Status::Init, To::Done(None)), at(2)).unwrap_err().unwrap();
        assert_eq!(old.status, Some(Status::Done));
        assert_eq!(table.items["a"].done, 1);
        assert!(table.change(&change("b", Status::Init, To::Done(None)), at(2)).unwrap_err().is_none());
    }

    #[test]
    fn a_claim_is_changed_by_its_owner_alone() {
        let mut table = Table::default();
        table.insert(&notification("a", 1), at(0));
        let claim = |owner: &str| Claim { owner: owner.into(), lease_until: at(60) };
        table.change(&change("a", Status::Init, To::Claimed(claim("x"))), at(1)).unwrap();
        let done = |owner| Change { from: From::Claim(claim(owner)), ..change("a", Status::Init, To::Done(None)) };
        assert!(table.change(&done("y"), at(2)).is_err());
        assert!(table.change(&done("x"), at(2)).is_ok());
    }

    #[test]
    fn a_transaction_writes_all_or_nothing_and_says_who_prevents_it() {
        let mut table = Table::default();
        for id in ["a", "b"] {
            table.insert(&notification(id, 1), at(0));
        }
        let part = |id: &str| {
            let write = Put { table: "ledger".into(), key: "id", attributes: vec![("id", id.to_owned())] };
            let event = notification(id, 1).event().into();
            Part {
                id: NotificationId::parse(id).unwrap(),
                event,
                effect: Effect { outcome: None, writes: vec![write] },
            }
        };
        table.commit(&[part("a")], at(1)).unwrap();
        let refusals = table.commit(&[part("a"), part("b")], at(2)).unwrap_err();
        assert!(matches!(refusals[..], [Some(Refused::NotAsExpected(Some(_))), None]));
        assert_eq!((table.others.len(), table.items["b"].status), (1, Status::Init));
        table.commit(&[part("b")], at(3)).unwrap();
        assert_eq!((table.others.len(), table.items["b"].status), (2, Status::Done));
    }

    #[test]
    fn every_change_is_captured_with_its_images() {
        let mut table = Table::default();
        table.insert(&notification("a", 1), at(0));
        table.change(&change("a", Status::Init, To::Done(None)), at(1)).unwrap();
        let events: Vec<serde_json::Value> = table
            .captured
            .iter()
            .map(|captured| serde_json::from_str(captured.record("7", at(1)).get()).unwrap())
            .collect();
        assert_eq!(events[0]["eventName"], "INSERT");
        assert_eq!(events[0]["dynamodb"]["NewImage"]["event"]["S"], notification("a", 1).event());
        assert_eq!(events[1]["eventName"], "MODIFY");
        assert_eq!(events[1]["dynamodb"]["OldImage"]["status"]["S"], "INIT");
        assert_eq!(events[1]["dynamodb"]["SequenceNumber"], "7");
    }

    #[test]
    fn a_done_item_expires_and_its_removal_is_captured() {
        let mut table = Table { done_retention: Duration::from_hours(1), ..Table::default() };
        table.insert(&notification("a", 1), at(0));
        table.change(&change("a", Status::Init, To::Done(None)), at(10)).unwrap();
        assert_eq!(table.expire(at(3609)), 0);
        assert_eq!(table.next_expiry(), Some(at(3610)));
        assert_eq!(table.expire(at(3610)), 1);
        assert_eq!(table.captured.last().unwrap().event_name, "REMOVE");
    }

    #[test]
    fn the_index_holds_what_is_pending_oldest_first_once_it_has_followed_the_table() {
        let mut table = Table::default();
        let ids: Vec<String> = (0..200).map(|number| format!("n{number}")).collect();
        let shard = |id: &String| NotificationId::parse(id).unwrap().pending_shard();
        for (second, id) in ids.iter().enumerate() {
            table.insert(&notification(id, 1), at(200 - i64::try_from(second).unwrap()));
        }
        assert!(table.pending(5, at(500), None, 100).keys.is_empty(), "it lags behind");
        for id in &ids {
            table.update_index(id);
        }
        let page = table.pending(5, at(500), None, 2);
        assert!(page.next.is_some() && page.keys.iter().all(|key| key.id.pending_shard() == 5));
        assert!(page.keys.is_sorted_by_key(|key| key.since));
        let next = table.pending(5, at(500), page.next.as_ref(), 100);
        assert_eq!(2 + next.keys.len(), ids.iter().filter(|id| shard(id) == 5).count());
        table.change(&change(page.keys[0].id.as_str(), Status::Init, To::Done(None)), at(300)).unwrap();
        table.update_index(page.keys[0].id.as_str());
        assert_ne!(table.pending(5, at(500), None, 1).keys, page.keys[..1]);
    }
}
