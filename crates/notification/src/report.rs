//! The report to an event source: the failed records of a batch, so that exactly these are retried. It is the
//! answer of a function, serialized as it is.
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>,
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html>

use serde::Serialize;
use std::collections::HashSet;

/// The identifier of a record: an SQS `messageId` or a sequence number of a stream. It is never empty, because Lambda treats
/// the whole batch as failed if a report has an empty identifier.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Identifier(Box<str>);

impl Identifier {
    /// Checks the identifier of a record.
    ///
    /// # Errors
    /// [`MissingIdentifier`] if there is none: the invocation must fail, because the record could not be reported.
    pub fn parse(identifier: Option<&str>) -> Result<Self, MissingIdentifier> {
        match identifier {
            Some(identifier) if !identifier.is_empty() => Ok(Self(identifier.into())),
            _ => Err(MissingIdentifier),
        }
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A record of the batch has no identifier, so its failure could not be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record has no identifier (messageId or sequence number), so the whole batch is refused and retried")]
pub struct MissingIdentifier;

/// One record of an SQS batch and its result.
#[derive(Debug, Clone, Copy)]
pub struct SqsResult<'a> {
    /// Its `messageId`.
    pub message_id: &'a Identifier,
    /// Its message group if the queue is FIFO; `None` on a standard queue (where groups have no order).
    pub fifo_group: Option<&'a str>,
    /// Whether it failed, retryably or permanently: SQS counts its receives and moves it to the DLQ.
    pub failed: bool,
}

/// The answer of a function: the records that must be retried. Lambda uses it only if the event source mapping has
/// `FunctionResponseTypes: [ReportBatchItemFailures]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    batch_item_failures: Vec<BatchItemFailure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct BatchItemFailure {
    item_identifier: Identifier,
}

impl BatchResponse {
    /// For SQS: each failed message and, in a FIFO queue, all later messages of its group, which would otherwise overtake it.
    /// Lambda deletes all others.
    #[must_use]
    pub fn for_sqs<'a>(results: impl IntoIterator<Item = SqsResult<'a>>) -> Self {
        let mut stopped_groups = HashSet::new();
        let mut response = Self::default();
        for result in results {
            let stopped = result.fifo_group.is_some_and(|group| stopped_groups.contains(group));
            if result.failed || stopped {
                response.report(result.message_id);
                stopped_groups.extend(result.fifo_group);
            }
        }
        response
    }

    /// For a stream: the checkpoint, which is the first record in batch order that must be retried. Lambda delivers it and
    /// all later ones again; those that are done already change nothing.
    ///
    /// Pass `true` only for retryable failures: a permanent one would block the shard until its retries run out.
    #[must_use]
    pub fn for_stream<'a>(results: impl IntoIterator<Item = (&'a Identifier, bool)>) -> Self {
        let mut response = Self::default();
        if let Some((checkpoint, _)) = results.into_iter().find(|&(_, is_retried)| is_retried) {
            response.report(checkpoint);
        }
        response
    }

    fn report(&mut self, identifier: &Identifier) {
        self.batch_item_failures.push(BatchItemFailure { item_identifier: identifier.clone() });
    }

    /// The identifiers that are reported.
    pub fn identifiers(&self) -> impl Iterator<Item = &str> {
        self.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identifiers(count: usize) -> Vec<Identifier> {
        (0..count).map(|n| Identifier::parse(Some(&format!("m{n}"))).unwrap()).collect()
    }

    fn check_sqs(records: &[(Option<&str>, bool)], expected: &[&str]) {
        let ids = identifiers(records.len());
        let results = ids.iter().zip(records).map(|(message_id, &(fifo_group, failed))| SqsResult {
            message_id,
            fifo_group,
            failed,
        });
        let response = BatchResponse::for_sqs(results);
        assert_eq!(response.identifiers().collect::<Vec<_>>(), expected, "{records:?}");
    }

    #[test]
    fn rule_1_standard_queue_only_failed_messages_are_reported() {
        check_sqs(&[(None, false), (None, false)], &[]);
        check_sqs(&[(None, true), (None, false), (None, true)], &["m0", "m2"]);
    }

    #[test]
    fn rule_1_fifo_queue_after_the_first_failure_of_a_group_the_rest_of_the_group_fails_too() {
        let (a, b) = (Some("a"), Some("b"));
        check_sqs(&[(a, false), (a, true), (b, false), (a, false), (b, false)], &["m1", "m3"]);
        check_sqs(&[(a, true), (b, true), (a, false), (b, false)], &["m0", "m1", "m2", "m3"]);
    }

    #[test]
    fn rule_2_the_lowest_failed_sequence_number_is_the_one_checkpoint() {
        let ids = identifiers(4);
        let check = |failed: [bool; 4], expected: &[&str]| {
            let response = BatchResponse::for_stream(ids.iter().zip(failed));
            assert_eq!(response.identifiers().collect::<Vec<_>>(), expected, "{failed:?}");
        };
        check([false; 4], &[]);
        check([false, true, false, true], &["m1"]);
        check([true; 4], &["m0"]);
    }

    #[test]
    fn rule_3_an_answer_has_the_shape_that_lambda_expects_and_every_identifier_of_the_report() {
        let ids = identifiers(2);
        let json = |report| serde_json::to_string(&report).unwrap();
        let failed = |message_id| SqsResult { message_id, fifo_group: None, failed: true };
        assert_eq!(
            json(BatchResponse::for_sqs(ids.iter().map(failed))),
            r#"{"batchItemFailures":[{"itemIdentifier":"m0"},{"itemIdentifier":"m1"}]}"#
        );
        assert_eq!(
            json(BatchResponse::for_stream([(&ids[0], true)])),
            r#"{"batchItemFailures":[{"itemIdentifier":"m0"}]}"#
        );
        assert_eq!(json(BatchResponse::default()), r#"{"batchItemFailures":[]}"#);
    }

    #[test]
    fn rule_3_an_empty_or_missing_identifier_is_refused() {
        assert_eq!(Identifier::parse(None), Err(MissingIdentifier));
        assert_eq!(Identifier::parse(Some("")), Err(MissingIdentifier));
    }
}
