//! Requests in the world: when each takes effect and is answered, and what its fault makes of it. The SDK decides what follows
//! from an answer, from its lack, and from a broken connection.

use super::request::Request;
use crate::aws::lambda::Task;
use crate::aws::source::Function;
use crate::faults::{self, Fault, NO_ANSWER};
use crate::rng;
use crate::scenario::Trouble;
use crate::trace::Step;
use crate::world::World;
use aws_model::{EntryFault, Response};
use std::time::Duration;
use tokio::sync::oneshot;

/// What comes back from the network.
#[derive(Debug)]
pub(super) enum Reply {
    Response(Response),
    ConnectionReset,
}

type ReplyTo = oneshot::Sender<Reply>;

/// How a service refuses a request that it did not process: the status and the error code.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>
const TABLE_REFUSALS: [(u16, &str); 5] = [
    (400, "ProvisionedThroughputExceededException"),
    (400, "ThrottlingException"),
    (400, "RequestLimitExceeded"),
    (500, "InternalServerError"),
    (503, "ServiceUnavailable"),
];

/// <https://docs.aws.amazon.com/kinesis/latest/APIReference/CommonErrors.html>,
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html>
const OTHER_REFUSALS: [(u16, &str); 3] =
    [(400, "ThrottlingException"), (500, "InternalFailure"), (503, "ServiceUnavailable")];

/// An attempt that was sent.
struct Sent {
    request: Request,
    task: Task,
    /// The caller's name, for traces.
    from: String,
    number: u64,
    fault: Option<Fault>,
}

impl Sent {
    fn trace(&self, world: &mut World) {
        world.trace(|| {
            let text = format!("{} {}", self.request.operation(), self.request.entries().join(", "));
            Step::call(&self.from, self.request.called(), text, self.fault)
        });
    }

    /// Lets it take effect, except for the entries that fail.
    fn apply(&self, world: &mut World) -> Response {
        self.trace(world);
        world.caller = self.task;
        world.note_repeat(&self.request);
        if self.fault != Some(Fault::Partial) {
            return world.take_effect(&self.request, &|_| None);
        }
        world.note("some entries of a call are refused");
        let entries = self.request.entries().len().clamp(1, 64);
        let mut rng = rng::numbered(world.scenario.seed, "partial", self.number);
        let mask = rng.u64(..) | (1 << rng.usize(..entries));
        let faults = [EntryFault::Throttled, EntryFault::Conflict, EntryFault::Internal];
        let fault = rng.choice(faults).unwrap_or(EntryFault::Throttled);
        world.take_effect(&self.request, &|place| (mask >> (place % 64) & 1 == 1).then_some(fault))
    }

    /// A refusal of the whole request.
    fn refusal(&self, seed: u64) -> Response {
        let mut rng = rng::numbered(seed, "refusal", self.number);
        let refusals = if self.request.is_to_table() { &TABLE_REFUSALS[..] } else { &OTHER_REFUSALS[..] };
        let (status, code) = rng.choice(refusals).copied().unwrap_or(TABLE_REFUSALS[0]);
        Response::error(status, code, "refused")
    }
}

impl World {
    /// Sends a request. It may take effect later than its caller waits, or not at all. If there will never be an answer, the
    /// caller's time-out ends the attempt.
    pub(super) fn request(&mut self, task: Task, mut request: Request, reply: ReplyTo) {
        if let Some(cloud) = &self.cloud {
            cloud.break_request(&mut request);
        }
        if request.is_count() {
            // It only feeds a metric, and its 64 calls would multiply the places for each fault.
            let answer = self.take_effect(&request, &|_| None);
            return drop(reply.send(Reply::Response(answer)));
        }
        if request.operation() == "PutRecords" {
            self.check_overlap(task);
        }
        let (number, drawn) = self.next_fault(if request.is_to_table() { "table" } else { "other" });
        let fault = self.fault_of_request(&request, number, drawn);
        if fault.is_some() {
            self.letters.troubled(self.now);
        }
        self.watch_request(task, number, &request, fault);
        let from = self.name_of(task);
        let sent = Sent { request, task, from, number, fault };
        let seed = self.scenario.seed;
        let slow = faults::slow(seed, number);
        let latency = if fault == Some(Fault::Slow) { slow } else { faults::latency(seed, number) };
        let half = latency / 2;
        match fault {
            None | Some(Fault::Partial | Fault::Slow) => self.after(half, move |world| {
                let answer = sent.apply(world);
                world.answer_after(half, &sent, reply, answer);
            }),
            Some(Fault::Refused) => self.after(latency, move |world| {
                world.note("a call is refused");
                sent.trace(world);
                let refusal = sent.refusal(seed);
                world.answer_after(half, &sent, reply, refusal);
            }),
            // The service fails after the effect.
            Some(Fault::LostReply) => self.after(half, move |world| {
                world.note("a reply is lost");
                sent.apply(world);
                let error = Response::error(500, "InternalServerError", "after the effect");
                world.answer_after(half, &sent, reply, error);
            }),
            // The connection breaks after the effect.
            Some(Fault::Repeated) => self.after(half, move |world| {
                world.note("a connection is reset");
                sent.apply(world);
                world.reset_after(half, sent.number, reply);
            }),
            Some(Fault::NoAnswer) => {
                self.note("no answer comes");
                sent.trace(self);
                self.never_answer(reply);
            }
            // The connection breaks, and the request was on its way.
            Some(Fault::Late) => {
                self.reset_after(half, number, reply);
                self.after(NO_ANSWER + slow, move |world| {
                    world.note("an effect takes place after its caller gave up");
                    sent.apply(world);
                });
            }
            Some(Fault::CrashBefore) => {
                self.note("a process dies before a call");
                sent.trace(self);
                self.never_answer(reply);
                self.kills.push((task, "its process dies"));
            }
            Some(Fault::CrashAfter) => self.after(half, move |world| {
                world.note("a process dies after a call");
                sent.apply(world);
                world.never_answer(reply);
                world.kills.push((task, "its process dies"));
            }),
        }
    }

    /// The fault that a request has, of the fault that was drawn for it.
    fn fault_of_request(&self, request: &Request, number: u64, drawn: Option<Fault>) -> Option<Fault> {
        let table_is_down = request.is_to_table() && self.suffers(Trouble::TableDown);
        match drawn {
            _ if table_is_down && number.is_multiple_of(2) => Some(Fault::Refused),
            _ if table_is_down => Some(Fault::NoAnswer),
            Some(Fault::Partial) if request.entries().len() < 2 => Some(Fault::Refused),
            drawn => drawn,
        }
    }

    fn answer_after(&mut self, wait: Duration, sent: &Sent, reply: ReplyTo, mut answer: Response) {
        if let Some(cloud) = &self.cloud {
            cloud.break_answer(&sent.request, &mut answer);
        }
        let number = sent.number;
        self.after(wait, move |world| {
            world.doubts.answered(number, world.now);
            if reply.is_closed() {
                world.note("an answer comes after the SDK's time-out");
            }
            drop(reply.send(Reply::Response(answer)));
        });
    }

    /// Breaks a connection.
    fn reset_after(&mut self, wait: Duration, number: u64, reply: ReplyTo) {
        self.after(wait, move |world| {
            world.doubts.answered(number, world.now);
            drop(reply.send(Reply::ConnectionReset));
        });
    }

    /// Remembers a worker's read or write, and what its fault will tell the worker: see `world::doubts`.
    fn watch_request(&mut self, task: Task, number: u64, request: &Request, fault: Option<Fault>) {
        let is_write = request.changes_status();
        let is_downstream =
            self.running.get(&task).is_some_and(|running| running.from.function() == Function::Downstream);
        if !is_downstream || (!is_write && request.operation() != "BatchGetItem") {
            return;
        }
        self.doubts.sent(number, task, request.entries(), is_write);
        if fault.is_some() {
            self.doubts.fails(number, None);
        }
        if is_write && fault == Some(Fault::Late) {
            // It takes effect when nobody knows of it any more.
            self.doubts.ids.extend(request.entries());
        }
    }

    /// Notes that the SDK sends a request again that took effect.
    fn note_repeat(&mut self, request: &Request) {
        let repeated = self.cloud.as_mut().is_some_and(|cloud| !cloud.seen.insert(request.invocation.clone()));
        if repeated {
            self.note("the SDK repeats a call that took place");
        }
    }
}
