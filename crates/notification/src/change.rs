//! Conditional changes of a notification's status. Only the constructors of [`Change`] make one, and they make exactly the
//! transitions of [`crate::status::TRANSITIONS`], so nothing else can be written.
//!
//! [`Change::insert`] and the changes to DONE make the pipeline an *idempotent consumer*: the table is its inbox, and a
//! message or record that is delivered again meets the condition of the first write.

use crate::action::{Outcome, Put};
use crate::event::Notification;
use crate::id::NotificationId;
use crate::limits;
use crate::reason::{Note, Reason};
use crate::status::Status;
use jiff::Timestamp;
use std::time::Duration;

/// What the table holds of a notification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its status; `None` if the item has none, or an unknown one.
    pub status: Option<Status>,
    /// Its event; empty if the item has none.
    pub event: Box<str>,
    /// The claim on it, while it is CLAIMED.
    pub claim: Option<Claim>,
    /// Since when it has been INIT, DONE, FAILED or IN_DOUBT, to the millisecond; `None` if the item does not say.
    pub since: Option<Timestamp>,
    /// Whether a call of its action ended with an unknown outcome.
    pub unknown_call: bool,
    /// When an operator last moved it back to INIT, to the millisecond. Later statuses keep it.
    pub put_back_at: Option<Timestamp>,
    /// When operators did so before, oldest first: at most the last [`limits::EARLIER_PUT_BACKS_MAX`] times.
    pub earlier_put_backs: Box<[Timestamp]>,
    /// The last failure of its action that was noted since it last became INIT from elsewhere; `None` if none was.
    pub last_failure: Option<LastFailure>,
}

/// The last failure of a notification's action that was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastFailure {
    /// When, to the millisecond.
    pub at: Timestamp,
    /// How many have been noted by then.
    pub failures: u32,
}

/// A worker's right to make the one call for a notification. It is a *fencing token*: a change that settles the notification
/// holds only for exactly this claim, so a worker whose claim has expired cannot write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The invocation that holds it. No two invocations have the same owner.
    pub owner: Box<str>,
    /// When it expires. Its owner has ended by then.
    pub lease_until: Timestamp,
}

/// A run of the action. It begins when the notification becomes INIT: on arrival, or because an operator decides so. What a
/// call of one run found out says nothing about the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Whichever it is.
    Any,
    /// The first one, since the notification was accepted.
    First,
    /// The one that an operator began at this time, to the millisecond.
    PutBackAt(Timestamp),
}

/// One conditional change of a notification's status.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    id: &'a NotificationId,
    from: Before<'a>,
    to: After<'a>,
}

/// The state in which a change expects the item.
#[derive(Debug, Clone, Copy)]
pub enum Before<'a> {
    /// No item has this id.
    Absent,
    /// It has this status.
    Status(Status),
    /// It has had this status since this time, to the millisecond. A repeat of the change that the network delays cannot meet
    /// a later state.
    Since(Status, Timestamp),
    /// It is INIT and has this event, byte for byte: the change was made for this event.
    Event(&'a str),
    /// The same, in this run.
    Run(&'a str, Run),
    /// The same, and in this run no call of its action has an unknown outcome, so its effect cannot have happened.
    Untouched(&'a str, Run),
    /// It is CLAIMED, by exactly this claim. A later claim is left alone.
    Claim(&'a Claim),
}

/// The state in which a change leaves the item.
#[derive(Debug, Clone, Copy)]
pub enum After<'a> {
    /// A new item: INIT, and pending from now on.
    Inserted(&'a Notification),
    /// INIT, and pending from now on. Operators did the same before at these times.
    PutBack(&'a [Timestamp]),
    /// INIT again without the claim, and pending since the same time as before, with a note why.
    Released(Note<'a>),
    /// INIT as before, with a note that a call of its action ended with an unknown outcome.
    UnknownCall(Note<'a>),
    /// INIT as before, with a note why its action failed.
    Noted(Note<'a>),
    /// CLAIMED.
    Claimed(&'a Claim),
    /// DONE, with what the action returned.
    Done(Option<&'a Outcome>),
    /// FAILED, with the reason.
    Failed(Reason<'a>),
    /// IN_DOUBT, with the reason.
    InDoubt(Reason<'a>),
}

/// One notification's part of a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Commit<'a> {
    /// Its change of status.
    pub change: Change<'a>,
    /// The items that are put in the same transaction.
    pub puts: &'a [Put],
}

impl<'a> Change<'a> {
    /// Nothing → INIT.
    #[must_use]
    pub fn insert(notification: &'a Notification) -> Self {
        Self { id: notification.id(), from: Before::Absent, to: After::Inserted(notification) }
    }

    /// INIT → DONE: the effect of this event has happened.
    #[must_use]
    pub const fn done(id: &'a NotificationId, event: &'a str, outcome: Option<&'a Outcome>) -> Self {
        Self { id, from: Before::Event(event), to: After::Done(outcome) }
    }

    /// INIT → FAILED, if no call of this run has an unknown outcome: the effect will not happen.
    #[must_use]
    pub const fn fail(id: &'a NotificationId, event: &'a str, run: Run, reason: Reason<'a>) -> Self {
        Self { id, from: Before::Untouched(event, run), to: After::Failed(reason) }
    }

    /// INIT → INIT, with a note that a call had an unknown outcome.
    #[must_use]
    pub const fn note_unknown_call(id: &'a NotificationId, event: &'a str, note: Note<'a>) -> Self {
        Self { id, from: Before::Event(event), to: After::UnknownCall(note) }
    }

    /// INIT → INIT, with a note why its action failed in this run.
    #[must_use]
    pub const fn note_failure(id: &'a NotificationId, event: &'a str, run: Run, note: Note<'a>) -> Self {
        Self { id, from: Before::Run(event, run), to: After::Noted(note) }
    }

    /// INIT → IN_DOUBT: the effect may have happened.
    #[must_use]
    pub const fn doubt(id: &'a NotificationId, event: &'a str, reason: Reason<'a>) -> Self {
        Self { id, from: Before::Event(event), to: After::InDoubt(reason) }
    }

    /// INIT → CLAIMED, unless a call has an unknown outcome.
    #[must_use]
    pub const fn claim(id: &'a NotificationId, event: &'a str, claim: &'a Claim) -> Self {
        Self { id, from: Before::Untouched(event, Run::Any), to: After::Claimed(claim) }
    }

    /// CLAIMED by this claim → DONE.
    #[must_use]
    pub const fn done_claimed(id: &'a NotificationId, claim: &'a Claim, outcome: Option<&'a Outcome>) -> Self {
        Self { id, from: Before::Claim(claim), to: After::Done(outcome) }
    }

    /// CLAIMED by this claim → FAILED.
    #[must_use]
    pub const fn fail_claimed(id: &'a NotificationId, claim: &'a Claim, reason: Reason<'a>) -> Self {
        Self { id, from: Before::Claim(claim), to: After::Failed(reason) }
    }

    /// CLAIMED by this claim → INIT: the call did not happen.
    #[must_use]
    pub const fn release(id: &'a NotificationId, claim: &'a Claim, note: Note<'a>) -> Self {
        Self { id, from: Before::Claim(claim), to: After::Released(note) }
    }

    /// CLAIMED by this claim → IN_DOUBT: the call may have happened, or the claim has expired.
    #[must_use]
    pub const fn doubt_claimed(id: &'a NotificationId, claim: &'a Claim, reason: Reason<'a>) -> Self {
        Self { id, from: Before::Claim(claim), to: After::InDoubt(reason) }
    }

    /// CLAIMED by a claim that cannot be read → IN_DOUBT.
    #[must_use]
    pub const fn doubt_unreadable_claim(id: &'a NotificationId, reason: Reason<'a>) -> Self {
        Self { id, from: Before::Status(Status::Claimed), to: After::InDoubt(reason) }
    }

    /// FAILED since this time → INIT, for an operator: run it again. `earlier` is [`Stored::put_backs`].
    #[must_use]
    pub const fn redrive(id: &'a NotificationId, since: Timestamp, earlier: &'a [Timestamp]) -> Self {
        Self { id, from: Before::Since(Status::Failed, since), to: After::PutBack(earlier) }
    }

    /// IN_DOUBT since this time → INIT, for an operator: the effect has not happened, run it again. `earlier` is
    /// [`Stored::put_backs`].
    #[must_use]
    pub const fn resolve_retry(id: &'a NotificationId, since: Timestamp, earlier: &'a [Timestamp]) -> Self {
        Self { id, from: Before::Since(Status::InDoubt, since), to: After::PutBack(earlier) }
    }

    /// IN_DOUBT since this time → DONE, for an operator: the effect has happened.
    #[must_use]
    pub const fn resolve_done(id: &'a NotificationId, since: Timestamp) -> Self {
        Self { id, from: Before::Since(Status::InDoubt, since), to: After::Done(None) }
    }

    /// The notification's id.
    #[must_use]
    pub const fn id(&self) -> &'a NotificationId {
        self.id
    }

    /// What must hold for the change to be made.
    #[must_use]
    pub const fn from(&self) -> Before<'a> {
        self.from
    }

    /// The state in which it leaves the item.
    #[must_use]
    pub const fn to(&self) -> After<'a> {
        self.to
    }

    /// Whether the item is as this change leaves it when it is made at this time. A change whose reply was lost is repeated,
    /// and the repeat is refused because of the change's own result.
    #[must_use]
    pub fn has_made(&self, stored: &Stored, at: Timestamp) -> bool {
        let is_now = |time: Option<Timestamp>| time.is_some_and(|time| time.as_millisecond() == at.as_millisecond());
        let is_as_left = match self.to {
            // The pipeline may have changed it since.
            After::PutBack(_) => return is_now(stored.put_back_at),
            After::Claimed(claim) => stored.claim.as_ref() == Some(claim),
            After::UnknownCall(_) => stored.unknown_call,
            After::Noted(_) => is_now(stored.last_failure.map(|last| last.at)),
            After::Released(_) => true,
            After::Inserted(notification) => notification.event() == &*stored.event && is_now(stored.since),
            After::Done(_) | After::Failed(_) | After::InDoubt(_) => is_now(stored.since),
        };
        is_as_left
            && self.from.event().is_none_or(|event| event == &*stored.event)
            && stored.status == Some(self.to.status())
    }
}

impl Stored {
    /// The run of the action that the notification is in.
    #[must_use]
    pub fn run(&self) -> Run {
        self.put_back_at.map_or(Run::First, Run::PutBackAt)
    }

    /// When operators moved it back to INIT, oldest first: at most the last [`limits::EARLIER_PUT_BACKS_MAX`] times. An item
    /// that is moved back once more keeps these.
    #[must_use]
    pub fn put_backs(&self) -> Vec<Timestamp> {
        let all: Vec<_> = self.earlier_put_backs.iter().copied().chain(self.put_back_at).collect();
        all[all.len().saturating_sub(limits::EARLIER_PUT_BACKS_MAX)..].to_vec()
    }

    /// Whether a failure of its action is noted now. It is once the notification has been pending for
    /// [`limits::NOTE_FAILURE_AFTER`], and then every [`limits::NOTE_FAILURE_EVERY`], so that an outage does not double the
    /// writes of everything that waits for its end.
    #[must_use]
    pub fn is_note_due(&self, now: Timestamp) -> bool {
        let is_past = |time: Timestamp, age: Duration| time.saturating_add(age).is_ok_and(|due| due <= now);
        self.since.is_some_and(|since| is_past(since, limits::NOTE_FAILURE_AFTER))
            && self.last_failure.is_none_or(|last| is_past(last.at, limits::NOTE_FAILURE_EVERY))
    }

    /// The number of the next failure to note.
    #[must_use]
    pub fn next_failure(&self) -> u32 {
        self.last_failure.map_or(0, |last| last.failures).saturating_add(1)
    }
}

impl<'a> Before<'a> {
    /// The expected status; `None` if there must be no item.
    #[must_use]
    pub const fn status(&self) -> Option<Status> {
        match self {
            Self::Absent => None,
            Self::Status(status) | Self::Since(status, _) => Some(*status),
            Self::Event(_) | Self::Run(..) | Self::Untouched(..) => Some(Status::Init),
            Self::Claim(_) => Some(Status::Claimed),
        }
    }

    /// The expected event; `None` if it does not matter.
    #[must_use]
    pub const fn event(&self) -> Option<&'a str> {
        match self {
            Self::Event(event) | Self::Run(event, _) | Self::Untouched(event, _) => Some(event),
            Self::Absent | Self::Status(_) | Self::Since(..) | Self::Claim(_) => None,
        }
    }
}

impl After<'_> {
    /// The status that the item has then.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self {
            Self::Inserted(_) | Self::PutBack(_) | Self::Released(_) | Self::UnknownCall(_) | Self::Noted(_) => {
                Status::Init
            }
            Self::Claimed(_) => Status::Claimed,
            Self::Done(_) => Status::Done,
            Self::Failed(_) => Status::Failed,
            Self::InDoubt(_) => Status::InDoubt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::TRANSITIONS;
    use crate::testing::{NOTE, REJECTED};
    use std::collections::BTreeSet;

    const EVENT: &str = r#"{"specversion":"1.0","id":"a","source":"s","type":"t"}"#;

    fn claim(owner: &str) -> Claim {
        Claim { owner: owner.into(), lease_until: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn the_constructors_make_exactly_the_transitions_that_are_listed() {
        let notification = Notification::parse(EVENT).unwrap();
        let (id, claim) = (notification.id(), &claim("me"));
        let changes = [
            Change::insert(&notification),
            Change::done(id, EVENT, None),
            Change::fail(id, EVENT, Run::Any, REJECTED),
            Change::note_unknown_call(id, EVENT, NOTE),
            Change::note_failure(id, EVENT, Run::Any, NOTE),
            Change::doubt(id, EVENT, REJECTED),
            Change::claim(id, EVENT, claim),
            Change::done_claimed(id, claim, None),
            Change::fail_claimed(id, claim, REJECTED),
            Change::release(id, claim, NOTE),
            Change::doubt_claimed(id, claim, REJECTED),
            Change::doubt_unreadable_claim(id, REJECTED),
            Change::redrive(id, Timestamp::UNIX_EPOCH, &[]),
            Change::resolve_retry(id, Timestamp::UNIX_EPOCH, &[]),
            Change::resolve_done(id, Timestamp::UNIX_EPOCH),
        ];
        let made: BTreeSet<_> = changes.iter().map(|change| (change.from().status(), change.to().status())).collect();
        let listed = TRANSITIONS.iter().map(|transition| (transition.from, transition.to));
        // An orphan's item is put by the port `quarantine`: it is not a notification.
        let of_notifications: BTreeSet<_> = listed.filter(|pair| *pair != (None, Status::Failed)).collect();
        assert_eq!(made, of_notifications);
    }

    #[test]
    fn a_change_whose_reply_was_lost_is_recognised_only_by_its_own_result() {
        let (notification, at) =
            (Notification::parse(EVENT).unwrap(), Timestamp::from_microsecond(1_700_000_000_123_456).unwrap());
        let id = notification.id();
        let to_the_millisecond = Some(Timestamp::from_millisecond(1_700_000_000_123).unwrap());
        let stored = |status| Stored {
            status: Some(status),
            event: EVENT.into(),
            since: to_the_millisecond,
            ..Stored::default()
        };
        let check = |change: Change<'_>, stored: Stored, expected| {
            assert_eq!(change.has_made(&stored, at), expected, "{change:?}: {stored:?}");
        };
        let (mine, theirs) = (claim("mine"), claim("theirs"));

        check(Change::insert(&notification), stored(Status::Init), true);
        check(Change::insert(&notification), stored(Status::Done), false);
        check(Change::insert(&notification), Stored { event: "{}".into(), ..stored(Status::Init) }, false);

        let fail = Change::fail(id, EVENT, Run::Any, REJECTED);
        check(fail, stored(Status::Failed), true);
        check(fail, stored(Status::Done), false);
        check(fail, Stored { since: Some(at + Duration::from_millis(1)), ..stored(Status::Failed) }, false);
        check(fail, Stored { since: None, ..stored(Status::Failed) }, false);
        check(Change::done(id, EVENT, None), stored(Status::Done), true);
        check(Change::done(id, "theirs", None), stored(Status::Done), false);

        let put_back = |status| Stored { put_back_at: Some(at), ..stored(status) };
        let redrive = Change::redrive(id, Timestamp::UNIX_EPOCH, &[]);
        check(redrive, put_back(Status::Init), true);
        check(redrive, put_back(Status::Done), true);
        check(redrive, stored(Status::Init), false);

        let claimed = |claim: &Claim| Stored { claim: Some(claim.clone()), ..stored(Status::Claimed) };
        check(Change::release(id, &mine, NOTE), Stored { since: None, ..stored(Status::Init) }, true);
        check(Change::release(id, &mine, NOTE), claimed(&theirs), false);
        check(Change::claim(id, EVENT, &mine), claimed(&mine), true);
        check(Change::claim(id, EVENT, &mine), claimed(&theirs), false);

        let note = Change::note_unknown_call(id, EVENT, NOTE);
        check(note, Stored { unknown_call: true, ..stored(Status::Init) }, true);
        check(note, stored(Status::Init), false);

        let last_failure = |at| Some(LastFailure { at, failures: 1 });
        let note = Change::note_failure(id, EVENT, Run::Any, NOTE);
        check(note, Stored { last_failure: last_failure(at), ..stored(Status::Init) }, true);
        let later = last_failure(at + Duration::from_millis(1));
        check(note, Stored { last_failure: later, ..stored(Status::Init) }, false);
        check(note, stored(Status::Init), false);
    }

    #[test]
    fn the_last_times_at_which_it_was_put_back_are_kept() {
        let at = |second: usize| Timestamp::from_second(i64::try_from(second).unwrap()).unwrap();
        let mut stored = Stored::default();
        assert_eq!(stored.put_backs(), []);
        for second in 0..=limits::EARLIER_PUT_BACKS_MAX {
            stored = Stored { earlier_put_backs: stored.put_backs().into(), put_back_at: Some(at(second)), ..stored };
            assert_eq!(stored.put_backs().last(), Some(&at(second)));
        }
        assert_eq!(stored.put_backs(), (1..=limits::EARLIER_PUT_BACKS_MAX).map(at).collect::<Vec<_>>());
    }

    #[test]
    fn a_failure_is_noted_after_a_minute_and_then_every_five_minutes() {
        let minutes = |minutes: i64| Timestamp::from_second(60 * minutes).unwrap();
        let waiting = Stored { since: Some(minutes(10)), ..Stored::default() };
        assert_eq!([minutes(10), minutes(11)].map(|now| waiting.is_note_due(now)), [false, true]);
        let noted = Stored { last_failure: Some(LastFailure { at: minutes(11), failures: 3 }), ..waiting.clone() };
        assert_eq!([minutes(15), minutes(16)].map(|now| noted.is_note_due(now)), [false, true]);
        assert_eq!((waiting.next_failure(), noted.next_failure()), (1, 4));
        assert!(!Stored::default().is_note_due(minutes(60)), "nothing says since when it has been pending");
    }
}
