//! The queues: messages are sent, received, handed to their function, hidden, deleted, and delivered more than once.

use super::state::{Respond, World};
use crate::aws::lambda::Ended;
use crate::aws::source::{QueueSource, Source};
use crate::faults::{self, Fault};
use crate::judge;
use crate::mutants;
use crate::scenario;
use crate::trace::Step;
use event_source::payload;
use event_source::queue::{Gathered, Message, QueueInvocation, Received, Unchanged};
use event_source::record::QueueMessage;
use notification::{Failure, Notification, event};
use std::time::Duration;

/// A refused message becomes a dead letter within this time.
const QUICKLY: Duration = Duration::from_mins(1);

/// The wait between two receives.
const POLL: Duration = Duration::from_millis(20);

impl World {
    /// One of the two queues.
    fn queue(&mut self, name: Source) -> &mut QueueSource {
        match name {
            Source::WorkQueue => &mut self.work,
            _ => &mut self.upstream,
        }
    }

    /// Upstream sends a message.
    pub(super) fn send(&mut self, message: scenario::Message) {
        self.trace(|| Step::call("upstream", "SQS", format!("send {}", message.id), None));
        self.enqueue(Source::Upstream, message.body);
    }

    /// Puts a message into a queue.
    pub(crate) fn enqueue(&mut self, name: Source, body: String) {
        let now = self.now;
        self.queue(name).queue.send(body, now);
        self.look_at(name, now + POLL);
        self.expect_sweep();
    }

    /// Hides a message that was received from upstream's queue.
    ///
    /// # Errors
    /// A permanent failure if it is not in flight.
    pub(crate) fn hide_message(&mut self, receipt_handle: &str, wait: Duration) -> Result<(), Failure> {
        if !mutants::hides(self.mutant) {
            return Ok(());
        }
        let now = self.now;
        let number = receipt_handle.trim_start_matches('r').parse().unwrap_or_default();
        match self.upstream.queue.change_visibility(number, wait, now) {
            Ok(()) => {
                self.note("a failed message is hidden");
                self.look_at(Source::Upstream, now + wait);
                Ok(())
            }
            Err(Unchanged::TooLong) => Err(Failure::permanent("hidden for too long")),
            Err(Unchanged::Gone | Unchanged::NotInFlight) => {
                self.note("a message that is not in flight cannot be hidden");
                Err(Failure::permanent("not in flight"))
            }
        }
    }

    pub(super) fn poll_queue(&mut self, name: Source) {
        let now = self.now;
        self.receive(name);
        for invocation in self.queue(name).mapping.due(now) {
            self.invoke_with_messages(name, invocation);
        }
        let source = self.queue(name);
        let wakes_at = source.mapping.wake_at().filter(|at| *at > now);
        let polls_again = source.mapping.wants() > 0 && source.queue.has_visible(now);
        let polled_at = polls_again.then(|| now + POLL);
        let visible_at = source.queue.next_visible_at(now);
        if let Some(next) = [wakes_at, polled_at, visible_at].into_iter().flatten().min() {
            self.look_at(name, next);
        }
    }

    /// Receives as many messages as the mapping wants. That call can fail as well.
    fn receive(&mut self, name: Source) {
        let now = self.now;
        let source = self.queue(name);
        let wants = source.mapping.wants();
        if wants == 0 {
            return;
        }
        let (call, fault) = if source.queue.has_visible(now) { self.next_fault("receive") } else { (0, None) };
        let retried_after = match fault {
            Some(Fault::Refused | Fault::Partial | Fault::NoAnswer | Fault::CrashBefore) => {
                Some(Duration::from_secs(1))
            }
            Some(Fault::Slow) => Some(faults::slow(self.scenario.seed, call)),
            _ => None,
        };
        if let Some(wait) = retried_after {
            self.note("a receive fails");
            self.look_at(name, now + wait);
            return;
        }
        let Received { mut messages, dead } = self.queue(name).queue.receive(wants, now);
        if name == Source::Upstream {
            for message in &messages {
                self.letters.received(message.number, now);
            }
        }
        if matches!(fault, Some(Fault::LostReply | Fault::CrashAfter)) && !messages.is_empty() {
            // They are invisible now and have used up a receive, and no function has them.
            self.note("received messages are lost on the way");
            let ids: Vec<String> = messages.iter().map(|message| id_of(&message.body)).collect();
            let function = name.function().name();
            self.trace(|| Step::refused(name.name(), function, &ids, "lost on the way"));
            messages.clear();
        }
        for dead in dead {
            self.take_dead(name, dead);
        }
        self.check_received(name, &messages);
        // A standard queue may hand a message to two receivers.
        if matches!(fault, Some(Fault::Repeated | Fault::Late)) {
            for number in messages.iter().map(|message| message.number) {
                self.after(Duration::from_millis(5), move |world| {
                    world.deliver_again(name, number, "a message is delivered twice at once");
                });
            }
        }
        let source = self.queue(name);
        let gathered: Vec<Gathered> = messages.iter().map(gathered).collect();
        for filtered in source.mapping.received(gathered, now) {
            source.queue.delete(filtered);
        }
    }

    fn take_dead(&mut self, name: Source, dead: Message) {
        let now = self.now;
        self.note("a message becomes a dead letter");
        if name == Source::Upstream && self.wiring.hands_over {
            self.check_letter(&dead);
        }
        let took = Duration::try_from(now.duration_since(dead.sent_at)).unwrap_or_default();
        if took > QUICKLY && self.scenario.is_healthy() {
            self.violated("a refused message is a dead letter only after more than a minute".to_owned());
        }
        self.trace(|| Step::call(name.name(), "DLQ", format!("{} after six receives", id_of(&dead.body)), None));
        self.queue(name).dead.take_dead(dead, now);
    }

    fn invoke_with_messages(&mut self, name: Source, invocation: QueueInvocation) {
        let QueueInvocation { number, messages } = invocation;
        let payload = payload(messages.iter().map(|message| &*message.event));
        let ids = self.ids_of(name, &messages);
        let respond: Respond = Box::new(move |world, ended| world.answered_queue(name, number, ended));
        self.invoke(name, ids, payload, respond);
    }

    fn answered_queue(&mut self, name: Source, number: u64, ended: Ended) {
        let ended = mutants::report(self.mutant, ended, &[]);
        let done = self.queue(name).mapping.answered(number, ended.answer());
        self.delete(name, done);
        self.look_at(name, self.now);
    }

    fn ids_of(&mut self, name: Source, messages: &[Gathered]) -> Vec<String> {
        let queue = &self.queue(name).queue;
        messages.iter().filter_map(|message| queue.get(message.number)).map(|message| id_of(&message.body)).collect()
    }

    /// Deletes messages. That call can fail as well, and a deleted message can be delivered again.
    fn delete(&mut self, name: Source, numbers: Vec<u64>) {
        if numbers.is_empty() {
            return;
        }
        let (call, fault) = self.next_fault("delete");
        if matches!(fault, Some(Fault::Refused | Fault::NoAnswer | Fault::CrashBefore | Fault::Partial)) {
            self.note("a processed message is not deleted");
            self.trace(|| Step::note_over(name.name(), "does not delete processed messages: the call fails"));
            return;
        }
        for number in numbers {
            if name == Source::Upstream {
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

    fn deliver_again(&mut self, name: Source, number: u64, note: &'static str) {
        let now = self.now;
        if self.queue(name).queue.deliver_again(number, now) {
            self.note(note);
            self.trace(|| Step::note_over(name.name(), "delivers a message again"));
            self.look_at(name, now);
        }
    }

    /// Checks that, where nothing goes wrong, a message that was accepted is deleted.
    fn check_received(&mut self, name: Source, messages: &[Message]) {
        if name != Source::Upstream || !self.wiring.hands_over || !self.scenario.is_healthy() {
            return;
        }
        for message in messages.iter().filter(|message| message.receive_count > 1) {
            let id = id_of(&message.body);
            if self.item(&id).is_some_and(|item| judge::same(&item.event, &message.body)) {
                self.violated(format!(
                    "a message of {id} that was accepted is delivered again, and nothing went wrong"
                ));
            }
        }
    }

    /// Checks that the table has the notification of a message that is about to be deleted, with its content.
    fn check_deleted(&mut self, number: u64) {
        let Some(message) = self.upstream.queue.get(number) else { return };
        let body = message.body.clone();
        let Ok(notification) = Notification::parse(body.as_str()) else {
            return self.violated("a malformed message was deleted".to_owned());
        };
        let id = notification.id().as_str();
        match self.ever(id) {
            None => self.violated(format!("the message of {id} was deleted, and the table does not have it")),
            Some(item) if !judge::same(&item.event, &body) => {
                self.violated(format!("a conflicting message of {id} was deleted"));
            }
            Some(_) => {}
        }
    }
}

fn gathered(message: &Message) -> Gathered {
    let message_id = format!("m{}", message.number);
    let record = QueueMessage {
        message_id: &message_id,
        receipt_handle: &format!("r{}", message.number),
        body: &message.body,
        md5_of_body: "",
        receive_count: message.receive_count,
        sent_at: message.sent_at,
        queue_arn: "arn:aws:sqs:us-east-1:123456789012:queue",
    };
    Gathered { number: message.number, event: record.to_json(), message_id: message_id.into() }
}

fn id_of(body: &str) -> String {
    event::readable_id(body).map_or_else(|| "(no id)".to_owned(), |id| id.to_string())
}
