//! An SQS standard queue, and an event source mapping of one.
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html>,
//! <https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html>

use crate::gathering::Gathering;
use crate::response::{self, Verdict};
use crate::settings::Settings;
use crate::{Answer, InvocationNumber, limits};
use jiff::Timestamp;
use serde_json::value::RawValue;
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

/// The number of a message, unique in its queue.
pub type MessageNumber = u64;

/// A standard queue with a redrive policy: it delivers at least once, in any order.
#[derive(Debug)]
pub struct Queue {
    visibility_timeout: Duration,
    retention: Duration,
    /// `None` without a redrive policy.
    max_receive_count: Option<u32>,
    /// Every message that is kept, also if it was deleted.
    messages: BTreeMap<MessageNumber, Message>,
    /// The messages that were not deleted, by the time at which they can be received.
    by_visibility: BTreeSet<(Timestamp, MessageNumber)>,
    /// Every message that is kept, by its age.
    by_age: BTreeSet<(Timestamp, MessageNumber)>,
    sent: MessageNumber,
}

/// One message of a queue.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its number.
    pub number: MessageNumber,
    /// Its body.
    pub body: String,
    /// When it was first sent. A move to a dead-letter queue does not change it.
    pub sent_at: Timestamp,
    /// How often it was received.
    pub receive_count: u32,
    /// When it can be received next.
    pub visible_at: Timestamp,
    /// When it was last received.
    received_at: Timestamp,
    /// Whether it was deleted. In rare cases it is delivered once more.
    deleted: bool,
}

/// The result of a receive.
#[derive(Debug)]
pub struct Received {
    /// The messages, which are now invisible.
    pub messages: Vec<Message>,
    /// Messages that had been received as often as the redrive policy allows: they move to the dead-letter queue.
    pub dead: Vec<Message>,
}

/// Why the visibility timeout of a message was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unchanged {
    /// It was deleted or moved to another queue.
    Gone,
    /// It is visible.
    NotInFlight,
    /// It would be invisible for more than 12 hours after its receive.
    TooLong,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(visibility_timeout: Duration, retention: Duration, max_receive_count: Option<u32>) -> Self {
        Self {
            visibility_timeout,
            retention,
            max_receive_count,
            messages: BTreeMap::new(),
            by_visibility: BTreeSet::new(),
            by_age: BTreeSet::new(),
            sent: 0,
        }
    }

    /// Sends a message.
    pub fn send(&mut self, body: impl Into<String>, now: Timestamp) -> MessageNumber {
        self.put(body.into(), now, now)
    }

    /// Takes a dead letter of another queue. It keeps its age.
    pub fn take_dead(&mut self, message: Message, now: Timestamp) -> MessageNumber {
        self.put(message.body, message.sent_at, now)
    }

    fn put(&mut self, body: String, sent_at: Timestamp, visible_at: Timestamp) -> MessageNumber {
        self.sent += 1;
        let number = self.sent;
        let message =
            Message { number, body, sent_at, receive_count: 0, visible_at, received_at: sent_at, deleted: false };
        self.messages.insert(number, message);
        self.by_visibility.insert((visible_at, number));
        self.by_age.insert((sent_at, number));
        number
    }

    /// Receives up to `max` visible messages, which become invisible. A message that was received as often as the redrive
    /// policy allows moves to the dead-letter queue instead.
    pub fn receive(&mut self, max: usize, now: Timestamp) -> Received {
        self.drop_expired(now);
        let max_receive_count = self.max_receive_count.unwrap_or(u32::MAX);
        let mut visible: Vec<MessageNumber> =
            self.by_visibility.range(..=(now, MessageNumber::MAX)).map(|(_, number)| *number).collect();
        visible.sort_unstable();
        let is_dead = |number: &MessageNumber| self.messages[number].receive_count >= max_receive_count;
        let (dead, visible): (Vec<_>, Vec<_>) = visible.into_iter().partition(is_dead);
        let dead = dead.into_iter().filter_map(|number| self.remove(number)).collect();
        let in_flight = self.by_visibility.len() - visible.len();
        let max = max.min(limits::MESSAGES_IN_FLIGHT_MAX.saturating_sub(in_flight));
        let visible_at = now.saturating_add(self.visibility_timeout).unwrap_or(Timestamp::MAX);
        let mut messages = Vec::new();
        for number in visible.into_iter().take(max) {
            self.set_visible_at(number, visible_at);
            if let Some(message) = self.messages.get_mut(&number) {
                message.receive_count += 1;
                message.received_at = now;
                messages.push(message.clone());
            }
        }
        Received { messages, dead }
    }

    /// Drops the messages that are older than the retention.
    fn drop_expired(&mut self, now: Timestamp) {
        let oldest = now.saturating_sub(self.retention).unwrap_or(Timestamp::MIN);
        while let Some((_, number)) = self.by_age.first().copied().filter(|(sent_at, _)| *sent_at < oldest) {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: MessageNumber) -> Option<Message> {
        let message = self.messages.remove(&number)?;
        self.by_visibility.remove(&(message.visible_at, number));
        self.by_age.remove(&(message.sent_at, number));
        Some(message)
    }

    /// Sets when a message that is not deleted can be received.
    fn set_visible_at(&mut self, number: MessageNumber, at: Timestamp) {
        if let Some(message) = self.messages.get_mut(&number) {
            self.by_visibility.remove(&(message.visible_at, number));
            message.visible_at = at;
            self.by_visibility.insert((at, number));
        }
    }

    /// `ChangeMessageVisibility`: a message in flight becomes visible again after `timeout` from now. This applies to the
    /// current receive only.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html>
    ///
    /// # Errors
    /// [`Unchanged`] says why not.
    pub fn change_visibility(
        &mut self,
        number: MessageNumber,
        timeout: Duration,
        now: Timestamp,
    ) -> Result<(), Unchanged> {
        let message = self.get(number).ok_or(Unchanged::Gone)?;
        if message.visible_at <= now {
            return Err(Unchanged::NotInFlight);
        }
        let visible_at = now.saturating_add(timeout).unwrap_or(Timestamp::MAX);
        if visible_at > message.received_at.saturating_add(limits::INVISIBLE_MAX).unwrap_or(Timestamp::MAX) {
            return Err(Unchanged::TooLong);
        }
        self.set_visible_at(number, visible_at);
        Ok(())
    }

    /// Deletes a message, if it is there.
    pub fn delete(&mut self, number: MessageNumber) {
        if let Some(message) = self.messages.get_mut(&number) {
            message.deleted = true;
            self.by_visibility.remove(&(message.visible_at, number));
        }
    }

    /// Makes a message visible at once, deleted or not: a standard queue delivers at least once. Returns whether the queue
    /// still had it.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html>
    pub fn deliver_again(&mut self, number: MessageNumber, now: Timestamp) -> bool {
        let Some(message) = self.messages.get_mut(&number) else { return false };
        message.deleted = false;
        self.set_visible_at(number, now);
        true
    }

    /// A message in the queue.
    #[must_use]
    pub fn get(&self, number: MessageNumber) -> Option<&Message> {
        self.messages.get(&number).filter(|message| !message.deleted)
    }

    /// Whether there are no messages in the queue.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_visibility.is_empty()
    }

    /// Whether a message can be received now.
    #[must_use]
    pub fn has_visible(&self, now: Timestamp) -> bool {
        self.by_visibility.first().is_some_and(|(at, _)| *at <= now)
    }

    /// When the next message that cannot be received now can be received.
    #[must_use]
    pub fn next_visible_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.by_visibility.range((now, MessageNumber::MAX)..).map(|(at, _)| *at).find(|at| *at > now)
    }

    /// The messages in the queue.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.messages.values().filter(|message| !message.deleted)
    }
}

/// A mapping of a queue to a function.
#[derive(Debug)]
pub struct QueueMapping {
    settings: Settings,
    gathering: Gathering<Gathered>,
    in_flight: BTreeMap<InvocationNumber, Vec<Gathered>>,
    invocations: InvocationNumber,
}

/// A message that waits for an invocation.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// Its number in the queue.
    pub number: MessageNumber,
    /// Its `messageId`, as the function reports it.
    pub message_id: Box<str>,
    /// The record as the function gets it.
    pub event: Box<RawValue>,
}

/// An invocation that is due.
#[derive(Debug, Clone)]
pub struct QueueInvocation {
    /// Its number, for the answer.
    pub number: InvocationNumber,
    /// Its messages.
    pub messages: Vec<Gathered>,
}

impl QueueMapping {
    /// A mapping that has received nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, gathering: Gathering::default(), in_flight: BTreeMap::new(), invocations: 0 }
    }

    /// Goes on with other settings, as after `UpdateEventSourceMapping`. Invocations in flight are not affected.
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html>
    pub fn update(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// How many messages may be received now: none while as many invocations run as are allowed.
    #[must_use]
    pub fn wants(&self) -> usize {
        if self.is_busy() { 0 } else { self.settings.batch_size.saturating_sub(self.gathering.len()) }
    }

    /// Whether as many invocations run as are allowed.
    fn is_busy(&self) -> bool {
        self.settings.maximum_concurrency.is_some_and(|max| self.in_flight.len() >= max)
    }

    /// Takes received messages, and returns those that match no filter pattern: the driver deletes them.
    pub fn received(&mut self, messages: impl IntoIterator<Item = Gathered>, now: Timestamp) -> Vec<MessageNumber> {
        let mut filtered = Vec::new();
        for message in messages {
            if self.settings.filter.as_ref().is_none_or(|filter| filter.passes(&message.event)) {
                let bytes = message.event.get().len();
                self.gathering.push(message, bytes, now);
            } else {
                filtered.push(message.number);
            }
        }
        filtered
    }

    /// The invocations that are due now.
    pub fn due(&mut self, now: Timestamp) -> Vec<QueueInvocation> {
        let mut due = Vec::new();
        while !self.is_busy()
            && let Some(messages) = self.gathering.take(&self.settings, now)
        {
            self.invocations += 1;
            self.in_flight.insert(self.invocations, messages.clone());
            due.push(QueueInvocation { number: self.invocations, messages });
        }
        due
    }

    /// Takes the answer to an invocation, and returns the messages to delete. The others are redelivered when their
    /// visibility timeout ends. A throttled invocation uses up a receive like any other.
    /// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>
    pub fn answered(&mut self, number: InvocationNumber, answer: Answer<'_>) -> Vec<MessageNumber> {
        let Some(messages) = self.in_flight.remove(&number) else { return vec![] };
        let places: LazyCell<HashMap<&str, usize>, _> =
            LazyCell::new(|| (0..).zip(&messages).map(|(place, message)| (&*message.message_id, place)).collect());
        let place = |identifier: &str| places.get(identifier).copied();
        let verdict = response::read(answer, self.settings.reports_batch_item_failures, place);
        let failed: HashSet<&str> = match &verdict {
            Verdict::Complete => HashSet::new(),
            Verdict::Partial(places) => places.iter().map(|&place| &*messages[place].message_id).collect(),
            Verdict::Failed => return vec![],
        };
        // By id: a standard queue may deliver a message twice, and if it is reported once, both deliveries have failed.
        let done = messages.iter().filter(|message| !failed.contains(&*message.message_id));
        done.map(|message| message.number).collect()
    }

    /// When the batching window ends, if one has begun.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.gathering.window_ends(&self.settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn queue() -> Queue {
        Queue::new(Duration::from_secs(30), Duration::from_hours(96), Some(6))
    }

    #[test]
    fn a_received_message_is_invisible_until_its_visibility_timeout_ends() {
        let mut queue = queue();
        queue.send("a", at(0));
        assert_eq!(queue.receive(10, at(1)).messages.len(), 1);
        assert!(queue.receive(10, at(30)).messages.is_empty());
        assert_eq!(queue.messages().next().unwrap().visible_at, at(31));
        assert_eq!(queue.receive(10, at(31)).messages[0].receive_count, 2);
    }

    #[test]
    fn the_visibility_timeout_of_a_message_in_flight_can_be_changed_for_this_receive() {
        let mut queue = queue();
        let number = queue.send("a", at(0));
        assert_eq!(queue.change_visibility(number, Duration::from_secs(5), at(0)), Err(Unchanged::NotInFlight));
        queue.receive(1, at(0));
        assert_eq!(queue.change_visibility(number, Duration::from_secs(5), at(10)), Ok(()));
        assert!(queue.receive(1, at(14)).messages.is_empty());
        assert_eq!(queue.receive(1, at(15)).messages[0].receive_count, 2);
        assert_eq!(queue.messages().next().unwrap().visible_at, at(45), "with the timeout of the queue");
        assert_eq!(queue.change_visibility(number, Duration::from_hours(1), at(16)), Ok(()));
        assert!(queue.receive(1, at(16 + 3_599)).messages.is_empty());
        assert_eq!(queue.receive(1, at(16 + 3_600)).messages.len(), 1);
    }

    #[test]
    fn a_message_is_invisible_for_twelve_hours_at_most_and_a_deleted_one_cannot_be_changed() {
        let mut queue = queue();
        let number = queue.send("a", at(0));
        queue.receive(1, at(100));
        assert_eq!(queue.change_visibility(number, limits::INVISIBLE_MAX, at(101)), Err(Unchanged::TooLong));
        assert_eq!(queue.change_visibility(number, limits::INVISIBLE_MAX, at(100)), Ok(()));
        queue.delete(number);
        assert_eq!(queue.change_visibility(number, Duration::ZERO, at(102)), Err(Unchanged::Gone));
    }

    #[test]
    fn beyond_the_quota_of_messages_in_flight_nothing_is_received() {
        let mut queue = queue();
        let numbers: Vec<_> = (0..=limits::MESSAGES_IN_FLIGHT_MAX).map(|_| queue.send("a", at(0))).collect();
        assert_eq!(queue.receive(usize::MAX, at(0)).messages.len(), limits::MESSAGES_IN_FLIGHT_MAX);
        assert!(queue.receive(usize::MAX, at(1)).messages.is_empty());
        queue.change_visibility(numbers[0], Duration::from_secs(1), at(1)).unwrap();
        assert_eq!(queue.receive(usize::MAX, at(2)).messages.len(), 1, "there is room for one");
    }

    #[test]
    fn a_message_that_was_received_six_times_moves_to_the_dead_letter_queue_and_keeps_its_age() {
        let mut queue = queue();
        queue.send("a", at(0));
        for receive in 0..6 {
            assert_eq!(queue.receive(10, at(receive * 30)).messages.len(), 1, "receive {receive}");
        }
        let mut received = queue.receive(10, at(180));
        assert!(received.messages.is_empty() && queue.messages().count() == 0);
        let mut dead = Queue::new(Duration::from_secs(30), Duration::from_hours(24 * 14), None);
        dead.take_dead(received.dead.remove(0), at(180));
        let message = dead.messages().next().unwrap();
        assert_eq!((message.body.as_str(), message.sent_at), ("a", at(0)));
    }

    #[test]
    fn a_deleted_message_is_gone_but_may_be_delivered_again() {
        let mut queue = queue();
        let number = queue.send("a", at(0));
        queue.receive(1, at(0));
        queue.delete(number);
        assert_eq!(queue.messages().count(), 0);
        assert!(queue.receive(1, at(40)).messages.is_empty());
        assert!(queue.deliver_again(number, at(5)));
        assert_eq!(queue.receive(1, at(5)).messages[0].receive_count, 2);
        queue.delete(number);
        assert!(queue.receive(1, at(100)).messages.is_empty());
        assert!(!queue.deliver_again(99, at(100)), "there is no such message");
    }

    #[test]
    fn a_message_that_is_older_than_the_retention_is_gone() {
        let mut queue = queue();
        queue.send("a", at(0));
        assert!(queue.receive(1, at(96 * 3600 + 1)).messages.is_empty());
    }

    #[test]
    fn a_message_is_kept_until_the_end_of_its_retention() {
        let mut queue = queue();
        queue.send("a", at(0));
        assert_eq!(queue.receive(1, at(96 * 3600)).messages.len(), 1);
    }

    #[test]
    fn a_queue_says_whether_and_when_there_is_something_to_receive() {
        let mut queue = queue();
        assert!(queue.is_empty() && !queue.has_visible(at(0)));
        queue.send("a", at(0));
        assert!(!queue.is_empty() && queue.has_visible(at(0)));
        assert_eq!(queue.next_visible_at(at(0)), None);
        queue.receive(1, at(0));
        assert!(!queue.has_visible(at(29)) && queue.has_visible(at(30)));
        assert_eq!([29, 30].map(|now| queue.next_visible_at(at(now))), [Some(at(30)), None]);
    }

    fn settings(properties: &serde_json::Value) -> Settings {
        let mut all = json!({"BatchSize": 2, "FunctionResponseTypes": ["ReportBatchItemFailures"]});
        all.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
        Settings::of_queue(&all).unwrap()
    }

    fn mapping(properties: &serde_json::Value) -> QueueMapping {
        QueueMapping::new(settings(properties))
    }

    #[test]
    fn a_mapping_wants_what_its_next_batch_lacks_by_its_settings_of_now() {
        let mut mapping = mapping(&json!({"BatchSize": 10, "MaximumBatchingWindowInSeconds": 5}));
        mapping.received(messages(0..3), at(0));
        assert_eq!(mapping.wants(), 7);
        mapping.update(settings(&json!({"BatchSize": 4})));
        assert_eq!(mapping.wants(), 1);
    }

    fn messages(numbers: std::ops::Range<u64>) -> Vec<Gathered> {
        numbers.map(message).collect()
    }

    fn message(number: u64) -> Gathered {
        let event = RawValue::from_string(format!(r#"{{"body":"{number}"}}"#)).unwrap();
        Gathered { number, message_id: format!("m{number}").into(), event }
    }

    #[test]
    fn a_batch_is_invoked_when_it_is_full_or_its_window_has_passed() {
        let mut mapping = mapping(&json!({"MaximumBatchingWindowInSeconds": 5}));
        mapping.received(messages(0..3), at(0));
        let due = mapping.due(at(0));
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].messages.len(), 2);
        assert_eq!(mapping.wake_at(), Some(at(5)));
        assert!(mapping.due(at(4)).is_empty());
        assert_eq!(mapping.due(at(5))[0].messages.len(), 1);
    }

    #[test]
    fn no_more_invocations_run_at_once_than_are_allowed_and_nothing_is_received_for_them() {
        let mut mapping = mapping(&json!({"ScalingConfig": {"MaximumConcurrency": 2}}));
        mapping.received(messages(0..8), at(0));
        assert_eq!(mapping.due(at(0)).len(), 2);
        assert_eq!(mapping.wants(), 0);
        mapping.answered(1, Answer::Response(b"{}"));
        assert_eq!(mapping.due(at(0)).len(), 1);
    }

    #[test]
    fn reported_messages_stay_and_the_others_are_deleted() {
        for (answer, deleted) in [
            (Answer::Response(br#"{"batchItemFailures":[{"itemIdentifier":"m1"}]}"#), vec![0]),
            (Answer::Response(br#"{"batchItemFailures":[]}"#), vec![0, 1]),
            (Answer::Response(br#"{"batchItemFailures":[{"itemIdentifier":""}]}"#), vec![]),
            (Answer::FunctionError, vec![]),
            (Answer::Throttled, vec![]),
        ] {
            let mut mapping = mapping(&json!({}));
            mapping.received(messages(0..2), at(0));
            mapping.due(at(0));
            assert_eq!(mapping.answered(1, answer), deleted, "{answer:?}");
            assert!(mapping.answered(1, answer).is_empty(), "an answer counts once");
        }
    }

    #[test]
    fn a_message_that_is_in_a_batch_twice_fails_as_a_whole() {
        let mut mapping = mapping(&json!({}));
        mapping.received(messages(7..8), at(0));
        mapping.received(messages(7..8), at(0));
        mapping.due(at(0));
        let answer = br#"{"batchItemFailures":[{"itemIdentifier":"m7"}]}"#;
        assert!(mapping.answered(1, Answer::Response(answer)).is_empty());
    }

    #[test]
    fn a_message_that_matches_no_filter_pattern_is_deleted() {
        let mut mapping = mapping(&json!({"FilterCriteria": {"Filters": [{"Pattern": r#"{"body":[1]}"#}]}}));
        assert_eq!(mapping.received(messages(0..2), at(0)), [0]);
        assert_eq!(mapping.due(at(0))[0].messages[0].number, 1);
    }
}
