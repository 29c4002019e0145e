//! The world itself: its parts, its time, and the journal of what happens in it.

use super::doubts::Doubts;
use super::letters::Letters;
use super::observed::Observed;
use super::operators::Command;
use super::receiver::Receiver;
use super::sweeps::{Republished, SETTLED_WITHIN};
use crate::adapters::{AdapterBug, Cloud};
use crate::aws::lambda::{Ended, Invocation, Running, Task};
use crate::aws::source::{Function, QueueSource, Source};
use crate::aws::stream::StreamSource;
use crate::faults::Fault;
use crate::mutants::Mutant;
use crate::scenario::{FEW_RETRIES, SOON, START, Scenario, Trouble};
use crate::template::Deployed;
use crate::trace::{Step, Trace};
use event_source::settings::RetriesAfterProgress;
use jiff::Timestamp;
use notification::Guarantee;
use notification::testing::{Item, Table};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::Level;

/// A world that its ports share.
pub(crate) type Shared = Arc<Mutex<World>>;

/// Locks the world. A handler's panic does not poison it.
pub(crate) fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What follows when an invocation has ended.
pub(crate) type Respond = Box<dyn FnOnce(&mut World, Ended) + Send>;

type Event = Box<dyn FnOnce(&mut World) + Send>;

/// What a deployment has besides queue, table and functions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wiring {
    /// Whether the table's stream invokes publisher.
    pub(crate) reads_table_stream: bool,
    /// Whether the sweep runs on its schedule, and each step may acknowledge only what the next step has: the rules of the
    /// pipeline itself.
    pub(crate) hands_over: bool,
    /// Whether the functions call AWS through the adapters and the SDK.
    pub(crate) adapters: bool,
    /// The bug of the adapters that is put back.
    pub(crate) adapter_bug: Option<AdapterBug>,
}

/// One run.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    /// What happens next. Events of the same time happen in the order in which they were scheduled.
    agenda: BTreeMap<(Timestamp, u64), Event>,
    scheduled: u64,
    pub(crate) scenario: Scenario,
    /// The time from which nothing goes wrong any more.
    pub(super) healed_at: Timestamp,
    pub(crate) deployed: Deployed,
    /// The guarantee of the action that is deployed now.
    pub(crate) guarantee: Guarantee,
    /// The guarantee of each invocation that has ended: its calls can still arrive.
    pub(super) ended: BTreeMap<Task, Guarantee>,
    /// Every guarantee that was ever deployed.
    pub(crate) guarantees: Vec<Guarantee>,
    /// The bug that is put back.
    pub(crate) mutant: Option<Mutant>,
    pub(super) wiring: Wiring,

    /// Invocations that are about to begin.
    pub(crate) spawns: Vec<(Invocation, Respond)>,
    /// Invocations whose process is about to die, and how.
    pub(crate) kills: Vec<(Task, &'static str)>,
    /// Invocations in progress.
    pub(crate) running: BTreeMap<Task, Running>,
    pub(super) started: BTreeMap<Function, u64>,
    pub(super) tasks: Task,
    /// The task whose call takes effect now.
    pub(crate) caller: Task,
    /// The replies of calls that will never be answered.
    unanswered: Vec<Box<dyn Any + Send>>,

    pub(crate) table: Table,
    /// What the adapters call. `table` has the same items then, for the checks.
    pub(crate) cloud: Option<Cloud>,
    /// Items that expired.
    pub(crate) expired: BTreeMap<String, Item>,
    /// How often each notification became DONE.
    pub(crate) done: BTreeMap<String, usize>,
    pub(crate) upstream: QueueSource,
    /// The queue of a design without Kinesis.
    pub(crate) work: QueueSource,
    pub(crate) table_stream: StreamSource,
    pub(crate) kinesis: StreamSource,
    /// How often each effect happened outside, by id.
    pub(crate) effects: BTreeMap<String, usize>,
    pub(crate) receiver: Receiver,
    pub(crate) doubts: Doubts,
    pub(crate) letters: Letters,
    pub(crate) observed: Observed,
    /// When each effect happened outside by a call at most once, by id.
    pub(crate) effects_at_most_once: BTreeMap<String, Vec<Timestamp>>,
    /// How many calls about each effect have been sent and have not taken place yet.
    pub(super) in_progress: BTreeMap<String, usize>,
    /// Commands that operators are about to run.
    pub(crate) commands: Vec<Command>,
    /// Commands in progress: their operator, and the id that they are about.
    pub(crate) commands_running: BTreeMap<Task, (String, String)>,
    /// How often operators were told of a notification.
    pub(super) told: u64,
    /// How often each operator has decided on each notification.
    pub(super) decisions: BTreeMap<(u8, String), u8>,
    /// When an operator last put each notification back.
    pub(super) put_back_at: BTreeMap<String, Timestamp>,
    /// When the business last refused each notification.
    pub(super) refused_at: BTreeMap<String, Timestamp>,
    /// Ids that the business refused once and accepts now.
    pub(super) accepted: BTreeSet<String>,
    /// How many foreign records arrived in the Kinesis stream.
    pub(crate) foreign: usize,

    /// How many calls and invocations were made.
    pub(crate) calls: u64,
    /// The faults that calls had, by the call's number.
    pub(crate) faults: BTreeMap<u64, Fault>,
    pub(super) outages: Vec<(Timestamp, Timestamp, Trouble)>,
    /// The time at which each source is looked at next.
    pub(super) alarms: BTreeMap<Source, Timestamp>,
    /// Whether the call that takes effect now follows another one for other entries of the same work.
    pub(super) applies_later_chunk: bool,
    /// How often sweeps have published each notification, since it has been pending.
    pub(super) republished: BTreeMap<String, Republished>,
    /// How many sweeps failed in each partition of the index.
    pub(super) failed_sweeps: BTreeMap<u64, u32>,
    /// The sweep that published last.
    pub(super) publishing_sweep: Option<Task>,

    /// How often each situation occurred.
    pub(crate) seen: BTreeMap<&'static str, u64>,
    /// The rules that were broken.
    pub(crate) violations: Vec<String>,
    pub(crate) trace: Option<Trace>,
}

impl World {
    /// A world at the beginning of a run.
    pub(crate) fn new(
        mut scenario: Scenario,
        deployed: &Deployed,
        mutant: Option<Mutant>,
        wiring: Wiring,
        traced: bool,
    ) -> Self {
        let mut deployed = deployed_for(&scenario, deployed);
        if let Some(mutant) = mutant {
            mutant.change_template(&mut deployed, &mut scenario);
        }
        let mut world = Self {
            now: START,
            agenda: BTreeMap::new(),
            scheduled: 0,
            guarantee: scenario.guarantee,
            ended: BTreeMap::new(),
            guarantees: vec![scenario.guarantee],
            mutant,
            wiring,
            spawns: vec![],
            kills: vec![],
            running: BTreeMap::new(),
            started: BTreeMap::new(),
            tasks: 0,
            caller: 0,
            unanswered: vec![],
            table: Table::default(),
            cloud: wiring.adapters.then(|| Cloud::new(&scenario, &deployed, wiring.adapter_bug)),
            expired: BTreeMap::new(),
            done: BTreeMap::new(),
            upstream: QueueSource::new(&deployed),
            work: QueueSource::new(&deployed),
            table_stream: StreamSource::new(2, deployed.table_stream_retention, &deployed.publisher),
            kinesis: StreamSource::new(scenario.kinesis_shards, deployed.kinesis_retention, &deployed.downstream),
            effects: BTreeMap::new(),
            receiver: Receiver::default(),
            doubts: Doubts::default(),
            letters: Letters::default(),
            observed: Observed::default(),
            effects_at_most_once: BTreeMap::new(),
            in_progress: BTreeMap::new(),
            commands: vec![],
            commands_running: BTreeMap::new(),
            told: 0,
            decisions: BTreeMap::new(),
            put_back_at: BTreeMap::new(),
            refused_at: BTreeMap::new(),
            accepted: BTreeSet::new(),
            foreign: 0,
            calls: 0,
            faults: BTreeMap::new(),
            outages: vec![],
            alarms: BTreeMap::new(),
            applies_later_chunk: false,
            republished: BTreeMap::new(),
            failed_sweeps: BTreeMap::new(),
            publishing_sweep: None,
            seen: BTreeMap::new(),
            violations: vec![],
            trace: traced.then(Trace::default),
            deployed,
            healed_at: scenario.healed_at(),
            scenario,
        };
        world.table.hide_old_items(world.scenario.hides_old_items);
        world.schedule_scenario();
        world
    }

    fn schedule_scenario(&mut self) {
        for message in self.scenario.messages.clone() {
            self.at(message.at, move |world| world.send(message));
        }
        for disturbance in self.scenario.disturbances.clone() {
            self.at(disturbance.at, move |world| world.disturb(disturbance.what));
        }
        if self.scenario.mappings_start > self.now {
            self.outages.push((self.now, self.scenario.mappings_start, Trouble::NothingReads));
        }
        if self.wiring.hands_over {
            self.at(self.scenario.healed_but_partitions_at() + SETTLED_WITHIN, Self::check_settled);
        }
        self.look_at(Source::TableStream, self.scenario.mappings_start);
        self.look_at(Source::Kinesis, self.scenario.mappings_start);
    }

    /// Schedules an event.
    pub(crate) fn at(&mut self, at: Timestamp, event: impl FnOnce(&mut Self) + Send + 'static) {
        self.scheduled += 1;
        self.agenda.insert((at.max(self.now), self.scheduled), Box::new(event));
    }

    /// Schedules an event after a wait.
    pub(crate) fn after(&mut self, wait: Duration, event: impl FnOnce(&mut Self) + Send + 'static) {
        let at = self.now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        self.at(at, event);
    }

    /// Lets the next event happen. `false` if there is none.
    pub(crate) fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.agenda.pop_first() else { return false };
        self.now = at;
        event(self);
        true
    }

    /// Schedules the next look at a source, unless it is looked at by then anyway.
    pub(crate) fn look_at(&mut self, source: Source, at: Timestamp) {
        let at = at.max(self.now);
        let is_unread = source == Source::TableStream && !self.wiring.reads_table_stream;
        if is_unread || self.alarms.get(&source).is_some_and(|next| *next <= at) {
            return;
        }
        self.alarms.insert(source, at);
        self.at(at, move |world| {
            // It may have been set to an earlier time since.
            if world.alarms.get(&source) == Some(&at) {
                world.alarms.remove(&source);
                world.poll(source);
            }
        });
    }

    fn poll(&mut self, source: Source) {
        match source {
            Source::Upstream | Source::WorkQueue => self.poll_queue(source),
            Source::TableStream | Source::Kinesis => self.poll_stream(source),
            Source::Schedule => self.scheduled_sweep(),
        }
    }

    /// Keeps a reply that its caller waits for in vain.
    pub(crate) fn never_answer(&mut self, reply: impl Send + 'static) {
        self.unanswered.push(Box::new(reply));
    }

    /// The partition of the pending index that cannot be read now.
    pub(super) fn partition_down(&self) -> Option<u64> {
        let now = self.outages.iter().filter(|(from, until, _)| (*from..*until).contains(&self.now));
        let mut down = now.filter_map(|(_, _, trouble)| match trouble {
            Trouble::PartitionDown(partition) => Some(*partition),
            _ => None,
        });
        self.scenario.index_partition_down.or_else(|| down.next())
    }

    /// Whether this trouble lasts now.
    pub(crate) fn suffers(&self, trouble: Trouble) -> bool {
        self.outages.iter().any(|(from, until, what)| (*from..*until).contains(&self.now) && *what == trouble)
    }

    /// The level up to which the functions log: in some runs, everything.
    pub(crate) fn log_level(&self) -> Level {
        if self.scenario.seed.is_multiple_of(8) { Level::DEBUG } else { Level::INFO }
    }

    /// Counts a situation that should occur in some runs.
    pub(crate) fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Adds a step to the trace.
    pub(crate) fn trace(&mut self, step: impl FnOnce() -> Step) {
        if let Some(trace) = &mut self.trace {
            trace.push(self.now, step());
        }
    }

    /// Reports a broken rule.
    pub(crate) fn violated(&mut self, what: String) {
        self.trace(|| Step::note(format!("VIOLATION: {what}")));
        self.violations.push(what);
    }
}

/// The settings of the template, with those that the scenario replaces.
fn deployed_for(scenario: &Scenario, deployed: &Deployed) -> Deployed {
    let mut deployed = deployed.clone();
    for settings in [&mut deployed.publisher, &mut deployed.downstream] {
        if scenario.progress_resets_retries {
            settings.retries_after_progress = RetriesAfterProgress::Reset;
        }
        if scenario.impatient {
            settings.maximum_retry_attempts = Some(FEW_RETRIES);
        }
    }
    if scenario.impatient {
        deployed.sweep_age = SOON;
    }
    if let Some(size) = scenario.batch_size {
        deployed.ingest.batch_size = size;
        deployed.publisher.batch_size = size;
        deployed.downstream.batch_size = size;
    }
    deployed
}
