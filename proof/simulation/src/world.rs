//! The world: virtual time, the models of AWS, and what happens next. One world is one run; nothing in it is random but by
//! the scenario's seed.

use crate::aws::shards::Shards;
use crate::aws::table::Table;
use crate::faults::{self, Fault, NO_ANSWER};
use crate::mutants::Mutant;
use crate::rng;
use crate::scenario::{FEW_RETRIES, Message, SOON, Scenario, What, start};
use crate::template::Deployed;
use crate::trace::{Step, Trace};
use event_source::queue::{Gathered, Queue, QueueMapping, Unchanged};
use event_source::settings::{RetriesAfterProgress, StartingPosition};
use event_source::stream::{Condition, Discarded, Record, StreamMapping};
use event_source::{Answer, payload};
use jiff::Timestamp;
use notification::{Failure, Notification, content};
use serde_json::value::RawValue;
use std::any::Any;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// A world that ports share with it.
pub type Shared = Arc<Mutex<World>>;

/// Takes the world. A panic of a handler does not spoil it.
pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of an invocation that runs.
pub type Task = u64;

/// What invokes the sweep.
const SCHEDULE: &str = "schedule";

/// The time in which a message that is refused is a dead letter.
const QUICKLY: Duration = Duration::from_mins(1);

type Event = Box<dyn FnOnce(&mut World) + Send>;
/// What is done with an outcome.
pub type Respond = Box<dyn FnOnce(&mut World, Outcome) + Send>;

/// A function of the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    /// Behind the queue.
    Ingest,
    /// Behind the table's stream, and on its schedule.
    Publisher,
    /// Behind Kinesis, or behind the work queue.
    Downstream,
}

impl Function {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Publisher => "publisher",
            Self::Downstream => "downstream",
        }
    }
}

/// What came of an invocation.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It returned this.
    Response(String),
    /// It failed, or its process ended.
    Error,
    /// It was not run.
    Throttled,
}

/// An invocation that is to begin.
pub struct Spawn {
    /// Its number.
    pub task: Task,
    /// The function.
    pub function: Function,
    /// Its event.
    pub payload: String,
    /// When it is ended.
    pub deadline: Timestamp,
    /// Whom to tell.
    pub respond: Respond,
}

/// An invocation that runs.
#[derive(Debug)]
pub struct Running {
    /// The function.
    pub function: Function,
    /// Its name in traces.
    pub name: String,
    /// The ids of its records.
    pub ids: Vec<String>,
}

struct Scheduled {
    at: Timestamp,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The heap's greatest is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// A queue with its mapping and its dead-letter queue.
#[derive(Debug)]
pub struct QueueSource {
    /// The queue.
    pub queue: Queue,
    /// Where its dead letters go.
    pub dead: Queue,
    mapping: QueueMapping,
    function: Function,
    next_pump: Option<Timestamp>,
}

/// A stream with its mapping.
#[derive(Debug)]
pub struct StreamSource {
    /// The stream.
    pub shards: Shards,
    /// The mapping.
    pub mapping: StreamMapping,
    function: Function,
    next_pump: Option<Timestamp>,
    /// Ids of records that were given up or expired unread.
    pub lost: BTreeSet<String>,
    /// How many foreign records were.
    pub lost_foreign: usize,
    /// How often the function was run with a record, by its sequence number.
    deliveries: BTreeMap<Box<str>, u32>,
    restarts: u32,
}

/// Which queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueName {
    /// Where upstream sends.
    Upstream,
    /// Between publisher and downstream, in a design without Kinesis.
    Work,
}

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamName {
    /// The table's.
    Table,
    /// Kinesis.
    Kinesis,
}

/// What a deployment has, apart from queue, table and functions.
#[derive(Debug, Clone, Copy)]
pub struct Wiring {
    /// Whether the table's stream invokes publisher.
    pub reads_table_stream: bool,
    /// Whether publisher runs on its schedule.
    pub sweeps: bool,
    /// Whether each step may acknowledge only what the next one has: the pipeline's own rule.
    pub hands_over: bool,
}

/// One run.
pub struct World {
    /// The time.
    pub now: Timestamp,
    /// What it was made from.
    pub scenario: Scenario,
    /// How the service is deployed.
    pub deployed: Deployed,
    /// A bug to be put back.
    pub mutant: Option<Mutant>,
    wiring: Wiring,
    order: u64,
    events: BinaryHeap<Scheduled>,
    /// Invocations that are to begin.
    pub spawns: Vec<Spawn>,
    /// Invocations whose process is to end, and how.
    pub kills: Vec<(Task, &'static str)>,
    /// What nobody will ever answer.
    unanswered: Vec<Box<dyn Any + Send>>,
    /// Invocations that run.
    pub running: BTreeMap<Task, Running>,
    started: BTreeMap<Function, u64>,
    tasks: Task,
    /// The tables.
    pub table: Table,
    /// The queue that upstream sends to.
    pub upstream: QueueSource,
    /// The queue of a design without Kinesis.
    pub work: QueueSource,
    /// The table's stream.
    pub table_stream: StreamSource,
    /// The Kinesis stream.
    pub kinesis: StreamSource,
    /// Effects outside, by id: how often.
    pub effects: BTreeMap<String, usize>,
    /// Ids of whom nobody may be able to tell what became of their effect.
    pub doubtful: BTreeSet<String>,
    /// Foreign records that came into the Kinesis stream.
    pub foreign: usize,
    calls: u64,
    /// The faults that calls had: number, fault, and what was called.
    pub faults: Vec<(u64, Fault, &'static str)>,
    outages: Vec<(Timestamp, Timestamp, What)>,
    next_sweep: Option<Timestamp>,
    /// The invocations that are sweeps, and the one of them that published last.
    sweeps: BTreeSet<Task>,
    publishing_sweep: Option<Task>,
    /// What happened at least once.
    pub seen: BTreeMap<&'static str, u64>,
    /// What must never happen, and did.
    pub violations: Vec<String>,
    /// What happened, where somebody wants to know.
    pub trace: Option<Trace>,
}

impl World {
    /// A world at the beginning of a run.
    #[must_use]
    pub fn new(scenario: Scenario, deployed: &Deployed, mutant: Option<Mutant>, wiring: Wiring, traced: bool) -> Self {
        let mut deployed = deployed.clone();
        for settings in [&mut deployed.publisher, &mut deployed.downstream] {
            if scenario.progress_resets_retries {
                settings.retries_after_progress = RetriesAfterProgress::Reset;
            }
            if scenario.impatient {
                settings.maximum_retry_attempts = Some(FEW_RETRIES);
            }
            if mutant == Some(Mutant::LatestForTrimHorizon) {
                settings.starting_position = StartingPosition::Latest;
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
        if mutant == Some(Mutant::NoInitFilter) {
            deployed.publisher.filter = None;
        }
        let done_retention =
            if mutant == Some(Mutant::ExpiryTooShort) { Duration::from_hours(24) } else { deployed.done_retention };
        let queue = |function| QueueSource {
            queue: Queue::new(deployed.visibility_timeout, deployed.queue_retention, Some(deployed.max_receive_count)),
            dead: Queue::new(deployed.visibility_timeout, deployed.dead_letter_retention, None),
            mapping: QueueMapping::new(deployed.ingest.clone()),
            function,
            next_pump: None,
        };
        let stream = |shards, retention, settings: &event_source::settings::StreamSettings, function| StreamSource {
            shards: Shards::new(shards, retention),
            mapping: StreamMapping::new(settings.clone()),
            function,
            next_pump: None,
            lost: BTreeSet::new(),
            lost_foreign: 0,
            deliveries: BTreeMap::new(),
            restarts: 0,
        };
        let mut world = Self {
            now: start(),
            mutant,
            wiring,
            order: 0,
            events: BinaryHeap::new(),
            spawns: vec![],
            kills: vec![],
            unanswered: vec![],
            running: BTreeMap::new(),
            started: BTreeMap::new(),
            tasks: 0,
            table: Table::new(done_retention, scenario.hides_old_items, mutant),
            upstream: queue(Function::Ingest),
            work: queue(Function::Downstream),
            table_stream: stream(2, deployed.table_stream_retention, &deployed.publisher, Function::Publisher),
            kinesis: stream(
                scenario.kinesis_shards,
                deployed.kinesis_retention,
                &deployed.downstream,
                Function::Downstream,
            ),
            effects: BTreeMap::new(),
            doubtful: BTreeSet::new(),
            foreign: 0,
            calls: 0,
            faults: vec![],
            outages: vec![],
            next_sweep: None,
            sweeps: BTreeSet::new(),
            publishing_sweep: None,
            seen: BTreeMap::new(),
            violations: vec![],
            trace: traced.then(Trace::default),
            deployed,
            scenario,
        };
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
            self.outages.push((self.now, self.scenario.mappings_start, What::NothingReads(Duration::ZERO)));
        }
        for stream in [StreamName::Table, StreamName::Kinesis] {
            self.pump_stream_at(stream, self.scenario.mappings_start);
        }
    }

    // ---- Time ------------------------------------------------------------------------------------------------------

    /// Lets something happen at a time.
    pub fn at(&mut self, at: Timestamp, event: impl FnOnce(&mut Self) + Send + 'static) {
        self.order += 1;
        self.events.push(Scheduled { at: at.max(self.now), order: self.order, event: Box::new(event) });
    }

    /// Lets something happen after a while.
    pub fn after(&mut self, wait: Duration, event: impl FnOnce(&mut Self) + Send + 'static) {
        let at = self.now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        self.at(at, event);
    }

    /// Lets the next thing happen. `false` where there is none.
    pub fn step(&mut self) -> bool {
        let Some(next) = self.events.pop() else { return false };
        self.now = next.at;
        (next.event)(self);
        true
    }

    // ---- What people look at ---------------------------------------------------------------------------------------

    /// Counts something that should happen in some runs.
    pub fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Adds a step to the trace.
    pub fn trace(&mut self, step: impl FnOnce() -> Step) {
        if let Some(trace) = &mut self.trace {
            trace.push(self.now, step());
        }
    }

    fn violated(&mut self, what: String) {
        self.trace(|| Step::note(format!("VIOLATION: {what}")));
        self.violations.push(what);
    }

    // ---- Calls of functions to AWS and to the outside --------------------------------------------------------------

    /// How many calls there were.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls
    }

    fn next_fault(&mut self, what: &'static str) -> (u64, Option<Fault>) {
        self.calls += 1;
        let fault = self.scenario.faults.of(self.calls, self.now).filter(|fault| fault.concerns(what));
        if let Some(fault) = fault {
            self.faults.push((self.calls, fault, what));
        }
        (self.calls, fault)
    }

    /// How a call, or an entry of one, is refused.
    #[must_use]
    pub fn refusal(&self) -> Failure {
        match self.mutant {
            Some(Mutant::RetryableTakenForPermanent) => Failure::permanent("throttled"),
            _ => Failure::retryable("throttled"),
        }
    }

    /// Starts a call. Its effect is `apply`, which gets a mask of entries that are refused; it may take place twice, later
    /// than the caller waits, or not at all. Where no answer will ever come, the caller waits for ever.
    pub fn call<T: Send + 'static>(
        &mut self,
        task: Task,
        step: CallStep,
        mut apply: impl FnMut(&mut Self, Option<u64>) -> T + Send + 'static,
        reply: oneshot::Sender<Result<T, Failure>>,
    ) {
        let (number, fault) = self.next_fault(step.what);
        // Only the SDK repeats calls: an action that must happen at most once is called once.
        let fault = fault.map(|fault| if step.once && fault == Fault::Repeated { Fault::LostReply } else { fault });
        let is_down = step.to == "table" && self.is_out(|what| matches!(what, What::TableDown(_)));
        let fault = match is_down {
            true if number.is_multiple_of(2) => Some(Fault::Refused),
            true => Some(Fault::NoAnswer),
            false => fault,
        };
        let step_entries = step.entries;
        // Where the effect is refused, everybody can tell. Where the write about it is, the next worker cannot.
        let is_doubtful =
            |fault| step.to != "SQS" && (step.what == "change" || !matches!(fault, Fault::Refused | Fault::Partial));
        if fault.is_some_and(is_doubtful) {
            self.doubt_all(task);
        }
        let latency = faults::latency(self.scenario.seed, number);
        let half = latency / 2;
        let from = self.running.get(&task).map_or_else(|| "operator".to_owned(), |running| running.name.clone());
        let traced = move |world: &mut Self, fault: Option<Fault>| {
            let text = || format!("{} {}", step.what, step.ids);
            world.trace(|| Step::call(from.clone(), step.to, text(), fault));
        };
        let lost = || Err(Failure::may_have_happened("no answer"));
        match fault {
            None => self.after(half, move |world| {
                traced(world, None);
                let answer = apply(world, None);
                world.after(half, |_| drop(reply.send(Ok(answer))));
            }),
            Some(Fault::Partial) if step_entries > 1 => self.after(half, move |world| {
                world.note("some entries of a call are refused");
                traced(world, fault);
                let mut rng = rng::numbered(world.scenario.seed, "partial", number);
                let mask = rng.u64(..) | (1 << rng.usize(..step_entries.min(64)));
                let answer = apply(world, Some(mask));
                world.after(half, |_| drop(reply.send(Ok(answer))));
            }),
            Some(Fault::Refused | Fault::Partial) => self.after(latency, move |world| {
                world.note("a call is refused");
                traced(world, Some(Fault::Refused));
                drop(reply.send(Err(world.refusal())));
            }),
            Some(Fault::LostReply) => self.after(half, move |world| {
                world.note("a reply is lost");
                traced(world, fault);
                apply(world, None);
                world.after(half, move |_| drop(reply.send(lost())));
            }),
            Some(Fault::NoAnswer) => {
                self.note("no answer comes");
                traced(self, fault);
                self.after(NO_ANSWER, move |_| drop(reply.send(lost())));
            }
            Some(Fault::Repeated) => self.after(half, move |world| {
                world.note("the SDK repeats a call that took place");
                traced(world, fault);
                apply(world, None);
                world.after(Duration::from_secs(1), move |world| {
                    traced(world, None);
                    let answer = apply(world, None);
                    world.after(half, |_| drop(reply.send(Ok(answer))));
                });
            }),
            Some(Fault::Slow) => {
                let slow = faults::slow(self.scenario.seed, number);
                self.after(slow / 2, move |world| {
                    traced(world, fault);
                    let answer = apply(world, None);
                    world.after(slow / 2, |_| drop(reply.send(Ok(answer))));
                });
            }
            Some(Fault::Late) => {
                let slow = faults::slow(self.scenario.seed, number);
                self.after(Duration::from_secs(5), move |_| drop(reply.send(lost())));
                self.after(NO_ANSWER + slow, move |world| {
                    world.note("an effect takes place after its caller gave up");
                    traced(world, fault);
                    apply(world, None);
                });
            }
            Some(Fault::CrashBefore) => {
                self.note("a process dies before a call");
                traced(self, fault);
                self.unanswered.push(Box::new(reply));
                self.kills.push((task, "its process dies"));
            }
            Some(Fault::CrashAfter) => {
                self.unanswered.push(Box::new(reply));
                self.after(half, move |world| {
                    world.note("a process dies after a call");
                    traced(world, fault);
                    apply(world, None);
                    world.kills.push((task, "its process dies"));
                });
            }
        }
    }

    // ---- Lambda ----------------------------------------------------------------------------------------------------

    /// Invokes a function. The invocation itself is a call that can fail.
    fn invoke(&mut self, from: &'static str, function: Function, ids: Vec<String>, payload: String, respond: Respond) {
        let (number, fault) = self.next_fault("invoke");
        let latency = faults::latency(self.scenario.seed, number);
        let down = |world: &Self, function: Function| {
            world.is_out(|what| match what {
                What::PublisherDown(_) => function == Function::Publisher,
                What::DownstreamDown(_) => function == Function::Downstream,
                _ => false,
            })
        };
        let throttled = self.is_out(|what| matches!(what, What::Throttled(_)));
        if throttled || matches!(fault, Some(Fault::Refused | Fault::Partial)) {
            self.note("an invocation is throttled");
            self.trace(|| Step::refused(from, function.name(), &ids, "throttled"));
            self.after(latency, move |world| respond(world, Outcome::Throttled));
            return;
        }
        if down(self, function) || matches!(fault, Some(Fault::NoAnswer | Fault::CrashBefore)) {
            self.note("an invocation fails");
            self.trace(|| Step::refused(from, function.name(), &ids, "fails at once"));
            self.after(latency, move |world| respond(world, Outcome::Error));
            return;
        }
        if function == Function::Downstream {
            let busy: BTreeSet<&String> = self
                .running
                .values()
                .filter(|running| running.function == function)
                .flat_map(|running| &running.ids)
                .collect();
            if ids.iter().any(|id| busy.contains(id)) {
                self.note("two workers have one notification at once");
                if self.scenario.is_healthy() {
                    self.violated(format!("two workers have {} at once, and nothing went wrong", ids.join(", ")));
                }
            }
        }
        let (task, name) = self.register(from, function, ids.clone());
        let answer_is_lost = matches!(fault, Some(Fault::LostReply | Fault::Late | Fault::CrashAfter));
        let respond: Respond = Box::new(move |world, outcome| {
            if answer_is_lost {
                world.note("a function's answer is lost");
                world.trace(|| Step::note_over(&name, "its answer is lost"));
                return respond(world, Outcome::Error);
            }
            respond(world, outcome);
        });
        if fault == Some(Fault::Repeated) {
            self.note("an invocation runs twice");
            let (twin, _) = self.register(from, function, ids);
            self.begin(twin, function, payload.clone(), latency * 2, Box::new(|_, _| {}));
        }
        let begins = if fault == Some(Fault::Slow) { faults::slow(self.scenario.seed, number) } else { latency };
        self.begin(task, function, payload, begins, respond);
    }

    /// Gives an invocation its number and its name.
    fn register(&mut self, from: &'static str, function: Function, ids: Vec<String>) -> (Task, String) {
        self.tasks += 1;
        let count = self.started.entry(function).or_default();
        *count += 1;
        let name = format!("{} {count}", function.name());
        self.trace(|| Step::call(from, &name, ids.join(", "), None));
        if from == SCHEDULE {
            self.sweeps.insert(self.tasks);
        }
        self.running.insert(self.tasks, Running { function, name: name.clone(), ids });
        (self.tasks, name)
    }

    /// Begins an invocation, and ends it when its time is over.
    fn begin(&mut self, task: Task, function: Function, payload: String, after: Duration, respond: Respond) {
        self.after(after, move |world| {
            let timeout = match function {
                Function::Ingest => world.deployed.ingest_timeout,
                _ => world.deployed.stream_function_timeout,
            };
            let deadline = world.now.saturating_add(timeout).unwrap_or(Timestamp::MAX);
            world.at(deadline, move |world| {
                if let Some(running) = world.running.get(&task) {
                    let (name, ids) = (running.name.clone(), running.ids.join(", "));
                    world.violated(format!("{name} ran into its timeout with {ids}"));
                    world.kills.push((task, "it runs into its timeout"));
                }
            });
            world.spawns.push(Spawn { task, function, payload, deadline, respond });
        });
    }

    /// Notes that nobody may be able to tell what became of an invocation's notifications.
    pub fn doubt_all(&mut self, task: Task) {
        let ids = self.running.get(&task).map(|running| running.ids.clone()).unwrap_or_default();
        self.doubtful.extend(ids);
    }

    /// What is handed on must be what the table has.
    pub fn check_content(&mut self, id: &str, event: &str) {
        let item = self.table.items.get(id).or_else(|| self.table.expired.get(id));
        if item.is_some_and(|item| !content::same(&item.event, event)) {
            self.violated(format!("{id} is handed on with another content than it was accepted with"));
        }
    }

    fn is_out(&self, is: impl Fn(&What) -> bool) -> bool {
        self.outages.iter().any(|(from, until, what)| (*from..*until).contains(&self.now) && is(what))
    }

    // ---- Queues ----------------------------------------------------------------------------------------------------

    fn queue(&mut self, name: QueueName) -> &mut QueueSource {
        match name {
            QueueName::Upstream => &mut self.upstream,
            QueueName::Work => &mut self.work,
        }
    }

    fn send(&mut self, message: Message) {
        self.trace(|| Step::call("upstream", "SQS", format!("send {}", message.id), None));
        self.enqueue(QueueName::Upstream, message.body);
    }

    /// Sends a message to a queue.
    pub fn enqueue(&mut self, name: QueueName, body: String) {
        let now = self.now;
        self.queue(name).queue.send(body, now);
        self.pump_queue_at(name, now + Duration::from_millis(20));
        self.expect_sweep();
    }

    /// Hides a message that was received from upstream's queue.
    ///
    /// # Errors
    /// A permanent failure where it is not in flight.
    pub fn hide(&mut self, receipt_handle: &str, wait: Duration) -> Result<(), Failure> {
        let now = self.now;
        let number = receipt_handle.trim_start_matches('r').parse().unwrap_or_default();
        match self.upstream.queue.change_visibility(number, wait, now) {
            Ok(()) => {
                self.note("a failed message is hidden");
                self.pump_queue_at(QueueName::Upstream, now + wait);
                Ok(())
            }
            Err(Unchanged::TooLong) => Err(Failure::permanent("hidden for too long")),
            Err(Unchanged::Gone | Unchanged::NotInFlight) => {
                self.note("a message that is not in flight is to be hidden");
                Err(Failure::permanent("not in flight"))
            }
        }
    }

    fn pump_queue_at(&mut self, name: QueueName, at: Timestamp) {
        let at = at.max(self.now);
        let source = self.queue(name);
        if source.next_pump.is_some_and(|next| next <= at) {
            return;
        }
        source.next_pump = Some(at);
        self.at(at, move |world| {
            if world.queue(name).next_pump == Some(at) {
                world.queue(name).next_pump = None;
                world.pump_queue(name);
            }
        });
    }

    fn pump_queue(&mut self, name: QueueName) {
        let now = self.now;
        let source = self.queue(name);
        let function = source.function;
        let wants = source.mapping.wants();
        let has_visible = source.queue.messages().any(|message| message.visible_at <= now);
        let (call, fault) = if wants > 0 && has_visible { self.next_fault("receive") } else { (0, None) };
        let again = match fault {
            Some(Fault::Refused | Fault::Partial | Fault::NoAnswer | Fault::CrashBefore) => {
                Some(Duration::from_secs(1))
            }
            Some(Fault::Slow) => Some(faults::slow(self.scenario.seed, call)),
            _ => None,
        };
        if let Some(wait) = again {
            self.note("a receive fails");
            self.pump_queue_at(name, now + wait);
        } else if wants > 0 {
            let mut received = self.queue(name).queue.receive(wants, now);
            if matches!(fault, Some(Fault::LostReply | Fault::CrashAfter)) && !received.messages.is_empty() {
                // They are invisible now and have used up a receive, and nobody has them.
                self.note("received messages are lost on the way");
                let ids: Vec<String> = received.messages.iter().map(|message| id_of(&message.body)).collect();
                self.trace(|| Step::refused(name.name(), function.name(), &ids, "lost on the way"));
                received.messages.clear();
            }
            for dead in received.dead {
                self.queue(name).dead.take_dead(dead.clone(), now);
                self.note("a message becomes a dead letter");
                let took = Duration::try_from(now.duration_since(dead.sent_at)).unwrap_or_default();
                if took > QUICKLY && self.scenario.is_healthy() {
                    self.violated("a refused message is a dead letter only after more than a minute".to_owned());
                }
                self.trace(|| {
                    Step::call(name.name(), "DLQ", format!("{} after six receives", id_of(&dead.body)), None)
                });
            }
            self.check_received(name, &received.messages);
            let gather = |message: &event_source::queue::Message| Gathered {
                number: message.number,
                message_id: format!("m{}", message.number).into(),
                event: sqs_event(message.number, &message.body, message.receive_count),
            };
            let gathered: Vec<Gathered> = received.messages.iter().map(gather).collect();
            // A standard queue may hand a message to two receivers.
            if matches!(fault, Some(Fault::Repeated | Fault::Late)) {
                for number in gathered.iter().map(|message| message.number).collect::<Vec<_>>() {
                    self.after(Duration::from_millis(5), move |world| {
                        world.deliver_again(name, number, "a message is delivered twice at once");
                    });
                }
            }
            let source = self.queue(name);
            let filtered = source.mapping.received(gathered, now);
            for number in filtered {
                source.queue.delete(number);
            }
        }
        for invocation in self.queue(name).mapping.due(now) {
            let payload = payload(invocation.messages.iter().map(|message| &*message.event));
            let ids = self.ids_of(name, &invocation.messages);
            let respond: Respond = Box::new(move |world, outcome| {
                let outcome = Mutant::rewrite(world.mutant, outcome, &[]);
                let answer = answer(&outcome);
                let done = world.queue(name).mapping.answered(invocation.number, answer);
                world.delete(name, done);
                world.pump_queue_at(name, world.now);
            });
            self.invoke(name.name(), function, ids, payload, respond);
        }
        let source = self.queue(name);
        let wakes_at = source.mapping.wake_at().filter(|at| *at > now);
        let (visible, invisible): (Vec<Timestamp>, Vec<Timestamp>) =
            source.queue.messages().map(|message| message.visible_at).partition(|at| *at <= now);
        let polls_again = source.mapping.wants() > 0 && !visible.is_empty();
        let polled_at = polls_again.then(|| now + Duration::from_millis(20));
        if let Some(next) = [wakes_at, polled_at, invisible.into_iter().min()].into_iter().flatten().min() {
            self.pump_queue_at(name, next);
        }
    }

    /// Where nothing goes wrong, a message that is accepted is deleted.
    fn check_received(&mut self, name: QueueName, messages: &[event_source::queue::Message]) {
        if name != QueueName::Upstream || !self.wiring.hands_over || !self.scenario.is_healthy() {
            return;
        }
        for message in messages.iter().filter(|message| message.receive_count > 1) {
            let id = id_of(&message.body);
            if self.table.items.get(&id).is_some_and(|item| content::same(&item.event, &message.body)) {
                self.violated(format!(
                    "a message of {id} that was accepted is delivered again, and nothing went wrong"
                ));
            }
        }
    }

    fn ids_of(&mut self, name: QueueName, messages: &[Gathered]) -> Vec<String> {
        let queue = &self.queue(name).queue;
        let body = |number| queue.messages().find(|message| message.number == number).map(|message| &*message.body);
        let bodies: Vec<&str> = messages.iter().filter_map(|message| body(message.number)).collect();
        bodies.iter().map(|body| id_of(body)).collect()
    }

    /// Deletes messages. That call can fail as well, and a deleted message can come again.
    fn delete(&mut self, name: QueueName, numbers: Vec<u64>) {
        if numbers.is_empty() {
            return;
        }
        let (call, fault) = self.next_fault("delete");
        if matches!(fault, Some(Fault::Refused | Fault::NoAnswer | Fault::CrashBefore | Fault::Partial)) {
            self.note("a message is done and not deleted");
            self.trace(|| Step::note_over(name.name(), "does not delete what is done: the call fails"));
            return;
        }
        for number in numbers {
            if name == QueueName::Upstream {
                self.check_deleted(number);
            }
            self.queue(name).queue.delete(number);
            if matches!(fault, Some(Fault::Repeated | Fault::Late)) {
                let wait = faults::slow(self.scenario.seed, call);
                self.after(wait, move |world| {
                    world.deliver_again(name, number, "a deleted message is delivered again");
                });
            }
        }
    }

    fn deliver_again(&mut self, name: QueueName, number: u64, note: &'static str) {
        let now = self.now;
        if self.queue(name).queue.deliver_again(number, now) {
            self.note(note);
            self.trace(|| Step::note_over(name.name(), "delivers a message again"));
            self.pump_queue_at(name, now);
        }
    }

    /// A message may be deleted only when the table has its notification, with its content.
    fn check_deleted(&mut self, number: u64) {
        let Some(message) = self.upstream.queue.messages().find(|message| message.number == number) else { return };
        let body = message.body.clone();
        let Ok(notification) = Notification::parse(body.as_str()) else {
            return self.violated("a malformed message was deleted".to_owned());
        };
        let id = notification.id().as_str();
        let item = self.table.items.get(id).or_else(|| self.table.expired.get(id));
        match item {
            None => self.violated(format!("the message of {id} was deleted, and the table does not have it")),
            Some(item) if !content::same(&item.event, &body) => {
                self.violated(format!("a conflicting message of {id} was deleted"));
            }
            Some(_) => {}
        }
    }

    // ---- Streams ---------------------------------------------------------------------------------------------------

    fn stream(&mut self, name: StreamName) -> &mut StreamSource {
        match name {
            StreamName::Table => &mut self.table_stream,
            StreamName::Kinesis => &mut self.kinesis,
        }
    }

    /// Moves what changed in the table into its stream, and lets the index follow.
    pub fn capture(&mut self) {
        let now = self.now;
        for captured in std::mem::take(&mut self.table.captured) {
            let mut captured = captured;
            if self.mutant == Some(Mutant::NoInitFilter) {
                captured.old = None;
                captured.new = captured.new.map(|(_, event)| (notification::Status::Init, event));
            }
            let id = captured.id.clone();
            self.table_stream.shards.append(&id, now, |_, sequence_number| captured.event(sequence_number));
            let lag = Duration::from_millis(rng::numbered(self.scenario.seed, "lag", self.calls).u64(10..2_000));
            self.after(lag, move |world| world.table.update_index(&id));
            if captured.event_name == "REMOVE" {
                self.note("a DONE item expires");
            }
        }
        for wrong in std::mem::take(&mut self.table.wrong_writes) {
            self.violated(wrong);
        }
        if let Some(expiry) = self
            .table
            .next_expiry()
            .filter(|_| self.scenario.runs_until_expiry || self.mutant == Some(Mutant::ExpiryTooShort))
        {
            self.at(expiry, |world| {
                world.table.expire(world.now);
                world.capture();
            });
        }
        self.pump_stream_at(StreamName::Table, now + Duration::from_millis(250));
        self.expect_sweep();
    }

    /// Puts a record into Kinesis.
    pub fn put_record(&mut self, key: &str, data: &[u8]) {
        use base64::Engine;
        // Else two workers could have one notification, each from another shard.
        let id = std::str::from_utf8(data).ok().and_then(notification::event::readable_id);
        if let Some(id) = id.filter(|id| id.as_str() != key) {
            self.violated(format!("{id} is in Kinesis under another partition key"));
        }
        if let Ok(event) = std::str::from_utf8(data) {
            self.check_content(key.split('#').next().unwrap_or(key), event);
        }
        let data = base64::prelude::BASE64_STANDARD.encode(data);
        let now = self.now;
        let arrived = now.as_millisecond();
        self.kinesis.shards.append(key, now, |shard, sequence_number| {
            format!(
                r#"{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":"{key}","sequenceNumber":"{sequence_number}","data":"{data}","approximateArrivalTimestamp":{}.{:03}}},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"{shard}:{sequence_number}","eventName":"aws:kinesis:record"}}"#,
                arrived / 1000,
                arrived % 1000,
            )
        });
        self.pump_stream_at(StreamName::Kinesis, now + Duration::from_millis(300));
    }

    fn pump_stream_at(&mut self, name: StreamName, at: Timestamp) {
        if name == StreamName::Table && !self.wiring.reads_table_stream {
            return;
        }
        let at = at.max(self.now);
        let source = self.stream(name);
        if source.next_pump.is_some_and(|next| next <= at) {
            return;
        }
        source.next_pump = Some(at);
        self.at(at, move |world| {
            if world.stream(name).next_pump == Some(at) {
                world.stream(name).next_pump = None;
                world.pump_stream(name);
            }
        });
    }

    fn pump_stream(&mut self, name: StreamName) {
        let now = self.now;
        if self.is_out(|what| matches!(what, What::NothingReads(_))) {
            let ends = self
                .outages
                .iter()
                .filter(|(from, until, _)| (*from..*until).contains(&now))
                .map(|(_, until, _)| *until);
            if let Some(end) = ends.max() {
                self.pump_stream_at(name, end);
            }
            return;
        }
        let mut expired = false;
        loop {
            let source = self.stream(name);
            source.mapping.discovered(source.shards.list());
            let to_read: Vec<_> =
                source.mapping.to_read().map(|(shard, from)| (shard.to_owned(), from.clone())).collect();
            let mut progress = false;
            for (shard, from) in to_read {
                let read = source.shards.read(&shard, &from, now);
                progress |= read.ended || !read.records.is_empty();
                expired |= !read.expired.is_empty();
                source.lost_foreign += read.expired.iter().filter(|key| *key == "foreign").count();
                source.lost.extend(read.expired);
                source.mapping.read(&shard, read.records, read.ended, now);
            }
            if !progress {
                break;
            }
        }
        if expired {
            self.note("a stream record expires unread");
        }
        let (invocations, discarded) = self.stream(name).mapping.due(now);
        for discarded in discarded {
            self.discarded(name, &discarded);
        }
        for invocation in invocations {
            let function = self.stream(name).function;
            let payload = payload(invocation.records.iter().map(|record| &*record.event));
            let ids: Vec<String> = invocation.records.iter().map(|record| record.key.to_string()).collect();
            let records = invocation.records;
            let respond: Respond = Box::new(move |world, outcome| {
                let outcome = Mutant::rewrite(world.mutant, outcome, &records);
                if !matches!(outcome, Outcome::Throttled) {
                    world.check_deliveries(name, &records);
                }
                let bisects = world.stream(name).mapping.bisects();
                let now = world.now;
                let answered = world.stream(name).mapping.answered(invocation.number, answer(&outcome), now);
                if world.stream(name).mapping.bisects() > bisects {
                    world.note("a batch is bisected");
                }
                world.check_acknowledged(name, &answered.done);
                if let Some(discarded) = answered.discarded {
                    world.discarded(name, &discarded);
                }
                world.pump_stream_at(name, now);
            });
            self.invoke(name.name(), function, ids, payload, respond);
        }
        if let Some(next) = self.stream(name).mapping.wake_at().filter(|at| *at > now) {
            self.pump_stream_at(name, next);
        }
    }

    fn discarded(&mut self, name: StreamName, discarded: &Discarded) {
        self.note(match discarded.condition {
            Condition::RetryAttemptsExhausted => "a record is given up after its retries",
            Condition::RecordAgeExceeded => "a record is given up for its age",
        });
        let keys: Vec<String> = discarded.records.iter().map(|record| record.key.to_string()).collect();
        self.trace(|| Step::note_over(name.name(), format!("gives up {}: {:?}", keys.join(", "), discarded.condition)));
        self.stream(name).lost_foreign += keys.iter().filter(|key| *key == "foreign").count();
        self.stream(name).lost.extend(keys);
        self.expect_sweep();
    }

    /// A record may be acknowledged only when the next step has what it stands for.
    fn check_acknowledged(&mut self, name: StreamName, records: &[Arc<Record>]) {
        if !self.wiring.hands_over {
            return;
        }
        for record in records {
            let Some(item) = self.table.items.get(&*record.key) else { continue };
            let status = item.status;
            if !status.is_pending() {
                continue;
            }
            match name {
                StreamName::Table if self.kinesis.shards.count(&record.key) > 0 => {}
                StreamName::Table => {
                    self.violated(format!("publisher acknowledged {}, which is not in Kinesis", record.key));
                }
                StreamName::Kinesis => {
                    self.violated(format!("downstream acknowledged {}, which is {status}", record.key));
                }
            }
        }
    }

    /// A record is delivered as often as its retries allow, however bad its neighbours are; and where nothing goes wrong,
    /// once.
    fn check_deliveries(&mut self, name: StreamName, records: &[Arc<Record>]) {
        let source = self.stream(name);
        let settings = source.mapping.settings();
        let splits = usize::BITS - settings.batch_size.leading_zeros();
        let attempts = settings.maximum_retry_attempts.map_or(u32::MAX, |retries| 1 + retries + splits);
        let most = attempts.saturating_mul(1 + source.restarts);
        let mut delivered = 0;
        for record in records {
            let count = source.deliveries.entry(record.sequence_number.clone()).or_default();
            *count += 1;
            delivered = delivered.max(*count);
        }
        if delivered > most && !self.scenario.progress_resets_retries {
            self.violated(format!("{} delivered a record {delivered} times", name.name()));
        }
        if delivered > 1 && self.scenario.is_healthy() {
            self.violated(format!("{} delivered a record again, and nothing went wrong", name.name()));
        }
    }

    // ---- The sweep -------------------------------------------------------------------------------------------------

    /// Makes sure that the sweep runs on its schedule while there is something that it could find.
    fn expect_sweep(&mut self) {
        let is_wanted = self.wiring.sweeps && self.mutant != Some(Mutant::NoSweep);
        let last = self.scenario.healed_at() + Duration::from_hours(8);
        if !is_wanted || self.next_sweep.is_some() || self.now > last {
            return;
        }
        let period = i64::try_from(self.deployed.sweep_every.as_secs()).unwrap_or(i64::MAX).max(1);
        let next = (self.now.as_second() / period + 1) * period;
        let Ok(next) = Timestamp::from_second(next) else { return };
        self.next_sweep = Some(next);
        self.at(next, |world| {
            world.next_sweep = None;
            if !world.table.has_pending() && world.upstream.queue.messages().next().is_none() {
                return;
            }
            if !world.is_out(|what| matches!(what, What::NothingReads(_))) {
                world.sweep();
            }
            world.expect_sweep();
        });
    }

    /// Only one sweep publishes at a time.
    pub fn check_sweeps(&mut self, task: Task) {
        if !self.sweeps.contains(&task) {
            return;
        }
        let other = self.publishing_sweep.replace(task).filter(|other| *other != task);
        if other.is_some_and(|other| self.running.contains_key(&other)) {
            self.violated("two sweeps publish at once".to_owned());
        }
    }

    fn sweep(&mut self) {
        if !self.table.has_pending() {
            return;
        }
        // A schedule delivers at least once.
        let twice = self.scenario.impatient && rng::numbered(self.scenario.seed, "schedule", self.calls).u8(0..4) == 0;
        for _ in 0..=u8::from(twice) {
            self.invoke_sweep();
        }
    }

    fn invoke_sweep(&mut self) {
        let respond: Respond = Box::new(|world, outcome| {
            if let Outcome::Response(swept) = outcome {
                let swept: serde_json::Value = serde_json::from_str(&swept).unwrap_or_default();
                if swept["published"].as_u64() > Some(0) {
                    world.note("the sweep publishes something again");
                }
            }
        });
        self.invoke(SCHEDULE, Function::Publisher, vec![], r#"{"sweep": true}"#.to_owned(), respond);
    }

    // ---- Disturbances ----------------------------------------------------------------------------------------------

    fn disturb(&mut self, what: What) {
        let choice = usize::try_from(self.calls).unwrap_or(0);
        self.trace(|| Step::note(what.to_string()));
        let (now, lasts) = (self.now, what.lasts());
        match what {
            What::Split => {
                if self.kinesis.shards.split(choice) {
                    self.note("a shard is split");
                }
            }
            What::Merge => {
                if self.kinesis.shards.merge(choice) {
                    self.note("two shards are merged");
                }
            }
            What::Rollover => {
                self.note("the table's stream rolls over");
                self.table_stream.shards.roll_over();
            }
            What::RestartTableMapping => {
                self.note("a mapping starts again");
                self.table_stream.restarts += 1;
                self.table_stream.mapping.restart();
            }
            What::RestartStreamMapping => {
                self.note("a mapping starts again");
                self.kinesis.restarts += 1;
                self.kinesis.mapping.restart();
            }
            What::KillAll => {
                let running: Vec<Task> = self.running.keys().copied().collect();
                self.kills.extend(running.into_iter().map(|task| (task, "its process dies")));
            }
            What::TableDown(_)
            | What::PublisherDown(_)
            | What::DownstreamDown(_)
            | What::Throttled(_)
            | What::NothingReads(_) => {
                self.outages.push((now, now + lasts, what));
            }
            What::ForeignRecord => {
                self.foreign += 1;
                self.put_record("foreign", b"\xff no notification");
            }
            What::RedriveDeadLetters => {
                self.note("an operator redrives the dead-letter queue");
                let dead: Vec<_> = self.upstream.dead.messages().cloned().collect();
                for message in dead {
                    self.upstream.dead.delete(message.number);
                    // A redriven message is a new one, with its own retention.
                    // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-configure-dead-letter-queue-redrive.html
                    self.upstream.queue.send(message.body, now);
                }
                self.pump_queue_at(QueueName::Upstream, now);
            }
        }
        self.pump_stream_at(StreamName::Table, now);
        self.pump_stream_at(StreamName::Kinesis, now);
    }
}

/// What a call is, for its trace.
#[derive(Debug)]
pub struct CallStep {
    /// What is called.
    pub what: &'static str,
    /// Whom.
    pub to: &'static str,
    /// With which ids, in words.
    pub ids: String,
    /// With how many entries.
    pub entries: usize,
    /// Whether nobody repeats it.
    pub once: bool,
}

impl CallStep {
    /// A call of one thing, which the SDK may repeat.
    #[must_use]
    pub fn one(what: &'static str, to: &'static str, id: impl Into<String>) -> Self {
        Self { what, to, ids: id.into(), entries: 1, once: false }
    }
}

impl QueueName {
    const fn name(self) -> &'static str {
        match self {
            Self::Upstream => "SQS",
            Self::Work => "queue",
        }
    }
}

impl StreamName {
    const fn name(self) -> &'static str {
        match self {
            Self::Table => "table stream",
            Self::Kinesis => "Kinesis",
        }
    }
}

fn answer(outcome: &Outcome) -> Answer<'_> {
    match outcome {
        Outcome::Response(response) => Answer::Response(response.as_bytes()),
        Outcome::Error => Answer::FunctionError,
        Outcome::Throttled => Answer::Throttled,
    }
}

fn id_of(body: &str) -> String {
    notification::event::readable_id(body).map_or_else(|| "(no id)".to_owned(), |id| id.to_string())
}

fn sqs_event(number: u64, body: &str, receive_count: u32) -> Box<RawValue> {
    let event = serde_json::json!({
        "messageId": format!("m{number}"),
        "receiptHandle": format!("r{number}"),
        "body": body,
        "attributes": {"ApproximateReceiveCount": receive_count.to_string()},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:queue",
        "awsRegion": "us-east-1",
    });
    serde_json::value::to_raw_value(&event).unwrap_or_default()
}
