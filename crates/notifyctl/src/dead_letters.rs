//! The messages of the dead-letter queue, read without taking them away.

use crate::error::Error;
use crate::stack::Stack;
use aws_sdk_sqs::types::ChangeMessageVisibilityBatchRequestEntry;
use notification::limits;
use std::collections::HashMap;

/// How long a message is hidden while it is read, in seconds; it is shown again right after.
const HIDDEN_SECONDS: i32 = 30;

/// Messages read at the most: an audit is no tool for a queue of millions.
const MESSAGES_MAX: usize = 100_000;

/// The bodies of all messages in the dead-letter queue.
pub(crate) async fn bodies(stack: &Stack) -> Result<Vec<String>, Error> {
    // By message id: reading a long queue may take longer than its first messages stay hidden.
    let mut bodies = HashMap::new();
    let mut receipts = Vec::new();
    // An answer without anything new may miss messages, so one more look is taken.
    let mut empty_answers = 0;
    while empty_answers < 2 && bodies.len() < MESSAGES_MAX {
        let messages = stack
            .sqs
            .receive_message()
            .queue_url(&stack.dead_letter_queue_url)
            .max_number_of_messages(10)
            .visibility_timeout(HIDDEN_SECONDS)
            .wait_time_seconds(1)
            .send()
            .await
            .map_err(Error::aws("ReceiveMessage"))?
            .messages
            .unwrap_or_default();
        let before = bodies.len();
        for message in messages {
            bodies.insert(message.message_id.unwrap_or_default(), message.body.unwrap_or_default());
            receipts.extend(message.receipt_handle);
        }
        empty_answers = if bodies.len() == before { empty_answers + 1 } else { 0 };
    }
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
    Ok(bodies.into_values().collect())
}
