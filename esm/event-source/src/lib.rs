//! What Lambda's event source mappings do, as state machines without I/O or clock: records and answers in, invocations
//! and acknowledgements out. A driver reads the source, invokes the function and keeps the time; so the same rules run in
//! a simulation and against a local AWS.
//!
//! | file | concern |
//! |---|---|
//! | [`settings`] | the settings of a mapping, by the names that CloudFormation and the Lambda API give them |
//! | [`filter`] | filter patterns |
//! | [`record`] | the JSON of a record: an SQS message, a Kinesis record, a change of a DynamoDB item |
//! | [`response`] | what a function's answer says about its batch |
//! | [`stream`] | a mapping of a DynamoDB or Kinesis stream: shards, batches, retries, bisect, checkpoints |
//! | [`queue`] | an SQS standard queue, and a mapping of one |
//!
//! The rules, each with its source and its test:
//!
//! | rule | source | test |
//! |---|---|---|
//! | a batch is full, has waited for its window, or is as large as a payload | [batching] | `a_batch_has_at_most_batch_size_records_and_the_next_waits_for_its_answer`, `a_batching_window_gathers_until_it_ends_or_the_batch_is_full`, `a_batch_is_at_most_as_large_as_a_payload` |
//! | what no filter pattern matches is passed over | [filtering] | `a_record_that_no_filter_pattern_matches_is_passed_over_and_the_checkpoint_with_it`, `each_test_of_a_value` |
//! | what an answer means; which are complete successes and failures | [partial answers] | `an_empty_null_or_absent_list_is_a_complete_success`, `an_empty_null_misnamed_or_unknown_identifier_is_a_complete_failure` |
//! | the lowest failed sequence number is the checkpoint | [partial answers] | `the_lowest_reported_sequence_number_is_the_checkpoint` |
//! | a failed batch is split in two, which is no retry; a partial answer splits at its checkpoint | [errors] | `a_bisect_splits_a_failed_batch_in_order_and_takes_nothing_from_the_retries`, `a_partial_answer_splits_at_its_checkpoint_and_not_in_the_middle` |
//! | retries are counted, and then the batch is discarded | [errors] | `a_failed_batch_is_retried_as_often_as_is_allowed_and_then_discarded_with_its_name` |
//! | records that grew too old are discarded | [errors] | `records_that_grew_too_old_are_discarded_and_the_others_go_on` |
//! | a throttled invocation of a stream is no retry | [errors] | `a_throttled_invocation_is_no_attempt_and_is_tried_until_its_records_are_too_old` |
//! | several batches of one shard at once, each key in order | [parallelization] | `a_parallelization_factor_runs_batches_of_one_shard_at_once_and_keeps_each_key_in_order` |
//! | the on-failure destination is told which records are discarded | [discarded records] | `a_failed_batch_is_retried_as_often_as_is_allowed_and_then_discarded_with_its_name` |
//! | TRIM_HORIZON and LATEST; a child shard follows its parents | [starting position], [resharding] | `both_starting_positions`, `a_child_shard_is_read_when_its_parents_are_done` |
//! | delivery is at least once: a poller goes on from its checkpoint | [at least once] | `the_checkpoint_waits_for_the_slowest_lane_and_a_new_start_reads_on_from_it` |
//! | SQS: a received message is invisible for a time | [visibility] | `a_received_message_is_invisible_until_its_visibility_timeout_ends` |
//! | SQS: its visibility timeout can be changed, up to 12 hours since the receive | [visibility] | `the_visibility_timeout_of_a_message_in_flight_can_be_changed_for_this_receive`, `a_message_is_invisible_for_twelve_hours_at_most_and_a_deleted_one_cannot_be_changed` |
//! | SQS: 120,000 messages can be in flight | [SQS quotas] | `beyond_the_quota_of_messages_in_flight_nothing_is_received` |
//! | SQS: receives are counted, and then the message is a dead letter | [dead letters] | `a_message_that_was_received_six_times_moves_to_the_dead_letter_queue_and_keeps_its_age` |
//! | SQS: a message can come twice | [at least once, SQS] | `a_deleted_message_is_gone_but_may_be_delivered_again` |
//! | SQS: reported messages stay; a throttled or failed invocation deletes none and has used up a receive | [SQS errors] | `reported_messages_stay_and_the_others_are_deleted` |
//! | SQS: invocations at once are bounded | [SQS scaling] | `no_more_invocations_run_at_once_than_are_allowed_and_nothing_is_received_for_them` |
//!
//! [batching]: https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html#invocation-eventsourcemapping-batching
//! [filtering]: https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html
//! [partial answers]: https://docs.aws.amazon.com/lambda/latest/dg/services-kinesis-batchfailurereporting.html
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
//! Not here: FIFO queues, tumbling windows, AT_TIMESTAMP, provisioned pollers. Where the documentation leaves something open, the module says so and which way it takes;
//! [`settings::RetriesAfterProgress`] lets a driver try both.

pub mod filter;
pub mod queue;
pub mod record;
pub mod response;
pub mod settings;
pub mod stream;

use serde_json::value::RawValue;

/// The number of an invocation, unique within its mapping.
pub type InvocationNumber = u64;

/// What came of an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The function returned, with this JSON.
    Response(&'a [u8]),
    /// The function failed, timed out, or its process ended.
    FunctionError,
    /// The function was not run: its concurrency is used up, or the service failed.
    Throttled,
}

/// The event that a function is invoked with: `{"Records": […]}`.
#[must_use]
pub fn payload<'a>(records: impl IntoIterator<Item = &'a RawValue>) -> String {
    let mut payload = String::from(r#"{"Records":["#);
    for (place, record) in records.into_iter().enumerate() {
        if place > 0 {
            payload.push(',');
        }
        payload.push_str(record.get());
    }
    payload.push_str("]}");
    payload
}

/// Bytes of one invocation's payload, at most.
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
pub const PAYLOAD_MAX_BYTES: usize = 6 * 1024 * 1024;
