//! Why the action of a pending notification failed is noted in its item, at a bounded rate, and a note changes nothing else.

use crate::support::{START, handle, handle_for, init, records, status};
use notification::change::{Change, LastFailure, Run};
use notification::ports::Table;
use notification::testing::{Call, Fault, Memory, NOTE, REJECTED};
use notification::{
    Action, ActionError, Deadline, Effect, Failure, Guarantee, Notification, Put, ReasonCode, Status, Timestamp, limits,
};
use std::time::Duration;

const IDEMPOTENT: Guarantee = Guarantee::Idempotent { timeout: Duration::from_secs(5) };
const AT_MOST_ONCE: Guarantee = Guarantee::AtMostOnce { timeout: Duration::from_secs(5) };

/// An action whose receiver cannot be reached.
struct Unreachable(Guarantee);

impl Action for Unreachable {
    fn guarantee(&self) -> Guarantee {
        self.0
    }

    async fn run(&self, _: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        Err(ActionError::Unavailable("could not connect".to_owned()))
    }
}

const AFTER: i64 = limits::NOTE_FAILURE_AFTER.as_secs().cast_signed() * 1_000;
const EVERY: i64 = limits::NOTE_FAILURE_EVERY.as_secs().cast_signed() * 1_000;

fn pending_since_start(memory: Memory) -> Memory {
    init(memory, ["a"]).pending_since("a", START)
}

fn failure(memory: &Memory) -> Option<(i64, u32)> {
    let LastFailure { at, failures } = memory.item("a").unwrap().last_failure?;
    Some((at.as_millisecond() - START, failures))
}

#[tokio::test]
async fn a_failure_is_noted_once_the_notification_has_been_pending_for_long_and_then_at_a_bounded_rate() {
    for guarantee in [IDEMPOTENT, Guarantee::Transactional] {
        let memory = pending_since_start(Memory::default());
        for (at, noted) in [
            (AFTER - 1, None),
            (AFTER, Some((AFTER, 1))),
            (AFTER + EVERY - 1, Some((AFTER, 1))),
            (AFTER + EVERY, Some((AFTER + EVERY, 2))),
        ] {
            let handled = handle_for(&memory, Unreachable(guarantee), &records(["a"]), at, 60_000).await;
            assert_eq!((handled.reported.len(), failure(&memory)), (1, noted), "{guarantee:?} at {at}");
        }
        let item = memory.item("a").unwrap();
        assert_eq!((item.status, item.writes), (Status::Init, 3), "{guarantee:?}");
        assert_eq!(item.reason_code, Some(ReasonCode::ReceiverUnavailable));
        assert_eq!(item.reason.unwrap(), "receiver unavailable: could not connect");
        assert_eq!(item.pending_since, Timestamp::from_millisecond(START).ok(), "it is pending since the same time");
    }
}

#[tokio::test]
async fn the_failure_of_a_transaction_is_noted_like_that_of_an_action() {
    struct Posts;
    impl Action for Posts {
        fn guarantee(&self) -> Guarantee {
            Guarantee::Transactional
        }

        async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
            let attributes = vec![("id", notification.id().to_string())];
            Ok(Effect { outcome: None, writes: vec![Put { table: "ledger".into(), key: "id", attributes }] })
        }
    }
    let denied = Failure::retryable("TransactWriteItems: AccessDeniedException");
    let refuses = move |call: &Call| (call.method == "commit").then(|| Fault::Before(denied.clone()));
    let memory = pending_since_start(Memory::failing(refuses));
    for (at, noted) in [(AFTER - 1, None), (AFTER, Some((AFTER, 1))), (AFTER + EVERY, Some((AFTER + EVERY, 2)))] {
        let handled = handle_for(&memory, Posts, &records(["a"]), at, 60_000).await;
        assert_eq!((handled.reported.len(), failure(&memory)), (1, noted), "at {at}");
    }
    let item = memory.item("a").unwrap();
    assert_eq!((item.status, item.reason_code), (Status::Init, Some(ReasonCode::Retry)));
    assert_eq!(item.reason.unwrap(), "TransactWriteItems: AccessDeniedException");
}

#[tokio::test]
async fn the_release_of_a_claim_says_why_without_another_write() {
    let memory = pending_since_start(Memory::default());
    for failures in 1..=2 {
        handle(&memory, Unreachable(AT_MOST_ONCE), &records(["a"])).await;
        assert_eq!(failure(&memory), Some((0, failures)));
    }
    let item = memory.item("a").unwrap();
    assert_eq!(
        (item.writes, item.reason_code),
        (5, Some(ReasonCode::ReceiverUnavailable)),
        "a claim and a release twice"
    );
}

#[tokio::test]
async fn a_call_for_which_no_time_is_left_is_noted() {
    for guarantee in [IDEMPOTENT, AT_MOST_ONCE] {
        let memory = pending_since_start(Memory::default());
        let less_than_a_call_may_take = 4_000;
        handle_for(&memory, Unreachable(guarantee), &records(["a"]), AFTER, less_than_a_call_may_take).await;
        let item = memory.item("a").unwrap();
        assert_eq!((failure(&memory), item.reason_code), (Some((AFTER, 1)), Some(ReasonCode::NoTime)), "{guarantee:?}");
    }
}

#[tokio::test]
async fn a_note_that_cannot_be_written_changes_nothing_for_the_record() {
    for fault in [Fault::LostReply, Fault::Before(Failure::retryable("throttled"))] {
        let faulty = move |call: &Call| (call.method == "write").then(|| fault.clone());
        let memory = pending_since_start(Memory::failing(faulty));
        let handled = handle_for(&memory, Unreachable(IDEMPOTENT), &records(["a"]), AFTER, 60_000).await;
        assert_eq!((handled.reported, status(&memory, "a")), (vec!["0".to_owned()], Status::Init));
        assert_eq!(handled.counted.into_iter().collect::<Vec<_>>(), [("Retried".to_owned(), 1)]);
        assert!(handled.lines[0].ends_with("reason=receiver unavailable: could not connect"), "{:?}", handled.lines);
    }
}

#[tokio::test]
async fn a_note_is_the_last_write_of_a_batch() {
    struct OneIsUnreachable(Guarantee);
    impl Action for OneIsUnreachable {
        fn guarantee(&self) -> Guarantee {
            self.0
        }

        async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
            match notification.id().as_str() {
                "a" => Err(ActionError::Unavailable("could not connect".to_owned())),
                "b" => Err(ActionError::Rejected("no such order".to_owned())),
                _ => Ok(Effect::default()),
            }
        }
    }
    for guarantee in [IDEMPOTENT, Guarantee::Transactional] {
        let memory = init(Memory::default(), ["a", "b", "c"]);
        handle_for(&memory, OneIsUnreachable(guarantee), &records(["a", "b", "c"]), AFTER, 60_000).await;
        let writes: Vec<_> =
            memory.calls("write").into_iter().flat_map(|call| call.changes).map(|(_, to)| to).collect();
        assert_eq!(writes, [Status::Done, Status::Failed, Status::Init], "{guarantee:?}");
    }
}

#[tokio::test]
async fn a_note_of_one_run_is_not_written_in_the_next() {
    let memory = pending_since_start(Memory::default());
    let a = memory.item("a").unwrap();
    let notification = Notification::parse(a.event).unwrap();
    let (id, event) = (notification.id(), notification.event());
    let [first, second] = [1, 2].map(|seconds| Timestamp::from_millisecond(START + seconds * 1_000).unwrap());
    let failed = Change::fail(id, event, Run::First, REJECTED);
    (&memory).write(&[failed], first).await.unwrap();
    (&memory).write(&[Change::redrive(id, first, &[])], second).await.unwrap();
    for (run, noted) in [(Run::First, None), (Run::PutBackAt(second), Some((3_000, 1)))] {
        let late = Timestamp::from_millisecond(START + 3_000).unwrap();
        (&memory).write(&[Change::note_failure(id, event, run, NOTE)], late).await.unwrap();
        assert_eq!(failure(&memory), noted, "{run:?}");
    }
}

#[tokio::test]
async fn a_rejection_is_not_noted_before_it_is_written() {
    struct Rejects;
    impl Action for Rejects {
        fn guarantee(&self) -> Guarantee {
            IDEMPOTENT
        }

        async fn run(&self, _: &Notification, _: Deadline) -> Result<Effect, ActionError> {
            Err(ActionError::Rejected("no such order".to_owned()))
        }
    }
    let memory = pending_since_start(Memory::default());
    handle_for(&memory, Rejects, &records(["a"]), AFTER, 60_000).await;
    let item = memory.item("a").unwrap();
    assert_eq!((item.status, item.writes, item.last_failure), (Status::Failed, 2, None));
    assert_eq!(item.reason_code, Some(ReasonCode::Rejected));
}
