//! The state that the workers share, and what is known of each worker.

use crate::bugs::{self, Bug};
use crate::faults::Fault;
use crate::ports::Pending;
use crate::scenario::{Scenario, Start};
use futures_channel::oneshot;
use jiff::Timestamp;
use notification::ports::{Answers, Committed, SweepState, Written};
use notification::testing::{
    Backend, Call, Entries, Item, NOTE, OwnedChange, OwnedCommit, REJECTED, Refused, Table, each,
};
use notification::{Change, Claim, Failure, Guarantee, Notification, Put, Status, Stored};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) type Shared = Arc<Mutex<World>>;

pub(crate) fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When every schedule begins.
pub(crate) const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// The id of the notification.
pub(crate) const ID: &str = "n";

/// How long an invocation of downstream may take.
pub(crate) const INVOCATION: Duration = Duration::from_mins(1);

/// The most that two clocks differ. Each differs by a millisecond from the next, so no two workers write at the same time.
pub(crate) const CLOCKS_DIFFER_BY: Duration = Duration::from_millis(5);

/// The event of the notification, or another one under the same id.
pub(crate) fn event(is_orphan: bool) -> String {
    let kind = if is_orphan { "other" } else { "t" };
    format!(r#"{{"specversion":"1.0","id":"{ID}","source":"s","type":"{kind}"}}"#)
}

/// A request that was sent and has not ended.
pub(crate) struct Request {
    /// Who sent it.
    pub(crate) actor: usize,
    /// What its sender had been told when it sent it, as a hash: that decides what it asks for.
    pub(crate) sent: u64,
    pub(crate) call: Call,
    /// Whether time can pass before it takes effect.
    pub(crate) is_slow: bool,
    pub(crate) pending: Box<dyn Pending>,
}

struct Timer {
    actor: usize,
    at: Timestamp,
    wake: oneshot::Sender<()>,
}

/// What an invocation, or the operator, ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ended {
    /// The record was not reported, so the stream goes on.
    Acknowledged,
    /// The record was reported, so it is delivered again.
    Reported,
    /// The process died.
    Died,
    /// The operator was told that the notification was changed.
    ToldChanged,
    /// The operator was told that nothing was changed.
    ToldUnchanged,
    /// The operator was told that a call failed.
    ToldFailed,
}

/// What somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// A worker with a record of the notification.
    Worker,
    /// A worker with an orphan: a record with another event under the same id.
    OrphanWorker,
    Operator,
}

/// A worker or the operator, and what the rules need to know of it.
#[derive(Debug, Clone, Hash)]
pub(crate) struct Actor {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// When Lambda ends it.
    pub(crate) deadline: Timestamp,
    /// Who it is and everything that it was told so far, as a hash.
    pub(crate) told: u64,
    /// How it ended; `None` while it is at work.
    pub(crate) ended: Option<Ended>,
    /// Whether one of its writes had a fault.
    pub(crate) could_not_write: bool,
    /// Whether its call was rejected while the worker whose call was accepted was still running.
    pub(crate) was_rejected_beside: bool,
    /// Whether the notification was settled at some time since it started.
    pub(crate) saw_settled: bool,
}

/// The state that the workers share.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) scenario: Scenario,
    /// The bug that is put back.
    pub(crate) bug: Option<Bug>,
    pub(crate) table: Table,
    pub(crate) requests: Vec<Request>,
    timers: Vec<Timer>,
    pub(crate) actors: Vec<Actor>,
    /// Whose request takes effect.
    pub(crate) in_turn: usize,
    /// How often the effect has happened.
    pub(crate) effects: usize,
    /// The worker whose call had the first effect.
    pub(crate) first_effect_by: Option<usize>,
    /// Whether the operator has fixed the receiver.
    pub(crate) is_fixed: bool,
    /// Whether the operator's decision has taken effect.
    pub(crate) is_decided: bool,
    /// How many more times the record is to be delivered.
    pub(crate) deliveries: usize,
    /// Whether something has happened that can leave an outcome unknown.
    pub(crate) has_doubt: bool,
    /// The first rule that was broken.
    pub(crate) violation: Option<String>,
    /// What has happened, in words, if that is wanted.
    pub(crate) trace: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(scenario: Scenario, bug: Option<Bug>, traced: bool) -> Self {
        Self {
            now: START,
            scenario,
            bug,
            table: table(&scenario),
            requests: vec![],
            timers: vec![],
            actors: vec![],
            in_turn: 0,
            effects: usize::from(scenario.has_happened),
            first_effect_by: None,
            is_fixed: false,
            is_decided: false,
            deliveries: 0,
            has_doubt: scenario.item != Start::Status(Status::Init),
            violation: None,
            trace: traced.then(Vec::new),
        }
    }

    /// The item of the notification.
    pub(crate) fn item(&self) -> &Item {
        &self.table.items()[ID]
    }

    /// The time by the clock of a worker.
    pub(crate) fn now_of(&self, actor: usize) -> Timestamp {
        self.now + Duration::from_millis(actor as u64) + bugs::clock_is_fast_by(self.bug, actor)
    }

    pub(crate) fn send(&mut self, request: Request) {
        let sent = self.actors[request.actor].told;
        self.keep(Request { sent, ..request });
    }

    /// Keeps a request that takes effect later.
    pub(crate) fn keep(&mut self, request: Request) {
        self.requests.push(request);
        // The order in which two requests of different workers were sent makes no difference.
        self.requests.sort_by_key(|request| request.actor);
    }

    pub(crate) fn wake_after(&mut self, actor: usize, wait: Duration) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        // Who would wait for longer than an invocation has no deadline: the operator.
        let at = if wait > INVOCATION { Timestamp::MAX } else { self.now + wait };
        self.timers.push(Timer { actor, at, wake });
        woken
    }

    /// When the next timer fires that somebody waits for.
    pub(crate) fn next_timer(&mut self) -> Option<Timestamp> {
        self.timers.retain(|timer| !timer.wake.is_canceled());
        self.timers.iter().map(|timer| timer.at).filter(|at| *at < Timestamp::MAX).min()
    }

    /// Lets time pass, and fires the timers that are due.
    pub(crate) fn pass_until(&mut self, time: Timestamp) {
        self.now = time;
        for Timer { actor, wake, .. } in self.timers.extract_if(.., |timer| timer.at <= time) {
            if wake.send(()).is_ok() {
                let told = &mut self.actors[actor].told;
                *told = Digest::of(format_args!("{told} {time}"));
            }
        }
    }

    /// Adds what a worker was told.
    pub(crate) fn tell(&mut self, actor: usize, what: &str) {
        let (now, told) = (self.now, &mut self.actors[actor].told);
        *told = Digest::of(format_args!("{told} {now} {what}"));
    }

    /// Notes a fault, for the rules.
    pub(crate) fn note_fault(&mut self, request: &Request, fault: Fault) {
        self.has_doubt |= fault.leaves_doubt();
        self.actors[request.actor].could_not_write |= matches!(request.call.method, "write" | "commit");
    }

    /// Whether the receiver would accept a call now.
    pub(crate) fn would_accept(&self) -> bool {
        self.scenario.receiver.accepts(self.is_fixed, self.effects > 0)
    }

    /// A call to the receiver arrives.
    pub(crate) fn receive(&mut self, actor: usize) -> Result<(), Failure> {
        if self.would_accept() {
            self.count_effect(actor);
            return Ok(());
        }
        let is_beside = self.first_effect_by.is_some_and(|first| self.actors[first].ended.is_none());
        self.actors[actor].was_rejected_beside |= is_beside;
        Err(Failure::permanent("the receiver rejects it"))
    }

    /// Puts the entry of a transactional action alone. `true` if it exists already.
    pub(crate) fn put_alone(&mut self, actor: usize) -> bool {
        let exists = !self.table.others().is_empty();
        if !exists {
            self.table.put(&entry());
            self.count_effect(actor);
        }
        exists
    }

    /// Everything that decides how a schedule can go on. For what a worker that is still at work knows stands what it was told;
    /// of one that has ended, only what the rules ask for.
    pub(crate) fn digest(&self, digest: &mut Digest) {
        let Self {
            now,
            table,
            actors,
            requests,
            effects,
            first_effect_by,
            is_fixed,
            is_decided,
            deliveries,
            has_doubt,
            ..
        } = self;
        digest.add(format_args!("{:?} {} {}", table.read(ID), table.items().len(), table.others().len()));
        (now, effects, first_effect_by, is_fixed, is_decided, deliveries, has_doubt, requests.len()).hash(digest);
        for Request { actor, sent, is_slow, pending, .. } in requests {
            (actor, sent, is_slow, pending.is_awaited()).hash(digest);
        }
        for (number, actor) in actors.iter().enumerate() {
            match actor.ended {
                None => actor.hash(digest),
                Some(ended) if *first_effect_by == Some(number) => {
                    (ended == Ended::Died, actor.could_not_write).hash(digest);
                }
                Some(_) => number.hash(digest),
            }
        }
    }

    /// Adds a line to the trace.
    pub(crate) fn trace(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let line = format!("{:>8.3} s  {}", self.now.duration_since(START).as_secs_f64(), line(self));
            self.trace.get_or_insert_default().push(line);
        }
    }

    /// Makes a change if the item is as it expects, and checks that it was allowed.
    fn change(&mut self, change: &OwnedChange, at: Timestamp) -> Written {
        if bugs::is_lost(self.bug, change) {
            return Written::Yes;
        }
        let old = self.item().clone();
        let change = bugs::change(self.bug, change.clone());
        let written = if bugs::ignores_condition(self.bug, &old, &change, self.now) {
            self.table.apply(&change, at)
        } else {
            self.table.write(&change, at)
        };
        if written == Written::Yes {
            self.check_change(&old);
        }
        bugs::answer(self.bug, written)
    }
}

/// The entry that the effect of a transactional action puts.
pub(crate) fn entry() -> Put {
    Put { table: "ledger".to_owned(), key: "id", attributes: vec![("id", ID.to_owned())] }
}

/// A table with the notification, as the pipeline has left it.
fn table(scenario: &Scenario) -> Table {
    let mut table = Table::default();
    if scenario.has_happened && scenario.guarantee == Guarantee::Transactional {
        table.put(&entry());
    }
    let Ok(notification) = Notification::parse(event(false)) else { return table };
    let (id, event) = (notification.id(), notification.event());
    let before = |minutes| START - Duration::from_mins(minutes);
    let gone = Claim { owner: "gone:1".into(), lease_until: before(10) };
    let second = match scenario.item {
        Start::Status(Status::Init | Status::Claimed) => None,
        Start::Status(Status::Done) => Some(Change::done(id, event, None)),
        Start::Status(Status::Failed) => Some(Change::fail(id, event, notification::change::Run::Any, REJECTED)),
        Start::Status(Status::InDoubt) => Some(Change::doubt(id, event, REJECTED)),
        Start::Noted => Some(Change::note_unknown_call(id, event, NOTE)),
        Start::Expired => Some(Change::claim(id, event, &gone)),
    };
    for (change, at) in [(Some(Change::insert(&notification)), before(60)), (second, before(30))] {
        if let Some(change) = change {
            table.write(&OwnedChange::from(&change), at);
        }
    }
    table
}

impl Backend for World {
    fn table(&mut self) -> &mut Table {
        &mut self.table
    }

    fn read(&mut self, ids: &[String], refused: Refused<'_>) -> Entries<Option<Stored>> {
        each(ids, refused, |id| Ok(self.table.read(id).map(|stored| bugs::seen(self.bug, stored, self.now))))
    }

    fn write(&mut self, changes: &[OwnedChange], at: Timestamp, refused: Refused<'_>) -> Entries<Written> {
        each(changes, refused, |change| Ok(self.change(change, at)))
    }

    fn commit(&mut self, group: &[OwnedCommit], at: Timestamp) -> Answers<Committed> {
        let old = self.item().clone();
        let mut group = group.to_vec();
        for commit in &mut group {
            commit.change = bugs::change(self.bug, commit.change.clone());
        }
        let committed = self.table.commit(&group, at)?;
        if committed.contains(&Ok(Committed::Written(Written::Yes))) {
            self.count_effect(self.in_turn);
            self.check_change(&old);
        }
        Ok(bugs::committed(self.bug, committed))
    }

    fn quarantine(&mut self, id: &str, raw: &[u8], reason: &str, at: Timestamp) {
        self.table.quarantine(id, raw, reason, at);
    }

    fn begin_sweep(&mut self, now: Timestamp, lease_until: Timestamp) -> Option<SweepState> {
        self.table.begin_sweep(now, lease_until)
    }

    fn put(&mut self, records: &[(String, String)], refused: Refused<'_>) -> Entries<()> {
        each(records, refused, |_| Ok(()))
    }

    fn hide(&mut self, messages: &[(String, Duration)], refused: Refused<'_>) -> Entries<()> {
        each(messages, refused, |_| Ok(()))
    }
}

/// A hash of what is written to it. With 64 bits, two of ten million states have the same one with a probability of one in
/// 370,000.
#[derive(Default)]
pub(crate) struct Digest(DefaultHasher);

impl Digest {
    pub(crate) fn of(what: fmt::Arguments<'_>) -> u64 {
        let mut digest = Self::default();
        digest.add(what);
        digest.finish()
    }

    pub(crate) fn add(&mut self, what: fmt::Arguments<'_>) {
        // Hashing cannot fail.
        let _ = fmt::Write::write_fmt(self, what);
        self.write_u8(0);
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

impl fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}
