//! The model of the table: one set of conditions, transactions and indexes for the functions' tests and the simulation.

use super::change::{OwnedChange, OwnedCommit};
use super::index::Index;
use super::item::Item;
use crate::action::Put;
use crate::change::Stored;
use crate::failure::Failure;
use crate::id::{NotificationId, index_shard};
use crate::limits;
use crate::ports::{Answers, Committed, IndexKey, PendingPage, SweepState, UnresolvedCount, Written};
use crate::reason::ReasonCode;
use crate::status::Status;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// The table with its indexes, and the tables that transactions write beside it.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.ConditionExpressions.html>
#[derive(Debug, Default)]
pub struct Table {
    items: BTreeMap<String, Item>,
    others: BTreeMap<String, Vec<(&'static str, String)>>,
    index: Index,
    sweep_state: SweepState,
    sweep_lease: Option<Timestamp>,
    hides_old_items: bool,
    captured: Vec<Captured>,
}

/// A change of an item, as the table's stream captures it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The item's key.
    pub id: String,
    /// The status before; `None` for a new item.
    pub old: Option<Status>,
    /// The status and the event after; `None` for a removal.
    pub new: Option<(Status, Box<str>)>,
}

/// The table and key of an item that a transaction puts.
fn key_of(put: &Put) -> String {
    let key = put.attributes.iter().find(|(name, _)| *name == put.key).map_or("", |(_, value)| value);
    format!("{}/{key}", put.table)
}

impl Table {
    /// Decides whether the answers of refused conditions lack the old item, as those of some engines do.
    pub fn hide_old_items(&mut self, hidden: bool) {
        self.hides_old_items = hidden;
    }

    /// Every item by id.
    #[must_use]
    pub fn items(&self) -> &BTreeMap<String, Item> {
        &self.items
    }

    /// What transactions put into other tables, by table and key.
    #[must_use]
    pub fn others(&self) -> &BTreeMap<String, Vec<(&'static str, String)>> {
        &self.others
    }

    /// Reads an item, consistently.
    #[must_use]
    pub fn read(&self, id: &str) -> Option<Stored> {
        self.items.get(id).map(Item::stored)
    }

    /// Makes a change if the item is as it expects.
    pub fn write(&mut self, change: &OwnedChange, at: Timestamp) -> Written {
        match self.refusal(change) {
            Some(refusal) => refusal,
            None => self.apply(change, at),
        }
    }

    /// Why a change is not made, if the item is not as it expects.
    fn refusal(&self, change: &OwnedChange) -> Option<Written> {
        let item = self.items.get(&change.id);
        if change.holds(item) {
            return None;
        }
        let seen = item.filter(|_| !self.hides_old_items);
        Some(seen.map_or(Written::RefusedUnseen, |item| Written::Refused(item.stored())))
    }

    /// Makes a change, whatever the item is.
    pub fn apply(&mut self, change: &OwnedChange, at: Timestamp) -> Written {
        let old = self.items.remove(&change.id);
        let status = old.as_ref().map(|item| item.status);
        self.items.insert(change.id.clone(), change.applied_to(old, at));
        self.capture(&change.id, status);
        Written::Yes
    }

    fn capture(&mut self, id: &str, old: Option<Status>) {
        let new = self.items.get(id).map(|item| (item.status, item.event.as_str().into()));
        self.captured.push(Captured { id: id.to_owned(), old, new });
    }

    /// Takes what the stream has captured since the last time.
    pub fn take_captured(&mut self) -> Vec<Captured> {
        std::mem::take(&mut self.captured)
    }

    /// Makes changes and puts their items in one transaction: all of it, or nothing.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
    ///
    /// # Errors
    /// The transaction has too many actions.
    pub fn commit(&mut self, group: &[OwnedCommit], at: Timestamp) -> Answers<Committed> {
        let actions: usize = group.iter().map(|commit| 1 + commit.puts.len()).sum();
        if actions > limits::TRANSACT_WRITE_ITEMS_MAX {
            return Err(Failure::permanent(format!("a transaction has {actions} actions")));
        }
        let refusals: Vec<_> = group.iter().map(|commit| self.refusal_to_commit(commit)).collect();
        if refusals.iter().any(Option::is_some) {
            return Ok(refusals.into_iter().map(|refusal| refusal.unwrap_or(Ok(Committed::HeldUp))).collect());
        }
        Ok(group.iter().map(|commit| Ok(Committed::Written(self.commit_one(commit, at)))).collect())
    }

    fn refusal_to_commit(&self, commit: &OwnedCommit) -> Option<Result<Committed, Failure>> {
        if let Some(refusal) = self.refusal(&commit.change) {
            return Some(Ok(Committed::Written(refusal)));
        }
        let exists = commit.puts.iter().any(|put| self.others.contains_key(&key_of(put)));
        exists.then(|| Err(Failure::permanent("an item of the effect exists already")))
    }

    fn commit_one(&mut self, commit: &OwnedCommit, at: Timestamp) -> Written {
        for put in &commit.puts {
            self.put(put);
        }
        self.apply(&commit.change, at)
    }

    /// Puts an item into another table, whatever it has. `true` if it replaced one.
    pub fn put(&mut self, put: &Put) -> bool {
        self.others.insert(key_of(put), put.attributes.clone()).is_some()
    }

    /// Puts an orphan, unless it is there already.
    pub fn quarantine(&mut self, id: &str, raw: &[u8], reason: &str, at: Timestamp) {
        if !self.items.contains_key(id) {
            let (reason, raw) = (Some(reason.to_owned()), raw.to_vec());
            let item = Item {
                reason,
                reason_code: Some(ReasonCode::Orphan),
                raw,
                since: Some(at),
                ..Item::new(Status::Failed, "")
            };
            self.items.insert(id.to_owned(), item);
            self.capture(id, None);
        }
    }

    /// Puts an item, whatever the table has. Neither its stream nor its index knows of it.
    pub fn insert(&mut self, id: &str, item: Item) {
        self.items.insert(id.to_owned(), item);
    }

    /// Removes an item, if it is there. Neither its stream nor its index knows of it.
    pub fn remove(&mut self, id: &str) -> Option<Item> {
        self.items.remove(id)
    }

    /// Changes an item and its entry in the index.
    pub(super) fn change_item(&mut self, id: &str, change: impl FnOnce(&mut Item)) {
        if let Some(item) = self.items.get_mut(id) {
            change(item);
        }
        self.update_index(id);
    }

    /// Adds an entry to the index of pending notifications that is not a notification's.
    pub fn add_invalid(&mut self, shard: u64, key: IndexKey) {
        self.index.add_invalid(shard, key);
    }

    /// When the next item expires, if DONE items are kept for this long.
    #[must_use]
    pub fn next_expiry(&self, kept_for: Duration) -> Option<Timestamp> {
        self.items.values().filter_map(|item| item.expiry(kept_for)).min()
    }

    /// Removes the items that have expired, and returns them.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/time-to-live-ttl-streams.html>
    pub fn expire(&mut self, kept_for: Duration, now: Timestamp) -> BTreeMap<String, Item> {
        let is_expired = |_: &String, item: &mut Item| item.expiry(kept_for).is_some_and(|at| at <= now);
        let expired: BTreeMap<_, _> = self.items.extract_if(.., is_expired).collect();
        for id in expired.keys() {
            self.capture(id, Some(Status::Done));
        }
        expired
    }

    /// Brings the entry of an item in the index of pending notifications up to date.
    pub fn update_index(&mut self, id: &str) {
        if let Ok(parsed) = NotificationId::parse(id) {
            self.index.set(&parsed, self.items.get(id).and_then(|item| item.pending_since));
        }
    }

    /// One page of a partition of the index of pending notifications.
    #[must_use]
    pub fn pending(&self, shard: u64, until: Timestamp, after: Option<&IndexKey>, limit: usize) -> PendingPage {
        self.index.page(shard, until, after, limit)
    }

    /// Counts the items of a partition that have been FAILED or IN_DOUBT since a time.
    #[must_use]
    pub fn count_unresolved(&self, status: Status, shard: u64, since: Timestamp, limit: usize) -> UnresolvedCount {
        let is_counted = |(id, item): &(&String, &Item)| {
            item.status == status && index_shard(id) == shard && item.since.is_none_or(|at| at >= since)
        };
        let count = self.items.iter().filter(is_counted).count();
        UnresolvedCount { count: count.min(limit), more: count > limit, read_units: 0.5 }
    }

    /// How far the sweep is.
    #[must_use]
    pub fn sweep_state(&self) -> &SweepState {
        &self.sweep_state
    }

    /// Gives the sweep's lease to a run, and says how far the sweep is. `None` if another run has the lease.
    pub fn begin_sweep(&mut self, now: Timestamp, lease_until: Timestamp) -> Option<SweepState> {
        if self.sweep_lease.is_some_and(|until| until > now) {
            return None;
        }
        self.sweep_lease = Some(lease_until);
        Some(self.sweep_state.clone())
    }

    /// Saves how far the sweep is, and releases the lease.
    ///
    /// # Errors
    /// Another run has the lease.
    pub fn end_sweep(&mut self, state: &SweepState, lease_until: Timestamp) -> Result<(), Failure> {
        if self.sweep_lease.is_some_and(|until| until != lease_until) {
            return Err(Failure::permanent("another sweep has the lease"));
        }
        self.sweep_lease = None;
        self.sweep_state = state.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Change, Claim, Commit};
    use crate::event::Notification;
    use crate::testing::NOTE;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn notification(id: &str, kind: &str) -> Notification {
        Notification::parse(format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"{kind}"}}"#)).unwrap()
    }

    fn write(table: &mut Table, change: Change<'_>, at: Timestamp) -> Written {
        table.write(&OwnedChange::from(&change), at)
    }

    fn commit(table: &mut Table, group: &[Commit<'_>], at: Timestamp) -> Answers<Committed> {
        table.commit(&group.iter().map(OwnedCommit::from).collect::<Vec<_>>(), at)
    }

    fn with(notifications: &[Notification]) -> Table {
        let mut table = Table::default();
        for notification in notifications {
            write(&mut table, Change::insert(notification), at(0));
        }
        table
    }

    fn refused(written: Written) -> Stored {
        match written {
            Written::Refused(old) => old,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_put_takes_place_only_where_the_id_is_new_and_answers_with_the_old_item() {
        let (first, second) = (notification("a", "t"), notification("a", "u"));
        let mut table = with(std::slice::from_ref(&first));
        let old = refused(write(&mut table, Change::insert(&second), at(1)));
        assert_eq!(&*old.event, first.event());
        assert_eq!(table.items()["a"].writes, 1, "nothing was written");
        table.hide_old_items(true);
        assert_eq!(write(&mut table, Change::insert(&second), at(1)), Written::RefusedUnseen);
    }

    #[test]
    fn a_change_takes_place_only_where_the_item_is_as_expected() {
        let (a, b) = (notification("a", "t"), notification("b", "t"));
        let mut table = with(std::slice::from_ref(&a));
        let done = Change::done(a.id(), a.event(), None);
        assert_eq!(write(&mut table, done, at(1)), Written::Yes);
        assert_eq!(refused(write(&mut table, done, at(2))).status, Some(Status::Done));
        assert_eq!(write(&mut table, Change::done(b.id(), b.event(), None), at(2)), Written::RefusedUnseen);
    }

    #[test]
    fn a_claim_is_changed_by_its_owner_alone() {
        let a = notification("a", "t");
        let mut table = with(std::slice::from_ref(&a));
        let [x, y] = ["x", "y"].map(|owner| Claim { owner: owner.into(), lease_until: at(60) });
        assert_eq!(write(&mut table, Change::claim(a.id(), a.event(), &x), at(1)), Written::Yes);
        refused(write(&mut table, Change::done_claimed(a.id(), &y, None), at(2)));
        assert_eq!(write(&mut table, Change::done_claimed(a.id(), &x, None), at(2)), Written::Yes);
    }

    #[test]
    fn a_released_claim_leaves_a_notification_pending_since_it_was_accepted() {
        let a = notification("a", "t");
        let mut table = with(std::slice::from_ref(&a));
        let claim = Claim { owner: "x".into(), lease_until: at(60) };
        write(&mut table, Change::claim(a.id(), a.event(), &claim), at(1));
        write(&mut table, Change::release(a.id(), &claim, NOTE), at(2));
        assert_eq!(table.items()["a"].pending_since, Some(at(0)));
    }

    #[test]
    fn a_transaction_writes_all_or_nothing_and_says_what_prevents_it() {
        let (a, b) = (notification("a", "t"), notification("b", "t"));
        let mut table = with(&[a.clone(), b.clone()]);
        let put = |id: &str| [Put { table: "ledger".into(), key: "id", attributes: vec![("id", id.to_owned())] }];
        let (puts_a, puts_b) = (put("a"), put("b"));
        let commit_a = Commit { change: Change::done(a.id(), a.event(), None), puts: &puts_a };
        let commit_b = Commit { change: Change::done(b.id(), b.event(), None), puts: &puts_b };
        let yes = || Ok(Committed::Written(Written::Yes));
        assert_eq!(commit(&mut table, &[commit_a], at(1)), Ok(vec![yes()]));
        let refusals = commit(&mut table, &[commit_a, commit_b], at(2)).unwrap();
        assert!(matches!(refusals[..], [Ok(Committed::Written(Written::Refused(_))), Ok(Committed::HeldUp)]));
        assert_eq!((table.others().len(), table.items()["b"].status), (1, Status::Init));
        let replaces = Commit { puts: &puts_a, ..commit_b };
        assert!(commit(&mut table, &[replaces], at(3)).unwrap()[0].is_err(), "the item of the effect exists");
        assert_eq!(commit(&mut table, &[commit_b], at(3)), Ok(vec![yes()]));
        assert_eq!((table.others().len(), table.items()["b"].status), (2, Status::Done));
    }

    #[test]
    fn the_index_holds_what_is_pending_oldest_first() {
        let notifications: Vec<Notification> =
            (0..200).map(|number| notification(&format!("n{number}"), "t")).collect();
        let mut table = Table::default();
        for (second, notification) in notifications.iter().enumerate() {
            write(&mut table, Change::insert(notification), at(200 - i64::try_from(second).unwrap()));
            table.update_index(notification.id().as_str());
        }
        let page = table.pending(5, at(500), None, 2);
        assert!(page.next.is_some() && page.keys.iter().all(|key| key.id.pending_shard() == 5));
        assert!(page.keys.is_sorted_by_key(|key| key.since));
        let next = table.pending(5, at(500), page.next.as_ref(), 100);
        let in_shard = notifications.iter().filter(|notification| notification.id().pending_shard() == 5).count();
        assert_eq!((2 + next.keys.len(), next.next), (in_shard, None));
    }

    #[test]
    fn only_one_run_of_the_sweep_has_the_lease_until_it_expires_or_is_released() {
        let mut table = Table::default();
        assert!(table.begin_sweep(at(0), at(60)).is_some());
        assert_eq!(table.begin_sweep(at(59), at(119)), None);
        assert!(table.begin_sweep(at(60), at(120)).is_some());
        assert!(table.end_sweep(&SweepState::default(), at(60)).is_err(), "another run has it");
        assert!(table.end_sweep(&SweepState::default(), at(120)).is_ok());
        assert!(table.begin_sweep(at(61), at(121)).is_some());
    }

    /// A table in which a notification became DONE after 10 seconds.
    fn with_done(notification: &Notification) -> Table {
        let mut table = with(std::slice::from_ref(notification));
        write(&mut table, Change::done(notification.id(), notification.event(), None), at(10));
        table
    }

    #[test]
    fn every_change_is_captured_and_a_refused_one_is_not() {
        let notification = notification("a", "t");
        let mut table = with_done(&notification);
        let event: Box<str> = notification.event().into();
        let captured = |old, new| Captured { id: "a".to_owned(), old, new: Some((new, event.clone())) };
        assert_eq!(table.take_captured(), [captured(None, Status::Init), captured(Some(Status::Init), Status::Done)]);
        assert!(matches!(write(&mut table, Change::insert(&notification), at(20)), Written::Refused(_)));
        assert_eq!(table.take_captured(), []);
    }

    #[test]
    fn a_done_item_expires_and_its_removal_is_captured() {
        let (mut table, kept_for) = (with_done(&notification("a", "t")), Duration::from_hours(1));
        assert!(table.expire(kept_for, at(3609)).is_empty());
        assert_eq!(table.next_expiry(kept_for), Some(at(3610)));
        assert_eq!(table.expire(kept_for, at(3610))["a"].status, Status::Done);
        assert!(table.items().is_empty());
        let removal = Captured { id: "a".to_owned(), old: Some(Status::Done), new: None };
        assert_eq!(table.take_captured().pop(), Some(removal));
    }

    #[test]
    fn the_index_follows_the_table_when_it_is_told_to() {
        let notification = notification("a", "t");
        let shard = notification.id().pending_shard();
        let mut table = with(std::slice::from_ref(&notification));
        assert!(table.pending(shard, at(500), None, 100).keys.is_empty(), "it lags behind");
        table.update_index("a");
        assert_eq!(table.pending(shard, at(500), None, 100).keys[0].id, *notification.id());
        write(&mut table, Change::done(notification.id(), notification.event(), None), at(10));
        assert_eq!(table.pending(shard, at(500), None, 100).keys.len(), 1, "it lags behind");
        table.update_index("a");
        assert!(table.pending(shard, at(500), None, 100).keys.is_empty());
    }
}
