//! Reads the messages of the dead-letter queue without deleting them.

use crate::error::Error;
use crate::stack::Stack;
use crate::summary::queue;
use crate::time::since;
use crate::{events, output};
use aws::SystemClock;
use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, Message, MessageSystemAttributeName};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use notification::{Clock, Timestamp, limits};
use std::collections::{HashMap, HashSet};

/// The messages that were read.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    /// The number of messages with each wanted text, on one line.
    pub(crate) found: HashMap<String, usize>,
    /// Whether as many messages were read as SQS counts. SQS returns samples, and no messages that another reader has.
    pub(crate) complete: bool,
}

/// Reads all messages, and counts those whose text is `wanted`.
pub(crate) async fn read(stack: &Stack, wanted: impl Fn(&str) -> bool) -> Result<DeadLetters, Error> {
    let mut look = Look::new(count(stack).await?, SystemClock.now());
    let mut receipts = Vec::new();
    let result = read_all(stack, &mut look, &mut receipts, wanted).await;
    show_again(stack, &receipts).await;
    result?;
    // Messages may have arrived meanwhile, or not have been counted before.
    look.counted = look.counted.max(count(stack).await?);
    Ok(DeadLetters { complete: look.is_complete(), found: look.found })
}

/// Receives messages until they are `enough` or the queue has no more. They stay hidden for a while.
pub(crate) async fn take(stack: &Stack, enough: impl Fn(&[Message]) -> bool) -> Result<Vec<Message>, Error> {
    let mut look = Look::new(count(stack).await?, SystemClock.now());
    let mut taken: Vec<Message> = Vec::new();
    while !enough(&taken) && !look.is_over(SystemClock.now()) {
        let messages = match receive(stack).await {
            Ok(messages) => messages,
            Err(error) => {
                let receipts: Vec<String> = taken.into_iter().filter_map(|message| message.receipt_handle).collect();
                show_again(stack, &receipts).await;
                return Err(error);
            }
        };
        for message in &messages {
            // Only the latest receipt of a message deletes it.
            match taken.iter_mut().find(|taken| taken.message_id == message.message_id) {
                Some(taken) => taken.receipt_handle.clone_from(&message.receipt_handle),
                None => taken.push(message.clone()),
            }
        }
        look.note(messages, |_| false);
    }
    Ok(taken)
}

async fn count(stack: &Stack) -> Result<usize, Error> {
    Ok(queue(stack, &stack.dead_letter_queue_url).await?.all())
}

async fn read_all(
    stack: &Stack,
    look: &mut Look,
    receipts: &mut Vec<String>,
    wanted: impl Fn(&str) -> bool,
) -> Result<(), Error> {
    let bar = output::spinner("reading the dead-letter queue");
    while !look.is_over(SystemClock.now()) {
        let messages = receive(stack).await?;
        receipts.extend(messages.iter().filter_map(|message| message.receipt_handle.clone()));
        look.note(messages, &wanted);
        bar.set_message(format!("reading the dead-letter queue: {} messages", output::thousands(look.ids.len())));
        bar.tick();
    }
    bar.finish_and_clear();
    Ok(())
}

/// Makes several calls at once, and returns the messages of all.
async fn receive(stack: &Stack) -> Result<Vec<Message>, Error> {
    let calls = stream::iter(0..limits::CALLS_IN_FLIGHT).map(|_| receive_some(stack));
    calls.buffer_unordered(limits::CALLS_IN_FLIGHT).try_concat().await
}

async fn receive_some(stack: &Stack) -> Result<Vec<Message>, Error> {
    let answer = stack
        .sqs
        .receive_message()
        .queue_url(&stack.dead_letter_queue_url)
        .max_number_of_messages(i32::try_from(limits::SQS_BATCH_MAX).unwrap_or(i32::MAX))
        .visibility_timeout(i32::try_from(limits::DEAD_LETTER_HIDDEN.as_secs()).unwrap_or(i32::MAX))
        .wait_time_seconds(1)
        .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
        .message_attribute_names("All")
        .send()
        .await;
    Ok(answer.map_err(Error::aws("ReceiveMessage"))?.messages.unwrap_or_default())
}

/// Makes messages visible again.
pub(crate) async fn show_again(stack: &Stack, receipts: &[String]) {
    let calls = stream::iter(receipts.chunks(limits::SQS_BATCH_MAX)).map(|batch| show_some_again(stack, batch));
    calls.buffer_unordered(limits::CALLS_IN_FLIGHT).collect::<()>().await;
}

async fn show_some_again(stack: &Stack, receipts: &[String]) {
    let mut call = stack.sqs.change_message_visibility_batch().queue_url(&stack.dead_letter_queue_url);
    for (n, receipt) in receipts.iter().enumerate() {
        let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(n.to_string()).receipt_handle(receipt);
        if let Ok(entry) = entry.visibility_timeout(0).build() {
            call = call.entries(entry);
        }
    }
    // If this fails, the messages become visible later.
    let _ = call.send().await;
}

/// The progress of reading.
struct Look {
    started: Timestamp,
    /// Messages in the queue, as SQS counts them: approximately.
    counted: usize,
    /// Message ids: a message that is no longer hidden may be received again.
    ids: HashSet<String>,
    found: HashMap<String, usize>,
    /// Rounds without a message since the last new message.
    empty_rounds: usize,
}

impl Look {
    fn new(counted: usize, now: Timestamp) -> Self {
        Self { started: now, counted, ids: HashSet::new(), found: HashMap::new(), empty_rounds: 0 }
    }

    fn is_complete(&self) -> bool {
        self.ids.len() >= self.counted
    }

    fn is_over(&self, now: Timestamp) -> bool {
        let enough =
            if self.is_complete() { limits::DEAD_LETTER_EMPTY_ROUNDS } else { limits::DEAD_LETTER_EMPTY_ROUNDS_MAX };
        self.empty_rounds >= enough || since(self.started, now) >= limits::AUDIT_READ_MAX
    }

    /// Takes the messages of a round.
    fn note(&mut self, messages: Vec<Message>, wanted: impl Fn(&str) -> bool) {
        let before = self.ids.len();
        let is_empty = messages.is_empty();
        for message in messages {
            if self.ids.insert(message.message_id.unwrap_or_default()) {
                let body = events::one_line(&message.body.unwrap_or_default());
                if wanted(&body) {
                    *self.found.entry(body).or_default() += 1;
                }
            }
        }
        if self.ids.len() > before {
            self.empty_rounds = 0;
        } else if is_empty || self.is_complete() {
            self.empty_rounds += 1;
        }
        // Otherwise, the queue returned only messages that were read before, but has others.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::time::Duration;

    fn message(id: usize) -> Message {
        Message::builder().message_id(id.to_string()).body(format!("body\n{id}")).build()
    }

    /// A queue that returns visible messages in any order, and makes them visible again after a time.
    struct Queue {
        visible: Vec<usize>,
        /// When each message becomes visible again, in order.
        hidden: VecDeque<(Timestamp, usize)>,
        random: fastrand::Rng,
    }

    impl Queue {
        fn receive(&mut self, calls: usize, now: Timestamp, hide: Duration) -> Vec<Message> {
            while let Some((_, id)) = self.hidden.pop_front_if(|(until, _)| *until <= now) {
                self.visible.push(id);
            }
            let taken = self.visible.len().min(calls * limits::SQS_BATCH_MAX);
            let take = |_| {
                let id = self.visible.swap_remove(self.random.usize(..self.visible.len()));
                self.hidden.push_back((now + hide, id));
                message(id)
            };
            (0..taken).map(take).collect()
        }
    }

    /// Reads a queue of this length. Each round of calls takes this long. Returns how long reading took.
    fn read(length: usize, round: Duration) -> (Look, Duration) {
        let mut queue =
            Queue { visible: (0..length).collect(), hidden: VecDeque::new(), random: fastrand::Rng::with_seed(7) };
        let mut now = Timestamp::UNIX_EPOCH;
        let mut look = Look::new(length, now);
        let last = format!("body {}", length - 1);
        while !look.is_over(now) {
            look.note(queue.receive(limits::CALLS_IN_FLIGHT, now, limits::DEAD_LETTER_HIDDEN), |body| body == last);
            now += round;
        }
        assert!(look.is_complete(), "{} of {length} read", look.ids.len());
        assert_eq!(look.found, HashMap::from([(last, 1)]));
        (look, since(Timestamp::UNIX_EPOCH, now))
    }

    #[test]
    fn a_queue_with_as_many_messages_as_sqs_can_hide_is_read_completely_while_they_are_hidden() {
        let (look, taken) = read(120_000, Duration::from_millis(400));
        assert_eq!(look.ids.len(), 120_000);
        assert!(taken <= limits::DEAD_LETTER_HIDDEN + Duration::from_secs(1), "{taken:?}");
    }

    #[test]
    fn a_queue_whose_messages_become_visible_before_all_are_read_is_read_completely() {
        let (_, taken) = read(20_000, Duration::from_secs(3));
        assert!(taken > limits::DEAD_LETTER_HIDDEN);
    }

    #[test]
    fn messages_that_were_read_before_do_not_end_reading_while_the_queue_has_others() {
        let mut look = Look::new(2, Timestamp::UNIX_EPOCH);
        for _ in 0..1_000 {
            look.note(vec![message(1)], |_| true);
            assert!(!look.is_over(Timestamp::UNIX_EPOCH));
        }
        look.note(vec![message(2)], |_| true);
        for _ in 0..limits::DEAD_LETTER_EMPTY_ROUNDS {
            look.note(vec![message(1)], |_| true);
        }
        assert!(look.is_over(Timestamp::UNIX_EPOCH) && look.is_complete());
        assert_eq!(look.found["body 1"], 1, "a message that is received twice counts once");
    }

    #[test]
    fn a_queue_that_shows_fewer_messages_than_it_counts_is_asked_more_often_and_is_then_not_complete() {
        let mut look = Look::new(2, Timestamp::UNIX_EPOCH);
        look.note(vec![message(1)], |_| true);
        for _ in 0..limits::DEAD_LETTER_EMPTY_ROUNDS_MAX {
            assert!(!look.is_over(Timestamp::UNIX_EPOCH));
            look.note(vec![], |_| true);
        }
        assert!(look.is_over(Timestamp::UNIX_EPOCH) && !look.is_complete());
    }

    #[test]
    fn reading_ends_after_its_time_limit_and_is_then_not_complete() {
        let look = Look::new(1, Timestamp::UNIX_EPOCH);
        assert!(look.is_over(Timestamp::UNIX_EPOCH + limits::AUDIT_READ_MAX) && !look.is_complete());
    }
}
