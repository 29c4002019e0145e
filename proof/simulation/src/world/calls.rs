//! Calls of the functions to AWS and to the receiver, and what their faults make of them.
//!
//! A request that was sent takes effect even if its caller gave up, died, or was answered earlier, and each of these moments
//! has its own time. So a call is a row of events, and its caller waits for the reply.

use super::state::World;
use crate::action::GET_SECRET;
use crate::aws::lambda::Task;
use crate::aws::source::{Function, Source};
use crate::faults::{self, Fault, NO_ANSWER};
use crate::mutants;
use crate::rng;
use crate::scenario::Trouble;
use crate::trace::Step;
use notification::testing::{Call, Refused};
use notification::{Failure, Status};
use std::time::Duration;
use tokio::sync::oneshot;

/// The method of a call that makes the effect happen outside.
pub(crate) const EFFECT: &str = "effect of";

/// The method of a call that sends a message to the work queue.
pub(crate) const SEND: &str = "send";

type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// A call that was started.
struct Started<F> {
    task: Task,
    call: Call,
    /// Whether it follows another call for other entries of the same work.
    is_later_chunk: bool,
    /// The caller's name, for traces.
    from: String,
    number: u64,
    fault: Option<Fault>,
    effect: F,
}

impl<T, F: FnMut(&mut World, Refused<'_>) -> Result<T, Failure>> Started<F> {
    fn trace(&self, world: &mut World) {
        world.trace(|| Step::call(&self.from, called(&self.call), described(&self.call), self.fault));
    }

    /// Lets it take effect, except for the entries that are refused.
    fn apply(&mut self, world: &mut World) -> Result<T, Failure> {
        self.trace(world);
        world.applies_later_chunk = self.is_later_chunk;
        world.caller = self.task;
        if self.call.method == EFFECT {
            world.arrived(&self.call.ids);
        }
        if self.fault != Some(Fault::Partial) {
            return (self.effect)(world, &|_| None);
        }
        world.note("some entries of a call are refused");
        if self.is_later_chunk {
            world.note("some entries of a later call are refused");
        }
        let failure = match self.call.method {
            "commit" => {
                world.note("transactions meet");
                Failure::retryable("in another transaction")
            }
            _ => mutants::refusal(world.mutant),
        };
        let mut rng = rng::numbered(world.scenario.seed, "partial", self.number);
        let mask = rng.u64(..) | (1 << rng.usize(..self.call.ids.len().min(64)));
        let is_refused = |place: usize| mask >> (place % 64) & 1 == 1;
        let refused = self.call.ids.iter().enumerate().filter(|(place, _)| is_refused(*place));
        world.doubts.fails(self.number, Some(refused.map(|(_, id)| id.clone()).collect()));
        let refused = |place: usize| is_refused(place).then(|| failure.clone());
        for _ in 1..mutants::attempts_of_a_call(world.mutant) {
            drop((self.effect)(world, &refused));
            world.spend(self.task, &self.call);
        }
        (self.effect)(world, &refused)
    }
}

/// What is called.
fn called(call: &Call) -> &'static str {
    match call.method {
        "hide" => "SQS",
        GET_SECRET => "Secrets Manager",
        "put" => "Kinesis",
        EFFECT => "receiver",
        SEND => "queue",
        _ => "table",
    }
}

/// A call in words, for traces.
fn described(call: &Call) -> String {
    let what = match call.method {
        "write" if changes_status(call) => {
            let changes = call.ids.iter().zip(&call.changes);
            let changes = changes.map(|(id, (from, to))| from.map_or(id.clone(), |from| format!("{id} {from} → {to}")));
            return format!("change {}", changes.collect::<Vec<_>>().join(", "));
        }
        "write" => "insert",
        "put" => "PutRecords",
        "commit" => "commit effect and DONE of",
        "pending" => "query pending",
        "begin_sweep" => "take the sweep's lease",
        "end_sweep" => "save the sweep's state",
        method => method,
    };
    format!("{what} {}", call.ids.join(", "))
}

fn changes_status(call: &Call) -> bool {
    call.changes.iter().any(|(from, _)| from.is_some())
}

impl World {
    /// Counts a call and draws its fault.
    pub(crate) fn next_fault(&mut self, what: &'static str) -> (u64, Option<Fault>) {
        self.calls += 1;
        let fault = match self.scenario.faults.of(self.calls, self.now) {
            // Nothing depends on whether the caller knows that a message was deleted.
            Some(Fault::LostReply | Fault::Slow | Fault::CrashAfter) if what == "delete" => None,
            fault => fault,
        };
        if fault.is_some() {
            self.letters.troubled(self.now);
        }
        self.faults.extend(fault.map(|fault| (self.calls, fault)));
        (self.calls, fault)
    }

    /// Starts a call. Its effect may take place twice, later than the caller waits, or not at all. If there will never be an
    /// answer, the caller waits for ever.
    pub(crate) fn call<T: Send + 'static>(
        &mut self,
        task: Task,
        call: Call,
        mut effect: impl FnMut(&mut Self, Refused<'_>) -> Result<T, Failure> + Send + 'static,
        reply: Reply<T>,
    ) {
        if call.method == "count_unresolved" {
            // It only feeds a metric, and its 64 calls would multiply the places for each fault.
            return drop(reply.send(effect(self, &|_| None)));
        }
        if call.method == "end_sweep" && self.publishing_sweep == Some(task) {
            // From then on, it publishes nothing.
            self.publishing_sweep = None;
        }
        let is_later_chunk = self.spend(task, &call);
        let (number, drawn) = self.next_fault(call.method);
        let drawn = self.fault_of_operator(task, number).or(drawn);
        let fault = self.fault_of(&call, number, drawn);
        if fault.is_some() && self.running.get(&task).is_some_and(|running| running.from == Source::Schedule) {
            self.call_of_sweep_fails(&call);
        }
        let from = self.name_of(task);
        if call.method == EFFECT {
            self.check_call(task, &call.ids);
            self.sent(&call.ids, fault);
        }
        if self.running.get(&task).is_some_and(|running| running.from.function() == Function::Downstream) {
            self.watch(task, number, &call, fault);
        }
        let again_after = self.again_after(task, number);
        let slow = faults::slow(self.scenario.seed, number);
        let latency = match fault {
            Some(Fault::Slow) => slow,
            _ if called(&call) == "table" && self.suffers(Trouble::TableSlow) => {
                faults::slow_table(self.scenario.seed, number)
            }
            _ => faults::latency(self.scenario.seed, number),
        };
        let mut call = Started { task, call, is_later_chunk, from, number, fault, effect };
        let half = latency / 2;
        match fault {
            None | Some(Fault::Partial | Fault::Slow) => self.after(half, move |world| {
                let answer = call.apply(world);
                world.reply_after(number, half, reply, answer);
            }),
            Some(Fault::Refused) => self.after(latency, move |world| {
                world.note("a call is refused");
                call.trace(world);
                let refusal = mutants::refused(world.mutant, &call.call);
                world.doubts.answered(number, world.now);
                drop(reply.send(Err(refusal)));
            }),
            Some(Fault::LostReply) => self.after(half, move |world| {
                world.note("a reply is lost");
                drop(call.apply(world));
                world.reply_after(number, half, reply, no_answer());
            }),
            Some(Fault::NoAnswer) => {
                self.note("no answer comes");
                call.trace(self);
                self.reply_after(number, NO_ANSWER, reply, no_answer());
            }
            Some(Fault::Repeated) => self.after(half, move |world| {
                world.note("the SDK repeats a call that took place");
                drop(call.apply(world));
                world.after(again_after, move |world| {
                    call.fault = None;
                    let answer = call.apply(world);
                    world.reply_after(number, half, reply, answer);
                });
            }),
            Some(Fault::Late) => {
                self.reply_after(number, Duration::from_secs(5), reply, no_answer());
                self.after(NO_ANSWER + slow, move |world| {
                    world.note("an effect takes place after its caller gave up");
                    drop(call.apply(world));
                });
            }
            Some(Fault::CrashBefore) => {
                self.note("a process dies before a call");
                call.trace(self);
                self.never_answer(reply);
                self.kills.push((task, "its process dies"));
            }
            Some(Fault::CrashAfter) => self.after(half, move |world| {
                world.note("a process dies after a call");
                drop(call.apply(world));
                world.never_answer(reply);
                world.kills.push((task, "its process dies"));
            }),
        }
    }

    /// The network of an operator's machine is worse than Lambda's.
    fn fault_of_operator(&mut self, task: Task, number: u64) -> Option<Fault> {
        if !self.commands_running.contains_key(&task)
            || self.scenario.faults.until().is_none_or(|until| self.now >= until)
        {
            return None;
        }
        let mut rng = rng::numbered(self.scenario.seed, "operator's network", number);
        let fault = if rng.u8(0..3) == 0 { rng.choice([Fault::Repeated, Fault::Repeated, Fault::Late]) } else { None };
        self.faults.extend(fault.map(|fault| (number, fault)));
        fault
    }

    /// Counts the effects that a call will still have.
    fn sent(&mut self, ids: &[String], fault: Option<Fault>) {
        let effects = match fault {
            Some(Fault::Refused | Fault::NoAnswer | Fault::CrashBefore) => 0,
            Some(Fault::Repeated) => 2,
            _ => 1,
        };
        for id in ids {
            *self.in_progress.entry(id.clone()).or_default() += effects;
        }
    }

    /// One of these effects takes place.
    fn arrived(&mut self, ids: &[String]) {
        for id in ids {
            if let Some(left) = self.in_progress.get_mut(id) {
                *left = left.saturating_sub(1);
            }
        }
    }

    /// After which time the SDK repeats a call whose reply was lost: at once, or minutes later if an operator's machine slept in
    /// between.
    fn again_after(&self, task: Task, number: u64) -> Duration {
        if !self.commands_running.contains_key(&task) {
            return Duration::from_secs(1);
        }
        let mut rng = rng::numbered(self.scenario.seed, "again", number);
        let longest = [10, 60, 600][rng.usize(0..3)];
        Duration::from_secs(rng.u64(1..longest))
    }

    /// The fault that a call has, of the fault that was drawn for it.
    fn fault_of(&self, call: &Call, number: u64, drawn: Option<Fault>) -> Option<Fault> {
        let is_throttled = match called(call) {
            "table" => self.suffers(Trouble::TableThrottled),
            "Kinesis" => self.suffers(Trouble::StreamThrottled),
            _ => false,
        };
        let drawn = drawn.or_else(|| is_throttled.then_some(Fault::Partial));
        if call.method == "pending" && self.query_fails(call) {
            return Some(Fault::Refused);
        }
        let table_is_down = called(call) == "table" && self.suffers(Trouble::TableDown);
        // A webhook's client repeats nothing that the receiver may have processed.
        let is_made_once = call.method == EFFECT && !mutants::repeats_calls(self.mutant);
        match drawn {
            _ if table_is_down && number.is_multiple_of(2) => Some(Fault::Refused),
            _ if table_is_down => Some(Fault::NoAnswer),
            Some(Fault::Repeated) if is_made_once => Some(Fault::LostReply),
            Some(Fault::Partial) if call.ids.len() < 2 => Some(Fault::Refused),
            drawn => drawn,
        }
    }

    /// Whether a query of the pending index fails because its partition does.
    fn query_fails(&self, call: &Call) -> bool {
        let fails = |down: u64| call.ids == [down.to_string()] || mutants::fails_with_any_partition(self.mutant);
        self.partition_down().is_some_and(fails)
    }

    fn reply_after<T: Send + 'static>(
        &mut self,
        number: u64,
        wait: Duration,
        reply: Reply<T>,
        answer: Result<T, Failure>,
    ) {
        self.after(wait, move |world| {
            world.doubts.answered(number, world.now);
            drop(reply.send(answer));
        });
    }

    /// Remembers a worker's read or write, and what its fault will tell the worker.
    fn watch(&mut self, task: Task, number: u64, call: &Call, fault: Option<Fault>) {
        let is_write = changes_status(call);
        if !is_write && call.method != "read" {
            return;
        }
        self.doubts.sent(number, task, call.ids.clone(), is_write);
        if matches!(fault, Some(Fault::Refused | Fault::LostReply | Fault::NoAnswer | Fault::Late)) {
            self.doubts.fails(number, None);
        }
        let claims = call.changes.iter().any(|(_, to)| *to == Status::Claimed);
        if claims && fault == Some(Fault::Late) {
            self.doubts.ids.extend(call.ids.iter().cloned());
            self.doubts.late_claims.extend(call.ids.iter().map(|id| (task, id.clone())));
        }
    }
}

fn no_answer<T>() -> Result<T, Failure> {
    Err(Failure::may_have_happened("no answer"))
}
