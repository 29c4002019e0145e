//! The messages of the dead-letter queue, read without taking them away.

use crate::error::Error;
use crate::stack::Stack;
use crate::summary::queue;
use crate::{events, output};
use aws::SystemClock;
use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, Message};
use notification::ports::Clock;
use notification::{Timestamp, limits};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How long a message is hidden while it is read, in seconds: longer than a queue of some ten thousand takes. It is shown
/// again as soon as all are read, and after this time where the reading is interrupted.
const HIDDEN_SECONDS: i32 = 60;

/// What was read of the dead-letter queue.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    /// How many messages have each of the texts that were looked for, on one line.
    pub(crate) found: HashMap<String, usize>,
    /// As many messages were read as SQS counts there. SQS hands out samples, and none that another reader has.
    pub(crate) complete: bool,
}

/// Reads all messages, and keeps those whose text is `wanted`.
pub(crate) async fn read(stack: &Stack, wanted: impl Fn(&str) -> bool) -> Result<DeadLetters, Error> {
    let bar = output::spinner("reading the dead-letter queue");
    let mut receipts = Vec::new();
    let mut look = Look::new(queue(stack, &stack.dead_letter_queue_url).await?.all(), SystemClock.now());
    while !look.is_over(SystemClock.now()) {
        let messages = receive(stack).await?;
        receipts.extend(messages.iter().filter_map(|message| message.receipt_handle.clone()));
        look.note(messages, &wanted);
        bar.set_message(format!("reading the dead-letter queue: {} messages", output::thousands(look.ids.len())));
        bar.tick();
    }
    show_again(stack, &receipts).await;
    bar.finish_and_clear();
    // Some may have come meanwhile, or were not counted yet.
    look.counted = look.counted.max(queue(stack, &stack.dead_letter_queue_url).await?.all());
    Ok(DeadLetters { complete: look.is_complete(), found: look.found })
}

async fn receive(stack: &Stack) -> Result<Vec<Message>, Error> {
    let answer = stack
        .sqs
        .receive_message()
        .queue_url(&stack.dead_letter_queue_url)
        .max_number_of_messages(10)
        .visibility_timeout(HIDDEN_SECONDS)
        .wait_time_seconds(1)
        .send()
        .await;
    Ok(answer.map_err(Error::aws("ReceiveMessage"))?.messages.unwrap_or_default())
}

async fn show_again(stack: &Stack, receipts: &[String]) {
    for batch in receipts.chunks(limits::SQS_BATCH_MAX) {
        let entry = |(n, receipt): (usize, &String)| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(n.to_string())
                .receipt_handle(receipt)
                .visibility_timeout(0)
                .build()
                .ok()
        };
        let entries = batch.iter().enumerate().filter_map(entry).collect();
        let queue = &stack.dead_letter_queue_url;
        // Where this fails, the messages show again by themselves.
        let _ = stack.sqs.change_message_visibility_batch().queue_url(queue).set_entries(Some(entries)).send().await;
    }
}

/// How far the reading has come.
struct Look {
    started: Timestamp,
    /// Messages that SQS counts in the queue, approximately.
    counted: usize,
    /// By message id: one that was hidden for too long is received again.
    ids: HashSet<String>,
    found: HashMap<String, usize>,
    /// Answers in a row that had nothing new.
    empty_answers: usize,
}

impl Look {
    fn new(counted: usize, now: Timestamp) -> Self {
        Self { started: now, counted, ids: HashSet::new(), found: HashMap::new(), empty_answers: 0 }
    }

    fn is_complete(&self) -> bool {
        self.ids.len() >= self.counted
    }

    fn is_over(&self, now: Timestamp) -> bool {
        let enough =
            if self.is_complete() { limits::DEAD_LETTER_EMPTY_ANSWERS } else { limits::DEAD_LETTER_EMPTY_ANSWERS_MAX };
        let taken = Duration::try_from(now.duration_since(self.started)).unwrap_or_default();
        self.empty_answers >= enough || taken >= limits::AUDIT_READ_MAX
    }

    fn note(&mut self, messages: Vec<Message>, wanted: impl Fn(&str) -> bool) {
        let before = self.ids.len();
        for message in messages {
            if self.ids.insert(message.message_id.unwrap_or_default()) {
                let body = events::one_line(&message.body.unwrap_or_default());
                if wanted(&body) {
                    *self.found.entry(body).or_default() += 1;
                }
            }
        }
        self.empty_answers = if self.ids.len() == before { self.empty_answers + 1 } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: usize) -> Message {
        Message::builder().message_id(id.to_string()).body(format!("body\n{id}")).build()
    }

    #[test]
    fn a_queue_of_any_length_is_read_whole() {
        let mut look = Look::new(150_000, Timestamp::UNIX_EPOCH);
        for n in 0..15_000 {
            assert!(!look.is_over(Timestamp::UNIX_EPOCH));
            look.note((n * 10..n * 10 + 10).map(message).collect(), |body| body == "body 149999");
        }
        assert!(look.is_complete());
        assert_eq!(look.found, HashMap::from([("body 149999".to_owned(), 1)]));
    }

    #[test]
    fn a_queue_that_shows_fewer_messages_than_it_counts_is_asked_more_often_and_is_then_not_complete() {
        let mut look = Look::new(2, Timestamp::UNIX_EPOCH);
        look.note(vec![message(1)], |_| true);
        for _ in 0..limits::DEAD_LETTER_EMPTY_ANSWERS_MAX {
            assert!(!look.is_over(Timestamp::UNIX_EPOCH));
            look.note(vec![message(1)], |_| true);
        }
        assert!(look.is_over(Timestamp::UNIX_EPOCH) && !look.is_complete());
        assert_eq!(look.found, HashMap::from([("body 1".to_owned(), 1)]), "one that is received again counts once");
    }

    #[test]
    fn reading_ends_after_its_longest_time_and_is_then_not_complete() {
        let look = Look::new(1, Timestamp::UNIX_EPOCH);
        assert!(look.is_over(Timestamp::UNIX_EPOCH + limits::AUDIT_READ_MAX) && !look.is_complete());
    }
}
