//! Every limit of the service, with its unit and the page or the reason that it comes from.

use std::ops::RangeInclusive;
use std::time::Duration;

// ---- What AWS sets -------------------------------------------------------------------------------------------------

/// Largest DynamoDB item, in bytes, including attribute names.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html#limits-items>
pub const ITEM_MAX_BYTES: usize = 400 * 1024;

/// Longest Kinesis partition key, in Unicode characters. The notification id is the partition key, so this bounds it.
/// (As a DynamoDB partition key it may have 2,048 bytes; 256 characters have at most 1,024.)
/// <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecordsRequestEntry.html>
pub const ID_MAX_CHARS: usize = 256;

/// Statements in one `BatchExecuteStatement`.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchExecuteStatement.html>
pub const BATCH_EXECUTE_STATEMENT_MAX: usize = 25;

/// Keys in one `BatchGetItem`.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>
pub const BATCH_GET_ITEM_MAX: usize = 100;

/// Bytes of a DynamoDB number, at most.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>
pub const NUMBER_MAX_BYTES: usize = 21;

/// Actions in one `TransactWriteItems`.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
pub const TRANSACT_WRITE_ITEMS_MAX: usize = 100;

/// Bytes of all items in one `TransactWriteItems`, including those that it updates.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
pub const TRANSACT_WRITE_ITEMS_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Entries in one `PutRecords`.
/// <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html>
pub const PUT_RECORDS_MAX_ENTRIES: usize = 500;

/// Bytes in one `PutRecords`, data and partition keys together. (A single record may have 1 MiB, or more if its stream
/// allows that; a notification has at most 400 KB.)
/// <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html>
pub const PUT_RECORDS_MAX_BYTES: usize = 10 * 1024 * 1024;

/// Calls of `GetRecords` per second that a shard allows to all its readers together.
/// <https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html>
pub const GET_RECORDS_PER_SECOND: u32 = 5;

/// Bytes of one synchronous Lambda payload. No batch of an event source is larger.
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
pub const LAMBDA_PAYLOAD_MAX_BYTES: usize = 6 * 1024 * 1024;

/// When AWS Lambda was announced (13 November 2014), in milliseconds since the Unix epoch: no deadline is earlier.
/// <https://aws.amazon.com/blogs/aws/run-code-cloud/>
pub const FIRST_LAMBDA_MILLIS: u64 = 1_415_836_800_000;

/// Longest duration of one Lambda invocation.
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
pub const LAMBDA_TIMEOUT_MAX: Duration = Duration::from_mins(15);

/// Messages in one `SendMessageBatch`, `ReceiveMessage` or `ChangeMessageVisibilityBatch`.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html>
pub const SQS_BATCH_MAX: usize = 10;

/// Attributes of one SQS message.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
pub const SQS_ATTRIBUTES_MAX: usize = 10;

/// Bytes of one SQS message, and of all messages in one `SendMessageBatch` together.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
pub const SQS_BATCH_MAX_BYTES: usize = 1024 * 1024;

/// Longest retention of a message in an SQS queue, in days. The queue and its DLQ each have this limit.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
pub const SQS_RETENTION_DAYS: u32 = 14;

/// Retention of a DynamoDB stream, in days.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html>
pub const DYNAMODB_STREAM_RETENTION_DAYS: u32 = 1;

/// Longest retention of the Kinesis stream that the template allows, in days.
pub const KINESIS_RETENTION_DAYS: u32 = 7;

/// Values of one metric in a line of the embedded metric format.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>
pub const METRIC_VALUES_MAX: usize = 100;

// ---- What we set ---------------------------------------------------------------------------------------------------

/// Bytes of the item that ingest leaves free for the attributes that downstream adds (outcome, reason, timestamps).
/// Otherwise, ingest could accept a notification that can never become DONE.
pub const ITEM_RESERVED_BYTES: usize = 8 * 1024;

/// Largest stored outcome of an action, in bytes of JSON.
pub const OUTCOME_MAX_BYTES: usize = 4 * 1024;

/// Longest stored reason of a FAILED or IN_DOUBT notification, in bytes.
pub const REASON_MAX_BYTES: usize = 1024;

/// Bytes of an orphan that its quarantined item stores. The rest of the item holds attribute names and the reason.
pub const RAW_KEPT_MAX_BYTES: usize = ITEM_MAX_BYTES - ITEM_RESERVED_BYTES;

/// Shortest retention of a DONE item, in days. It must outlast every redelivery: once the item is gone, a redelivered message
/// counts as a new notification. SQS keeps a message for 14 days, including the dead-letter queue. A DLQ redrive makes it a
/// new message, with 14 more days; this retention allows for one DLQ redrive. Then come the table stream and Kinesis.
pub const DONE_RETENTION_MIN_DAYS: u32 =
    2 * SQS_RETENTION_DAYS + DYNAMODB_STREAM_RETENTION_DAYS + KINESIS_RETENTION_DAYS;

/// For how many days after a message was first sent its dead letter may be moved back to the queue, given this retention of
/// DONE items. The DLQ redrive gives it 14 new days in SQS, and its id must not be forgotten before these are over.
#[must_use]
pub const fn redrive_days(done_retention_days: u32) -> u32 {
    done_retention_days.saturating_sub(SQS_RETENTION_DAYS + DYNAMODB_STREAM_RETENTION_DAYS + KINESIS_RETENTION_DAYS)
}

/// Default retention of a DONE item, in days.
pub const DONE_RETENTION_DEFAULT_DAYS: u32 = 90;

/// Levels of nesting down to which the data of two events is compared as JSON values; deeper values are equal only if their
/// text is. serde_json has the same recursion limit; each level uses stack.
pub const CONTENT_MAX_DEPTH: usize = 128;

/// Calls of one invocation in flight at once. 1,000 notifications are 40 calls of 25: three rounds of sixteen. More calls at
/// once would be faster, but each needs a connection, which costs a new instance a TLS handshake (docs/PERFORMANCE.md).
pub const CALLS_IN_FLIGHT: usize = 16;

/// Actions of one invocation in flight at once.
pub const ACTIONS_IN_FLIGHT: usize = 32;

/// No new call starts if less than this is left until the invocation's deadline.
pub const STOP_BEFORE_DEADLINE: Duration = Duration::from_millis(500);

/// The function stops waiting for an unanswered call when this is left until the deadline, so that it can report the rest.
pub const REPORT_BEFORE_DEADLINE: Duration = Duration::from_millis(200);

/// Attempts for entries that failed inside an answer (`PutRecords`, unprocessed keys), including the first one. With the
/// backoff below they take up to 3.5 seconds: quotas are per second, so a throttled shard needs another second.
pub const ENTRY_ATTEMPTS: u32 = 8;

/// Longest wait before the second attempt. It doubles with each attempt.
pub const BACKOFF_BASE: Duration = Duration::from_millis(50);

/// Longest wait between two attempts.
pub const BACKOFF_CAP: Duration = Duration::from_secs(1);

/// How often a message is received, at most (`maxReceiveCount` of the queue), before SQS moves it to the dead-letter queue.
pub const MAX_RECEIVES: u32 = 6;

/// How long a message that failed retryably waits before it is received for the second, third, … sixth time. Together the
/// waits are longer than an hour, so an outage of an hour moves no good message to the dead-letter queue. They grow, so a
/// message is retried soon after a short outage.
pub const RETRY_WAITS: [Duration; MAX_RECEIVES as usize - 1] = [
    Duration::from_secs(15),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_mins(20),
    Duration::from_mins(30),
];

/// To that wait, up to one such part of it is added, so that messages that failed together are not received all at once.
pub const RETRY_SPREAD: u64 = 10;

/// How long a message that will never be accepted waits before it is received again: its six receives are over within a
/// minute. SQS has no other way to move a message to the dead-letter queue unchanged.
pub const REFUSED_WAIT: Duration = Duration::from_secs(5);

/// Time before the deadline that ingest reserves for hiding failed messages, for each [`HIDE_MESSAGES`] of a batch: 1,000
/// messages need 100 calls, 16 at a time.
pub const HIDE_BEFORE_DEADLINE: Duration = Duration::from_secs(2);

/// Messages that can be hidden in [`HIDE_BEFORE_DEADLINE`].
pub const HIDE_MESSAGES: usize = 1_000;

/// Ingest reserves at most one such part (a quarter) of its time for hiding messages.
pub const HIDE_SHARE: u32 = 4;

/// Actions stop this long before the deadline, so that their outcomes can still be written.
pub const ACT_BEFORE_DEADLINE: Duration = Duration::from_secs(2);

/// Time for one delivery of a webhook, from connecting to the status line of the answer. Standard Webhooks asks receivers to
/// answer within 15 to 30 seconds.
/// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#request-timeouts>
pub const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(20);

/// Time to connect to a webhook's receiver, including TLS. A lost packet is sent again after 1 second, and then after at most
/// 2 more, so the connection survives two lost packets.
/// <https://www.rfc-editor.org/rfc/rfc6298#section-2>
pub const WEBHOOK_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for the body of a receiver's answer, after its status line. Only the status matters, so a slow body is not worth
/// waiting for.
pub const WEBHOOK_BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Largest body of a receiver's answer that is stored as the outcome, in bytes.
pub const WEBHOOK_ANSWER_MAX_BYTES: usize = 2 * 1024;

/// Longest `Idempotency-Key` and `webhook-id`, in bytes. Receivers commonly accept as much; Stripe does.
/// <https://docs.stripe.com/api/idempotent_requests>
pub const IDEMPOTENCY_KEY_MAX_BYTES: usize = 255;

/// Longest `traceparent` or `tracestate` that is passed on, in bytes. Trace Context asks for at least as much of `tracestate`;
/// longer headers could make a receiver refuse the request.
/// <https://www.w3.org/TR/trace-context/#tracestate-limits>
pub const TRACE_HEADER_MAX_BYTES: usize = 512;

/// Bytes of a webhook's signing secret.
/// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme>
pub const WEBHOOK_SECRET_BYTES: RangeInclusive<usize> = 24..=64;

/// Signing secrets in use at once, and so signatures of a delivery. A rotation needs two; more than four are a mistake.
pub const WEBHOOK_SECRETS_MAX: usize = 4;

/// The signing secret is read again when it is this old, so that a rotation needs no restart. Each function instance makes
/// one call to Secrets Manager in this time.
pub const SECRET_MAX_AGE: Duration = Duration::from_mins(5);

/// Shortest time between two reads of the signing secret while a receiver refuses every delivery. 1,000 concurrent instances
/// then make 1,000 calls per second, a tenth of the quota.
/// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html>
pub const SECRET_READ_INTERVAL: Duration = Duration::from_secs(1);

/// Time to read the signing secret again. Without an answer, the function continues with the secret that it has.
pub const SECRET_READ_TIMEOUT: Duration = Duration::from_secs(2);

/// A claim and the sweep's lease outlast the deadline of their invocation by this. Once they have expired, their worker has
/// surely ended, even if clocks differ a little.
pub const LEASE_BEYOND_DEADLINE: Duration = Duration::from_secs(10);

/// How far the clock of an operator's machine may differ from AWS's: to `notifyctl`, a claim has expired only after this much
/// more time. AWS refuses requests from a clock that differs by more.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/signature-v4-troubleshooting.html>
pub const OPERATOR_CLOCK_SKEW: Duration = Duration::from_mins(5);

/// How many times at which operators moved a notification back to INIT its item keeps, without the last one. A time has 24
/// bytes, so they add less than half a kilobyte.
pub const EARLIER_PUT_BACKS_MAX: usize = 10;

/// Partitions of the index of pending notifications. A partition takes 1,000 writes per second
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html>), and a notification
/// makes two in it (it becomes pending, then settled; four with a claim), so 32 partitions carry at most 16,000 notifications
/// per second (8,000 with claims). That is a ceiling: an on-demand index begins with 4,000 writes per second, and grows with
/// use or by its warm throughput
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/warm-throughput.html>). The sweep makes one query for
/// each of the 32 partitions. The index of unresolved items has as many for each of its two statuses: 64 more queries.
pub const PENDING_SHARDS: u64 = 32;

/// Default age at which the sweep publishes a pending notification again. Until then, its stream record may still be on its
/// way, or Lambda may still retry it. The age is longer than `MaximumRecordAge`: a sweep that publishes notifications that
/// Lambda still retries can keep a backlog alive for ever (`cargo run --release -p simulation -- outage` shows it).
pub const SWEEP_AGE_DEFAULT: Duration = Duration::from_mins(45);

/// Longest time between two attempts of the sweep to publish the same notification (or `SweepAge`, if that is longer). The
/// times double up to this limit: while a receiver is down for a day, the sweep publishes a notification 13 times, and not
/// with every run. Once the receiver is up again, it gets the last notification after at most 2 hours.
pub const SWEEP_AGAIN_WITHIN: Duration = Duration::from_hours(2);

/// Keys in one page of the index of pending notifications: the sweep reads their items in one call.
pub const SWEEP_PAGE: usize = BATCH_GET_ITEM_MAX;

/// Keys in one page of that index while the sweep skips invalid entries to find the oldest notification. A page may have 1 MB: with
/// usual sources and types, 1,000 keys have about 300 KB, and a page that is full earlier is continued.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Query.html>
pub const SWEEP_SKIP_PAGE: usize = 1_000;

/// Time for one query of the sweep, including the SDK's retries. A partition that does not answer must not use up the time
/// of the others.
pub const SWEEP_QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// One query of the sweep takes at most one such part (a twelfth) of its time. Even if no query is answered, half of the time
/// is left for publishing.
pub const SWEEP_QUERY_SHARE: u32 = 12;

/// Invalid index entries that one run of the sweep names in the log, at most. It counts all of them.
pub const SWEEP_INVALID_NAMED: usize = 100;

/// Notifications that the sweep publishes per second, at most, so that it never crowds out new ones: half of what one Kinesis
/// shard takes (1,000 records per second).
pub const SWEEP_PER_SECOND: u32 = 500;

/// How long a FAILED item counts as recently failed. It is longer than `SweepSchedule` and the alarm's period together, so
/// several runs of the sweep see each failure. FAILED items may stay for ever, but the alarm must not.
pub const RECENTLY_FAILED: Duration = Duration::from_mins(30);

/// Items that the sweep counts in one partition of the index of unresolved items, at most: about 20 read capacity units.
pub const UNRESOLVED_COUNTED: usize = 1_000;

/// How long a notification must have been pending before a failure of its action is noted in its item: most failures pass
/// sooner.
pub const NOTE_FAILURE_AFTER: Duration = Duration::from_mins(1);

/// Shortest time between two such notes. An outage then costs each notification that waits 12 writes per hour.
pub const NOTE_FAILURE_EVERY: Duration = Duration::from_mins(5);

/// Attempts of the SDK for one call, including the first one.
pub const SDK_ATTEMPTS: u32 = 3;

/// Time to connect to AWS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for one attempt of one call, from sending to the last byte of the answer.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

// ---- What `notifyctl` sets ---------------------------------------------------------------------------------------------

/// How often a shard without new records is read again: as often as Lambda does, four times per second.
/// <https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html>
pub const STREAM_POLL: Duration = Duration::from_millis(250);

/// Calls per second that `notifyctl latency` spreads its messages over, if the rate is high enough. Fewer messages per call are
/// sent more evenly, but take more calls.
pub const LATENCY_CALLS_PER_SECOND: usize = 10;

/// Time between two looks of `notifyctl latency` at the notifications that are not settled.
pub const LATENCY_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Time between two reads of a Kinesis shard: half of the reads that it allows are left to Lambda's pollers.
pub const KINESIS_READ_EVERY: Duration = Duration::from_millis(2_000 / GET_RECORDS_PER_SECOND as u64);

/// Attempts for one read of a Kinesis shard, the first one included. After an answer of 10 MB a shard refuses reads for five
/// seconds, and other readers share its quota, so these last longer than the SDK's own three.
/// <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html>
pub const STREAM_READ_ATTEMPTS: u32 = 8;

/// The clocks of Kinesis and of this machine surely differ by less. Both ends of the time that is read are moved by it, so that
/// no record is missed.
pub const CLOCKS_DIFFER_BY: Duration = Duration::from_mins(1);

/// An audit that misses something in the table stream stops looking for it when no open shard has shown anything new for
/// this long. An empty answer alone proves nothing: it can take several calls to get to a part of a shard that has records.
/// This wait proves nothing either; it only bounds the audit. Whatever is still missing then counts as not shown.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html>
pub const AUDIT_STREAM_QUIET: Duration = Duration::from_secs(10);

/// Longest time for which an audit reads the table stream, and then the dead-letter queue: an operator waits for it. Whatever
/// was not read by then counts as not shown.
pub const AUDIT_READ_MAX: Duration = Duration::from_mins(30);

/// How long an audit hides a dead letter while it reads the others. They become visible again as soon as all are read, or
/// after this time if the audit is interrupted. SQS lets about 120,000 messages be hidden at once; sixteen calls in flight
/// with ten messages each read as many in this time even if each call takes 400 ms.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
pub const DEAD_LETTER_HIDDEN: Duration = Duration::from_mins(5);

/// Rounds of calls without a message after which the dead-letter queue counts as read. In rare cases, SQS answers that a
/// queue is empty although it is not.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/confirm-queue-is-empty.html>
pub const DEAD_LETTER_EMPTY_ROUNDS: usize = 2;

/// The same, while fewer messages were read than SQS counts in the queue.
pub const DEAD_LETTER_EMPTY_ROUNDS_MAX: usize = 10;

/// Parts of the table that `notifyctl verify` reads in turns, so that it loads all its partitions evenly.
pub const VERIFY_SEGMENTS: usize = 16;

/// How often `notifyctl verify --follow` looks for new shards: they appear every four hours or so.
pub const FOLLOW_LIST_EVERY: Duration = Duration::from_secs(10);

/// How often `notifyctl verify --follow` reads a shard without new records. Each read that is not Lambda's has a price.
/// <https://aws.amazon.com/dynamodb/pricing/on-demand/>
pub const FOLLOW_POLL: Duration = Duration::from_secs(1);

/// The same while there are new records. A read returns up to 1,000 records or 1 MB, which is more than a shard gets in this time.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_GetRecords.html>
pub const FOLLOW_POLL_BUSY: Duration = Duration::from_millis(250);

/// How long its reads may fail until it ends.
pub const FOLLOW_FAILING_MAX: Duration = Duration::from_mins(10);

/// How often it publishes its metrics. CloudWatch keeps one value of each minute.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/publishingMetrics.html>
pub const PUBLISH_METRICS_EVERY: Duration = Duration::from_mins(1);

/// Of the notifications that run again, `notifyctl redrive` must know so many before it judges whether too many fail again.
pub const REDRIVE_JUDGED_AFTER: usize = 20;

/// `notifyctl redrive` judges by the last ones of which it knows: those before may have met another cause.
pub const REDRIVE_JUDGED: usize = 100;

/// How often `notifyctl redrive` looks at the notifications that run again; and while none moves, because a look costs what
/// reading all that is pending costs.
pub const REDRIVE_LOOK_EVERY: Duration = Duration::from_secs(1);
/// See [`REDRIVE_LOOK_EVERY`].
pub const REDRIVE_LOOK_SELDOM: Duration = Duration::from_secs(10);

/// Of the notifications that `notifyctl redrive` runs again, so many are pending at most. A look at them takes ten calls.
pub const REDRIVE_PENDING_MAX: usize = 10 * BATCH_GET_ITEM_MAX;

/// How long `notifyctl redrive` waits for the notifications that run again: at the end with `--wait`, and before that while as
/// many as it allows are pending and none is settled.
pub const REDRIVE_WAIT: Duration = Duration::from_mins(10);

/// Dead letters that `notifyctl dlq redrive` and `dlq discard` receive before they act on them, about. At the lowest rate, one
/// a second, these take less than [`DEAD_LETTER_HIDDEN`], so nobody else receives a message that is being moved, unless the
/// chosen ones are rare in a long queue. (Ingest recognises the second one as a duplicate.)
pub const DEAD_LETTERS_AT_ONCE: usize = 100;

/// Bytes of dead letters that these commands hold in memory, about: a message has at most 1 MiB.
pub const DEAD_LETTERS_HELD_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Dead letters that one of these commands moves, discards or lists, at most, unless `--max` says less. It remembers
/// what became of each for its report: some hundred bytes.
pub const DEAD_LETTERS_MAX: u32 = 1_000_000;

/// Time between two looks of `notifyctl pause` and `notifyctl resume` at the state of an event source mapping.
pub const MAPPING_LOOK_EVERY: Duration = Duration::from_secs(2);

/// Pages of one function's log that `notifyctl status` reads, at most. A page has up to 1 MB of lines, and may be empty although
/// more follow.
/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html>
pub const LOG_PAGES_MAX: usize = 20;

/// Longest time for which `notifyctl status` searches one function's log: an operator waits for it.
pub const LOG_SEARCH_MAX: Duration = Duration::from_secs(20);

/// Lines of one function's log that `notifyctl status` shows, at most: the last ones.
pub const LOG_LINES_MAX: usize = 100;

/// Bytes of an id in a filter pattern, at most: it is in the pattern five times, and a pattern has at most 1,024 characters.
/// <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html>
pub const LOG_PATTERN_ID_BYTES: usize = 150;

/// How long before a notification was received `notifyctl status` begins to search the logs. Its message may have been refused
/// for an hour until then ([`RETRY_WAITS`]).
pub const LOGS_BEFORE_RECEIVED: Duration = Duration::from_hours(2);

/// How long before and after the last known time of a notification `notifyctl status` searches the logs first.
pub const LOGS_AROUND: Duration = Duration::from_mins(15);

/// How far back `notifyctl status` searches the logs for a notification that is not in the table.
pub const LOGS_OF_ABSENT: Duration = Duration::from_hours(24);

/// Time for an attempt of a call that `notifyctl` makes: a page of a scan or of a search takes seconds.
pub const NOTIFYCTL_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections that the server of `notifyctl ui` serves at once; others wait. A browser opens at most six to a server, and each
/// holds a request of up to 64 KiB.
pub const UI_CONNECTIONS_MAX: usize = 32;

/// How long this server waits for the head of a request. The browser is on the same machine.
pub const UI_HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long this server takes for a request, from the connection to the end of the answer. Counting a large group takes longest.
pub const UI_REQUEST_TIMEOUT: Duration = Duration::from_mins(5);

/// How often `notifyctl ui` reads metrics at most: CloudWatch makes a data point of a minute, and charges for each metric that
/// is read. <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html>
pub const UI_METRICS_EVERY: Duration = Duration::from_mins(1);

/// The same for a local stack, which charges nothing.
pub const UI_METRICS_EVERY_LOCALLY: Duration = Duration::from_secs(5);

/// Without an expected number of notifications, `notifyctl watch` says "all settled" only when no count has changed for this
/// long: SQS's counts may lag for at least a minute after the last message was sent.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html>
pub const WATCH_QUIET: Duration = Duration::from_secs(75);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attributes_of_downstream_fit_into_the_bytes_that_ingest_leaves_free() {
        // Names and timestamps of done_at, expires_at, outcome, failed_at and reason need far less than 1 KiB.
        const { assert!(OUTCOME_MAX_BYTES + REASON_MAX_BYTES + 1024 <= ITEM_RESERVED_BYTES) }
    }

    #[test]
    fn a_dead_letter_is_moved_back_only_if_its_id_is_remembered_for_longer_than_its_new_message_can_live() {
        // 14 days in the queue and the dead-letter queue, one in the table's stream, seven in Kinesis.
        let days = [90, DONE_RETENTION_MIN_DAYS, 23, 22, 0].map(redrive_days);
        assert_eq!(days, [90 - 14 - 1 - KINESIS_RETENTION_DAYS, SQS_RETENTION_DAYS, 1, 0, 0]);
    }

    #[test]
    fn half_of_the_reads_of_a_shard_are_left_to_lambda() {
        assert_eq!(KINESIS_READ_EVERY * GET_RECORDS_PER_SECOND, Duration::from_secs(2));
    }

    #[test]
    fn rule_11_sizes_in_bytes_are_those_that_aws_documents() {
        assert_eq!(ITEM_MAX_BYTES, 409_600);
        assert_eq!(TRANSACT_WRITE_ITEMS_MAX_BYTES, 4_194_304);
        assert_eq!(PUT_RECORDS_MAX_BYTES, 10_485_760);
        assert_eq!(LAMBDA_PAYLOAD_MAX_BYTES, 6_291_456);
        assert_eq!(SQS_BATCH_MAX_BYTES, 1_048_576);
    }

    #[test]
    fn rule_11_stored_outcomes_and_orphans_fit_into_an_item() {
        assert_eq!(ITEM_RESERVED_BYTES, 8_192);
        assert_eq!(RAW_KEPT_MAX_BYTES, 401_408);
        assert_eq!(OUTCOME_MAX_BYTES, 4_096);
        assert_eq!(WEBHOOK_ANSWER_MAX_BYTES, 2_048);
    }

    #[test]
    fn after_an_outage_of_an_hour_a_message_has_a_receive_left() {
        assert!(RETRY_WAITS.iter().sum::<Duration>() >= Duration::from_mins(61), "an hour, and a minute to spare");
        assert!(RETRY_WAITS.is_sorted());
    }

    #[test]
    fn a_message_that_is_never_accepted_is_a_dead_letter_within_a_minute() {
        // Each receive can take the batching window of a second, and some more for a slow call.
        assert!((REFUSED_WAIT + Duration::from_secs(3)) * MAX_RECEIVES < Duration::from_mins(1));
    }

    #[test]
    fn done_items_outlive_every_redelivery() {
        const { assert!(DONE_RETENTION_MIN_DAYS >= 14 + 14 + 1 + 7) }
        const { assert!(DONE_RETENTION_DEFAULT_DAYS >= DONE_RETENTION_MIN_DAYS) }
    }
}
