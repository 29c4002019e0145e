//! The sweep: nothing that is pending stays stuck, and nothing else is published.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use notification::ports::{Claim, IndexKey, PendingPage, PendingTable, SweepState, UnresolvedCount};
use notification::testing::{Fault, Memory, TestClock};
use notification::{Deadline, Failure, Status, Timestamp, limits};
use publisher::sweep::{Sweep, Swept};
use publisher::{Event, Publisher, Response, handle};
use std::collections::BTreeSet;
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
async fn what_is_pending_for_too_long_is_published_again_byte_for_byte_and_the_rest_is_not() {
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
async fn a_lapsed_claim_is_published_for_downstream_to_take_for_in_doubt_and_a_live_one_is_left_alone() {
    let claim =
        |millis: i64| Claim { owner: "w".into(), lease_until: Timestamp::from_millisecond(START + millis).unwrap() };
    let memory = init(init(Memory::default(), "lapsed", OLD), "live", OLD);
    let memory = memory.with_claim("lapsed", claim(-1)).with_claim("live", claim(1_000));
    sweep(&memory).await;
    assert_eq!(published(&memory), BTreeSet::from(["lapsed".to_owned()]));
}

#[tokio::test]
async fn an_index_that_lags_behind_the_table_publishes_nothing_that_is_settled() {
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
        ) -> notification::ports::Answers<Option<notification::ports::Stored>> {
            use notification::ports::{After, Before, Change, StatusTable};
            for &id in ids {
                let change = Change { id, from: Before::Status(Status::Init), to: After::Done(None) };
                self.0.change(&[change], Timestamp::UNIX_EPOCH).await.unwrap();
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
        async fn sweep_state(&self) -> Result<SweepState, Failure> {
            self.0.sweep_state().await
        }
        async fn save_sweep_state(&self, state: &SweepState) -> Result<(), Failure> {
            self.0.save_sweep_state(state).await
        }
    }
    let deadline = Deadline::at(Timestamp::from_millisecond(START + 60_000).unwrap());
    let publisher = Publisher::new(memory, TestClock::at_millis(START));
    Sweep::new(Lagging(memory), AGE).run(&publisher, deadline).await.unwrap()
}

#[tokio::test]
async fn a_sweep_that_its_deadline_stops_is_carried_on_by_the_next_until_all_are_published() {
    let ids: BTreeSet<String> = (0..5_000).map(|n| format!("id{n:04}")).collect();
    let memory = ids.iter().fold(Memory::default(), |memory, id| init(memory, id, OLD));
    let mut sweeps = 0;
    loop {
        sweeps += 1;
        // 4 seconds, 2 of them kept back: about 1,000 notifications at 500 a second.
        let swept = sweep_for(&memory, 4_000).await.unwrap();
        assert!(swept.published <= 1_200, "the rate is kept: {}", swept.published);
        if swept.complete {
            break;
        }
        assert!(sweeps < 20, "each sweep gets further");
    }
    assert!(sweeps >= 4, "{sweeps}");
    assert_eq!(published(&memory), ids);
    assert_eq!(memory.records().len(), ids.len(), "none was published twice");
}

#[tokio::test]
async fn the_sweep_keeps_to_its_rate() {
    let memory = (0..1_000).fold(Memory::default(), |memory, n| init(memory, &format!("id{n}"), OLD));
    let clock = TestClock::at_millis(START);
    let deadline = Deadline::at(Timestamp::from_millisecond(START + 600_000).unwrap());
    let publisher = Publisher::new(&memory, clock);
    Sweep::new(&memory, AGE).run(&publisher, deadline).await.unwrap();
    assert!(publisher.now().as_millisecond() - START >= 2_000 - 100, "1,000 notifications at 500 a second");
}

#[tokio::test]
async fn an_empty_index_costs_one_query_a_partition_and_nothing_is_read() {
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
async fn the_schedule_sweeps_a_batch_publishes_and_anything_else_is_an_error() {
    let memory = init(Memory::default(), "a", OLD);
    let publisher = Publisher::new(&memory, TestClock::at_millis(START));
    let sweep = Sweep::new(&memory, AGE);
    let deadline = Deadline::at(Timestamp::from_millisecond(START + 60_000).unwrap());
    let invoke = async |event: &str| {
        let event: Event = serde_json::from_str(event).unwrap();
        handle(&publisher, &sweep, event, deadline).await
    };
    assert!(matches!(invoke(r#"{"sweep":true}"#).await, Ok(Response::Sweep(Swept { published: 1, .. }))));
    assert!(matches!(invoke(r#"{"Records":[]}"#).await, Ok(Response::Batch(_))));
    assert!(invoke("{}").await.is_err());
}

/// A table of which one partition of the index fails so.
fn with_failing_partition(shard: u64, fault: fn() -> Fault) -> Memory {
    Memory::failing(move |call| (call.method == "pending" && call.ids == [shard.to_string()]).then(fault))
}

#[tokio::test]
async fn a_partition_that_cannot_be_read_fails_alone_and_the_others_are_swept() {
    // "a" is in partition 12, "rfd-000001" in 17.
    let memory = with_failing_partition(12, || Fault::Before(Failure::retryable("down")));
    let memory = init(init(memory, "a", OLD), "rfd-000001", OLD);
    let swept = sweep(&memory).await;
    assert_eq!(published(&memory), BTreeSet::from(["rfd-000001".to_owned()]));
    assert!(!swept.complete);
}

#[tokio::test]
async fn rule_5_a_query_that_is_never_answered_does_not_hold_the_sweep_until_its_deadline() {
    let memory = with_failing_partition(12, || Fault::Hang);
    let memory = init(init(memory, "a", OLD), "rfd-000001", OLD);
    let clock = TestClock::at_millis(START);
    let deadline = Deadline::at(Timestamp::from_millisecond(START + 60_000).unwrap());
    let publisher = Publisher::new(&memory, clock);
    let sweep = Sweep::new(&memory, AGE);
    let run = std::pin::pin!(sweep.run(&publisher, deadline));
    let swept = futures_lite_poll(run).await;
    assert!(!swept.complete && publisher.now() < deadline.time());
    assert_eq!(published(&memory), BTreeSet::from(["rfd-000001".to_owned()]));
}

/// Polls at most a thousand times: without a bound, nothing would ever wake the sweep.
async fn futures_lite_poll<F: Future<Output = Result<Swept, Failure>>>(mut run: std::pin::Pin<&mut F>) -> Swept {
    for _ in 0..1_000 {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        if let std::task::Poll::Ready(swept) = run.as_mut().poll(&mut context) {
            return swept.unwrap();
        }
    }
    panic!("the sweep waits for ever")
}

#[tokio::test]
async fn what_was_published_again_is_not_published_with_every_sweep_while_downstream_lags() {
    let memory = init(Memory::default(), "a", OLD);
    for minute in (0..60).step_by(5) {
        let now = START + minute * 60_000;
        let deadline = Deadline::at(Timestamp::from_millisecond(now + 60_000).unwrap());
        Sweep::new(&memory, AGE).run(&Publisher::new(&memory, TestClock::at_millis(now)), deadline).await.unwrap();
    }
    assert_eq!(memory.records().len(), 3, "at 15, 30 and 60 minutes of its age");
}
