//! The ports of the real handlers, in a world where every call can fail.

use crate::aws::change::{OwnedChange, OwnedCommit};
use crate::aws::lambda::Task;
use crate::mutants;
use crate::rng;
use crate::world::{Call, Shared, World, lock};
use jiff::Timestamp;
use notification::change::{After, Before, Commit};
use notification::ports::{
    Answers, Committed, DownstreamTable, Hide, IndexKey, Orphan, PendingPage, PendingTable, Publication, Queue, Stream,
    SweepState, Table, TableReader, UnresolvedCount, Written,
};
use notification::{Change, Clock, Failure, NotificationId, Status, Stored, content};
use std::future::pending;
use std::time::Duration;
use tokio::sync::oneshot;

/// The ports of one invocation.
#[derive(Clone)]
pub(crate) struct Ports {
    world: Shared,
    task: Task,
    /// The difference between its clock and the world's, in milliseconds.
    skew_millis: i64,
}

impl Ports {
    pub(crate) fn new(world: Shared, task: Task) -> Self {
        let (seed, most) = {
            let world = lock(&world);
            (world.scenario.seed, world.scenario.clock_skew_millis)
        };
        let skew_millis = rng::numbered(seed, "skew", task).i64(-most..=most);
        Self { world, task, skew_millis }
    }

    /// Makes one call. `effect` gets a mask of the entries that are refused.
    ///
    /// # Errors
    /// What its fault makes the caller see.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        call: Call,
        effect: impl FnMut(&mut World, Option<u64>) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        lock(&self.world).call(self.task, call, effect, reply);
        match answer.await {
            Ok(answer) => answer,
            // The process is dead, or no reply will ever come.
            Err(_) => pending().await,
        }
    }

    /// A call of several entries, each with its own result.
    async fn call_each<E: Send + 'static, T: Send + 'static>(
        &self,
        what: &'static str,
        to: &'static str,
        entries: Vec<(String, E)>,
        mut each: impl FnMut(&mut World, &E) -> T + Send + 'static,
    ) -> Answers<T> {
        let ids: Vec<&str> = entries.iter().map(|(id, _)| id.as_str()).collect();
        let step = Call { what, to, ids: ids.join(", "), entries: entries.len(), once: false };
        self.call(step, move |world, refused| {
            let is_refused = |place: usize| refused.is_some_and(|mask| is_in(mask, place));
            let result = |(place, (_, entry)): (usize, &(String, E))| {
                if is_refused(place) { Err(mutants::refusal(world.mutant)) } else { Ok(each(world, entry)) }
            };
            let results: Vec<Result<T, Failure>> = entries.iter().enumerate().map(result).collect();
            world.capture();
            results
        })
        .await
    }

    /// A time as this instance's clock has it. Lambda takes deadlines from the same clock.
    pub(crate) fn local(&self, time: Timestamp) -> Timestamp {
        time.saturating_add(jiff::SignedDuration::from_millis(self.skew_millis)).unwrap_or(Timestamp::MAX)
    }

    pub(crate) fn world(&self) -> &Shared {
        &self.world
    }
}

/// Whether a mask has an entry.
fn is_in(mask: u64, place: usize) -> bool {
    mask >> (place % 64) & 1 == 1
}

impl Clock for Ports {
    fn now(&self) -> Timestamp {
        let now = lock(&self.world).now;
        self.local(now)
    }

    async fn sleep(&self, duration: Duration) {
        let (wake, woken) = oneshot::channel();
        lock(&self.world).after(duration, move |_| {
            // The sleeper may be gone.
            let _ = wake.send(());
        });
        drop(woken.await);
    }
}

impl TableReader for Ports {
    async fn read(&self, ids: &[&NotificationId]) -> Answers<Option<Stored>> {
        let entries = ids.iter().map(|id| (id.to_string(), id.to_string())).collect();
        self.call_each("read", "table", entries, |world, id| {
            world.table.read(id).map(|stored| mutants::seen(world.mutant, stored, world.now))
        })
        .await
    }
}

impl Queue for Ports {
    async fn hide(&self, messages: &[Hide<'_>]) -> Answers<()> {
        if !mutants::hides(lock(&self.world).mutant) {
            return Ok(vec![Ok(()); messages.len()]);
        }
        let entry = |hide: &Hide<'_>| (hide.receipt_handle.to_owned(), (hide.receipt_handle.to_owned(), hide.wait));
        let entries = messages.iter().map(entry).collect();
        let answers = self.call_each("hide", "SQS", entries, |world, (handle, wait)| world.hide(handle, *wait)).await?;
        Ok(answers.into_iter().map(|answer| answer.and_then(|hidden| hidden)).collect())
    }
}

impl Table for Ports {
    async fn write(&self, changes: &[Change<'_>], at: Timestamp) -> Answers<Written> {
        let inserts = changes.iter().all(|change| change.from().status().is_none());
        let what = if inserts { "insert" } else { "change" };
        let entries = changes.iter().map(|change| (described(change), OwnedChange::of(change))).collect();
        self.call_each(what, "table", entries, move |world, change| write(world, change, at)).await
    }
}

/// A change, for a trace.
fn described(change: &Change<'_>) -> String {
    match change.from().status() {
        None => change.id().to_string(),
        Some(from) => format!("{} {from} → {}", change.id(), change.to().status()),
    }
}

fn write(world: &mut World, change: &OwnedChange, at: Timestamp) -> Written {
    let change = mutants::change(world.mutant, change.clone());
    let change = change.change();
    note_change(world, &change);
    let written = world.table.write(&change, at);
    let After::Inserted(notification) = change.to() else { return written };
    let inserted = mutants::inserted(world.mutant, written, notification);
    match &inserted {
        Written::Refused(old) if content::same(&old.event, notification.event()) => {
            world.note("a duplicate is suppressed");
        }
        Written::Refused(_) => world.note("a conflict is refused"),
        Written::RefusedUnseen => world.note("an answer lacks the old item"),
        Written::Yes => {}
    }
    inserted
}

fn note_change(world: &mut World, change: &Change<'_>) {
    let Some(item) = world.table.item(change.id().as_str()) else { return };
    let is_expired = item.claim.as_ref().is_some_and(|claim| claim.lease_until <= world.now);
    let what = match (change.from(), change.to()) {
        (Before::Claim(_), After::InDoubt(_)) if is_expired => "an expired claim becomes IN_DOUBT",
        (Before::Claim(_), After::InDoubt(_)) => "a call with an unknown outcome becomes IN_DOUBT",
        (Before::Claim(_), After::Released) => "a claim is released",
        (Before::Claim(claim), After::Done(_)) if item.claim.as_ref() != Some(claim) => "a late worker is fenced",
        (Before::Untouched(_), After::Claimed(_)) if item.status == Status::Claimed && !is_expired => {
            "a claimed notification reaches another worker"
        }
        (_, After::UnknownCall) => "a call with an unknown outcome is noted",
        _ => return,
    };
    world.note(what);
}

impl DownstreamTable for Ports {
    async fn commit(&self, group: &[Commit<'_>], at: Timestamp) -> Answers<Committed> {
        let ids: Vec<&str> = group.iter().map(|commit| commit.change.id().as_str()).collect();
        let (ids, entries) = (ids.join(", "), group.len());
        let group: Vec<OwnedCommit> = group.iter().map(OwnedCommit::of).collect();
        if mutants::splits_transactions(lock(&self.world).mutant) {
            return self.commit_in_two(group, at).await;
        }
        let call = Call { what: "commit effect and DONE of", to: "table", ids, entries, once: false };
        self.call(call, move |world, refused| match refused {
            Some(mask) => Ok(in_another_transaction(world, entries, mask)),
            None => commit(world, &group, at),
        })
        .await?
    }

    async fn quarantine(&self, orphan: Orphan<'_>, reason: &str, failed_at: Timestamp) -> Result<(), Failure> {
        let (id, reason) = (orphan.item_id(), reason.to_owned());
        let call = Call::one("quarantine", "table", id.clone());
        self.call(call, move |world, _| {
            world.note("an orphan is quarantined");
            world.table.quarantine(&id, &reason, failed_at);
            world.capture();
        })
        .await
    }
}

/// A transaction that meets another one on some of its items is refused because of those.
fn in_another_transaction(world: &mut World, entries: usize, mask: u64) -> Vec<Result<Committed, Failure>> {
    world.note("transactions meet");
    let conflict = || Failure::retryable("in another transaction");
    (0..entries).map(|place| if is_in(mask, place) { Err(conflict()) } else { Ok(Committed::HeldUp) }).collect()
}

fn commit(world: &mut World, group: &[OwnedCommit], at: Timestamp) -> Answers<Committed> {
    let group: Vec<Commit<'_>> = group.iter().map(OwnedCommit::commit).collect();
    for Commit { change, puts } in &group {
        for (_, event) in puts.iter().flat_map(|put| &put.attributes).filter(|(name, _)| *name == "event") {
            world.check_content(change.id().as_str(), event);
        }
    }
    let committed = world.table.commit(&group, at)?;
    if committed.iter().any(|committed| *committed != Ok(Committed::Written(Written::Yes))) {
        world.note("a transaction is refused");
    }
    world.capture();
    Ok(committed)
}

impl Ports {
    /// Effects and DONE, in two writes.
    async fn commit_in_two(&self, group: Vec<OwnedCommit>, at: Timestamp) -> Answers<Committed> {
        let effects = group.clone();
        let write = Call::one("write effects", "table", "");
        let replaced: Vec<bool> = self
            .call(write, move |world, _| effects.iter().map(|commit| world.table.put_apart(&commit.puts)).collect())
            .await?;
        if replaced.contains(&true) {
            let exists = || Err(Failure::permanent("an item of the effect exists already"));
            return Ok(replaced.into_iter().map(|it| if it { exists() } else { Ok(Committed::HeldUp) }).collect());
        }
        self.call(Call::one("write DONE", "table", ""), move |world, _| {
            for commit in &group {
                world.table.write(&commit.change.change(), at);
            }
            world.capture();
        })
        .await?;
        Ok(replaced.into_iter().map(|_| Ok(Committed::Written(Written::Yes))).collect())
    }
}

impl PendingTable for Ports {
    async fn pending(
        &self,
        shard: u64,
        until: Timestamp,
        after: Option<&IndexKey>,
        limit: usize,
    ) -> Result<PendingPage, Failure> {
        let after = after.cloned();
        let step = Call::one("query pending", "table", "");
        self.call(step, move |world, _| world.table.pending(shard, until, after.as_ref(), limit)).await
    }

    /// Without faults, because it only feeds a metric, and its 64 calls would multiply the places for each fault.
    async fn count_unresolved(
        &self,
        status: Status,
        shard: u64,
        since: Timestamp,
        limit: usize,
    ) -> Result<UnresolvedCount, Failure> {
        Ok(lock(&self.world).table.count_unresolved(status, shard, since, limit))
    }

    async fn begin_sweep(&self, now: Timestamp, lease_until: Timestamp) -> Result<Option<SweepState>, Failure> {
        let step = Call::one("take the sweep's lease", "table", "");
        self.call(step, move |world, _| {
            let state = world.table.begin_sweep(now, lease_until);
            if state.is_none() {
                world.note("a sweep leaves the work to another one");
            }
            state
        })
        .await
    }

    async fn end_sweep(&self, state: &SweepState, lease_until: Timestamp) -> Result<(), Failure> {
        let state = state.clone();
        let step = Call::one("save the sweep's state", "table", "");
        self.call(step, move |world, _| world.table.end_sweep(&state, lease_until)).await?
    }
}

impl Stream for Ports {
    async fn put(&self, publications: &[Publication<'_>]) -> Answers<()> {
        let entries: Vec<_> =
            publications.iter().map(|p| (p.id.to_string(), (p.id.to_string(), p.event.to_owned()))).collect();
        lock(&self.world).check_sweeps(self.task);
        let mut numbers = 1_i128..;
        let put = move |world: &mut World, (id, event): &(String, String)| {
            put(world, id, event, numbers.next().unwrap_or_default());
        };
        let answers = self.call_each("PutRecords", "Kinesis", entries, put).await;
        mutants::put_answers(lock(&self.world).mutant, answers)
    }
}

/// Puts the record that has this number in its call.
fn put(world: &mut World, id: &str, event: &str, number: i128) {
    if world.kinesis.shards.count(id) > 0 {
        world.note("Kinesis has a notification twice");
    }
    let key = mutants::partition_key(world.mutant, id, world.now.as_nanosecond() + number);
    let event = mutants::published(world.mutant, event);
    world.put_record(&key, event.as_bytes());
}
