//! Lambda's event source mappings as state machines without I/O or clock: records and answers go in, invocations and
//! acknowledgements come out. A driver reads the source, invokes the function and keeps the time. So the same rules run in a
//! simulation and against a local AWS.
//!
//! | file | concern |
//! |---|---|
//! | [`settings`] | the settings of a mapping, by the names that CloudFormation and the Lambda API give them |
//! | [`filter`] | filter patterns |
//! | [`record`] | the JSON of a record: an SQS message, a Kinesis record, a change of a DynamoDB item |
//! | `gathering` | records that wait for a batch |
//! | [`response`] | partial batch responses |
//! | [`stream`] | a mapping of a DynamoDB or Kinesis stream: shards, batches, retries, bisect, checkpoints |
//! | [`queue`] | an SQS standard queue, and a mapping of one |
//! | [`limits`] | limits of Lambda and SQS |
//!
//! The rules, each with its source and its test:
//!
//! | rule | source | test |
//! |---|---|---|
//! | a batch is invoked when it is full, its window has passed, or it is as large as a payload | [batching] | `a_batch_has_at_most_batch_size_records_and_the_next_waits_for_its_answer`, `a_batching_window_gathers_until_it_ends_or_the_batch_is_full`, `a_batch_is_at_most_as_large_as_a_payload` |
//! | a record that matches no filter pattern is skipped | [filtering] | `a_record_that_matches_no_filter_pattern_is_skipped_and_the_checkpoint_moves_past_it`, `each_test_of_a_value` |
//! | which responses are complete successes, and which complete failures | [partial batch responses] | `an_empty_null_or_absent_list_is_a_complete_success`, `an_empty_null_misnamed_or_unknown_identifier_is_a_complete_failure` |
//! | the lowest failed sequence number is the checkpoint | [partial batch responses] | `the_lowest_reported_sequence_number_is_the_checkpoint` |
//! | a failed batch is split in two, which is not a retry; a partial response splits it at its checkpoint | [errors] | `a_bisect_splits_a_failed_batch_in_order_and_uses_up_no_retry`, `a_partial_response_splits_a_batch_at_its_checkpoint_and_not_in_the_middle` |
//! | a batch is retried up to a limit, and then discarded | [errors] | `a_failed_batch_is_retried_up_to_the_limit_and_then_discarded` |
//! | records that are too old are discarded | [errors] | `records_that_are_too_old_are_discarded_and_the_others_go_on` |
//! | a throttled invocation of a stream is not a retry | [errors] | `a_throttled_invocation_uses_up_no_retry_and_is_repeated_until_its_records_are_too_old` |
//! | several batches of a shard run at once, and each key stays in order | [parallelization] | `a_parallelization_factor_runs_batches_of_one_shard_at_once_and_keeps_each_key_in_order` |
//! | the on-failure destination gets a message about discarded records | [discarded records] | `a_failed_batch_is_retried_up_to_the_limit_and_then_discarded` |
//! | TRIM_HORIZON and LATEST; a child shard is read after its parents | [starting position], [resharding] | `both_starting_positions`, `a_child_shard_is_read_when_its_parents_are_done` |
//! | delivery is at least once: a poller continues from its checkpoint | [at least once] | `the_checkpoint_waits_for_the_slowest_lane_and_a_restart_continues_from_it` |
//! | SQS: a received message is invisible for a time | [visibility] | `a_received_message_is_invisible_until_its_visibility_timeout_ends` |
//! | SQS: its visibility timeout can be changed, up to 12 hours since the receive | [visibility] | `the_visibility_timeout_of_a_message_in_flight_can_be_changed_for_this_receive`, `a_message_is_invisible_for_twelve_hours_at_most_and_a_deleted_one_cannot_be_changed` |
//! | SQS: 120,000 messages can be in flight | [SQS quotas] | `beyond_the_quota_of_messages_in_flight_nothing_is_received` |
//! | SQS: a message is received up to a limit, and then becomes a dead letter | [dead letters] | `a_message_that_was_received_six_times_moves_to_the_dead_letter_queue_and_keeps_its_age` |
//! | SQS: a message can be delivered twice | [at least once, SQS] | `a_deleted_message_is_gone_but_may_be_delivered_again` |
//! | SQS: reported messages stay in the queue; a throttled or failed invocation deletes none, but uses up a receive | [SQS errors] | `reported_messages_stay_and_the_others_are_deleted` |
//! | SQS: concurrent invocations are limited | [SQS scaling] | `no_more_invocations_run_at_once_than_are_allowed_and_nothing_is_received_for_them` |
//!
//! [batching]: https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html#invocation-eventsourcemapping-batching
//! [filtering]: https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html
//! [partial batch responses]: https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html
//! [errors]: https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
//! [parallelization]: https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-create.html
//! [discarded records]: https://docs.aws.amazon.com/lambda/latest/dg/kinesis-on-failure-destination.html
//! [starting position]: https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-parameters.html
//! [resharding]: https://docs.aws.amazon.com/streams/latest/dev/kinesis-using-sdk-java-after-resharding.html
//! [at least once]: https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html
//! [visibility]: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
//! [SQS quotas]: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
//! [dead letters]: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
//! [at least once, SQS]: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues-at-least-once-delivery.html
//! [SQS errors]: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
//! [SQS scaling]: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
//!
//! Not supported: FIFO queues, tumbling windows, AT_TIMESTAMP, provisioned pollers. Where the documentation leaves something
//! open, the module says which way it takes; [`settings::RetriesAfterProgress`] lets a driver try both.

pub mod filter;
mod gathering;
pub mod limits;
pub mod queue;
pub mod record;
pub mod response;
pub mod settings;
pub mod stream;

use serde_json::value::RawValue;

/// The number of an invocation, unique within its mapping.
pub type InvocationNumber = u64;

/// The result of an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The function returned this JSON.
    Response(&'a [u8]),
    /// The function failed, timed out, or its process ended.
    FunctionError,
    /// The function was not run: its concurrency limit was reached, or the service failed.
    Throttled,
}

/// The payload that a function is invoked with: `{"Records": […]}`.
#[must_use]
pub fn payload<'a>(records: impl IntoIterator<Item = &'a RawValue>) -> String {
    let records: Vec<&str> = records.into_iter().map(RawValue::get).collect();
    format!(r#"{{"Records":[{}]}}"#, records.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_of_a_batch_has_its_records_byte_for_byte() {
        let records = [r#"{"a": 1.0}"#, "null"].map(|json| RawValue::from_string(json.to_owned()).unwrap());
        assert_eq!(payload(records.iter().map(AsRef::as_ref)), r#"{"Records":[{"a": 1.0},null]}"#);
        assert_eq!(payload([]), r#"{"Records":[]}"#);
    }
}
