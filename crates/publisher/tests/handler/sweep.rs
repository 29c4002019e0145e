//! The sweep: no pending notification is stuck, and nothing else is published.

use crate::collect;
use collect::Telemetry;
use notification::Claim;
use notification::ports::{IndexKey, PendingPage, PendingTable, SweepState, UnresolvedCount};
use notification::testing::{Call, Fault, Memory, TestClock};
use notification::{Deadline, Failure, Status, Timestamp, limits};
use publisher::sweep::{Sweep, Swept};
use publisher::{Payload, Publisher, Response, handle};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const START: i64 = 1_763_805_600_000;
const AGE: Duration = Duration::from_mins(15);
const OLD: i64 = START - 901_000;
const YOUNG: i64 = START - 899_000;

async fn sweep_for(memory: &Memory, millis: i64) -> Result<Swept, Failure> {
    let clock = TestClock::at_millis(START);
    let deadline = Deadline::at(Timestamp::from_millisecond(START + millis).unwrap());
    Sweep::new(memory, AGE).run(&Publisher::new(memory, clock), deadline).await
}

async fn sweep(memory: &Memory) -> Swept {
    sweep_for(memory, 60_000).await.unwrap()
}

fn published(memory: &Memory) -> BTreeSet<String> {
    memory.records().into_iter().map(|(id, _)| id).collect()
}

fn init(memory: Memory, id: &str, since: i64) -> Memory {
    memory.with(id, Status::Init, &format!("event of {id}")).pending_since(id, since)
}

#[tokio::test]
async fn only_notifications_pending_for_too_long_are_published_again_byte_for_byte() {
    let memory = init(init(Memory::default(), "old", OLD), "young", YOUNG);
    let memory = [Status::Done, Status::Failed, Status::InDoubt]
        .into_iter()
        .fold(memory, |memory, status| memory.with(status.as_str(), status, "e").pending_since(status.as_str(), OLD));
    let swept = sweep(&memory).await;
    assert_eq!(memory.records(), [("old".to_owned(), "event of old".to_owned())]);
    assert_eq!((swept.published, swept.failed, swept.complete), (1, 0, true));
    assert_eq!(swept.oldest_pending_seconds, Some(901));
}

#[tokio::test]
async fn an_expired_claim_is_published_so_that_downstream_makes_it_in_doubt_and_a_valid_one_is_left_alone() {
    let claim =
        |millis: i64| Claim { owner: "w".into(), lease_until: Timestamp::from_millisecond(START + millis).unwrap() };
    let memory = init(init(Memory::default(), "expired", OLD), "valid", OLD);
    let memory = memory.with_claim("expired", claim(-1)).with_claim("valid", claim(1_000));
    sweep(&memory).await;
    assert_eq!(published(&memory), BTreeSet::from(["expired".to_owned()]));
}

#[tokio::test]
async fn a_settled_notification_is_not_published_when_the_index_lags_behind_the_table() {
    // The index of this table still has it; the consistent read says DONE.
    let memory = init(Memory::default(), "a", OLD);
    let ran = sweep_with_change(&memory).await;
    assert_eq!((ran.published, published(&memory).len()), (0, 0));
}

/// A sweep between whose query and read the notification is settled.
async fn sweep_with_change(memory: &Memory) -> Swept {
    struct Lagging<'a>(&'a Memory);
    impl notification::ports::TableReader for Lagging<'_> {
        async fn read(
            &self,
            ids: &[&notification::NotificationId],
        ) -> notification::ports::Answers<Option<notification::Stored>> {
            use notification::Change;
            use notification::ports::Table;
            for &id in ids {
                let event = self.0.item(id.as_str()).unwrap().event;
                self.0.write(&[Change::done(id, &event, None)], Timestamp::UNIX_EPOCH).await.unwrap();
            }
            self.0.read(ids).await
        }
    }
    impl PendingTable for Lagging<'_> {
        async fn pending(
            &self,
            shard: u64,
            until: Timestamp,
            after: Option<&IndexKey>,
            limit: usize,
        ) -> Result<PendingPage, Failure> {
            self.0.pending(shard, until, after, limit).await
        }
        async fn count_unresolved(
            &self,
            status: Status,
            shard: u64,
            since: Timestamp,
            limit: usize,
        ) -> Result<UnresolvedCount, Failure> {
            self.0.count_unresolved(status, shard, since, limit).await
        }
        async fn begin_sweep(&self, now: Timestamp, lease_until: Timestamp) -> Result<Option<SweepState>, Failure> {
            self.0.begin_sweep(now, lease_until).await
        }
        async fn end_sweep(&self, state: &SweepState, lease_until: Timestamp) -> Result<(), Failure> {
            self.0.end_sweep(state, lease_until).await
        }
    }
    let deadline = Deadline::at(Timestamp::from_millisecond(START + 60_000).unwrap());
    let publisher = Publisher::new(memory, TestClock::at_millis(START));
    Sweep::new(Lagging(memory), AGE).run(&publisher, deadline).await.unwrap()
}

#[tokio::test]
async fn a_sweep_that_its_deadline_stops_is_continued_by_the_next_until_all_are_published() {
    let ids: BTreeSet<String> = (0..5_000).map(|n| format!("id{n:04}")).collect();
    let memory = ids.iter().fold(Memory::default(), |memory, id| init(memory, id, OLD));
    let mut sweeps = 0;
    loop {
        sweeps += 1;
        // 4 seconds, of which 2 are reserved: about 1,000 notifications at 500 per second.
        let swept = sweep_for(&memory, 4_000).await.unwrap();
        assert!(swept.published <= 1_200, "above the rate: {}", swept.published);
        if swept.complete {
            break;
        }
        assert!(sweeps < 20, "each sweep makes progress");
    }
    assert!(sweeps >= 4, "{sweeps}");
    assert_eq!(published(&memory), ids);
    assert_eq!(memory.records().len(), ids.len(), "none was published twice");
}

#[tokio::test]
async fn a_page_that_the_deadline_cuts_off_is_left_to_the_next_run_and_no_other_is_published_again() {
    let puts = AtomicUsize::new(0);
    let memory = Memory::failing(move |call| {
        let is_second = call.method == "put" && puts.fetch_add(1, Relaxed) == 1;
        is_second.then_some(Fault::Hang)
    });
    let ids: BTreeSet<String> = one_partition().take(300).collect();
    let memory = ids.iter().fold(memory, |memory, id| init(memory, id, OLD));
    let swept = sweep(&memory).await;
    assert_eq!((swept.complete, swept.published, swept.failed), (false, 100, 100));
    assert_eq!(sweep_at(&memory, 1).await.published, 200);
    assert_eq!(sweep_at(&memory, 2).await.published, 0);
    assert_eq!((published(&memory), memory.records().len()), (ids, 300));
}

#[tokio::test]
async fn the_sweep_stays_within_its_rate() {
    let memory = (0..1_000).fold(Memory::default(), |memory, n| init(memory, &format!("id{n}"), OLD));
    let clock = TestClock::at_millis(START);
    let deadline = Deadline::at(Timestamp::from_millisecond(START + 600_000).unwrap());
    let publisher = Publisher::new(&memory, clock);
    Sweep::new(&memory, AGE).run(&publisher, deadline).await.unwrap();
    let taken = publisher.now().as_millisecond() - START;
    assert!((1_900..=2_100).contains(&taken), "1,000 notifications at 500 per second: {taken} ms");
}

#[tokio::test]
async fn an_empty_index_costs_one_query_per_partition_and_nothing_is_read() {
    let memory = Memory::default().with("a", Status::Done, "e");
    let swept = sweep(&memory).await;
    assert_eq!(memory.calls("pending").len(), usize::try_from(limits::PENDING_SHARDS).unwrap());
    assert!(memory.calls("read").is_empty());
    assert_eq!((swept.oldest_pending_seconds, swept.complete), (Some(0), true));
}

#[tokio::test]
async fn a_failure_to_publish_is_counted_and_left_to_the_next_sweep() {
    let memory = Memory::failing(|call| (call.method == "put").then(|| Fault::Before(Failure::retryable("down"))));
    let swept = sweep(&init(memory, "a", OLD)).await;
    assert_eq!((swept.published, swept.failed), (0, 1));
}

#[tokio::test]
async fn a_schedule_sweeps_a_batch_is_published_and_anything_else_is_an_error() {
    let memory = init(Memory::default(), "a", OLD);
    let publisher = Publisher::new(&memory, TestClock::at_millis(START));
    let sweep = Sweep::new(&memory, AGE);
    let deadline = Deadline::at(Timestamp::from_millisecond(START + 60_000).unwrap());
    let invoke = async |event: &str| {
        let event: Payload = serde_json::from_str(event).unwrap();
        handle(&publisher, &sweep, event, deadline).await
    };
    assert!(matches!(invoke(r#"{"sweep":true}"#).await, Ok(Response::Sweep(Swept { published: 1, .. }))));
    assert!(matches!(invoke(r#"{"Records":[]}"#).await, Ok(Response::Batch(_))));
    assert!(invoke("{}").await.is_err());
}

/// Sweeps this many minutes after [`START`].
async fn sweep_at(memory: &Memory, minute: i64) -> Swept {
    let now = START + minute * 60_000;
    let deadline = Deadline::at(Timestamp::from_millisecond(now + 60_000).unwrap());
    Sweep::new(memory, AGE).run(&Publisher::new(memory, TestClock::at_millis(now)), deadline).await.unwrap()
}

/// A table whose calls fail as `fault` says while the switch is on.
fn switched(fault: impl Fn(&Call) -> Option<Fault> + Send + Sync + 'static) -> (Arc<AtomicBool>, Memory) {
    let switch = Arc::new(AtomicBool::new(true));
    let is_on = Arc::clone(&switch);
    (switch, Memory::failing(move |call| if is_on.load(Relaxed) { fault(call) } else { None }))
}

fn down() -> Fault {
    Fault::Before(Failure::retryable("down"))
}

/// A table whose n-th query of one partition of the index fails.
fn failing_at(shard: &'static str, n: usize, failure: Failure) -> Memory {
    let queries = Mutex::new(0);
    Memory::failing(move |call| {
        let is_query = call.method == "pending" && call.ids == [shard];
        let mut queries = queries.lock().unwrap();
        *queries += usize::from(is_query);
        (is_query && *queries == n).then(|| Fault::Before(failure.clone()))
    })
}

/// A table of which one partition of the index fails with this fault.
fn with_failing_partition(shard: u64, fault: fn() -> Fault) -> Memory {
    Memory::failing(move |call| (call.method == "pending" && call.ids == [shard.to_string()]).then(fault))
}

#[tokio::test]
async fn a_partition_that_cannot_be_read_fails_alone_and_the_others_are_swept() {
    // "a" is in partition 12, "rfd-000001" in 17.
    let memory = with_failing_partition(12, down);
    let memory = init(init(memory, "a", OLD), "rfd-000001", OLD);
    let swept = sweep(&memory).await;
    assert_eq!(published(&memory), BTreeSet::from(["rfd-000001".to_owned()]));
    assert_eq!((swept.complete, swept.failed_shards), (false, 1));
    assert_eq!(swept.oldest_pending_seconds, None, "the oldest may be in that partition");
}

#[tokio::test]
async fn rule_4_a_panic_in_one_partition_fails_only_that_partition() {
    let memory = with_failing_partition(12, || Fault::Panic);
    let swept = sweep(&init(memory, "rfd-000001", OLD)).await;
    assert_eq!((swept.published, swept.failed_shards), (1, 1));
}

#[tokio::test]
async fn a_sweep_that_can_read_no_partition_fails() {
    let memory = Memory::failing(|call| (call.method == "pending").then(down));
    assert!(sweep_for(&memory, 60_000).await.is_err());
}

#[tokio::test]
async fn rule_5_a_query_without_an_answer_does_not_hold_the_sweep_until_its_deadline() {
    let memory = with_failing_partition(12, || Fault::Hang);
    let memory = init(init(memory, "a", OLD), "rfd-000001", OLD);
    let deadline = Deadline::at(Timestamp::from_millisecond(START + 60_000).unwrap());
    let publisher = Publisher::new(&memory, TestClock::at_millis(START));
    let swept = Sweep::new(&memory, AGE).run(&publisher, deadline).await.unwrap();
    assert_eq!((swept.complete, swept.failed_shards), (false, 1));
    let taken = publisher.now().as_millisecond() - START;
    assert!((5_000..=6_000).contains(&taken), "it waits for 5 s: {taken} ms");
    assert_eq!(published(&memory), BTreeSet::from(["rfd-000001".to_owned()]));
}

#[tokio::test]
async fn a_sweep_begins_with_the_partition_at_which_the_last_one_stopped() {
    // The first publication has no answer until the deadline.
    let (hangs, memory) = switched(|call| (call.method == "put").then_some(Fault::Hang));
    let id_in =
        |shard| (0..1_000).map(|n| format!("id{n}")).find(|id| notification::id::index_shard(id) == shard).unwrap();
    let memory = [5, 12, 17].into_iter().fold(memory, |memory, shard| init(memory, &id_in(shard), OLD));
    sweep_at(&memory, 0).await;
    assert_eq!(memory.saved_sweep_state().next_shard, 12);
    hangs.store(false, Relaxed);
    let before = memory.calls("pending").len();
    assert_eq!(sweep_at(&memory, 5).await.published, 3);
    let order: Vec<_> = memory.calls("pending").into_iter().skip(before + 32).map(|call| call.ids[0].clone()).collect();
    assert_eq!(order, ["12", "17", "5"], "after the 32 queries for the oldest");
    assert_eq!(memory.saved_sweep_state().next_shard, 0, "it came round");
}

#[tokio::test]
async fn what_is_pending_for_too_long_but_not_due_is_counted_and_so_is_the_capacity_that_was_read() {
    let memory = init(init(Memory::default(), "id1", OLD), "id2", OLD);
    // 32 + 64 queries, and a page of each partition with something to publish; each of half a unit.
    let swept = sweep_at(&memory, 0).await;
    assert_eq!((swept.published, swept.not_due), (2, 0));
    assert_eq!(swept.index_read_units.to_string(), "49");
    let memory = init(memory, "id3", OLD);
    let swept = sweep_at(&memory, 5).await;
    assert_eq!((swept.published, swept.not_due), (1, 2));
}

#[tokio::test]
async fn a_partition_whose_oldest_entry_is_invalid_is_swept_although_its_next_page_cannot_be_read_at_first() {
    let memory = failing_at("12", 2, Failure::retryable("down"));
    let memory = init(memory, "a", OLD).with_invalid_entry(12, "kinesis:1", "2000-01-01T00:00:00.000Z");
    let swept = sweep(&memory).await;
    assert_eq!((swept.published, swept.invalid, swept.failed_shards), (1, 1, 0));
    assert_eq!(swept.oldest_pending_seconds, None, "it is not known");
}

#[tokio::test]
async fn if_the_index_refuses_a_position_the_next_sweep_begins_a_new_pass() {
    for (refusal, continues) in [(Failure::permanent("ValidationException"), false), (Failure::retryable("down"), true)]
    {
        // After the query for the oldest, and the first page of 100.
        let memory = failing_at("12", 3, refusal);
        let memory = one_partition().take(150).fold(memory, |memory, id| init(memory, &id, OLD));
        assert_eq!(sweep(&memory).await.published, 100);
        let state = memory.saved_sweep_state().shards.remove(&12).unwrap_or_default();
        assert_eq!(state.unfinished.is_some(), continues);
    }
}

#[tokio::test]
async fn a_pass_that_fails_at_its_first_page_leaves_nothing_to_continue() {
    let memory = init(failing_at("12", 2, Failure::retryable("down")), "a", OLD);
    sweep(&memory).await;
    let state = memory.saved_sweep_state();
    assert_eq!(state.shards.get(&12).and_then(|shard| shard.unfinished.as_ref()), None);
}

#[tokio::test]
async fn while_downstream_lags_a_notification_is_not_published_with_every_sweep() {
    let memory = init(Memory::default(), "a", OLD);
    for minute in (0..60).step_by(5) {
        sweep_at(&memory, minute).await;
    }
    assert_eq!(memory.records().len(), 3, "at 15, 30 and 60 minutes of its age");
}

#[tokio::test]
async fn a_due_notification_that_could_not_be_published_is_tried_again_by_the_next_sweep() {
    for method in ["read", "put"] {
        let fault: fn(&Call) -> Option<Fault> = match method {
            "read" => |call| (call.method == "read").then(down),
            _ => |call| (call.method == "put").then(down),
        };
        let (fails, memory) = switched(fault);
        let memory = init(memory, "a", OLD);
        assert_eq!(sweep_at(&memory, 0).await.failed, 1);
        fails.store(false, Relaxed);
        assert_eq!(sweep_at(&memory, 5).await.published, 1, "{method}");
        assert_eq!(sweep_at(&memory, 10).await.published, 0, "{method}");
    }
}

#[tokio::test]
async fn a_failure_in_the_first_part_of_a_pass_is_not_forgotten_when_another_run_ends_the_pass() {
    // Its first page cannot be published, and then the deadline comes.
    let memory = Memory::failing(|call| (call.method == "put" && call.number < 200).then_some(Fault::Hang));
    let ids: BTreeSet<String> = one_partition().take(300).collect();
    let memory = ids.iter().fold(memory, |memory, id| init(memory, id, OLD));
    let swept = sweep_for(&memory, 30_000).await.unwrap();
    assert_eq!((swept.complete, swept.failed, swept.published), (false, 100, 0));
    while sweep_at(&memory, 0).await.published > 0 {}
    assert_eq!(published(&memory), ids);
}

/// Ids that are all in partition 12.
fn one_partition() -> impl Iterator<Item = String> {
    (0..).map(|n| format!("id{n}")).filter(|id| notification::id::index_shard(id) == 12)
}

#[tokio::test]
async fn rule_5_the_position_is_saved_in_time_even_if_publishing_hangs() {
    let memory = Memory::failing(|call| (call.method == "put").then_some(Fault::Hang));
    let memory = one_partition().take(300).fold(memory, |memory, id| init(memory, &id, OLD));
    let publisher = Publisher::new(&memory, TestClock::at_millis(START));
    let deadline = Deadline::at(Timestamp::from_millisecond(START + 30_000).unwrap());
    let swept = Sweep::new(&memory, AGE).run(&publisher, deadline).await.unwrap();
    assert!(!swept.complete && publisher.now() < deadline.time());
    let state = memory.saved_sweep_state();
    assert_eq!(state.next_shard, 12);
    assert!(state.shards[&12].unfinished.is_some());
}

#[tokio::test]
async fn a_partition_that_fails_at_its_second_page_continues_there_and_does_not_delay_the_others() {
    let (fails, memory) = switched(|call| {
        let is_later = call.number > 32 + 64 + 3;
        (call.method == "pending" && call.ids == ["12"] && is_later).then(down)
    });
    let ids: BTreeSet<String> = one_partition().take(150).chain(["rfd-000001".to_owned()]).collect();
    let memory = ids.iter().fold(memory, |memory, id| init(memory, id, OLD));
    let swept = sweep_at(&memory, 0).await;
    assert_eq!((swept.published, swept.failed_shards, swept.complete), (101, 1, false));
    fails.store(false, Relaxed);
    let swept = sweep_at(&memory, 5).await;
    assert_eq!((swept.published, swept.complete), (50, true));
    assert_eq!(published(&memory), ids);
}

#[tokio::test]
async fn if_the_saved_state_is_in_the_future_everything_old_enough_is_published() {
    let memory = init(Memory::default(), "a", OLD);
    sweep_at(&memory, 0).await;
    assert_eq!(sweep_at(&memory, 10).await.published, 0);
    assert_eq!(sweep_at(&memory, 9).await.published, 1);
}

#[tokio::test]
async fn while_the_lease_cannot_be_taken_nothing_is_published() {
    for fault in [down, || Fault::Hang, || Fault::Panic, || Fault::LostReply] {
        let (fails, memory) = switched(move |call| (call.method == "begin_sweep").then(fault));
        let memory = init(memory, "a", OLD);
        let swept = sweep_at(&memory, 0).await;
        assert_eq!((swept.published, swept.complete), (0, false));
        assert!(swept.oldest_pending_seconds.is_some(), "the alarm still has its value");
        fails.store(false, Relaxed);
        assert_eq!(sweep_at(&memory, 5).await.published, 1);
    }
}

#[tokio::test]
async fn while_one_sweep_holds_the_lease_another_publishes_nothing_until_the_lease_has_expired() {
    // The first one dies at its end: its lease is not released.
    let (fails, memory) = switched(|call| (call.method == "end_sweep").then_some(Fault::Hang));
    let memory = init(memory, "a", OLD);
    assert_eq!(sweep_at(&memory, 0).await.published, 1);
    fails.store(false, Relaxed);
    let swept = sweep_at(&memory, 1).await;
    assert_eq!((swept.published, swept.skipped, swept.complete), (0, true, false), "its lease is its minute, and 10 s");
    let swept = sweep_at(&memory, 2).await;
    assert_eq!((swept.published, swept.skipped, swept.complete), (1, false, true));
}

#[tokio::test]
async fn if_the_state_cannot_be_saved_the_next_sweep_publishes_the_same_again() {
    let (_, memory) = switched(|call| (call.method == "end_sweep").then(down));
    let memory = init(memory, "a", OLD);
    for minute in [0, 5] {
        let swept = sweep_at(&memory, minute).await;
        assert_eq!((swept.published, swept.complete), (1, true));
    }
}

#[tokio::test]
async fn nothing_is_saved_while_nothing_is_pending_for_too_long() {
    let memory = init(Memory::default(), "a", YOUNG);
    sweep(&memory).await;
    assert!(memory.calls("begin_sweep").is_empty() && memory.calls("end_sweep").is_empty());
    // The saved state is deleted when it is no longer needed.
    sweep_at(&memory, 1).await;
    assert_eq!(memory.saved_sweep_state().shards.len(), 1);
}

/// Sweeps every 5 minutes over three days, most of them under random faults: after each sweep without a fault, everything
/// has been published since it was due last.
#[tokio::test]
async fn no_due_time_is_ever_lost_whatever_fails() {
    let (fails, memory) = switched(|call| {
        // A hash of the call's number says whether and how it fails.
        let chance = (call.number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        match chance % 29 {
            0 | 1 => Some(down()),
            2 => Some(Fault::LostReply),
            3 => Some(Fault::Hang),
            4 if call.method != "put" => Some(Fault::Panic),
            5 => Some(Fault::Before(Failure::permanent("refused"))),
            _ => None,
        }
    });
    let since = |n: i64| START - n * 77_000;
    let memory = (0..40).fold(memory, |memory, n| init(memory, &format!("id{n}"), since(n)));
    let mut last_published = BTreeMap::new();
    let (mut seen, mut publications) = (0, 0);
    for run in 0..3 * 24 * 12 {
        let now = START + run * 5 * 60_000;
        let is_clean = run % 7 == 6;
        fails.store(!is_clean, Relaxed);
        let deadline = Deadline::at(Timestamp::from_millisecond(now + 60_000).unwrap());
        let publisher = Publisher::new(&memory, TestClock::at_millis(now));
        let swept = Sweep::new(&memory, AGE).run(&publisher, deadline).await;
        let records = memory.records();
        last_published.extend(records[seen..].iter().map(|(id, _)| (id.clone(), now)));
        publications += records.len() - seen;
        seen = records.len();
        if is_clean {
            assert!(swept.unwrap().complete);
            for n in 0..40 {
                let age = (now - since(n)) / 60_000;
                let due = [15, 30, 60].into_iter().chain((1..60).map(|n| n * 120)).take_while(|due| *due <= age).last();
                let due = due.map_or(i64::MIN, |due| since(n) + due * 60_000);
                assert!(last_published.get(&format!("id{n}")).is_none_or(|at| *at >= due), "id{n} after {age} minutes");
                assert!(due == i64::MIN || last_published.contains_key(&format!("id{n}")), "id{n} after {age} minutes");
            }
        }
    }
    assert!(publications < 40 * 200, "{publications}: fewer than a quarter of what every sweep would publish");
}

#[tokio::test]
async fn any_number_of_invalid_index_entries_hides_no_notification() {
    let memory = init(Memory::default(), "a", OLD);
    let memory = (0..3_000).fold(memory, |memory, n| {
        memory.with_invalid_entry(12, &format!("kinesis:{n:04}"), "2000-01-01T00:00:00.000Z")
    });
    let swept = sweep(&memory).await;
    assert_eq!((swept.published, swept.invalid, swept.complete), (1, 3_000, true));
    assert_eq!(swept.oldest_pending_seconds, Some(901));
}

#[tokio::test]
async fn an_entry_with_an_invalid_time_is_counted_and_passed() {
    let memory = init(Memory::default(), "a", OLD).with_invalid_entry(12, "b", "1763805600");
    let swept = sweep(&memory).await;
    assert_eq!((swept.published, swept.invalid), (1, 1));
}

#[tokio::test]
async fn a_pending_item_without_an_event_is_counted_and_not_published() {
    let memory = Memory::default().with("a", Status::Init, "").pending_since("a", OLD);
    let swept = sweep(&memory).await;
    assert_eq!((swept.published, swept.failed, swept.invalid), (0, 0, 1));
}

fn unresolved(memory: Memory) -> Memory {
    let old = START - 31 * 60_000;
    let memory = memory.with("doubt", Status::InDoubt, "e").since("doubt", old);
    let memory = memory.with("failed", Status::Failed, "e").since("failed", START - 29 * 60_000);
    memory.with("long ago", Status::Failed, "e").since("long ago", old)
}

#[tokio::test]
async fn the_sweep_counts_items_that_are_in_doubt_or_failed_recently() {
    let swept = sweep(&unresolved(Memory::default())).await;
    assert_eq!((swept.in_doubt, swept.recently_failed), (Some(1), Some(1)));
}

#[tokio::test]
async fn a_partition_that_cannot_be_counted_hides_no_other_and_does_not_stop_publishing() {
    for fault in [down, || Fault::Hang, || Fault::Panic] {
        let memory =
            Memory::failing(move |call| (call.ids == ["FAILED#12"] || call.ids == ["IN_DOUBT#12"]).then(fault));
        let memory = (0..100).fold(memory, |memory, n| memory.with(&format!("id{n}"), Status::InDoubt, "e"));
        let swept = sweep(&init(memory, "a", OLD)).await;
        assert!(swept.in_doubt.is_some_and(|count| (1..100).contains(&count)), "{swept:?}");
        assert_eq!(swept.recently_failed, None, "none was found, but not every partition was read");
        assert_eq!((swept.published, swept.complete), (1, true));
    }
}

#[tokio::test]
async fn items_in_doubt_are_counted_although_no_pending_partition_can_be_read() {
    let telemetry = Telemetry::default();
    let _collecting = telemetry.collect();
    let memory = Memory::failing(|call| (call.method == "pending").then(down));
    assert!(sweep_for(&unresolved(memory), 60_000).await.is_err());
    telemetry.check_metrics(&[("InDoubtItems", 1), ("RecentlyFailed", 1), ("Swept", 0)]);
}
