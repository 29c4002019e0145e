//! The SQS queue that messages come from.

use crate::classify;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::operation::change_message_visibility_batch::ChangeMessageVisibilityBatchOutput;
use aws_sdk_sqs::types::{BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry};
use notification::ports::{Answers, Hide, Queue};
use notification::{Failure, limits};

/// The queue, by its URL.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    client: Client,
    queue_url: String,
}

impl SqsQueue {
    /// The queue of this URL.
    #[must_use]
    pub fn new(client: Client, queue_url: String) -> Self {
        Self { client, queue_url }
    }
}

const OPERATION: &str = "ChangeMessageVisibilityBatch";

impl Queue for SqsQueue {
    async fn hide(&self, messages: &[Hide<'_>]) -> Answers<()> {
        debug_assert!(messages.len() <= limits::SQS_BATCH_MAX);
        let entries = messages.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>()?;
        let answer = self
            .client
            .change_message_visibility_batch()
            .queue_url(&self.queue_url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(|error| classify::failure(OPERATION, &error))?;
        Ok((0..messages.len()).map(|place| result(&answer, place)).collect())
    }
}

/// A batch may contain a message twice, each with its own receipt handle, so the index is the entry's id.
fn entry((place, hide): (usize, &Hide<'_>)) -> Result<ChangeMessageVisibilityBatchRequestEntry, Failure> {
    ChangeMessageVisibilityBatchRequestEntry::builder()
        .id(place.to_string())
        .receipt_handle(hide.receipt_handle)
        .visibility_timeout(i32::try_from(hide.wait.as_secs()).unwrap_or(i32::MAX))
        .build()
        .map_err(|_| Failure::permanent("ChangeMessageVisibilityBatch: an entry lacks its receipt handle"))
}

fn result(answer: &ChangeMessageVisibilityBatchOutput, place: usize) -> Result<(), Failure> {
    let id = place.to_string();
    match answer.failed().iter().find(|failed| failed.id() == id) {
        Some(failed) => Err(entry_failure(failed)),
        None if answer.successful().iter().any(|done| done.id() == id) => Ok(()),
        None => Err(Failure::may_have_happened("ChangeMessageVisibilityBatch: the answer lacks this entry")),
    }
}

/// A call that fails because of the message's own state (it is deleted, or no longer in flight) is not tried again.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_BatchResultErrorEntry.html>
fn entry_failure(failed: &BatchResultErrorEntry) -> Failure {
    let failure = classify::entry_failure(OPERATION, failed.code());
    if failed.sender_fault() { Failure::permanent(failure.reason) } else { failure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_sqs::types::ChangeMessageVisibilityBatchResultEntry;
    use aws_smithy_mocks::{mock, mock_client};
    use notification::FailureKind;
    use std::time::Duration;

    #[tokio::test]
    async fn rule_6_each_message_is_hidden_for_its_own_wait_and_has_its_own_result() {
        let rule = mock!(Client::change_message_visibility_batch)
            .match_requests(|request| {
                let sent: Vec<_> = request
                    .entries()
                    .iter()
                    .map(|entry| (entry.id(), entry.receipt_handle(), entry.visibility_timeout()))
                    .collect();
                request.queue_url() == Some("https://q")
                    && sent
                        == [("0", "a", Some(5)), ("1", "b", Some(15)), ("2", "b", Some(15)), ("3", "c", Some(1_980))]
            })
            .then_output(|| {
                let failed = |id: &str, code: &str, sender_fault| {
                    BatchResultErrorEntry::builder().id(id).code(code).sender_fault(sender_fault).build().unwrap()
                };
                let done = |id: &str| ChangeMessageVisibilityBatchResultEntry::builder().id(id).build().unwrap();
                ChangeMessageVisibilityBatchOutput::builder()
                    .failed(failed("2", "ReceiptHandleIsInvalid", true))
                    .failed(failed("0", "InternalError", false))
                    .successful(done("1"))
                    .build()
                    .unwrap()
            });
        let queue = SqsQueue::new(mock_client!(aws_sdk_sqs, [&rule]), "https://q".to_owned());
        let hide = |receipt_handle, seconds| Hide { receipt_handle, wait: Duration::from_secs(seconds) };
        let answers = queue.hide(&[hide("a", 5), hide("b", 15), hide("b", 15), hide("c", 1_980)]).await.unwrap();
        let kinds: Vec<_> = answers.into_iter().map(|answer| answer.map_err(|failure| failure.kind)).collect();
        let (unknown, refused) = (Err(FailureKind::MayHaveHappened), Err(FailureKind::Permanent));
        assert_eq!(kinds, [unknown, Ok(()), refused, unknown]);
    }
}
