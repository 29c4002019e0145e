//! The receiver of the webhook: what it does with each request, and what it answers.
//!
//! Its answers are those of the drafts and services that the webhook follows: 409 while a call with the same key is in
//! progress (<https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/>), 401 or 403 for a signature by
//! another secret (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>), and 429 with
//! `Retry-After` (<https://www.rfc-editor.org/rfc/rfc9110#name-retry-after>).

use super::state::World;
use crate::aws::lambda::Task;
use crate::mutants;
use crate::rng;
use crate::scenario::{Repeats, SLOW_FOR, START};
use crate::trace::Step;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use notification::Guarantee;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::oneshot;

/// A request, as it arrives.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The id of the notification.
    pub(crate) id: String,
    /// `Idempotency-Key`.
    pub(crate) key: String,
    /// `webhook-id`.
    pub(crate) webhook_id: String,
    /// `webhook-timestamp`.
    pub(crate) timestamp: i64,
    /// `webhook-signature`.
    pub(crate) signature: String,
    pub(crate) event: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    /// Whether its body never ends.
    pub(crate) stalls: bool,
}

impl Answer {
    const fn of(status: u16) -> Self {
        Self { status, retry_after: None, stalls: false }
    }

    /// Whether the receiver does not say whether the effect happened.
    pub(crate) const fn is_unknown(&self) -> bool {
        self.status == 408 || self.status >= 500
    }
}

/// What the receiver remembers.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    requests: u64,
    /// How many calls are in progress, by key.
    in_progress: BTreeMap<String, usize>,
    /// Ids of which it refused a call for good.
    pub(crate) refused: BTreeSet<String>,
    /// Until when it asked a worker to wait, by the worker and the id.
    asked_to_wait: BTreeMap<(Task, String), Timestamp>,
}

impl Receiver {
    /// Whether a call of a notification is in progress.
    pub(super) fn is_busy(&self, id: &str) -> bool {
        self.in_progress.contains_key(id)
    }
}

/// An unusual answer.
#[derive(Debug, Clone, Copy)]
enum Unusual {
    /// 429, with a wait in seconds.
    Wait(u64),
    /// 408, without an effect.
    TimesOut,
    /// 503, without an effect.
    Fails,
    /// 500, after the effect.
    FailsAfterEffect,
    /// 2xx, and then a body that never ends.
    Stalls,
}

impl World {
    /// A request arrives. The answer comes when the receiver is done with it, whether or not somebody waits for it.
    pub(crate) fn receive_request(&mut self, task: Task, request: &Request) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        self.receiver.requests += 1;
        let number = self.receiver.requests;
        self.check_request(task, request);
        match self.answer_at_once(task, number, request) {
            Some(answer) => {
                self.trace(|| Step::note_over("receiver", format!("answers {} to {}", answer.status, request.id)));
                drop(reply.send(answer));
            }
            None => self.process(task, number, request.id.clone(), reply),
        }
        answer
    }

    /// Checks that a call has the accepted content, its key, and no less than the wait that the receiver asked for.
    fn check_request(&mut self, task: Task, request: &Request) {
        self.check_content(&request.id, &request.event);
        if request.key != request.id {
            self.violated(format!("{} was called under the key {}", request.id, request.key));
        }
        let skew = self.scenario.clock_skew_millis + self.scenario.instance_skew_millis;
        let skew = Duration::from_millis(skew.unsigned_abs());
        let until = self.receiver.asked_to_wait.remove(&(task, request.id.clone()));
        if until.is_some_and(|until| self.now + skew < until) {
            self.violated(format!("{} was called again before the receiver's wait was over", request.id));
        }
    }

    /// The answer to a request that the receiver does not process.
    fn answer_at_once(&mut self, task: Task, number: u64, request: &Request) -> Option<Answer> {
        let id = &request.id;
        if !self.is_signed(request) {
            self.note("the receiver refuses a signature by an outdated secret");
            return Some(Answer::of(if number.is_multiple_of(2) { 401 } else { 403 }));
        }
        match self.unusual(number) {
            Some(Unusual::Wait(seconds)) => return Some(self.ask_to_wait(task, number, id, seconds)),
            Some(Unusual::TimesOut) => {
                self.note("the receiver answers 408");
                return Some(Answer::of(408));
            }
            _ => {}
        }
        if self.refuses(id) {
            self.receiver.refused.insert(id.clone());
            return Some(Answer::of(mutants::rejection_status(self.mutant)));
        }
        if !self.scenario.receiver.knows_keys() {
            return None;
        }
        if self.receiver.in_progress.contains_key(id) {
            self.note("the receiver answers 409 while an earlier call is in progress");
            return Some(Answer::of(mutants::in_progress_status(self.mutant)));
        }
        if !self.effects.contains_key(id) {
            return None;
        }
        if self.scenario.receiver.repeats == Repeats::Refused {
            self.note("the receiver refuses the repeat of a call that succeeded");
            self.receiver.refused.insert(id.clone());
            return Some(Answer::of([400, 404, 410, 422][usize::try_from(number % 4).unwrap_or(0)]));
        }
        self.note("the receiver recognises a repeat by its key");
        Some(Answer::of(200))
    }

    fn ask_to_wait(&mut self, task: Task, number: u64, id: &str, seconds: u64) -> Answer {
        self.note("the receiver asks for a wait");
        let until = self.now + Duration::from_secs(seconds);
        let (until, text) = if number.is_multiple_of(2) {
            // A date has no fractions of a second.
            let until = Timestamp::from_second(until.as_second()).unwrap_or(until);
            (until, DateTimePrinter::new().timestamp_to_rfc9110_string(&until).unwrap_or_default())
        } else {
            (until, seconds.to_string())
        };
        self.receiver.asked_to_wait.insert((task, id.to_owned()), until);
        Answer { retry_after: Some(mutants::retry_after(self.mutant, text)), ..Answer::of(429) }
    }

    /// Processes a call: its effect happens at the end, even if its caller is gone.
    fn process(&mut self, task: Task, number: u64, id: String, reply: oneshot::Sender<Answer>) {
        let is_once = matches!(self.guarantee_of(task), Guarantee::AtMostOnce { .. });
        *self.receiver.in_progress.entry(id.clone()).or_default() += 1;
        self.after(self.call_takes(&id), move |world| {
            match world.receiver.in_progress.get_mut(&id) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(world.receiver.in_progress.remove(&id)),
            }
            let unusual = world.unusual(number);
            let answer = match unusual {
                Some(Unusual::Fails) => Answer::of(503),
                Some(Unusual::FailsAfterEffect) => Answer::of(500),
                Some(Unusual::Stalls) => Answer { stalls: true, ..Answer::of(200) },
                _ => Answer::of(200),
            };
            match unusual {
                Some(Unusual::FailsAfterEffect) => world.note("the receiver answers 5xx after the effect"),
                Some(Unusual::Stalls) => world.note("the body of a 2xx answer stalls"),
                _ => {}
            }
            if answer.status != 503 {
                *world.effects.entry(id.clone()).or_default() += 1;
                if is_once {
                    world.effects_at_most_once.entry(id.clone()).or_default().push(world.now);
                }
            }
            world.trace(|| Step::note_over("receiver", format!("answers {} to {id}", answer.status)));
            drop(reply.send(answer));
        });
    }

    /// How long the receiver takes for a call. Calls that take longer than an invocation come to an end.
    pub(crate) fn call_takes(&self, id: &str) -> Duration {
        let most = u64::try_from(self.scenario.action_takes.as_millis()).unwrap_or(0);
        let most = if self.now > START + SLOW_FOR { most.min(1_000) } else { most };
        Duration::from_millis(rng::of(self.scenario.seed, id).u64(0..=most))
    }

    fn unusual(&self, number: u64) -> Option<Unusual> {
        let receiver = &self.scenario.receiver;
        let mut rng = rng::numbered(self.scenario.seed, "unusual answer", number);
        if self.now >= receiver.until || rng.u32(0..1_000) >= receiver.unusual_per_mille {
            return None;
        }
        let wait = rng.choice([1, 5, 45, 120]).unwrap_or(1);
        let all = [Unusual::Wait(wait), Unusual::TimesOut, Unusual::Fails, Unusual::FailsAfterEffect, Unusual::Stalls];
        rng.choice(all)
    }

    /// The signing secret at a time.
    pub(crate) fn secret_at(&self, time: Timestamp) -> String {
        let rotations = self.scenario.receiver.rotations.iter().filter(|rotated| **rotated <= time).count();
        let key = [u8::try_from(rotations).unwrap_or(u8::MAX); 32];
        format!("whsec_{}", BASE64_STANDARD.encode(key))
    }

    /// Whether a request is signed with the current secret, by another implementation of the specification.
    fn is_signed(&self, request: &Request) -> bool {
        let Ok(webhook) = standardwebhooks::Webhook::new(&self.secret_at(self.now)) else { return false };
        let signature = webhook.sign(&request.webhook_id, request.timestamp, request.event.as_bytes());
        signature.is_ok_and(|signature| request.signature.split(' ').any(|one| one == signature))
    }
}
