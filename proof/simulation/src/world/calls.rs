//! Calls of the functions to AWS and to the receiver, and what their faults make of them.
//!
//! The tests of the functions use [`notification::testing::Faulty`], which wraps a port. Its faults end with the caller: a
//! future that is dropped makes no further call. Here a request that was sent takes effect even if its caller gave up,
//! died, or was answered earlier, and each of these moments has its own time. So a call is a row of events, and its caller
//! waits for the reply.

use super::state::World;
use crate::aws::lambda::Task;
use crate::faults::{self, Fault, NO_ANSWER};
use crate::mutants;
use crate::rng;
use crate::scenario::What;
use crate::trace::Step;
use notification::Failure;
use std::time::Duration;
use tokio::sync::oneshot;

/// What is called.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) what: &'static str,
    pub(crate) to: &'static str,
    /// The ids of its entries, for traces.
    pub(crate) ids: String,
    /// How many entries it has.
    pub(crate) entries: usize,
    /// Whether it must happen at most once, so that nobody repeats it.
    pub(crate) once: bool,
}

type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// A call that was started.
struct Started<F> {
    call: Call,
    /// The caller's name, for traces.
    from: String,
    number: u64,
    fault: Option<Fault>,
    effect: F,
}

impl<T, F: FnMut(&mut World, Option<u64>) -> T> Started<F> {
    fn trace(&self, world: &mut World) {
        world.trace(|| {
            Step::call(&self.from, self.call.to, format!("{} {}", self.call.what, self.call.ids), self.fault)
        });
    }

    /// Lets it take effect.
    fn apply(&mut self, world: &mut World) -> T {
        self.trace(world);
        (self.effect)(world, None)
    }

    /// Lets it take effect, except for some of its entries.
    fn apply_partly(&mut self, world: &mut World) -> T {
        world.note("some entries of a call are refused");
        self.trace(world);
        let mut rng = rng::numbered(world.scenario.seed, "partial", self.number);
        let mask = rng.u64(..) | (1 << rng.usize(..self.call.entries.min(64)));
        (self.effect)(world, Some(mask))
    }
}

impl Call {
    /// A call of one thing, which the SDK may repeat.
    pub(crate) fn one(what: &'static str, to: &'static str, id: impl Into<String>) -> Self {
        Self { what, to, ids: id.into(), entries: 1, once: false }
    }

    /// The fault that it has, of the fault that was drawn for it.
    fn fault(&self, drawn: Option<Fault>) -> Option<Fault> {
        match drawn {
            // Only the SDK repeats calls: a call that must happen at most once is made once.
            Some(Fault::Repeated) if self.once => Some(Fault::LostReply),
            Some(Fault::Partial) if self.entries < 2 => Some(Fault::Refused),
            drawn => drawn,
        }
    }

    /// Whether its fault leaves the outcome of an effect unknown. It does not if the effect itself is refused, because then the
    /// caller knows. If the write about the effect is refused, the next worker does not know.
    fn leaves_doubt(&self, fault: Fault) -> bool {
        self.to != "SQS" && (self.what == "change" || !matches!(fault, Fault::Refused | Fault::Partial))
    }
}

impl World {
    /// Counts a call and draws its fault.
    pub(super) fn next_fault(&mut self, what: &'static str) -> (u64, Option<Fault>) {
        self.calls += 1;
        let fault = self.scenario.faults.of(self.calls, self.now).filter(|fault| fault.concerns(what));
        if let Some(fault) = fault {
            self.faults.push((self.calls, fault, what));
        }
        (self.calls, fault)
    }

    /// Starts a call. `effect` gets a mask of the entries that are refused. It may take place twice, later than the caller
    /// waits, or not at all. If there will never be an answer, the caller waits for ever.
    pub(crate) fn call<T: Send + 'static>(
        &mut self,
        task: Task,
        call: Call,
        effect: impl FnMut(&mut Self, Option<u64>) -> T + Send + 'static,
        reply: Reply<T>,
    ) {
        let (number, drawn) = self.next_fault(call.what);
        let table_is_down = call.to == "table" && self.is_out(|what| matches!(what, What::TableDown(_)));
        let fault = match table_is_down {
            true if number.is_multiple_of(2) => Some(Fault::Refused),
            true => Some(Fault::NoAnswer),
            false => call.fault(drawn),
        };
        if fault.is_some_and(|fault| call.leaves_doubt(fault)) {
            self.doubt_all(task);
        }
        let from = self.running.get(&task).map_or_else(|| "operator".to_owned(), |running| running.name.clone());
        let mut call = Started { call, from, number, fault, effect };
        let latency = faults::latency(self.scenario.seed, number);
        let slow = faults::slow(self.scenario.seed, number);
        let half = latency / 2;
        match fault {
            None => self.after(half, move |world| {
                let answer = call.apply(world);
                world.reply_after(half, reply, Ok(answer));
            }),
            Some(Fault::Partial) => self.after(half, move |world| {
                let answer = call.apply_partly(world);
                world.reply_after(half, reply, Ok(answer));
            }),
            Some(Fault::Refused) => self.after(latency, move |world| {
                world.note("a call is refused");
                call.trace(world);
                drop(reply.send(Err(mutants::refusal(world.mutant))));
            }),
            Some(Fault::LostReply) => self.after(half, move |world| {
                world.note("a reply is lost");
                call.apply(world);
                world.reply_after(half, reply, no_answer());
            }),
            Some(Fault::NoAnswer) => {
                self.note("no answer comes");
                call.trace(self);
                self.reply_after(NO_ANSWER, reply, no_answer());
            }
            Some(Fault::Repeated) => self.after(half, move |world| {
                world.note("the SDK repeats a call that took place");
                call.apply(world);
                world.after(Duration::from_secs(1), move |world| {
                    call.fault = None;
                    let answer = call.apply(world);
                    world.reply_after(half, reply, Ok(answer));
                });
            }),
            Some(Fault::Slow) => self.after(slow / 2, move |world| {
                let answer = call.apply(world);
                world.reply_after(slow / 2, reply, Ok(answer));
            }),
            Some(Fault::Late) => {
                self.reply_after(Duration::from_secs(5), reply, no_answer());
                self.after(NO_ANSWER + slow, move |world| {
                    world.note("an effect takes place after its caller gave up");
                    call.apply(world);
                });
            }
            Some(Fault::CrashBefore) => {
                self.note("a process dies before a call");
                call.trace(self);
                self.unanswered.push(Box::new(reply));
                self.kills.push((task, "its process dies"));
            }
            Some(Fault::CrashAfter) => self.after(half, move |world| {
                world.note("a process dies after a call");
                call.apply(world);
                world.unanswered.push(Box::new(reply));
                world.kills.push((task, "its process dies"));
            }),
        }
    }

    fn reply_after<T: Send + 'static>(&mut self, wait: Duration, reply: Reply<T>, answer: Result<T, Failure>) {
        self.after(wait, |_| drop(reply.send(answer)));
    }
}

fn no_answer<T>() -> Result<T, Failure> {
    Err(Failure::may_have_happened("no answer"))
}
