//! Large runs: thousands of notifications, with the batch sizes of the template, so that work takes several calls, several
//! pages and several invocations.

use super::{AT_MOST_ONCE, Disturbance, IDEMPOTENT, Message, START, Scenario, Trouble, What, event, pick};
use crate::faults::Plan;
use crate::rng;
use fastrand::Rng;
use jiff::Timestamp;
use notification::id::index_shard;
use notification::{Guarantee, limits};
use std::time::Duration;

/// Large events of a run, at most: more than fit into one `PutRecords`.
const LARGE_EVENTS: usize = 32;

/// An event that leaves room for the rest of its item.
const LARGE_EVENT_BYTES: usize = 380 * 1024;

/// Longer than Lambda keeps trying a record, so that only the sweep is left to publish it.
const OUTAGE: Duration = Duration::from_mins(70);

/// Longer than the sweep takes for everything else.
const PARTITION_OUTAGE: Duration = Duration::from_hours(6);

/// What a large run has besides its number of notifications. Each is drawn by itself, so runs have any mixture.
#[expect(clippy::struct_excessive_bools, reason = "each is drawn by itself")]
struct Traits {
    /// All messages are sent within seconds, and their actions take seconds.
    has_slow_actions: bool,
    /// Downstream or publisher fails for longer than records are kept alive.
    has_outage: bool,
    /// While the sweep has most to do, the table is slow, so the sweep stops at its deadline.
    has_slow_sweeps: bool,
    /// Some events are as large as an item may be.
    has_large_events: bool,
    /// The business refuses most notifications.
    has_many_rejections: bool,
    /// The table and Kinesis throttle entries for a while.
    is_throttled: bool,
}

impl Traits {
    fn draw(rng: &mut Rng) -> Self {
        let has_outage = rng.bool();
        Self {
            has_slow_actions: rng.bool(),
            has_outage,
            has_slow_sweeps: has_outage && rng.bool(),
            has_large_events: rng.u8(0..3) == 0,
            has_many_rejections: rng.u8(0..4) == 0,
            is_throttled: rng.u8(0..3) == 0,
        }
    }
}

impl Scenario {
    /// Draws a run of 1,000 to 10,000 notifications.
    #[must_use]
    pub fn large(seed: u64) -> Self {
        let mut rng = rng::of(seed, "large count");
        let least = pick(&mut rng, [1_000, 1_000, 2_000, 5_000]);
        Self::large_of(seed, rng.usize(least..=2 * least))
    }

    /// Draws a run that is just large enough: most of its 1,500 notifications are more than one `PutRecords` holds.
    #[must_use]
    pub fn just_large(seed: u64) -> Self {
        Self::large_of(seed, 1_500)
    }

    fn large_of(seed: u64, count: usize) -> Self {
        let mut rng = rng::of(seed, "large");
        let traits = Traits::draw(&mut rng);
        let guarantee = pick(&mut rng, [Guarantee::Transactional, IDEMPOTENT, AT_MOST_ONCE]);
        let spread = Duration::from_secs(if traits.has_slow_actions { 5 } else { pick(&mut rng, [1, 30, 300]) });
        let mut scenario = Self {
            kinesis_shards: rng.usize(1..=4),
            hides_old_items: rng.u8(0..4) == 0,
            clock_skew_millis: if rng.bool() { 0 } else { 1_000 },
            progress_resets_retries: rng.bool(),
            action_takes: Duration::from_millis(if traits.has_slow_actions { 8_000 } else { 50 }),
            ..Self::quiet(seed, guarantee)
        };
        scenario.send_many(&mut rng, &traits, count, spread);
        scenario.disturb(&mut rng, &traits);
        scenario.faults = Plan::drawn(seed, pick(&mut rng, [0, 2, 10]), START + Duration::from_mins(10));
        scenario
    }

    fn send_many(&mut self, rng: &mut Rng, traits: &Traits, count: usize, spread: Duration) {
        // Three of four ids are in one partition of the index, so that it has several pages.
        let crowded = rng.u64(0..limits::PENDING_SHARDS);
        let mut numbers = 0_u64..;
        let mut large = if traits.has_large_events { LARGE_EVENTS } else { 0 };
        for place in 0..count {
            let is_crowded = place % 4 > 0;
            let mut ids = numbers.by_ref().map(|number| format!("n{number}"));
            let Some(id) = ids.find(|id| !is_crowded || index_shard(id) == crowded) else { return };
            let mut at = moment(rng, spread);
            if rng.u8(0..100) < if traits.has_many_rejections { 60 } else { 2 } {
                self.rejected.insert(id.clone());
            }
            let body = if is_crowded && large > 0 {
                large -= 1;
                // All at once, so that they are on the same pages.
                at = START;
                large_event(&id)
            } else {
                event(&id, 1, false)
            };
            if rng.u8(0..20) == 0 {
                self.messages.push(Message { at: moment(rng, spread), body: event(&id, 1, true), id: id.clone() });
            }
            if rng.u8(0..100) == 0 {
                self.messages.push(Message { at: moment(rng, spread), body: event(&id, 2, false), id: id.clone() });
            }
            if rng.u8(0..200) == 0 {
                self.messages.push(Message { at, body: format!("no event {id}"), id: String::new() });
            }
            self.messages.push(Message { at, id, body });
        }
        self.messages.sort_by_key(|message| message.at);
    }

    fn disturb(&mut self, rng: &mut Rng, traits: &Traits) {
        let mut add = |minute: u64, what| {
            self.disturbances.push(Disturbance { at: START + Duration::from_mins(minute), what });
        };
        if traits.has_outage {
            add(0, What::Trouble(pick(rng, [Trouble::DownstreamDown, Trouble::PublisherDown]), OUTAGE));
            let partition = rng.u64(0..limits::PENDING_SHARDS);
            add(1, What::InvalidIndexEntry(rng.u64(0..limits::PENDING_SHARDS)));
            if rng.bool() {
                add(1, What::Trouble(Trouble::PartitionDown(partition), PARTITION_OUTAGE));
            }
        }
        if traits.has_slow_sweeps {
            add(40, What::Trouble(Trouble::TableSlow, Duration::from_mins(40)));
        }
        if traits.is_throttled {
            // Meanwhile, publisher gets nothing, so that its first batches are full.
            add(0, What::Trouble(Trouble::PublisherDown, Duration::from_mins(2)));
            add(0, What::Trouble(Trouble::TableThrottled, Duration::from_mins(2)));
            add(0, What::Trouble(Trouble::StreamThrottled, Duration::from_mins(5)));
        }
        for _ in 0..rng.u8(0..3) {
            let what = [What::Split, What::Merge, What::Rollover, What::KillAll, What::RestartStreamMapping];
            add(rng.u64(0..3), pick(rng, what));
        }
        self.disturbances.sort_by_key(|disturbance| disturbance.at);
    }
}

fn moment(rng: &mut Rng, spread: Duration) -> Timestamp {
    START + Duration::from_millis(rng.u64(0..=u64::try_from(spread.as_millis()).unwrap_or(0)))
}

/// The JSON of an event that is almost as large as an item may be.
fn large_event(id: &str) -> String {
    let note = "x".repeat(LARGE_EVENT_BYTES);
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"urn:orders","type":"refund.requested","data":{{"orderId":"o-{id}","amount":"1.50","currency":"EUR","note":"{note}"}}}}"#
    )
}
