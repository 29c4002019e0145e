//! A change as the model of the table makes it.

use super::item::Item;
use crate::action::Put;
use crate::change::{After, Before, Change, Claim, Commit, LastFailure, Run};
use crate::reason::{Reason, ReasonCode};
use crate::status::Status;
use jiff::Timestamp;

/// A [`Change`] that owns its parts, so it can take effect after its caller is gone.
#[derive(Debug, Clone)]
pub struct OwnedChange {
    /// The notification's id.
    pub id: String,
    /// The expected status; `None` if there must be no item.
    pub from: Option<Status>,
    /// The expected event; `None` if it does not matter.
    pub if_event: Option<String>,
    /// Since when it must have had its status; `None` if it does not matter.
    pub if_since: Option<Timestamp>,
    /// Whether no call of its action may have an unknown outcome.
    pub if_untouched: bool,
    /// The expected run of its action.
    pub if_run: Run,
    /// The expected claim; `None` if it does not matter.
    pub if_claim: Option<Claim>,
    /// The status that the item has then.
    pub to: Status,
    /// The event of a new item.
    pub event: Option<String>,
    /// The new claim.
    pub claim: Option<Claim>,
    /// What the action returned.
    pub outcome: Option<String>,
    /// Why the item is FAILED or IN_DOUBT then, or why its action failed.
    pub reason: Option<(ReasonCode, String)>,
    /// How many failures have been noted then, if this change notes one.
    pub failures: Option<u32>,
    /// Whether it notes that a call of the action ended with an unknown outcome.
    pub unknown_call: bool,
    /// When operators put the item back before, if this change puts it back.
    pub earlier_put_backs: Vec<Timestamp>,
}

/// A [`Commit`] that owns its parts.
#[derive(Debug, Clone)]
pub struct OwnedCommit {
    /// Its change of status.
    pub change: OwnedChange,
    /// The items that are put in the same transaction.
    pub puts: Vec<Put>,
}

impl From<&Change<'_>> for OwnedChange {
    fn from(change: &Change<'_>) -> Self {
        let (from, to) = (change.from(), change.to());
        let mut owned = Self {
            id: change.id().to_string(),
            from: from.status(),
            if_event: from.event().map(str::to_owned),
            if_since: None,
            if_untouched: false,
            if_run: Run::Any,
            if_claim: None,
            to: to.status(),
            event: None,
            claim: None,
            outcome: None,
            reason: None,
            failures: None,
            unknown_call: false,
            earlier_put_backs: vec![],
        };
        match from {
            Before::Claim(claim) => owned.if_claim = Some(claim.clone()),
            Before::Since(_, since) => owned.if_since = Some(since),
            Before::Untouched(_, run) => (owned.if_untouched, owned.if_run) = (true, run),
            Before::Run(_, run) => owned.if_run = run,
            Before::Absent | Before::Status(_) | Before::Event(_) => {}
        }
        match to {
            After::Inserted(notification) => owned.event = Some(notification.event().to_owned()),
            After::Claimed(claim) => owned.claim = Some(claim.clone()),
            After::Done(outcome) => owned.outcome = outcome.map(|outcome| outcome.as_str().to_owned()),
            After::Failed(reason) | After::InDoubt(reason) => owned.reason = Some(owned_reason(reason)),
            After::Released(note) | After::UnknownCall(note) | After::Noted(note) => {
                (owned.reason, owned.failures) = (Some(owned_reason(note.reason)), Some(note.failures));
                owned.unknown_call = matches!(to, After::UnknownCall(_));
            }
            After::PutBack(earlier) => owned.earlier_put_backs = earlier.to_vec(),
        }
        owned
    }
}

fn owned_reason(Reason { code, text }: Reason<'_>) -> (ReasonCode, String) {
    (code, text.to_owned())
}

impl From<&Commit<'_>> for OwnedCommit {
    fn from(commit: &Commit<'_>) -> Self {
        Self { change: (&commit.change).into(), puts: commit.puts.to_vec() }
    }
}

impl OwnedChange {
    /// Whether this item, or its absence, is as expected.
    pub(super) fn holds(&self, item: Option<&Item>) -> bool {
        let Some(item) = item else { return self.from.is_none() };
        self.from == Some(item.status)
            && self.if_event.as_ref().is_none_or(|event| *event == item.event)
            && self.if_since.is_none_or(|since| is_same(item.since, since))
            && !(self.if_untouched && item.unknown_call)
            && match self.if_run {
                Run::Any => true,
                Run::First => item.put_back_at.is_none(),
                Run::PutBackAt(at) => is_same(item.put_back_at, at),
            }
            && (self.if_claim.is_none() || self.if_claim == item.claim)
    }

    /// The item as the change leaves it. The two statuses say which transition it is.
    pub(super) fn applied_to(&self, old: Option<Item>, at: Timestamp) -> Item {
        let mut item = match (&self.event, old) {
            (None, Some(old)) => old,
            (event, _) => Item { writes: 0, ..Item::new(self.to, event.as_deref().unwrap_or_default()) },
        };
        (item.status, item.since, item.claim) = (self.to, Some(at), self.claim.clone());
        item.writes += 1;
        match (self.from, self.to) {
            (None, _) => item.pending_since = Some(at),
            (Some(Status::Failed | Status::InDoubt), Status::Init) => {
                (item.unknown_call, item.put_back_at, item.pending_since) = (false, Some(at), Some(at));
                (item.reason_code, item.last_failure) = (None, None);
                item.earlier_put_backs.clone_from(&self.earlier_put_backs);
            }
            (_, Status::Init) => item.unknown_call |= self.unknown_call,
            (_, Status::Done) => item.outcome.clone_from(&self.outcome),
            _ => {}
        }
        if let Some((code, text)) = &self.reason {
            (item.reason_code, item.reason) = (Some(*code), Some(text.clone()));
        }
        if let Some(failures) = self.failures {
            item.last_failure = Some(LastFailure { at, failures });
        }
        item.pending_since = item.pending_since.filter(|_| item.status.is_pending());
        item
    }
}

/// Whether an item has this time. The table has times to the millisecond.
fn is_same(time: Option<Timestamp>, expected: Timestamp) -> bool {
    time.is_some_and(|time| time.as_millisecond() == expected.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Notification;
    use crate::testing::{NOTE, REJECTED};

    fn claim(owner: &str) -> Claim {
        Claim { owner: owner.into(), lease_until: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn a_condition_holds_only_for_its_status_event_run_and_claim() {
        let notification = Notification::parse(r#"{"specversion":"1.0","id":"a","source":"s","type":"t"}"#).unwrap();
        let id = notification.id();
        let (mine, theirs) = (claim("mine"), claim("theirs"));
        let init = Item::new(Status::Init, "e");
        let unknown = Item { unknown_call: true, ..init.clone() };
        let claimed = Item { status: Status::Claimed, claim: Some(mine.clone()), ..init.clone() };
        let holds = |change: Change<'_>| {
            let change = OwnedChange::from(&change);
            [None, Some(&init), Some(&unknown), Some(&claimed)].map(|item| change.holds(item))
        };
        assert_eq!(holds(Change::insert(&notification)), [true, false, false, false]);
        assert_eq!(holds(Change::doubt_unreadable_claim(id, REJECTED)), [false, false, false, true]);
        assert_eq!(holds(Change::done(id, "e", None)), [false, true, true, false]);
        assert_eq!(holds(Change::done(id, "other", None)), [false; 4]);
        assert_eq!(holds(Change::fail(id, "e", Run::Any, REJECTED)), [false, true, false, false]);
        assert_eq!(holds(Change::fail(id, "e", Run::First, REJECTED)), [false, true, false, false]);
        assert_eq!(holds(Change::fail(id, "e", Run::PutBackAt(Timestamp::UNIX_EPOCH), REJECTED)), [false; 4]);
        assert_eq!(holds(Change::release(id, &mine, NOTE)), [false, false, false, true]);
        assert_eq!(holds(Change::release(id, &theirs, NOTE)), [false; 4]);
    }

    #[test]
    fn an_operators_change_holds_only_for_the_time_that_the_operator_saw() {
        let notification = Notification::parse(r#"{"specversion":"1.0","id":"a","source":"s","type":"t"}"#).unwrap();
        let id = notification.id();
        let [first, second] = [1_000, 2_000].map(|millis| Timestamp::from_millisecond(millis).unwrap());
        let in_doubt = |since| Item { since: Some(since), ..Item::new(Status::InDoubt, "e") };
        for change in [Change::resolve_retry(id, first, &[]), Change::resolve_done(id, first)] {
            let change = OwnedChange::from(&change);
            assert!(change.holds(Some(&in_doubt(first))));
            assert!(!change.holds(Some(&in_doubt(second))), "it became IN_DOUBT again");
        }
        let failed = Item { since: Some(first), ..Item::new(Status::Failed, "e") };
        assert!(OwnedChange::from(&Change::redrive(id, first, &[])).holds(Some(&failed)));
        assert!(!OwnedChange::from(&Change::redrive(id, second, &[])).holds(Some(&failed)));
    }

    #[test]
    fn a_rejection_of_one_run_does_not_hold_in_the_next() {
        let id = &crate::id::NotificationId::parse("a").unwrap();
        let put_back_at = Timestamp::from_millisecond(1_000).unwrap();
        let again = Item { put_back_at: Some(put_back_at), ..Item::new(Status::Init, "e") };
        let holds = |run| OwnedChange::from(&Change::fail(id, "e", run, REJECTED)).holds(Some(&again));
        assert!(holds(Run::Any) && holds(Run::PutBackAt(put_back_at)));
        assert!(!holds(Run::First) && !holds(Run::PutBackAt(Timestamp::UNIX_EPOCH)));
    }
}
