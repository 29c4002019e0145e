//! One schedule: the choices that are possible, and what each does.

use crate::bugs::{self, Bug};
use crate::faults::Fault;
use crate::ports::{CallReceiver, EFFECT, Ports};
use crate::scenario::{Operator, Scenario};
use crate::world::{Actor, Digest, Ended, ID, INVOCATION, Request, Role, Shared, World, event, lock};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use downstream::Downstream;
use jiff::Timestamp;
use notification::operator::{Decided, Decision, decide, seen};
use notification::{Deadline, Envelope, Failure, Invocation, NotificationId, Status, limits};
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// How many workers have a record of the notification at the beginning.
const WORKERS: usize = 2;

/// How many more workers the stream and the sweep may start, after a failure or after a change by the operator.
const LATER_WORKERS: usize = 1;

/// One choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// One of the first workers starts.
    Start,
    /// The record is delivered again.
    Deliver,
    /// The operator acts.
    Operate,
    /// A request takes effect, with or without a fault.
    Request {
        /// Its place among the outstanding requests.
        place: usize,
        /// What goes wrong with it.
        fault: Option<Fault>,
    },
    /// Time passes until the next timer or expiry.
    Wait,
}

type Work = Pin<Box<dyn Future<Output = Ended>>>;

/// The work of a worker, or of the operator, until it has ended.
struct Running {
    work: Option<Work>,
    is_woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A schedule that has come this far.
pub struct Replay {
    world: Shared,
    running: Vec<Running>,
    faults_left: usize,
    workers_left: usize,
    later_workers_left: usize,
    has_operated: bool,
}

impl Replay {
    /// At the beginning of a scenario, with so many faults.
    #[must_use]
    pub fn new(scenario: Scenario, bug: Option<Bug>, faults: usize, traced: bool) -> Self {
        Self {
            world: Arc::new(Mutex::new(World::new(scenario, bug, traced))),
            running: vec![],
            faults_left: faults,
            workers_left: WORKERS,
            later_workers_left: LATER_WORKERS,
            has_operated: false,
        }
    }

    /// The choices that are possible now. After the last one, there are none.
    #[must_use]
    pub fn choices(&self) -> Vec<Choice> {
        let mut world = lock(&self.world);
        let guarantee = world.scenario.guarantee;
        let mut choices = Vec::new();
        for (place, request) in world.requests.iter().enumerate() {
            choices.push(Choice::Request { place, fault: None });
            if self.faults_left > 0 && !request.is_slow {
                let possible = Fault::ALL.into_iter().filter(|fault| fault.is_possible(&request.call, guarantee));
                choices.extend(possible.map(|fault| Choice::Request { place, fault: Some(fault) }));
            }
        }
        if self.workers_left > 0 {
            choices.push(Choice::Start);
        }
        if self.can_deliver(&world) {
            choices.push(Choice::Deliver);
        }
        if !self.has_operated && decision(&world).is_some() {
            choices.push(Choice::Operate);
        }
        if self.next_time(&mut world).is_some() {
            choices.push(Choice::Wait);
        }
        choices
    }

    fn can_deliver(&self, world: &World) -> bool {
        self.later_workers_left > 0 && world.deliveries > 0
    }

    /// When time passes, until when; `None` if there is nothing to wait for, or if a request takes effect before.
    fn next_time(&self, world: &mut World) -> Option<Timestamp> {
        if world.requests.iter().any(|request| !request.is_slow) {
            return None;
        }
        let mut times: Vec<Timestamp> = world.next_timer().into_iter().collect();
        let workers = world.actors.iter().filter(|actor| actor.ended.is_none() && actor.role != Role::Operator);
        times.extend(workers.map(|worker| worker.deadline));
        if let Some(claim) = &world.item().claim {
            if self.workers_left > 0 || self.can_deliver(world) {
                times.push(claim.lease_until);
            }
            if !self.has_operated && world.scenario.operator == Operator::Resolves {
                times.push(claim.lease_until + limits::OPERATOR_CLOCK_SKEW);
            }
        }
        times.into_iter().filter(|time| *time > world.now).min()
    }

    /// Goes on with a choice, to the next one.
    pub fn choose(&mut self, choice: Choice) {
        match choice {
            Choice::Start => {
                self.workers_left -= 1;
                let has_orphan = self.workers_left == 0 && lock(&self.world).scenario.has_orphan;
                self.start_worker(if has_orphan { Role::OrphanWorker } else { Role::Worker });
            }
            Choice::Deliver => {
                self.later_workers_left -= 1;
                lock(&self.world).deliveries -= 1;
                self.start_worker(Role::Worker);
            }
            Choice::Operate => self.start_operator(),
            Choice::Request { place, fault } => {
                self.faults_left -= usize::from(fault.is_some());
                self.take_effect(place, fault);
            }
            Choice::Wait => self.wait(),
        }
        self.run();
    }

    fn start(&mut self, name: String, role: Role, work: impl FnOnce(Ports) -> Work) {
        let (mut world, number) = (lock(&self.world), self.running.len());
        world.trace(|_| format!("{name} starts"));
        let saw_settled = !matches!(world.item().status, Status::Init | Status::Claimed);
        let (now, deadline) = (world.now, world.now + INVOCATION);
        let told = Digest::of(format_args!("{name} {role:?} {now}"));
        world.actors.push(Actor {
            name,
            role,
            deadline,
            told,
            ended: None,
            could_not_write: false,
            was_rejected_beside: false,
            saw_settled,
        });
        drop(world);
        let ports = Ports { world: Arc::clone(&self.world), actor: number };
        let is_woken = Arc::new(Woken(AtomicBool::new(true)));
        self.running.push(Running { work: Some(work(ports)), is_woken });
    }

    fn start_worker(&mut self, role: Role) {
        let workers = lock(&self.world).actors.iter().filter(|actor| actor.role != Role::Operator).count();
        self.start(format!("worker {}", workers + 1), role, |ports| Box::pin(work(ports)));
    }

    fn start_operator(&mut self) {
        self.has_operated = true;
        let mut world = lock(&self.world);
        world.is_fixed = true;
        let Some(decision) = decision(&world) else { return };
        let as_seen = world.table.read(ID).as_ref().and_then(seen);
        drop(world);
        self.start("operator".to_owned(), Role::Operator, |ports| Box::pin(operate(ports, decision, as_seen)));
    }

    /// Lets a request take effect.
    fn take_effect(&mut self, place: usize, fault: Option<Fault>) {
        let mut world = lock(&self.world);
        let mut request = world.requests.remove(place);
        world.in_turn = request.actor;
        if let Some(fault) = fault {
            world.note_fault(&request, fault);
        }
        world.trace(|world| described(world, &request, fault));
        if fault.is_none_or(Fault::takes_effect_now) {
            request.pending.arrive(&mut world);
        }
        let actor = request.actor;
        match fault {
            None => {
                if let Some(answer) = request.pending.reply() {
                    world.tell(actor, &answer);
                }
            }
            Some(Fault::Refused) => {
                request.pending.fail(bugs::refusal(world.bug));
                world.tell(actor, "refused");
            }
            Some(Fault::LostReply | Fault::NoAnswer | Fault::Late) => {
                request.pending.fail(Failure::may_have_happened("no answer"));
                world.tell(actor, "no answer");
            }
            // It waits until it gives up.
            Some(Fault::Unanswered | Fault::Slow | Fault::Repeated) => {}
            Some(Fault::DiesBefore | Fault::DiesAfter) => {
                drop(world);
                return self.end(actor, Ended::Died);
            }
        }
        if fault.is_some_and(Fault::takes_effect_later) {
            world.keep(Request { is_slow: true, ..request });
        }
    }

    fn wait(&mut self) {
        let mut world = lock(&self.world);
        let Some(time) = self.next_time(&mut world) else { return };
        world.pass_until(time);
        world.trace(|_| "time passes".to_owned());
        let is_over = |actor: &Actor| actor.ended.is_none() && actor.role != Role::Operator && actor.deadline <= time;
        let over: Vec<usize> = (0..world.actors.len()).filter(|&number| is_over(&world.actors[number])).collect();
        drop(world);
        for actor in over {
            lock(&self.world).check_timeout(actor);
            self.end(actor, Ended::Died);
        }
    }

    /// Lets every worker run until it waits.
    fn run(&mut self) {
        for number in 0..self.running.len() {
            while self.running[number].is_woken.0.swap(false, Ordering::Relaxed) {
                let Running { work, is_woken } = &mut self.running[number];
                let Some(future) = work else { continue };
                let waker = Waker::from(Arc::clone(is_woken));
                if let Poll::Ready(ended) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    self.end(number, ended);
                }
            }
        }
        let mut world = lock(&self.world);
        // Its caller gave up, so the outcome is unknown.
        world.has_doubt |= world.requests.iter().any(|request| !request.pending.is_awaited());
    }

    fn end(&mut self, number: usize, ended: Ended) {
        self.running[number].work = None;
        let mut world = lock(&self.world);
        world.actors[number].ended = Some(ended);
        world.trace(|world| format!("{} {}", world.actors[number].name, in_words(ended)));
        world.check_end(number, ended);
        world.deliveries += usize::from(matches!(ended, Ended::Reported | Ended::Died));
    }

    /// The state, as a hash: two schedules with the same one can go on in the same ways.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let Self { faults_left, workers_left, later_workers_left, has_operated, .. } = self;
        let mut digest = Digest::default();
        (faults_left, workers_left, later_workers_left, has_operated).hash(&mut digest);
        lock(&self.world).digest(&mut digest);
        digest.finish()
    }

    /// Ends a schedule that has no choices left: if the notification is still pending, workers without faults must settle it.
    pub fn finish(&mut self) {
        for _ in 0..WORKERS {
            let mut world = lock(&self.world);
            if world.violation.is_some() || !matches!(world.item().status, Status::Init | Status::Claimed) {
                break;
            }
            let tomorrow = world.now + Duration::from_hours(24);
            world.pass_until(tomorrow);
            drop(world);
            self.start_worker(Role::Worker);
            self.run();
            while self.violation().is_none() && self.running.last().is_some_and(|running| running.work.is_some()) {
                let is_waiting = lock(&self.world).requests.is_empty();
                self.choose(if is_waiting { Choice::Wait } else { Choice::Request { place: 0, fault: None } });
            }
        }
        lock(&self.world).check_settled();
    }

    /// The first rule that was broken.
    #[must_use]
    pub fn violation(&self) -> Option<String> {
        lock(&self.world).violation.clone()
    }

    /// What has happened, if it was traced.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        lock(&self.world).trace.clone().unwrap_or_default()
    }
}

/// What the operator would decide now, and only states what is true.
fn decision(world: &World) -> Option<Decision> {
    let item = world.item();
    let has_expired =
        item.claim.as_ref().is_some_and(|claim| claim.lease_until + limits::OPERATOR_CLOCK_SKEW <= world.now);
    match (world.scenario.operator, item.status) {
        (Operator::Redrives, Status::Failed) => Some(Decision::Redrive),
        (Operator::Resolves, Status::InDoubt | Status::Claimed) => {
            let is_called = world.requests.iter().any(|request| request.call.method == EFFECT);
            match world.effects {
                _ if item.status == Status::Claimed && !has_expired => None,
                0 => (!is_called).then_some(Decision::ResolveRetry),
                _ => Some(Decision::ResolveDone),
            }
        }
        _ => None,
    }
}

/// `notifyctl`, with the state that the operator saw.
async fn operate(ports: Ports, decision: Decision, as_seen: Option<Timestamp>) -> Ended {
    let Ok(id) = NotificationId::parse(ID) else { return Ended::ToldFailed };
    match decide(&ports, &ports, &id, decision, as_seen).await {
        Ok(Decided::Changed { .. }) => Ended::ToldChanged,
        Ok(_) => Ended::ToldUnchanged,
        Err(_) => Ended::ToldFailed,
    }
}

/// One invocation of downstream with one record.
async fn work(ports: Ports) -> Ended {
    let (guarantee, bug, now, Actor { name, role, .. }) = {
        let world = lock(&ports.world);
        (world.scenario.guarantee, world.bug, world.now_of(ports.actor), world.actors[ports.actor].clone())
    };
    let data = BASE64_STANDARD.encode(event(role == Role::OrphanWorker));
    let record =
        format!(r#"{{"Records":[{{"eventID":"shardId-0:1","kinesis":{{"sequenceNumber":"1","data":"{data}"}}}}]}}"#);
    let Ok(envelope) = serde_json::from_str::<Envelope>(&record) else { return Ended::Died };
    let deadline = bugs::deadline(bug, Deadline::at(now + INVOCATION));
    let action = CallReceiver { ports: ports.clone(), guarantee };
    let downstream = Downstream::new(ports.clone(), ports, action);
    let has_failed = match downstream.handle(envelope, Invocation { deadline, request_id: name }).await {
        Ok(response) => response.identifiers().next().is_some(),
        Err(_) => true,
    };
    if bugs::reports(bug, has_failed) { Ended::Reported } else { Ended::Acknowledged }
}

/// A request in words, for traces.
fn described(world: &World, request: &Request, fault: Option<Fault>) -> String {
    let what = match (request.call.method, &request.call.changes[..]) {
        (EFFECT, _) => "call the receiver".to_owned(),
        ("commit", _) => "commit the effect and DONE".to_owned(),
        (_, [(Some(from), to)]) => format!("{from} → {to}"),
        (method, _) => method.to_owned(),
    };
    let fault = fault.map(|fault| format!("   ✗ {fault}")).unwrap_or_default();
    let status = world.item().status;
    format!("{}: {what} (it is {status}){fault}", world.actors[request.actor].name)
}

const fn in_words(ended: Ended) -> &'static str {
    match ended {
        Ended::Acknowledged => "ends, and its record is not delivered again",
        Ended::Reported => "reports its record",
        Ended::Died => "dies",
        Ended::ToldChanged => "is told that the notification is changed",
        Ended::ToldUnchanged => "is told that nothing was changed",
        Ended::ToldFailed => "is told that a call failed",
    }
}
