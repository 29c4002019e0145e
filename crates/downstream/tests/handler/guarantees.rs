//! Each guarantee of an action, with a crash or a lost reply at each point, against the table in memory.

use downstream::Downstream;
use notification::change::Run;
use notification::ports::{Table, Written};
use notification::testing::{Call, Fault, Memory, NOTE, REJECTED, TestClock};
use notification::{
    Action, ActionError, Deadline, Effect, Envelope, Failure, Guarantee, Invocation, Notification, Outcome, Put,
    Status, Timestamp,
};
use notification::{Change, Claim};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const START: i64 = 1_763_805_600_000;
const IDEMPOTENT: Guarantee = Guarantee::Idempotent { timeout: Duration::from_secs(5) };
const AT_MOST_ONCE: Guarantee = Guarantee::AtMostOnce { timeout: Duration::from_secs(5) };
const LEASE: i64 = START + 60_000 + 10_000;

fn event(id: &str) -> String {
    json!({"specversion": "1.0", "id": id, "source": "s", "type": "t"}).to_string()
}

fn records<'a>(ids: impl IntoIterator<Item = &'a str>) -> Value {
    let record = |(n, id): (usize, &str)| {
        let data = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, event(id));
        json!({
            "eventID": format!("shardId-0:{n}"),
            "kinesis": {"sequenceNumber": n.to_string(), "approximateArrivalTimestamp": 1.0, "data": data},
        })
    };
    json!({"Records": ids.into_iter().enumerate().map(record).collect::<Vec<_>>()})
}

fn init<'a>(memory: Memory, ids: impl IntoIterator<Item = &'a str>) -> Memory {
    ids.into_iter().fold(memory, |memory, id| memory.with(id, Status::Init, &event(id)))
}

/// An action that counts the calls that reach the receiver, and whose result depends on the id.
struct Bank {
    guarantee: Guarantee,
    calls: Mutex<Vec<String>>,
}

impl Bank {
    fn new(guarantee: Guarantee) -> Self {
        Self { guarantee, calls: Mutex::default() }
    }

    fn calls(&self, id: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| *call == id).count()
    }
}

impl Action for &Bank {
    fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        let id = notification.id().as_str();
        match id {
            "reject" => return Err(ActionError::Rejected("no such order".into())),
            "refused" => return Err(ActionError::Retry("connection refused".into())),
            _ => {}
        }
        self.calls.lock().unwrap().push(id.to_owned());
        match id {
            "lost" => Err(ActionError::MayHaveHappened("no answer".into())),
            "panic" => panic!("on purpose"),
            "hang" => std::future::pending().await,
            _ => {
                let write = Put { table: "ledger".into(), key: "id", attributes: vec![("id", id.to_owned())] };
                let writes = if self.guarantee == Guarantee::Transactional { vec![write] } else { vec![] };
                Ok(Effect { outcome: Some(Outcome::new(&json!(id))), writes })
            }
        }
    }
}

/// Handles a batch at a time, in seconds after the start, and returns the sequence numbers that are reported.
async fn handle_at(seconds: i64, memory: &Memory, bank: &Bank, batch: &Value) -> Vec<String> {
    let envelope: Envelope = serde_json::from_str(&batch.to_string()).unwrap();
    let now = START + seconds * 1_000;
    let deadline = Deadline::at(Timestamp::from_millisecond(now + 60_000).unwrap());
    let downstream = Downstream::new(memory, TestClock::at_millis(now), bank);
    let response = downstream.handle(envelope, Invocation { deadline, request_id: "r".to_owned() }).await.unwrap();
    response.identifiers().map(str::to_owned).collect()
}

async fn handle(memory: &Memory, bank: &Bank, batch: &Value) -> Vec<String> {
    handle_at(0, memory, bank, batch).await
}

fn status(memory: &Memory, id: &str) -> Status {
    memory.item(id).unwrap().status
}

/// A fault in the n-th call of a method.
fn nth(method: &'static str, n: usize, fault: Fault) -> impl Fn(&Call) -> Option<Fault> + Send + Sync {
    let seen = Mutex::new(0);
    move |call| {
        let mut seen = seen.lock().unwrap();
        *seen += usize::from(call.method == method);
        (call.method == method && *seen == n + 1).then(|| fault.clone())
    }
}

/// The process dies at the n-th call of a method: that call has this fault, and all later calls fail. The test clears
/// `is_dead` when the next process begins.
fn dies_at(
    method: &'static str,
    n: usize,
    fault: Fault,
    is_dead: &Arc<AtomicBool>,
) -> impl Fn(&Call) -> Option<Fault> + Send + Sync + use<> {
    let (nth, is_dead) = (nth(method, n, fault), Arc::clone(is_dead));
    move |call| {
        if is_dead.load(Ordering::Relaxed) {
            return Some(Fault::Hang);
        }
        let fault = nth(call)?;
        is_dead.store(true, Ordering::Relaxed);
        Some(fault)
    }
}

// ---- transactional ---------------------------------------------------------------------------------------------------

#[tokio::test]
async fn transactional_the_effect_and_done_are_written_together() {
    let (memory, bank) = (init(Memory::default(), ["a"]), Bank::new(Guarantee::Transactional));
    assert!(handle(&memory, &bank, &records(["a"])).await.is_empty());
    assert_eq!(status(&memory, "a"), Status::Done);
    assert_eq!(memory.effects().into_keys().collect::<Vec<_>>(), ["ledger/a"]);
}

#[tokio::test]
async fn transactional_a_failure_before_the_write_leaves_nothing_and_a_lost_reply_leaves_all() {
    for (fault, after) in [
        (Fault::Before(Failure::retryable("down")), (Status::Init, 0)),
        (Fault::Panic, (Status::Init, 0)),
        (Fault::LostReply, (Status::Done, 1)),
    ] {
        let is_dead = Arc::default();
        let memory = init(Memory::failing(dies_at("commit", 0, fault, &is_dead)), ["a"]);
        let bank = Bank::new(Guarantee::Transactional);
        assert_eq!(handle(&memory, &bank, &records(["a"])).await, ["0"]);
        assert_eq!((status(&memory, "a"), memory.effects().len()), after);

        is_dead.store(false, Ordering::Relaxed);
        assert!(handle(&memory, &bank, &records(["a"])).await.is_empty(), "the record is retried");
        assert_eq!((status(&memory, "a"), memory.effects().len()), (Status::Done, 1));
        assert_eq!(memory.item("a").unwrap().writes, 2, "INIT once and DONE once");
    }
}

#[tokio::test]
async fn transactional_a_refused_notification_leaves_its_group_and_the_others_are_committed() {
    for hides_old_items in [false, true] {
        let ids: Vec<_> = (0..50).map(|n| format!("id{n}")).collect();
        let ids = || ids.iter().map(String::as_str);
        let memory = init(Memory::default(), ids()).with("id7", Status::Done, &event("id7"));
        memory.hide_old_items(hides_old_items);
        let bank = Bank::new(Guarantee::Transactional);
        assert!(handle(&memory, &bank, &records(ids())).await.is_empty());
        assert!(ids().all(|id| status(&memory, id) == Status::Done));
        assert_eq!(memory.effects().len(), 49);
        assert_eq!(memory.calls("commit").len(), 2, "the group, and the group without the one");
    }
}

#[tokio::test]
async fn transactional_a_thousand_notifications_need_twenty_transactions() {
    let ids: Vec<_> = (0..1000).map(|n| format!("id{n}")).collect();
    let ids = || ids.iter().map(String::as_str);
    let (memory, bank) = (init(Memory::default(), ids()), Bank::new(Guarantee::Transactional));
    assert!(handle(&memory, &bank, &records(ids())).await.is_empty());
    assert_eq!((memory.calls("commit").len(), memory.effects().len()), (20, 1000));
}

#[tokio::test]
async fn transactional_an_effect_that_exists_already_fails_its_notification_and_is_not_doubled() {
    let (memory, bank) = (init(Memory::default(), ["a"]), Bank::new(Guarantee::Transactional));
    handle(&memory, &bank, &records(["a"])).await;
    let memory = memory.with("a", Status::Init, &event("a")); // The item expired, and upstream sent it again.
    assert!(handle(&memory, &bank, &records(["a"])).await.is_empty());
    let item = memory.item("a").unwrap();
    assert_eq!((item.status, item.reason.as_deref()), (Status::Failed, Some("an item of the effect exists already")));
    assert_eq!(memory.effects().len(), 1);
}

#[tokio::test]
async fn transactional_a_rejection_fails_its_notification_and_no_other() {
    let (memory, bank) = (init(Memory::default(), ["a", "reject"]), Bank::new(Guarantee::Transactional));
    assert!(handle(&memory, &bank, &records(["a", "reject"])).await.is_empty());
    assert_eq!((status(&memory, "a"), status(&memory, "reject")), (Status::Done, Status::Failed));
}

/// An action that is overtaken during its first run: another worker's rejection is written, and an operator redrives the notification.
/// From then on, nothing is rejected.
struct OvertakenAtFirst<'a> {
    memory: &'a Memory,
    is_overtaken: AtomicBool,
}

impl Action for OvertakenAtFirst<'_> {
    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }

    async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        if self.is_overtaken.swap(true, Ordering::Relaxed) {
            return Ok(Effect::default());
        }
        let (id, at) = (notification.id(), Timestamp::from_second(1).unwrap());
        let failed = Change::fail(id, notification.event(), Run::First, REJECTED);
        for change in [failed, Change::redrive(id, at, &[])] {
            assert_eq!((&self.memory).write(&[change], at).await.unwrap(), [Ok(Written::Yes)]);
        }
        Err(ActionError::Rejected("no such order".into()))
    }
}

#[tokio::test]
async fn transactional_a_rejection_from_before_a_redrive_is_not_written_after_it() {
    let memory = init(Memory::default(), ["a"]);
    let action = OvertakenAtFirst { memory: &memory, is_overtaken: AtomicBool::new(false) };
    let deadline = Deadline::at(Timestamp::from_millisecond(START + 60_000).unwrap());
    let downstream = Downstream::new(&memory, TestClock::at_millis(START), action);
    let envelope: Envelope = serde_json::from_str(&records(["a"]).to_string()).unwrap();
    downstream.handle(envelope, Invocation { deadline, request_id: "r".to_owned() }).await.unwrap();
    assert_eq!(status(&memory, "a"), Status::Done);
}

// ---- idempotent ------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn idempotent_a_crash_between_call_and_done_repeats_the_call_under_the_same_id() {
    let is_dead = Arc::default();
    let crash = dies_at("write", 0, Fault::Before(Failure::retryable("crash")), &is_dead);
    let memory = init(Memory::failing(crash), ["a"]);
    let bank = Bank::new(IDEMPOTENT);
    assert_eq!(handle(&memory, &bank, &records(["a"])).await, ["0"]);
    is_dead.store(false, Ordering::Relaxed);
    assert!(handle(&memory, &bank, &records(["a"])).await.is_empty());
    assert_eq!((status(&memory, "a"), bank.calls("a")), (Status::Done, 2));
}

#[tokio::test]
async fn idempotent_a_settled_notification_is_not_run_again() {
    for settled in [Status::Done, Status::Failed, Status::InDoubt] {
        let memory = init(Memory::default(), ["b"]).with("a", settled, &event("a"));
        let bank = Bank::new(IDEMPOTENT);
        assert!(handle(&memory, &bank, &records(["a", "b"])).await.is_empty());
        assert_eq!((bank.calls("a"), bank.calls("b")), (0, 1));
        assert_eq!(memory.calls("read").len(), 1, "one read for the whole batch");
    }
}

#[tokio::test]
async fn idempotent_an_orphan_is_quarantined_and_not_run() {
    let (memory, bank) = (Memory::default(), Bank::new(IDEMPOTENT));
    assert!(handle(&memory, &bank, &records(["foreign"])).await.is_empty());
    assert_eq!((bank.calls("foreign"), memory.item("kinesis:shardId-0:0").unwrap().status), (0, Status::Failed));
}

#[tokio::test]
async fn idempotent_a_hanging_action_delays_no_other_done() {
    let (memory, bank) = (init(Memory::default(), ["a", "hang", "b"]), Bank::new(IDEMPOTENT));
    assert_eq!(handle(&memory, &bank, &records(["a", "hang", "b"])).await, ["1"]);
    assert_eq!(
        (status(&memory, "a"), status(&memory, "hang"), status(&memory, "b")),
        (Status::Done, Status::Init, Status::Done)
    );
}

#[tokio::test]
async fn idempotent_a_call_whose_answer_was_lost_is_retried() {
    let (memory, bank) = (init(Memory::default(), ["lost"]), Bank::new(IDEMPOTENT));
    assert_eq!(handle(&memory, &bank, &records(["lost"])).await, ["0"]);
    assert_eq!(status(&memory, "lost"), Status::Init);
}

// ---- at most once ----------------------------------------------------------------------------------------------------

fn at_most_once() -> Bank {
    Bank::new(AT_MOST_ONCE)
}

#[tokio::test]
async fn at_most_once_claims_then_calls_then_done() {
    let (memory, bank) = (init(Memory::default(), ["a"]), at_most_once());
    assert!(handle(&memory, &bank, &records(["a"])).await.is_empty());
    let item = memory.item("a").unwrap();
    assert_eq!((item.status, item.claim, item.writes, bank.calls("a")), (Status::Done, None, 3, 1));
}

#[tokio::test]
async fn at_most_once_a_crash_before_the_claim_leaves_init_and_the_repeat_runs_it() {
    let memory = init(Memory::failing(nth("write", 0, Fault::Before(Failure::retryable("crash")))), ["a"]);
    let bank = at_most_once();
    assert_eq!(handle(&memory, &bank, &records(["a"])).await, ["0"]);
    assert_eq!((status(&memory, "a"), bank.calls("a")), (Status::Init, 0));
    assert!(handle(&memory, &bank, &records(["a"])).await.is_empty());
    assert_eq!((status(&memory, "a"), bank.calls("a")), (Status::Done, 1));
}

#[tokio::test]
async fn at_most_once_a_crash_between_claim_and_done_is_in_doubt_when_the_claim_has_expired_and_never_runs_again() {
    // The claim is written and its reply lost: the process could have died there, or anywhere until DONE.
    for fault in [Fault::LostReply, Fault::Hang] {
        let n = usize::from(matches!(fault, Fault::Hang)); // In the claim, or in the DONE after the call.
        let is_dead = Arc::default();
        let memory = init(Memory::failing(dies_at("write", n, fault, &is_dead)), ["a"]);
        let bank = at_most_once();
        assert_eq!(handle(&memory, &bank, &records(["a"])).await, ["0"]);
        is_dead.store(false, Ordering::Relaxed);
        let calls = bank.calls("a");
        assert_eq!(status(&memory, "a"), Status::Claimed);

        assert_eq!(handle_at(60, &memory, &bank, &records(["a"])).await, ["0"], "the claim has not expired yet");
        assert_eq!(status(&memory, "a"), Status::Claimed);
        assert!(handle_at(70, &memory, &bank, &records(["a"])).await.is_empty(), "the claim has expired");
        assert_eq!(status(&memory, "a"), Status::InDoubt);
        assert!(handle_at(80, &memory, &bank, &records(["a"])).await.is_empty());
        assert_eq!((status(&memory, "a"), bank.calls("a")), (Status::InDoubt, calls));
    }
}

#[tokio::test]
async fn at_most_once_a_call_that_may_have_happened_is_in_doubt_at_once() {
    for id in ["lost", "panic", "hang"] {
        let (memory, bank) = (init(Memory::default(), [id, "a"]), at_most_once());
        assert!(handle(&memory, &bank, &records([id, "a"])).await.is_empty(), "{id}");
        assert_eq!((status(&memory, id), bank.calls(id)), (Status::InDoubt, 1), "{id}");
        assert_eq!(status(&memory, "a"), Status::Done);
        handle_at(100, &memory, &bank, &records([id])).await;
        assert_eq!(bank.calls(id), 1, "{id} is never called again");
    }
}

#[tokio::test]
async fn at_most_once_a_call_that_did_not_happen_releases_the_claim() {
    let (memory, bank) = (init(Memory::default(), ["refused"]), at_most_once());
    assert_eq!(handle(&memory, &bank, &records(["refused"])).await, ["0"]);
    let item = memory.item("refused").unwrap();
    assert_eq!((item.status, item.claim), (Status::Init, None));
}

#[tokio::test]
async fn at_most_once_a_done_whose_reply_was_lost_is_done_and_not_in_doubt() {
    let is_dead = Arc::default();
    let memory = init(Memory::failing(dies_at("write", 1, Fault::LostReply, &is_dead)), ["a"]);
    let bank = at_most_once();
    assert_eq!(handle(&memory, &bank, &records(["a"])).await, ["0"]);
    is_dead.store(false, Ordering::Relaxed);
    assert!(handle(&memory, &bank, &records(["a"])).await.is_empty());
    assert_eq!((status(&memory, "a"), bank.calls("a")), (Status::Done, 1));
}

#[tokio::test]
async fn a_lost_reply_is_recognised_and_nothing_is_retried() {
    for guarantee in [Guarantee::Transactional, IDEMPOTENT, AT_MOST_ONCE] {
        for (method, n) in [("write", 0), ("write", 1), ("commit", 0)] {
            for fault in [Fault::LostReply, Fault::Repeated] {
                let case = format!("{guarantee:?}: {fault:?} in {method} {n}");
                let memory = init(Memory::failing(nth(method, n, fault)), ["a"]);
                let bank = Bank::new(guarantee);
                assert!(handle(&memory, &bank, &records(["a"])).await.is_empty(), "{case}");
                assert_eq!((status(&memory, "a"), bank.calls("a")), (Status::Done, 1), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn at_most_once_a_rejection_is_failed() {
    let (memory, bank) = (init(Memory::default(), ["reject"]), at_most_once());
    assert!(handle(&memory, &bank, &records(["reject"])).await.is_empty());
    assert_eq!(status(&memory, "reject"), Status::Failed);
}

#[tokio::test]
async fn at_most_once_a_valid_claim_of_another_worker_is_left_alone() {
    let theirs = Claim { owner: "other".into(), lease_until: Timestamp::from_millisecond(LEASE).unwrap() };
    let memory = init(Memory::default(), ["a"]).with_claim("a", theirs.clone());
    let bank = at_most_once();
    assert_eq!(handle(&memory, &bank, &records(["a"])).await, ["0"]);
    assert_eq!((memory.item("a").unwrap().claim, bank.calls("a")), (Some(theirs), 0));
}

#[tokio::test]
async fn at_most_once_done_is_fenced_by_the_claim() {
    /// While it runs, its claim expires and another worker makes the notification IN_DOUBT.
    struct Slow<'a>(&'a Memory);
    impl Action for Slow<'_> {
        fn guarantee(&self) -> Guarantee {
            AT_MOST_ONCE
        }

        async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
            let bank = at_most_once();
            handle_at(100, self.0, &bank, &records([notification.id().as_str()])).await;
            Ok(Effect::default())
        }
    }
    let memory = init(Memory::default(), ["a"]);
    let envelope: Envelope = serde_json::from_str(&records(["a"]).to_string()).unwrap();
    let deadline = Deadline::at(Timestamp::from_millisecond(START + 60_000).unwrap());
    let downstream = Downstream::new(&memory, TestClock::at_millis(START), Slow(&memory));
    let response = downstream.handle(envelope, Invocation { deadline, request_id: "r".to_owned() }).await.unwrap();
    assert_eq!(response.identifiers().count(), 0);
    assert_eq!(status(&memory, "a"), Status::InDoubt, "not DONE over what another has decided");
}

#[tokio::test]
async fn at_most_once_if_another_worker_has_claimed_in_between_the_record_is_retried() {
    /// While its claim is released, the reply is lost and another worker claims: the repeat of the write finds that.
    struct Overtaken<'a>(&'a Memory);
    impl Action for Overtaken<'_> {
        fn guarantee(&self) -> Guarantee {
            AT_MOST_ONCE
        }

        async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
            let mine = self.0.item(notification.id().as_str()).unwrap().claim.unwrap();
            let theirs = Claim { owner: "another".into(), ..mine.clone() };
            let id = notification.id();
            let table = &self.0;
            for change in [Change::release(id, &mine, NOTE), Change::claim(id, notification.event(), &theirs)] {
                table.write(&[change], Timestamp::UNIX_EPOCH).await.unwrap();
            }
            Err(ActionError::Retry("connection refused".into()))
        }
    }
    let memory = init(Memory::default(), ["a"]);
    let envelope: Envelope = serde_json::from_str(&records(["a"]).to_string()).unwrap();
    let deadline = Deadline::at(Timestamp::from_millisecond(START + 60_000).unwrap());
    let downstream = Downstream::new(&memory, TestClock::at_millis(START), Overtaken(&memory));
    let response = downstream.handle(envelope, Invocation { deadline, request_id: "r".to_owned() }).await.unwrap();
    assert_eq!(response.identifiers().collect::<Vec<_>>(), ["0"], "it is not settled: it is CLAIMED");
}
