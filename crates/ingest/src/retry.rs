//! When a message that was not accepted is received again. The queue allows six receives. After a retryable failure the waits
//! between them grow, so that they outlast an outage. A message that will never be accepted uses up its receives quickly.
//!
//! Hiding is best effort. If the call fails, or the process dies before it, the queue's visibility timeout applies.

use crate::message::{self, Message};
use crate::{Accepted, Ingest, Refused};
use notification::batch::{Attempts, by_count, call_in_batches};
use notification::ports::{Hide, Queue, Table};
use notification::report::Identifier;
use notification::{Clock, Deadline, Envelope, Timestamp, limits};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// The deadline of the work before hiding, which leaves time to hide this many messages.
pub(crate) fn earlier(deadline: Deadline, now: Timestamp, messages: usize) -> Deadline {
    let left = Duration::try_from(deadline.time().duration_since(now)).unwrap_or_default();
    let rounds = u32::try_from(messages.div_ceil(limits::HIDE_MESSAGES)).unwrap_or(u32::MAX);
    deadline.earlier(limits::HIDE_BEFORE_DEADLINE.saturating_mul(rounds).min(left / limits::HIDE_SHARE))
}

impl<T: Table, Q: Queue, C: Clock> Ingest<T, Q, C> {
    /// Hides all messages that are reported as failed.
    pub(crate) async fn hide_failed(
        &self,
        envelope: &Envelope,
        messages: &[Message],
        results: &[Result<Accepted, Refused>],
        deadline: Deadline,
    ) {
        let mut handles = Vec::new();
        for (place, wait) in waits(messages, results) {
            handles.extend(message::receipt_handle(&envelope.records[place]).map(|handle| (handle, wait)));
        }
        let hides: Vec<Hide<'_>> =
            handles.iter().map(|(receipt_handle, wait)| Hide { receipt_handle, wait: *wait }).collect();
        let ranges = by_count(hides.len(), limits::SQS_BATCH_MAX);
        let hide = |batch: Vec<_>| async move { self.queue.hide(&batch).await };
        let hidden = call_in_batches(&self.clock, deadline, Attempts::Limited, &hides, ranges, hide).await;
        let failures: Vec<_> = hidden.into_iter().filter_map(Result::err).collect();
        if let Some(reason) = failures.first() {
            let messages = failures.len();
            tracing::warn!(messages, %reason, "not hidden; the messages are redelivered after the queue's visibility timeout");
        }
    }
}

/// The index of each message that is reported as failed, and how long it waits. In a FIFO queue, all messages of a group wait
/// as long as the first one that failed: SQS delivers no message of a group while one is hidden. (So the messages behind one
/// that is never accepted use up their receives with it.)
fn waits(messages: &[Message], results: &[Result<Accepted, Refused>]) -> Vec<(usize, Duration)> {
    let mut group_waits: HashMap<&str, Duration> = HashMap::new();
    let mut waits = Vec::new();
    for (place, (message, result)) in messages.iter().zip(results).enumerate() {
        let group = message.fifo_group.as_deref();
        let wait = match (group.and_then(|group| group_waits.get(group)), result) {
            (Some(wait), _) => *wait,
            (None, Ok(_)) => continue,
            (None, Err(refused)) => wait(refused, &message.message_id, message.receive_count),
        };
        if let Some(group) = group {
            group_waits.insert(group, wait);
        }
        waits.push((place, wait));
    }
    waits
}

/// How long a message waits. After its last receive it only waits for SQS to move it to the dead-letter queue.
fn wait(refused: &Refused, message_id: &Identifier, receive_count: Option<u32>) -> Duration {
    // A permanent failure of the table, such as a wrong name or schema, is not the message's fault, and can be fixed.
    let may_pass = matches!(refused, Refused::Failed(_));
    let receives_before = usize::try_from(receive_count.unwrap_or(1).saturating_sub(1)).unwrap_or(usize::MAX);
    match limits::RETRY_WAITS.get(receives_before) {
        Some(wait) if may_pass => spread(*wait, message_id),
        _ => limits::REFUSED_WAIT,
    }
}

/// A slightly longer wait, in whole seconds, so that messages that failed together are not received all at once.
fn spread(wait: Duration, message_id: &Identifier) -> Duration {
    let mut hasher = DefaultHasher::new();
    message_id.hash(&mut hasher);
    wait + Duration::from_secs(hasher.finish() % (wait.as_secs() / limits::RETRY_SPREAD + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use notification::Failure;
    use std::collections::BTreeSet;

    fn waits_of(refused: &Refused) -> Vec<u64> {
        let id = Identifier::parse(Some("m")).unwrap();
        (1..=7).map(|receive| wait(refused, &id, Some(receive)).as_secs()).collect()
    }

    #[test]
    fn after_a_retryable_failure_a_message_waits_longer_each_time_and_seconds_after_the_last_receive() {
        let refused_by_the_table = Failure::permanent("BatchExecuteStatement: ValidationError");
        for failure in [Failure::retryable("throttled"), Failure::may_have_happened("no answer"), refused_by_the_table]
        {
            let waits = waits_of(&Refused::Failed(failure));
            for (wait, least) in waits.iter().zip([15, 120, 600, 1_200, 1_800]) {
                assert!((least..=least * 11 / 10).contains(wait), "{waits:?}");
            }
            assert_eq!(waits[5..], [5, 5]);
        }
    }

    #[test]
    fn a_message_that_will_never_be_accepted_is_received_again_after_seconds() {
        let malformed = Refused::Malformed(Failure::permanent("not JSON"));
        for refused in [malformed, Refused::Conflict] {
            assert_eq!(waits_of(&refused), [5; 7], "{refused}");
        }
    }

    #[test]
    fn a_message_without_a_receive_count_waits_as_after_its_first_receive() {
        let id = Identifier::parse(Some("m")).unwrap();
        let refused = Refused::Failed(Failure::retryable("throttled"));
        assert_eq!(wait(&refused, &id, None), wait(&refused, &id, Some(1)));
    }

    #[test]
    fn messages_that_failed_together_are_spread_over_a_tenth_of_their_wait() {
        for (wait, spread_over) in [(15, 15..=16), (600, 600..=660)] {
            let id = |n: u32| Identifier::parse(Some(&format!("m{n}"))).unwrap();
            let waits = (0..2_000).map(|n| spread(Duration::from_secs(wait), &id(n)).as_secs());
            assert_eq!(waits.collect::<BTreeSet<_>>(), spread_over.collect());
        }
    }

    #[test]
    fn time_is_reserved_for_hiding_and_never_more_than_a_quarter() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        let reserved = |deadline, messages| {
            let time = earlier(Deadline::at(at(deadline)), at(0), messages).time();
            at(deadline).duration_since(time).as_millis()
        };
        assert_eq!((reserved(30_000, 1_000), reserved(2_000, 1_000), reserved(0, 1)), (2_000, 500, 0));
        assert_eq!((reserved(30_000, 2_001), reserved(30_000, 10_000)), (6_000, 7_500));
    }
}
