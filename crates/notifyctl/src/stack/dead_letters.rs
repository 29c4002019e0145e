//! Reads the messages of the dead-letter queue without deleting them.

use crate::error::Error;
use crate::stack::Stack;
use crate::summary::queue;
use crate::time::since;
use crate::{events, output};
use aws::{SqsQueue, SystemClock};
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use notification::ports::{Hide, Queue};
use notification::{Clock, Timestamp, limits};
use std::collections::HashMap;
use std::time::Duration;

/// The messages that were read.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    /// The number of messages with each wanted text, on one line.
    pub(crate) found: HashMap<String, usize>,
    /// Whether as many messages were read as SQS counts. SQS returns samples, and no messages that another reader has.
    pub(crate) complete: bool,
}

/// The receipt of each message, by message id. Only its latest receipt deletes a message or makes it visible again.
pub(crate) type Receipts = HashMap<String, String>;

/// Reads all messages, and counts those whose text is `wanted`.
pub(crate) async fn read(stack: &Stack, wanted: impl Fn(&str) -> bool) -> Result<DeadLetters, Error> {
    let mut found = HashMap::new();
    let seen = each(stack, async |messages| {
        note_wanted(messages, &wanted, &mut found);
        Ok(false)
    })
    .await?;
    Ok(DeadLetters { complete: seen.is_complete(), found })
}

/// How many messages were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) read: usize,
    /// Messages in the queue, as SQS counts them: approximately.
    pub(crate) counted: usize,
}

impl Seen {
    /// Whether as many messages were read as SQS counts.
    pub(crate) fn is_complete(self) -> bool {
        self.unread() == 0
    }

    /// Messages that SQS counts and that were not read.
    pub(crate) fn unread(self) -> usize {
        self.counted.saturating_sub(self.read)
    }

    /// What to know if it is not complete.
    pub(crate) fn remark(self) -> String {
        let (read, counted) = (output::thousands(self.read), output::thousands(self.counted));
        let minutes = limits::DEAD_LETTER_HIDDEN.as_secs() / 60;
        format!(
            "{read} of about {counted} messages were read; another reader may have the others, or a command that was \
             interrupted less than {minutes} minutes ago"
        )
    }
}

/// Gives each message to `note` once, some at a time, until it says that it has enough or the queue has no more. All of them
/// are visible again afterwards.
pub(crate) async fn each(
    stack: &Stack,
    note: impl AsyncFnMut(Vec<Message>) -> Result<bool, Error>,
) -> Result<Seen, Error> {
    let mut receipts = Receipts::new();
    let counted = receive_until(stack, &mut receipts, note).await;
    show_again(stack, receipts.values()).await;
    // Messages may have arrived meanwhile, or not have been counted before.
    let counted = counted?.max(count(stack).await?);
    Ok(Seen { read: receipts.len(), counted })
}

/// Like [`each`], but the messages stay hidden for a while, even after an error. A message that has a receipt already
/// was read before: it gets its latest receipt, and `note` does not get it again.
pub(crate) async fn hide(
    stack: &Stack,
    receipts: &mut Receipts,
    note: impl AsyncFnMut(Vec<Message>) -> Result<bool, Error>,
) -> Result<(), Error> {
    receive_until(stack, receipts, note).await.map(|_| ())
}

/// How many messages the queue has, as SQS counts them: approximately.
pub(crate) async fn count(stack: &Stack) -> Result<usize, Error> {
    Ok(queue(stack, &stack.dead_letter_queue_url).await?.all())
}

/// Receives messages until the queue has no more, or `note` says that it has enough: it gets each message once. Returns
/// how many messages SQS counted before.
async fn receive_until(
    stack: &Stack,
    receipts: &mut Receipts,
    mut note: impl AsyncFnMut(Vec<Message>) -> Result<bool, Error>,
) -> Result<usize, Error> {
    let bar = output::spinner("reading the dead-letter queue");
    let mut look = Look::new(count(stack).await?, receipts, SystemClock.now());
    let mut has_enough = false;
    while !has_enough && !look.is_over(SystemClock.now()) {
        let messages = receive(stack).await?;
        has_enough = note(look.note(messages)).await?;
        let read = output::thousands(look.receipts.len());
        bar.set_message(format!("reading the dead-letter queue: {read} messages"));
        bar.tick();
    }
    bar.finish_and_clear();
    Ok(look.counted)
}

/// Counts the messages whose text is `wanted`.
fn note_wanted(messages: Vec<Message>, wanted: impl Fn(&str) -> bool, found: &mut HashMap<String, usize>) {
    for message in messages {
        let body = events::one_line(&message.body.unwrap_or_default());
        if wanted(&body) {
            *found.entry(body).or_default() += 1;
        }
    }
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
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .message_attribute_names("All")
        .send()
        .await;
    Ok(answer.map_err(Error::aws("ReceiveMessage"))?.messages.unwrap_or_default())
}

/// Makes messages visible again. If that fails, they become visible later.
pub(crate) async fn show_again(stack: &Stack, receipts: impl IntoIterator<Item = &String>) {
    let queue = SqsQueue::new(stack.sqs.clone(), stack.dead_letter_queue_url.clone());
    let hidden = receipts.into_iter().map(|receipt_handle| Hide { receipt_handle, wait: Duration::ZERO });
    let hidden: Vec<Hide<'_>> = hidden.collect();
    let calls = stream::iter(hidden.chunks(limits::SQS_BATCH_MAX)).map(|batch| queue.hide(batch));
    calls.buffer_unordered(limits::CALLS_IN_FLIGHT).collect::<Vec<_>>().await;
}

/// The progress of reading.
struct Look<'a> {
    started: Timestamp,
    /// Messages in the queue, as SQS counts them: approximately.
    counted: usize,
    /// A message that is no longer hidden may be received again.
    receipts: &'a mut Receipts,
    /// Rounds without a message since the last new message.
    empty_rounds: usize,
}

impl<'a> Look<'a> {
    fn new(counted: usize, receipts: &'a mut Receipts, now: Timestamp) -> Self {
        Self { started: now, counted, receipts, empty_rounds: 0 }
    }

    fn is_complete(&self) -> bool {
        self.receipts.len() >= self.counted
    }

    fn is_over(&self, now: Timestamp) -> bool {
        let enough =
            if self.is_complete() { limits::DEAD_LETTER_EMPTY_ROUNDS } else { limits::DEAD_LETTER_EMPTY_ROUNDS_MAX };
        self.empty_rounds >= enough || since(self.started, now) >= limits::AUDIT_READ_MAX
    }

    /// Takes the messages of a round, and returns the new ones.
    fn note(&mut self, mut messages: Vec<Message>) -> Vec<Message> {
        let is_empty = messages.is_empty();
        messages.retain(|message| {
            let id = message.message_id.clone().unwrap_or_default();
            self.receipts.insert(id, message.receipt_handle.clone().unwrap_or_default()).is_none()
        });
        if !messages.is_empty() {
            self.empty_rounds = 0;
        } else if is_empty || self.is_complete() {
            self.empty_rounds += 1;
        }
        // Otherwise, the queue returned only messages that were read before, but has others.
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

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

    /// Reads a queue of this length. Each round of calls takes this long. Returns how many messages were
    /// read, and how long that took.
    fn read(length: usize, round: Duration) -> (usize, Duration) {
        let mut queue =
            Queue { visible: (0..length).collect(), hidden: VecDeque::new(), random: fastrand::Rng::with_seed(7) };
        let mut now = Timestamp::UNIX_EPOCH;
        let mut receipts = Receipts::new();
        let mut look = Look::new(length, &mut receipts, now);
        let last = format!("body {}", length - 1);
        let mut found = HashMap::new();
        while !look.is_over(now) {
            let messages = look.note(queue.receive(limits::CALLS_IN_FLIGHT, now, limits::DEAD_LETTER_HIDDEN));
            note_wanted(messages, |body| body == last, &mut found);
            now += round;
        }
        assert!(look.is_complete(), "{} of {length} read", look.receipts.len());
        assert_eq!(found, HashMap::from([(last, 1)]));
        (receipts.len(), since(Timestamp::UNIX_EPOCH, now))
    }

    #[test]
    fn a_queue_with_as_many_messages_as_sqs_can_hide_is_read_completely_while_they_are_hidden() {
        let (length, taken) = read(120_000, Duration::from_millis(400));
        assert_eq!(length, 120_000);
        assert!(taken <= limits::DEAD_LETTER_HIDDEN + Duration::from_secs(1), "{taken:?}");
    }

    #[test]
    fn a_queue_whose_messages_become_visible_before_all_are_read_is_read_completely() {
        let (_, taken) = read(20_000, Duration::from_secs(3));
        assert!(taken > limits::DEAD_LETTER_HIDDEN);
    }

    #[test]
    fn messages_that_were_read_before_do_not_end_reading_while_the_queue_has_others() {
        let mut receipts = Receipts::new();
        let mut look = Look::new(2, &mut receipts, Timestamp::UNIX_EPOCH);
        let mut found = look.note(vec![message(1)]);
        for _ in 0..1_000 {
            found.extend(look.note(vec![message(1)]));
            assert!(!look.is_over(Timestamp::UNIX_EPOCH));
        }
        found.extend(look.note(vec![message(2)]));
        for _ in 0..limits::DEAD_LETTER_EMPTY_ROUNDS {
            found.extend(look.note(vec![message(1)]));
        }
        assert!(look.is_over(Timestamp::UNIX_EPOCH) && look.is_complete());
        assert_eq!(found, [message(1), message(2)], "a message that is received twice counts once");
    }

    #[test]
    fn a_queue_that_shows_fewer_messages_than_it_counts_is_asked_more_often_and_is_then_not_complete() {
        let mut receipts = Receipts::new();
        let mut look = Look::new(2, &mut receipts, Timestamp::UNIX_EPOCH);
        look.note(vec![message(1)]);
        for _ in 0..limits::DEAD_LETTER_EMPTY_ROUNDS_MAX {
            assert!(!look.is_over(Timestamp::UNIX_EPOCH));
            look.note(vec![]);
        }
        assert!(look.is_over(Timestamp::UNIX_EPOCH) && !look.is_complete());
    }

    #[test]
    fn reading_ends_after_its_time_limit_and_is_then_not_complete() {
        let mut receipts = Receipts::new();
        let look = Look::new(1, &mut receipts, Timestamp::UNIX_EPOCH);
        assert!(look.is_over(Timestamp::UNIX_EPOCH + limits::AUDIT_READ_MAX) && !look.is_complete());
    }
}
