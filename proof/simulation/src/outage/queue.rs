//! An outage of the table, as ingest's queue sees it.

use super::{Outage, PATIENCE};
use event_source::limits::MESSAGES_IN_FLIGHT_MAX;
use notification::limits;
use std::collections::BTreeMap;
use std::time::Duration;

/// Receives of a message, and one place for messages without any.
const RECEIVES: usize = limits::MAX_RECEIVES as usize;

/// Parts of a second's messages whose waits differ: ingest spreads them over a tenth of the wait.
const PARTS: u64 = 10;

/// What an outage of the table does to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueOutcome {
    /// Good messages that became dead letters.
    pub dead: u64,
    /// The time from the end of the outage until no message waits; `None` if that never happens.
    pub caught_up: Option<Duration>,
    /// Calls to hide messages.
    pub calls: u64,
}

/// Lets the table fail for a while. A message that fails waits for the time in `waits`. The mapping receives as fast as SQS lets it,
/// which uses up receives faster than any slower one.
#[must_use]
pub fn queue(outage: Outage, waits: &[Duration]) -> QueueOutcome {
    let mut visible = [0; RECEIVES];
    // Invisible messages, by the second in which they are visible again, and by their receives so far.
    let mut invisible: BTreeMap<u64, [u64; RECEIVES + 1]> = BTreeMap::new();
    let mut outcome = QueueOutcome { dead: 0, caught_up: None, calls: 0 };
    let ends = outage.lasts.as_secs();
    for now in 0..ends + PATIENCE.as_secs() {
        while let Some(back) = invisible.first_entry().filter(|entry| *entry.key() <= now) {
            for (receives, count) in back.remove().into_iter().enumerate() {
                match visible.get_mut(receives) {
                    Some(visible) => *visible += count,
                    None => outcome.dead += count,
                }
            }
        }
        visible[0] += outage.rate;
        let in_flight: u64 = invisible.values().flatten().sum();
        let room = (MESSAGES_IN_FLIGHT_MAX as u64).saturating_sub(in_flight);
        if now < ends {
            for (receives, count) in receive(&mut visible, room).into_iter().enumerate() {
                outcome.calls += count.div_ceil(limits::SQS_BATCH_MAX as u64);
                let wait = waits.get(receives).copied().unwrap_or(limits::REFUSED_WAIT).as_secs();
                for part in 0..PARTS {
                    let at = now + wait + wait * part / (10 * PARTS);
                    let share = count / PARTS + u64::from(part < count % PARTS);
                    invisible.entry(at).or_default()[receives + 1] += share;
                }
            }
        } else {
            receive(&mut visible, room.min(outage.capacity));
            if visible.iter().chain(invisible.values().flatten()).all(|&count| count == 0) {
                outcome.caught_up = Some(Duration::from_secs(now - ends));
                break;
            }
        }
    }
    outcome
}

/// Takes so many of the visible messages, those with the most receives first. SQS promises no order. This is the worst one: it
/// uses up the receives of a message soonest, and fills the places in flight with those that wait longest.
fn receive(visible: &mut [u64; RECEIVES], most: u64) -> [u64; RECEIVES] {
    let mut received = [0; RECEIVES];
    let mut left = most;
    for (received, visible) in received.iter_mut().zip(visible).rev() {
        *received = left.min(*visible);
        *visible -= *received;
        left -= *received;
    }
    received
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Deployed;

    fn outage(minutes: u64, rate: u64) -> Outage {
        Outage { lasts: Duration::from_mins(minutes), rate, capacity: 2 * rate }
    }

    #[test]
    fn an_outage_of_the_table_of_an_hour_makes_no_good_message_a_dead_letter() {
        for minutes in [1, 5, 30, 60] {
            for rate in [1, 30, 100, 1_000, 10_000] {
                let outcome = queue(outage(minutes, rate), &limits::RETRY_WAITS);
                assert_eq!(outcome.dead, 0, "{minutes} minutes at {rate} a second");
                let caught_up = outcome.caught_up.unwrap();
                assert!(caught_up <= Duration::from_mins(15 + 2 * minutes), "{caught_up:?}");
            }
        }
    }

    #[test]
    fn the_queues_own_visibility_timeout_would_not_do() {
        let waits = [Deployed::read().unwrap().visibility_timeout; RECEIVES - 1];
        assert!(queue(outage(30, 100), &waits).dead > 0);
    }
}
