//! The DynamoDB table of a run: the model of [`notification::testing`] with what takes time on AWS around it. Its stream
//! captures each change, its index follows with a lag, and DONE items expire. The put-back bugs of the table are made here.

use super::captured::Captured;
use crate::mutants::{self, Mutant};
use jiff::Timestamp;
use notification::change::{After, Commit};
use notification::ports::{Answers, Committed, SweepState, Written};
use notification::testing::{self, Item};
use notification::{Change, Failure, Put, Status, content};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

/// The table. What it does not say itself, the model says.
#[derive(Debug, Default)]
pub(crate) struct Table {
    model: testing::Table,
    /// Items that expired.
    expired: BTreeMap<String, Item>,
    /// How often each notification became DONE.
    done: BTreeMap<String, usize>,
    captured: Vec<Captured>,
    /// Writes that broke a rule of the table itself.
    wrong_writes: Vec<String>,
    done_retention: Duration,
    mutant: Option<Mutant>,
}

impl Deref for Table {
    type Target = testing::Table;

    fn deref(&self) -> &testing::Table {
        &self.model
    }
}

impl Table {
    pub(crate) fn new(done_retention: Duration, hides_old_items: bool, mutant: Option<Mutant>) -> Self {
        let mut table = Self { done_retention, mutant, ..Self::default() };
        table.model.hide_old_items(hides_old_items);
        table
    }

    /// An item.
    pub(crate) fn item(&self, id: &str) -> Option<&Item> {
        self.items().get(id)
    }

    /// An item, or what it was before it expired.
    pub(crate) fn ever(&self, id: &str) -> Option<&Item> {
        self.item(id).or_else(|| self.expired.get(id))
    }

    /// Every item, with those that expired. An id that was used again after its item expired has its last item only.
    pub(crate) fn every_item(&self) -> BTreeMap<&str, &Item> {
        self.expired.iter().chain(self.items()).map(|(id, item)| (id.as_str(), item)).collect()
    }

    /// How often a notification became DONE.
    pub(crate) fn times_done(&self, id: &str) -> usize {
        self.done.get(id).copied().unwrap_or(0)
    }

    /// Whether something is pending.
    pub(crate) fn has_pending(&self) -> bool {
        self.items().values().any(|item| item.status.is_pending())
    }

    /// Makes a change if the item is as it expects.
    pub(crate) fn write(&mut self, change: &Change<'_>, at: Timestamp) -> Written {
        let id = change.id().as_str();
        let old = self.item(id).map(|item| item.status);
        let is_forced = self.item(id).is_some_and(|item| mutants::ignores_condition(self.mutant, item, change, at));
        let written = if is_forced { self.force(change, at) } else { self.model.write(change, at) };
        if written == Written::Yes {
            self.written(change, old);
        }
        written
    }

    /// Makes a change whatever the item is.
    fn force(&mut self, change: &Change<'_>, at: Timestamp) -> Written {
        let id = change.id().as_str();
        if let After::Inserted(notification) = change.to() {
            let old = self.model.remove(id);
            if let Some(old) = old.filter(|old| !content::same(&old.event, notification.event())) {
                let wrong = format!("{id}: a conflict overwrote the content of a notification that is {}", old.status);
                self.wrong_writes.push(wrong);
            }
        }
        self.model.apply(change.id(), change.to(), at)
    }

    fn written(&mut self, change: &Change<'_>, old: Option<Status>) {
        let id = change.id().as_str();
        if change.to().status() == Status::Done {
            *self.done.entry(id.to_owned()).or_default() += 1;
        }
        self.capture(id, old);
    }

    fn capture(&mut self, id: &str, old: Option<Status>) {
        let new = self.item(id).map(|item| (item.status, item.event.as_str().into()));
        let event_name = match (old, &new) {
            (None, _) => "INSERT",
            (Some(_), Some(_)) => "MODIFY",
            (Some(_), None) => "REMOVE",
        };
        self.captured.push(Captured { id: id.to_owned(), event_name, new, old });
    }

    /// Makes changes and puts their items in one transaction.
    pub(crate) fn commit(&mut self, group: &[Commit<'_>], at: Timestamp) -> Answers<Committed> {
        let committed = self.model.commit(group, at);
        match &committed {
            Ok(answers) => {
                for (commit, answer) in group.iter().zip(answers) {
                    if *answer == Ok(Committed::Written(Written::Yes)) {
                        self.written(&commit.change, commit.change.from().status());
                    }
                }
            }
            Err(failure) => self.wrong_writes.push(failure.reason.clone()),
        }
        committed
    }

    /// Puts the items of a transaction without its change. `true` if one replaced another.
    pub(crate) fn put_apart(&mut self, puts: &[Put]) -> bool {
        let replaced: Vec<bool> = puts.iter().map(|put| self.model.put(put)).collect();
        replaced.contains(&true)
    }

    /// Puts an orphan, unless it is there already.
    pub(crate) fn quarantine(&mut self, id: &str, reason: &str, failed_at: Timestamp) {
        if self.model.quarantine(id, &[], reason, failed_at) {
            self.capture(id, None);
        }
    }

    /// Takes what changed since the last time.
    pub(crate) fn take_captured(&mut self) -> Vec<Captured> {
        std::mem::take(&mut self.captured)
    }

    /// Takes the writes that broke a rule of the table since the last time.
    pub(crate) fn take_wrong_writes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.wrong_writes)
    }

    /// Brings an item's entry in the index up to date. The index follows the table with a lag.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.html>
    pub(crate) fn update_index(&mut self, id: &str) {
        self.model.update_index(id);
    }

    pub(crate) fn begin_sweep(&mut self, now: Timestamp, lease_until: Timestamp) -> Option<SweepState> {
        let now = if mutants::ignores_lease(self.mutant) { Timestamp::MAX } else { now };
        self.model.begin_sweep(now, lease_until)
    }

    pub(crate) fn end_sweep(&mut self, state: &SweepState, lease_until: Timestamp) -> Result<(), Failure> {
        self.model.end_sweep(state, lease_until)
    }

    fn expiry(&self, item: &Item) -> Option<Timestamp> {
        item.since.filter(|_| item.status == Status::Done)?.checked_add(self.done_retention).ok()
    }

    /// When the next item expires.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        self.items().values().filter_map(|item| self.expiry(item)).min()
    }

    /// Removes expired items. The stream captures the removals.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/time-to-live-ttl-streams.html>
    pub(crate) fn expire(&mut self, now: Timestamp) {
        let is_expired = |item: &Item| self.expiry(item).is_some_and(|at| at <= now);
        let expired = self.items().iter().filter(|(_, item)| is_expired(item));
        let ids: Vec<String> = expired.map(|(id, _)| id.clone()).collect();
        for id in ids {
            if let Some(item) = self.model.remove(&id) {
                self.capture(&id, Some(item.status));
                self.expired.insert(id, item);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;
    use notification::Notification;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn notification(id: &str) -> Notification {
        Notification::parse(scenario::event(id, 1, false)).unwrap()
    }

    /// A table in which a notification became DONE after 10 seconds.
    fn with_done(notification: &Notification) -> Table {
        let mut table = Table::new(Duration::from_hours(1), false, None);
        table.write(&Change::insert(notification), at(0));
        table.write(&Change::done(notification.id(), notification.event(), None), at(10));
        table
    }

    #[test]
    fn every_change_is_captured_with_its_images() {
        let notification = notification("a");
        let mut table = with_done(&notification);
        let records = table.take_captured().into_iter().map(|captured| captured.record("7", at(1)));
        let events: Vec<serde_json::Value> =
            records.map(|record| serde_json::from_str(record.get()).unwrap()).collect();
        assert_eq!(events[0]["eventName"], "INSERT");
        assert_eq!(events[0]["dynamodb"]["NewImage"]["event"]["S"], notification.event());
        assert_eq!(events[1]["eventName"], "MODIFY");
        assert_eq!(events[1]["dynamodb"]["OldImage"]["status"]["S"], "INIT");
        assert_eq!(events[1]["dynamodb"]["SequenceNumber"], "7");
    }

    #[test]
    fn a_refused_change_is_not_captured() {
        let notification = notification("a");
        let mut table = with_done(&notification);
        table.take_captured();
        assert!(matches!(table.write(&Change::insert(&notification), at(20)), Written::Refused(_)));
        assert_eq!((table.take_captured(), table.times_done("a")), (vec![], 1));
    }

    #[test]
    fn a_done_item_expires_and_its_removal_is_captured() {
        let mut table = with_done(&notification("a"));
        table.expire(at(3609));
        assert!(table.item("a").is_some());
        assert_eq!(table.next_expiry(), Some(at(3610)));
        table.expire(at(3610));
        assert!(table.item("a").is_none() && table.ever("a").is_some());
        assert_eq!(table.take_captured().last().unwrap().event_name, "REMOVE");
    }

    #[test]
    fn the_index_follows_the_table_when_it_is_told_to() {
        let notification = notification("a");
        let shard = notification.id().pending_shard();
        let mut table = Table::default();
        table.write(&Change::insert(&notification), at(0));
        assert!(table.pending(shard, at(500), None, 100).keys.is_empty(), "it lags behind");
        table.update_index("a");
        assert_eq!(table.pending(shard, at(500), None, 100).keys[0].id, *notification.id());
        table.write(&Change::done(notification.id(), notification.event(), None), at(10));
        assert_eq!(table.pending(shard, at(500), None, 100).keys.len(), 1, "it lags behind");
        table.update_index("a");
        assert!(table.pending(shard, at(500), None, 100).keys.is_empty());
    }
}
