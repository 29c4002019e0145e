//! One run. Invocations are futures that are polled by hand, so the same scenario always gives the same run.

use crate::aws::lambda::{Ended, Invocation, Task};
use crate::checks;
use crate::emitted::recorded;
use crate::faults::Fault;
use crate::mutants::Mutant;
use crate::operator;
use crate::ports::Ports;
use crate::scenario::Scenario;
use crate::template::Deployed;
use crate::trace::{Step, Trace};
use crate::world::{Respond, Shared, Wiring, World, lock};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

/// The work of an invocation: what the function returns, or that it failed.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<String, String>>>>;

/// What runs in the functions.
pub(crate) trait Deployment: Sync {
    fn wiring(&self) -> Wiring;

    fn invoke(&self, invocation: Invocation, ports: Ports) -> Work;

    /// Checks what must hold at the end of a run, besides what must always hold.
    fn check(&self, world: &World) -> Vec<String>;
}

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    /// The rules that were broken.
    pub violations: Vec<String>,
    /// How often each situation occurred.
    pub seen: BTreeMap<&'static str, u64>,
    /// The faults that calls had, by the call's number.
    pub faults: BTreeMap<u64, Fault>,
    /// How many calls there were.
    pub calls: u64,
    /// What happened, if the run was traced.
    pub trace: Trace,
}

/// The most events that a run may have. Hundreds are usual, and a day of sweeps has 100,000.
const STEPS_MAX: u64 = 2_000_000;

struct Running {
    work: Work,
    respond: Respond,
    waker: Waker,
}

/// Queues its task as ready to be polled.
struct Ready {
    task: Task,
    line: Sender<Task>,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        // The run may be over.
        let _ = self.line.send(self.task);
    }
}

/// What runs in the functions, and how it is deployed.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub(crate) deployment: &'a dyn Deployment,
    pub(crate) deployed: &'a Deployed,
    /// The bug that is put back.
    pub(crate) mutant: Option<Mutant>,
}

impl Subject<'_> {
    /// With a bug that is put back.
    #[must_use]
    pub fn with_mutant(self, mutant: Mutant) -> Self {
        Self { mutant: Some(mutant), ..self }
    }

    /// Runs a scenario to its end.
    #[must_use]
    pub fn run(self, scenario: &Scenario, traced: bool) -> Report {
        let Self { deployment, deployed, mutant } = self;
        let world = World::new(scenario.clone(), deployed, mutant, deployment.wiring(), traced);
        let world: Shared = Arc::new(Mutex::new(world));
        let (line, ready) = channel();
        let mut running: BTreeMap<Task, Running> = BTreeMap::new();
        let mut steps = 0_u64;
        loop {
            let (kills, spawns, commands) = {
                let mut world = lock(&world);
                let World { kills, spawns, commands, .. } = &mut *world;
                (std::mem::take(kills), std::mem::take(spawns), std::mem::take(commands))
            };
            for (task, how) in kills {
                let Some(ended) = running.remove(&task) else { continue };
                lock(&world).doubts.dead.insert(task);
                // Dropped without the lock, because dropping it may lock the world.
                drop(ended.work);
                let mut world = lock(&world);
                world.ended(task);
                let name = world.end(task);
                world.note("a process ends in the middle of its work");
                world.trace(|| Step::note_over(name, how));
                (ended.respond)(&mut world, Ended::Error);
            }
            for (invocation, respond) in spawns {
                let task = invocation.task;
                let work = deployment.invoke(invocation, Ports::of_invocation(Arc::clone(&world), task));
                let waker = Waker::from(Arc::new(Ready { task, line: line.clone() }));
                waker.wake_by_ref();
                running.insert(task, Running { work, respond, waker });
            }
            for command in commands {
                let task = command.task;
                let work: Work = Box::pin(operator::run(command, Ports::of_operator(Arc::clone(&world), task)));
                let waker = Waker::from(Arc::new(Ready { task, line: line.clone() }));
                waker.wake_by_ref();
                running.insert(task, Running { work, respond: Box::new(|_, _| {}), waker });
            }
            if let Ok(task) = ready.try_recv() {
                poll(task, &mut running, &world);
            } else {
                let mut world = lock(&world);
                steps += 1;
                if steps > STEPS_MAX {
                    world.violations.push("the run does not come to an end".to_owned());
                    break;
                }
                let is_over =
                    !world.step() && world.spawns.is_empty() && world.kills.is_empty() && world.commands.is_empty();
                if is_over && !world.redrive_good_letters() {
                    break;
                }
            }
        }
        let mut world = lock(&world);
        let mut violations = std::mem::take(&mut world.violations);
        violations.extend(checks::at_the_end(&world));
        violations.extend(deployment.check(&world));
        Report {
            violations,
            seen: std::mem::take(&mut world.seen),
            faults: std::mem::take(&mut world.faults),
            calls: world.calls,
            trace: world.trace.take().unwrap_or_default(),
        }
    }
}

fn poll(task: Task, running: &mut BTreeMap<Task, Running>, world: &Shared) {
    // It may have ended meanwhile.
    let Some(one) = running.get_mut(&task) else { return };
    let waker = one.waker.clone();
    let level = lock(world).log_level();
    let (polled, emitted) = recorded(level, || one.work.as_mut().poll(&mut Context::from_waker(&waker)));
    if !emitted.is_empty() {
        lock(world).observe(task, emitted);
    }
    let Poll::Ready(result) = polled else { return };
    let Some(ended) = running.remove(&task) else { return };
    drop(ended.work);
    let mut world = lock(world);
    world.ended(task);
    let name = world.name_of(task);
    let how = match result {
        Ok(response) => {
            world.ends(task, &response);
            if response.contains("itemIdentifier") {
                world.trace(|| Step::note_over(name, format!("reports {}", reported(&response))));
            }
            Ended::Response(response)
        }
        Err(error) => {
            world.trace(|| Step::note_over(name, format!("fails: {error}")));
            Ended::Error
        }
    };
    world.end(task);
    (ended.respond)(&mut world, how);
}

/// The identifiers that a response reports.
fn reported(response: &str) -> String {
    let response: serde_json::Value = serde_json::from_str(response).unwrap_or_default();
    let failures = response["batchItemFailures"].as_array().cloned().unwrap_or_default();
    let identifiers: Vec<&str> = failures.iter().filter_map(|failure| failure["itemIdentifier"].as_str()).collect();
    // Sequence numbers have many leading zeros.
    identifiers.iter().map(|identifier| identifier.trim_start_matches('0')).collect::<Vec<_>>().join(", ")
}
