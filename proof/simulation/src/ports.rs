//! The ports of the real handlers, over a world. Every call of a port is a call that can fail.

use crate::aws::lambda::Task;
use crate::aws::table::{Change as OwnedChange, From, Part, To};
use crate::mutants;
use crate::rng;
use crate::world::{Call, Shared, World, lock};
use jiff::Timestamp;
use notification::ports::{
    After, Answers, Before, Change, Changed, Clock, Commit, DownstreamTable, Hide, IndexKey, IngestTable, Insertion,
    NotCommitted, Orphan, PendingPage, PendingTable, Publication, Queue, Refused, StatusTable, Stored, Stream,
    SweepState, TableReader, UnresolvedCount,
};
use notification::{Failure, Notification, NotificationId, Status};
use std::future::pending;
use std::time::Duration;
use tokio::sync::oneshot;

/// What one invocation has of the world.
#[derive(Clone)]
pub(crate) struct Ports {
    world: Shared,
    task: Task,
    /// How far its clock is from the world's, in milliseconds.
    skew_millis: i64,
}

impl Ports {
    /// The ports of an invocation.
    pub(crate) fn new(world: Shared, task: Task) -> Self {
        let (seed, most) = {
            let world = lock(&world);
            (world.scenario.seed, world.scenario.clock_skew_millis)
        };
        let skew_millis = rng::numbered(seed, "skew", task).i64(-most..=most);
        Self { world, task, skew_millis }
    }

    /// Makes one call; its effect is `apply`, which gets a mask of refused entries.
    ///
    /// # Errors
    /// What its fault lets the caller see.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        step: Call,
        apply: impl FnMut(&mut World, Option<u64>) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        lock(&self.world).call(self.task, step, apply, reply);
        match answer.await {
            Ok(answer) => answer,
            // The process is dead, or nobody will ever answer.
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
            let is_refused = |place: usize| refused.is_some_and(|mask| mask >> (place % 64) & 1 == 1);
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

    /// The world, for what is no call.
    pub(crate) fn world(&self) -> &Shared {
        &self.world
    }
}

impl Clock for Ports {
    fn now(&self) -> Timestamp {
        let now = lock(&self.world).now;
        self.local(now)
    }

    async fn sleep(&self, duration: Duration) {
        let (wake, woken) = oneshot::channel();
        lock(&self.world).after(duration, move |_| {
            // Who does not wait any more need not be woken.
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

impl IngestTable for Ports {
    async fn insert(&self, notifications: &[&Notification], received_at: Timestamp) -> Answers<Insertion> {
        let entries = notifications.iter().map(|n| (n.id().to_string(), (*n).clone())).collect();
        self.call_each("insert", "table", entries, move |world, notification| {
            let insertion = world.table.insert(notification, received_at);
            let insertion = mutants::insertion(world.mutant, insertion, notification);
            match &insertion {
                Insertion::Exists(Some(old)) if notification::content::same(&old.event, notification.event()) => {
                    world.note("a duplicate is suppressed");
                }
                Insertion::Exists(Some(_)) => world.note("a conflict is refused"),
                Insertion::Exists(None) => world.note("an answer lacks the old item"),
                Insertion::Inserted => {}
            }
            insertion
        })
        .await
    }
}

fn owned(change: &Change<'_>) -> OwnedChange {
    let from = match change.from {
        Before::Status(status) => From::Status(status),
        Before::Untouched(event) => From::Untouched(event.into()),
        Before::Event(event) => From::Event(event.into()),
        Before::Claim(claim) => From::Claim(claim.clone()),
    };
    let to = match change.to {
        After::Init => To::Init,
        After::UnknownCall => To::UnknownCall,
        After::Claimed(claim) => To::Claimed(claim.clone()),
        After::Done(outcome) => To::Done(outcome.cloned()),
        After::Failed(reason) => To::Failed(reason.to_owned()),
        After::InDoubt(reason) => To::InDoubt(reason.to_owned()),
    };
    OwnedChange { id: change.id.clone(), from, to }
}

impl StatusTable for Ports {
    async fn change(&self, changes: &[Change<'_>], at: Timestamp) -> Answers<Changed> {
        let entries = changes.iter().map(|change| (named(change), owned(change))).collect();
        self.call_each("change", "table", entries, move |world, change| {
            let mut change = change.clone();
            if mutants::ignores_doubt(world.mutant) && matches!(change.to, To::InDoubt(_)) {
                change.to = To::Init;
            }
            note_change(world, &change);
            match world.table.change(&change, at) {
                Ok(()) => Changed::Yes,
                Err(old) => Changed::No(old),
            }
        })
        .await
    }
}

/// A change, for a trace.
fn named(change: &Change<'_>) -> String {
    format!("{} {} → {}", change.id, change.from.status(), change.to.status())
}

fn note_change(world: &mut World, change: &OwnedChange) {
    let Some(item) = world.table.items.get(change.id.as_str()) else { return };
    let (status, lapsed) = (item.status, item.claim.as_ref().is_some_and(|claim| claim.lease_until <= world.now));
    match (&change.from, &change.to) {
        (From::Claim(_), To::InDoubt(_)) if lapsed => world.note("a lapsed claim becomes IN_DOUBT"),
        (From::Claim(_), To::InDoubt(_)) => world.note("a call of which nobody can tell becomes IN_DOUBT"),
        (From::Claim(_), To::Init) => world.note("a claim is given back"),
        (From::Untouched(_), To::Claimed(_)) if status == notification::Status::Claimed && !lapsed => {
            world.note("a claimed notification comes to another worker");
        }
        (_, To::UnknownCall) => world.note("a call with an unknown outcome is noted"),
        (From::Claim(claim), To::Done(_)) if item.claim.as_ref() != Some(claim) => {
            world.note("a late worker is fenced");
        }
        _ => {}
    }
}

impl DownstreamTable for Ports {
    async fn commit(&self, group: &[Commit<'_>], done_at: Timestamp) -> Result<(), NotCommitted> {
        let part = |commit: &Commit<'_>| Part {
            id: commit.id.clone(),
            event: commit.event.into(),
            effect: commit.effect.clone(),
        };
        let group: Vec<Part> = group.iter().map(part).collect();
        if mutants::splits_transactions(lock(&self.world).mutant) {
            return self.commit_in_two(group, done_at).await;
        }
        let ids: Vec<&str> = group.iter().map(|part| part.id.as_str()).collect();
        let step = Call {
            what: "commit effect and DONE of",
            to: "table",
            ids: ids.join(", "),
            entries: group.len(),
            once: false,
        };
        let committed = self.call(step, move |world, refused| {
            // A transaction that meets another one on its items is refused, for those.
            if let Some(mask) = refused {
                world.note("transactions meet");
                let conflict = || Refused::Failed(Failure::retryable("in another transaction"));
                return Err((0..group.len()).map(|place| (mask >> (place % 64) & 1 == 1).then(conflict)).collect());
            }
            for Part { id, effect, .. } in &group {
                for (_, event) in
                    effect.writes.iter().flat_map(|write| &write.attributes).filter(|(name, _)| *name == "event")
                {
                    world.check_content(id.as_str(), event);
                }
            }
            let committed = world.table.commit(&group, done_at);
            if committed.is_err() {
                world.note("a transaction is refused");
            }
            world.capture();
            committed
        });
        committed.await.map_err(NotCommitted::Failed)?.map_err(NotCommitted::Refused)
    }

    async fn keep(&self, record: Orphan<'_>, reason: &str, failed_at: Timestamp) -> Result<(), Failure> {
        let (id, reason) = (record.item_id(), reason.to_owned());
        let step = Call::one("keep", "table", id.clone());
        self.call(step, move |world, _| {
            world.note("a foreign record is kept");
            world.table.keep(&id, &reason, failed_at);
            world.capture();
        })
        .await
    }
}

impl Ports {
    /// Effects and DONE, in two writes.
    async fn commit_in_two(&self, group: Vec<Part>, done_at: Timestamp) -> Result<(), NotCommitted> {
        let effects = group.clone();
        let step = |what| Call::one(what, "table", "");
        let write = self.call(step("write effects"), move |world, _| {
            let mut refusals = Vec::new();
            for Part { effect, .. } in &effects {
                let exists = effect.writes.iter().any(|write| {
                    let id = write.attributes.first().map_or("", |(_, value)| value);
                    world.table.others.insert(format!("{}/{id}", write.table), write.attributes.clone()).is_some()
                });
                refusals
                    .push(exists.then(|| Refused::Failed(Failure::permanent("an item of the effect exists already"))));
            }
            if refusals.iter().any(Option::is_some) { Err(refusals) } else { Ok(()) }
        });
        write.await.map_err(NotCommitted::Failed)?.map_err(NotCommitted::Refused)?;
        let done = self.call(step("write DONE"), move |world, _| {
            for Part { id, .. } in &group {
                let done = To::Done(None);
                let change = OwnedChange { id: id.clone(), from: From::Status(notification::Status::Init), to: done };
                drop(world.table.change(&change, done_at));
            }
            world.capture();
        });
        done.await.map_err(NotCommitted::Failed)
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

    /// Without faults: it only feeds a metric, and 64 calls more a sweep would be 64 places more for each fault.
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
        let saved = self.call(step, move |world, _| world.table.end_sweep(&state, lease_until)).await?;
        if saved { Ok(()) } else { Err(Failure::permanent("another sweep has the lease")) }
    }
}

impl Stream for Ports {
    async fn put(&self, publications: &[Publication<'_>]) -> Answers<()> {
        let entries: Vec<_> =
            publications.iter().map(|p| (p.id.to_string(), (p.id.to_string(), p.event.to_owned()))).collect();
        lock(&self.world).check_sweeps(self.task);
        let mut puts = 0;
        let put = move |world: &mut World, (id, event): &(String, String)| {
            puts += 1;
            if world.kinesis.shards.count(id) > 0 {
                world.note("Kinesis has a notification twice");
            }
            let unique = world.now.as_nanosecond() + puts;
            let key = mutants::partition_key(world.mutant, id, unique);
            let event = mutants::published(world.mutant, event);
            world.put_record(&key, event.as_bytes());
        };
        let answers = self.call_each("PutRecords", "Kinesis", entries, put).await;
        mutants::put_answers(lock(&self.world).mutant, answers)
    }
}
