//! Idempotent actions whose receiver answers late, twice, or differently the second time.

use crate::support::{self, event, handle, handle_for, init, record, records, status};
use notification::change::{Commit, Run};
use notification::ports::{Answers, Committed, DownstreamTable, Orphan, Table, TableReader, Written};
use notification::testing::{Call, Fault, Memory, REJECTED, TestClock};
use notification::{
    Action, ActionError, Deadline, Effect, Failure, Guarantee, Notification, NotificationId, Status, Timestamp,
};
use notification::{Change, Claim, Stored};
use std::sync::Mutex;
use std::time::Duration;

const IDEMPOTENT: Guarantee = Guarantee::Idempotent { timeout: Duration::from_secs(5) };

/// A receiver that gives its answers in order, whichever call arrives.
struct Receiver(Mutex<Vec<Result<Effect, ActionError>>>);

impl Receiver {
    fn answering(answers: impl IntoIterator<Item = Result<Effect, ActionError>>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Self(Mutex::new(answers))
    }
}

impl Action for &Receiver {
    fn guarantee(&self) -> Guarantee {
        IDEMPOTENT
    }

    async fn run(&self, _: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        self.0.lock().unwrap().pop().unwrap()
    }
}

fn no_answer() -> Result<Effect, ActionError> {
    Err(ActionError::MayHaveHappened("the receiver did not answer in time".into()))
}

fn not_found() -> Result<Effect, ActionError> {
    Err(ActionError::Rejected("the receiver answered 404".into()))
}

#[tokio::test]
async fn a_rejection_is_failed_if_no_earlier_call_has_an_unknown_outcome() {
    let memory = init(Memory::default(), ["a"]);
    let surely_not = Err(ActionError::Retry("the receiver answered 429".into()));
    let receiver = Receiver::answering([surely_not, not_found()]);
    assert_eq!(handle(&memory, &receiver, &records(["a"])).await.reported, ["0"]);
    let handled = handle(&memory, &receiver, &records(["a"])).await;
    assert_eq!((handled.reported.len(), status(&memory, "a"), handled.count("Failed")), (0, Status::Failed, 1));
}

#[tokio::test]
async fn a_rejection_is_not_failed_if_an_earlier_call_may_have_succeeded() {
    let memory = init(Memory::default(), ["a"]);
    let receiver = Receiver::answering([no_answer(), not_found()]);
    assert_eq!(handle(&memory, &receiver, &records(["a"])).await.reported, ["0"]);
    assert_eq!(status(&memory, "a"), Status::Init);
    let handled = handle(&memory, &receiver, &records(["a"])).await;
    assert_eq!((handled.reported.len(), status(&memory, "a"), handled.count("InDoubt")), (0, Status::InDoubt, 1));
    assert!(memory.item("a").unwrap().reason.unwrap().contains("404"));
}

#[tokio::test]
async fn a_success_after_a_call_with_an_unknown_outcome_is_done() {
    let memory = init(Memory::default(), ["a"]);
    let receiver = Receiver::answering([no_answer(), no_answer(), Ok(Effect::default())]);
    for reported in [1, 1, 0] {
        assert_eq!(handle(&memory, &receiver, &records(["a"])).await.reported.len(), reported);
    }
    let item = memory.item("a").unwrap();
    assert_eq!((item.status, item.writes), (Status::Done, 3), "INIT, noted once however often it is tried, DONE");
}

#[tokio::test]
async fn a_success_that_meets_failed_is_counted() {
    /// While its call runs, another worker's call is rejected, and the notification becomes FAILED.
    struct Overtaken<'a>(&'a Memory);
    impl Action for Overtaken<'_> {
        fn guarantee(&self) -> Guarantee {
            IDEMPOTENT
        }

        async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
            let other = Receiver::answering([not_found()]);
            let envelope = serde_json::json!({"Records": records([notification.id().as_str()])}).to_string();
            let deadline = Deadline::at(Timestamp::from_millisecond(support::START + 60_000).unwrap());
            let worker = downstream::Downstream::new(self.0, TestClock::at_millis(support::START), &other);
            let invocation = notification::Invocation { deadline, request_id: "other".to_owned() };
            worker.handle(serde_json::from_str(&envelope).unwrap(), invocation).await.unwrap();
            Ok(Effect::default())
        }
    }
    let memory = init(Memory::default(), ["a"]);
    let handled = handle(&memory, Overtaken(&memory), &records(["a"])).await;
    assert_eq!((handled.reported.len(), status(&memory, "a"), handled.count("LateEffect")), (0, Status::Failed, 1));
}

#[tokio::test]
async fn a_record_with_other_content_than_the_table_has_is_quarantined_and_not_acted_on() {
    let memory = init(Memory::default(), ["a"]);
    let foreign = event("a").replace("\"s\"", "\"elsewhere\"");
    let receiver = Receiver::answering([Ok(Effect::default())]);
    let handled = handle(&memory, &receiver, &[record(0, &foreign), record(1, event("a"))]).await;
    assert_eq!((handled.reported.len(), status(&memory, "a")), (0, Status::Done), "our own record is acted on");
    assert_eq!(memory.item("kinesis:shardId-0:0").unwrap().raw, foreign.into_bytes());
    assert!(memory.item("kinesis:shardId-0:1").is_none());
}

/// A table whose first change waits until an action has continued.
struct SlowTable<'a> {
    memory: &'a Memory,
    gone_on: &'a Mutex<bool>,
}

impl TableReader for SlowTable<'_> {
    async fn read(&self, ids: &[&NotificationId]) -> Answers<Option<Stored>> {
        self.memory.read(ids).await
    }
}

impl Table for SlowTable<'_> {
    async fn write(&self, changes: &[Change<'_>], at: Timestamp) -> Answers<Written> {
        while !*self.gone_on.lock().unwrap() {
            tokio::task::yield_now().await;
        }
        self.memory.write(changes, at).await
    }
}

impl DownstreamTable for SlowTable<'_> {
    async fn commit(&self, group: &[Commit<'_>], at: Timestamp) -> Answers<Committed> {
        self.memory.commit(group, at).await
    }

    async fn quarantine(&self, orphan: Orphan<'_>, reason: &str, failed_at: Timestamp) -> Result<(), Failure> {
        self.memory.quarantine(orphan, reason, failed_at).await
    }
}

#[tokio::test]
async fn actions_continue_while_the_table_is_written() {
    /// `b` yields a few times, and reports when it has continued.
    struct Slow<'a>(&'a Mutex<bool>);
    impl Action for Slow<'_> {
        fn guarantee(&self) -> Guarantee {
            IDEMPOTENT
        }

        async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
            if notification.id().as_str() == "b" {
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                *self.0.lock().unwrap() = true;
            }
            Ok(Effect::default())
        }
    }
    let memory = init(Memory::default(), ["a", "b"]);
    let gone_on = Mutex::new(false);
    let table = SlowTable { memory: &memory, gone_on: &gone_on };
    let handled = handle(table, Slow(&gone_on), &records(["a", "b"])).await;
    assert_eq!(handled.reported, Vec::<String>::new());
    assert_eq!((status(&memory, "a"), status(&memory, "b")), (Status::Done, Status::Done));
}

/// Every read fails.
fn reads_fail(call: &Call) -> Option<Fault> {
    (call.method == "read").then(|| Fault::Before(Failure::retryable("down")))
}

#[tokio::test]
async fn if_the_table_cannot_be_read_no_action_runs_and_all_records_are_retried() {
    let live =
        Claim { owner: "other".into(), lease_until: Timestamp::from_millisecond(support::START + 50_000).unwrap() };
    let memory = init(Memory::failing(reads_fail), ["init", "claimed"]).with_claim("claimed", live);
    let memory = memory.with("failed", Status::Failed, &event("failed"));
    let receiver = Receiver::answering([]);
    let handled = handle(&memory, &receiver, &records(["init", "claimed", "failed", "absent"])).await;
    assert_eq!((handled.reported, handled.counted["Retried"]), (vec!["0".to_owned()], 4));
    assert_eq!(memory.calls("write").len(), 0);
}

#[tokio::test]
async fn a_call_starts_only_if_it_can_end_in_time() {
    let memory = init(Memory::default(), ["a"]);
    let receiver = Receiver::answering([Ok(Effect::default())]);
    let handled = handle_for(&memory, &receiver, &records(["a"]), 0, 7_000).await;
    assert_eq!((handled.reported.len(), memory.item("a").unwrap().unknown_call), (1, false), "it was not called");
    let handled = handle_for(&memory, &receiver, &records(["a"]), 0, 7_500).await;
    assert_eq!((handled.reported.len(), status(&memory, "a")), (0, Status::Done));
}

/// A thousand ids, of which every fiftieth is always throttled where it is written.
fn twenty_of_a_thousand_throttled() -> (Vec<String>, impl Fn(&Call) -> Option<Fault> + Send + Sync) {
    let ids: Vec<String> = (0..1000).map(|n| format!("id{n}")).collect();
    let throttled: Vec<&'static str> =
        ids.iter().step_by(50).map(|id| &*Box::leak(id.clone().into_boxed_str())).collect();
    let plan = move |call: &Call| {
        (call.method == "write").then(|| Fault::Entries(throttled.clone(), Failure::retryable("throttled")))
    };
    (ids, plan)
}

#[tokio::test]
async fn writes_that_are_throttled_until_the_deadline_delay_no_other_notification() {
    let (ids, plan) = twenty_of_a_thousand_throttled();
    let ids = || ids.iter().map(String::as_str);
    let memory = init(Memory::failing(plan), ids());
    let receiver = Receiver::answering((0..1000).map(|_| Ok(Effect::default())));
    let handled = handle(&memory, &receiver, &records(ids())).await;
    assert_eq!((handled.count("Done"), handled.count("Retried")), (980, 20));
}

#[tokio::test]
async fn expired_claims_that_cannot_be_settled_delay_no_other_call() {
    let (ids, plan) = twenty_of_a_thousand_throttled();
    let ids = || ids.iter().map(String::as_str);
    let expired = Claim { owner: "gone".into(), lease_until: Timestamp::from_millisecond(support::START - 1).unwrap() };
    let memory =
        ids().step_by(50).fold(init(Memory::failing(plan), ids()), |memory, id| memory.with_claim(id, expired.clone()));
    let receiver = Receiver::answering((0..980).map(|_| Ok(Effect::default())));
    let handled = handle(&memory, &receiver, &records(ids())).await;
    assert_eq!((handled.count("Done"), handled.count("Retried")), (980, 20));
}

#[tokio::test]
async fn a_call_with_an_unknown_outcome_that_meets_failed_is_counted() {
    /// While its call runs, the notification becomes FAILED by another worker's.
    struct Overtaken<'a>(&'a Memory);
    impl Action for Overtaken<'_> {
        fn guarantee(&self) -> Guarantee {
            IDEMPOTENT
        }

        async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
            let failed = Change::fail(notification.id(), notification.event(), Run::Any, REJECTED);
            let table = &self.0;
            table.write(&[failed], Timestamp::UNIX_EPOCH).await.unwrap();
            no_answer()
        }
    }
    let memory = init(Memory::default(), ["a"]);
    let handled = handle(&memory, Overtaken(&memory), &records(["a"])).await;
    assert_eq!((handled.reported.len(), status(&memory, "a"), handled.count("LateEffect")), (0, Status::Failed, 1));
}

#[tokio::test]
async fn a_rejection_is_not_failed_if_an_operator_has_redriven_the_notification_meanwhile() {
    /// While its call runs, the notification becomes FAILED by another worker's, and an operator redrives it.
    struct Overtaken<'a>(&'a Memory);
    impl Action for Overtaken<'_> {
        fn guarantee(&self) -> Guarantee {
            IDEMPOTENT
        }

        async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
            let (table, id) = (&self.0, notification.id());
            let failed = Change::fail(id, notification.event(), Run::First, REJECTED);
            for change in [failed, Change::redrive(id, Timestamp::UNIX_EPOCH, &[])] {
                assert_eq!(table.write(&[change], Timestamp::UNIX_EPOCH).await.unwrap(), [Ok(Written::Yes)]);
            }
            not_found()
        }
    }
    let memory = init(Memory::default(), ["a"]);
    let handled = handle(&memory, Overtaken(&memory), &records(["a"])).await;
    assert_eq!((handled.reported, status(&memory, "a")), (vec!["0".to_owned()], Status::Init));
    let receiver = Receiver::answering([Ok(Effect::default())]);
    assert_eq!(handle(&memory, &receiver, &records(["a"])).await.reported.len(), 0);
    assert_eq!(status(&memory, "a"), Status::Done);
}
