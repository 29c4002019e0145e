//! At-most-once actions with a long backlog, with a slow table, and with a deployment while a claim is held.

use crate::support::{START, handle, handle_for, init, records, status};
use notification::ports::Table;
use notification::testing::{Call, Fault, Memory, REJECTED};
use notification::{Action, ActionError, Deadline, Effect, Failure, Guarantee, Notification, Status, Timestamp};
use notification::{Change, Claim};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// An action that counts its calls.
struct Counted {
    guarantee: Guarantee,
    calls: Mutex<usize>,
}

const IDEMPOTENT: Guarantee = Guarantee::Idempotent { timeout: Duration::from_secs(5) };
const AT_MOST_ONCE: Guarantee = Guarantee::AtMostOnce { timeout: Duration::from_secs(5) };

impl Counted {
    fn new(guarantee: Guarantee) -> Self {
        Self { guarantee, calls: Mutex::new(0) }
    }

    fn calls(&self) -> usize {
        *self.calls.lock().unwrap()
    }
}

impl Action for &Counted {
    fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    async fn run(&self, _: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        *self.calls.lock().unwrap() += 1;
        Ok(Effect::default())
    }
}

#[tokio::test]
async fn a_call_starts_only_if_it_can_end_in_time() {
    let memory = init(Memory::default(), ["a"]).pending_since("a", START);
    let bank = Counted::new(AT_MOST_ONCE);
    // The call may take 5 s, and 2 s are reserved for writing its outcome.
    let handled = handle_for(&memory, &bank, &records(["a"]), 0, 7_000).await;
    assert_eq!((handled.reported, bank.calls()), (vec!["0".to_owned()], 0));
    assert_eq!((status(&memory, "a"), memory.item("a").unwrap().writes), (Status::Init, 1), "it is not even claimed");

    let handled = handle_for(&memory, &bank, &records(["a"]), 0, 7_500).await;
    assert_eq!((handled.reported, bank.calls()), (vec![], 1));
    assert_eq!(status(&memory, "a"), Status::Done);
}

#[tokio::test]
async fn a_claim_that_may_have_been_written_is_released() {
    // The reply to the claim is lost, the SDK repeats it, the claim's own result refuses the repeat, and the read that would
    // show that fails.
    let memory = Memory::failing(|call| match call.number {
        1 => Some(Fault::Repeated),
        2 => Some(Fault::Before(Failure::retryable("down"))),
        _ => None,
    });
    memory.hide_old_items(true);
    let (memory, bank) = (init(memory, ["a"]), Counted::new(AT_MOST_ONCE));
    let handled = handle(&memory, &bank, &records(["a"])).await;
    assert_eq!((handled.reported, bank.calls()), (vec!["0".to_owned()], 0));
    assert_eq!(status(&memory, "a"), Status::Init);
}

/// An action whose calls have no answer.
struct Unanswered;

impl Action for Unanswered {
    fn guarantee(&self) -> Guarantee {
        AT_MOST_ONCE
    }

    async fn run(&self, _: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        Err(ActionError::MayHaveHappened("no answer".to_owned()))
    }
}

/// The reply to the change after the claim is lost, and all reads that would show it fail.
fn nothing_comes_back(call: &Call) -> Option<Fault> {
    match (call.method, call.number) {
        ("write", 2) => Some(Fault::LostReply),
        ("read", 3..=10) => Some(Fault::Before(Failure::retryable("down"))),
        _ => None,
    }
}

#[tokio::test]
async fn in_doubt_is_counted_although_neither_the_reply_to_its_write_nor_a_read_came() {
    let memory = init(Memory::failing(nothing_comes_back), ["a"]);
    let handled = handle(&memory, Unanswered, &records(["a"])).await;
    assert_eq!((status(&memory, "a"), handled.reported.len()), (Status::InDoubt, 0));
    assert_eq!((handled.count("InDoubt"), handled.count("Repeated")), (1, 0));
}

/// An action whose calls have no answer. While each runs, somebody else settles its notification, as FAILED or IN_DOUBT.
struct Overtaken<'a> {
    memory: &'a Memory,
    status: Status,
    /// How long before the claim expires.
    before_expiry: Duration,
}

impl Action for Overtaken<'_> {
    fn guarantee(&self) -> Guarantee {
        AT_MOST_ONCE
    }

    async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        let id = notification.id();
        let claim = self.memory.item(id.as_str()).unwrap().claim.unwrap();
        let change = match self.status {
            Status::Failed => Change::fail_claimed(id, &claim, REJECTED),
            _ => Change::doubt_claimed(id, &claim, REJECTED),
        };
        (&self.memory).write(&[change], claim.lease_until - self.before_expiry).await.unwrap();
        Err(ActionError::MayHaveHappened("no answer".to_owned()))
    }
}

#[tokio::test]
async fn what_another_worker_wrote_is_not_counted_as_ones_own() {
    let second = Duration::from_secs(1);
    for (status, before_expiry, own, other) in [
        // Nobody else writes before the claim expires: an earlier attempt did.
        (Status::InDoubt, second, 1, "Repeated"),
        (Status::InDoubt, Duration::ZERO, 0, "Repeated"),
        (Status::Failed, second, 0, "LateEffect"),
    ] {
        let memory = init(Memory::failing(throttled(2..10)), ["a"]);
        let handled = handle(&memory, Overtaken { memory: &memory, status, before_expiry }, &records(["a"])).await;
        assert_eq!((handled.count("InDoubt"), handled.count(other)), (own, 1 - own), "{status} {before_expiry:?}");
    }
}

fn claim(lease_until: i64) -> Claim {
    Claim { owner: "gone".into(), lease_until: Timestamp::from_millisecond(lease_until).unwrap() }
}

#[tokio::test]
async fn an_expired_claim_is_in_doubt_whatever_guarantee_the_action_has_by_then() {
    for guarantee in [Guarantee::Transactional, IDEMPOTENT, AT_MOST_ONCE] {
        let memory = init(Memory::default(), ["a"]).with_claim("a", claim(START - 1));
        let bank = Counted::new(guarantee);
        let handled = handle(&memory, &bank, &records(["a"])).await;
        assert_eq!(handled.reported, Vec::<String>::new(), "{guarantee:?}");
        assert_eq!((status(&memory, "a"), handled.count("InDoubt")), (Status::InDoubt, 1), "{guarantee:?}");
        if guarantee != Guarantee::Transactional {
            assert_eq!(bank.calls(), 0, "{guarantee:?}");
        }
    }
}

#[tokio::test]
async fn a_valid_claim_is_left_to_its_worker_whatever_guarantee_the_action_has_by_then() {
    for guarantee in [Guarantee::Transactional, IDEMPOTENT, AT_MOST_ONCE] {
        let memory = init(Memory::default(), ["a"]).with_claim("a", claim(START + 1_000));
        let bank = Counted::new(guarantee);
        let handled = handle(&memory, &bank, &records(["a"])).await;
        assert_eq!((handled.reported, status(&memory, "a")), (vec!["0".to_owned()], Status::Claimed), "{guarantee:?}");
        if guarantee != Guarantee::Transactional {
            assert_eq!(bank.calls(), 0, "{guarantee:?}");
        }
    }
}

/// Some of the writes are throttled as a whole. The claim is number 0.
fn throttled(writes: Range<usize>) -> impl Fn(&Call) -> Option<Fault> + Send + Sync {
    let seen = AtomicUsize::new(0);
    move |call| {
        let is_hit = call.method == "write" && writes.contains(&seen.fetch_add(1, Ordering::Relaxed));
        is_hit.then(|| Fault::Before(Failure::retryable("throttled")))
    }
}

#[tokio::test]
async fn a_done_that_is_throttled_is_tried_until_the_deadline() {
    let (memory, bank) = (init(Memory::failing(throttled(1..21)), ["a"]), Counted::new(AT_MOST_ONCE));
    let handled = handle(&memory, &bank, &records(["a"])).await;
    assert_eq!((handled.reported, status(&memory, "a"), bank.calls()), (vec![], Status::Done, 1));
}

#[tokio::test]
async fn a_notification_that_became_in_doubt_is_counted_although_the_reply_to_its_write_was_lost() {
    let changes = Mutex::new(0);
    let second_change = move |call: &Call| {
        let mut changes = changes.lock().unwrap();
        *changes += usize::from(call.method == "write");
        (call.method == "write" && *changes == 2).then_some(Fault::LostReply)
    };
    let memory = init(Memory::failing(second_change), ["a"]);
    let handled = handle(&memory, Unanswered, &records(["a"])).await;
    assert_eq!((handled.reported.len(), handled.count("InDoubt"), handled.count("Repeated")), (0, 1, 0));
    assert_eq!(status(&memory, "a"), Status::InDoubt);
}

#[tokio::test]
async fn an_expired_claim_is_counted_although_the_reply_to_its_write_was_lost() {
    let every_change = |call: &Call| (call.method == "write").then_some(Fault::LostReply);
    let memory = init(Memory::failing(every_change), ["a"]).with_claim("a", claim(START - 1));
    let handled = handle(&memory, &Counted::new(AT_MOST_ONCE), &records(["a"])).await;
    assert_eq!((handled.reported.len(), handled.count("InDoubt"), handled.count("Repeated")), (0, 1, 0));
}

#[tokio::test]
async fn a_claim_whose_reply_was_lost_is_released_because_no_call_was_made() {
    let lost = |call: &Call| match (call.method, call.number) {
        ("write", 1) => Some(Fault::LostReply),
        // A read cannot show whether the claim was made either.
        ("read", 2) => Some(Fault::Before(Failure::retryable("down"))),
        _ => None,
    };
    let (memory, bank) = (init(Memory::failing(lost), ["a"]), Counted::new(AT_MOST_ONCE));
    let handled = handle(&memory, &bank, &records(["a"])).await;
    assert_eq!((handled.reported.len(), status(&memory, "a"), bank.calls()), (1, Status::Init, 0));
    let handled = handle_for(&memory, &bank, &records(["a"]), 1_000, 60_000).await;
    assert_eq!((handled.reported.len(), status(&memory, "a"), bank.calls()), (0, Status::Done, 1));
}

#[tokio::test]
async fn a_done_that_is_throttled_until_the_deadline_delays_no_other_notification() {
    let ids: Vec<String> = (0..100).map(|n| format!("id{n}")).collect();
    let ids = || ids.iter().map(String::as_str);
    let changes = Mutex::new(0);
    let throttled = move |call: &Call| {
        let is_of_it = call.method == "write" && call.ids.contains(&"id0".to_owned());
        let mut changes = changes.lock().unwrap();
        *changes += usize::from(is_of_it);
        (is_of_it && *changes > 1).then(|| Fault::Entries(vec!["id0"], Failure::retryable("throttled")))
    };
    let (memory, bank) = (init(Memory::failing(throttled), ids()), Counted::new(AT_MOST_ONCE));
    let handled = handle(&memory, &bank, &records(ids())).await;
    assert_eq!((handled.count("Done"), handled.count("Retried"), bank.calls()), (99, 1, 100));
    assert_eq!(status(&memory, "id0"), Status::Claimed, "it becomes IN_DOUBT when its claim has expired");
}

#[tokio::test]
async fn a_call_that_ends_after_its_notification_was_moved_back_to_init_is_in_doubt_and_not_repeated() {
    /// While it runs, its claim expires, and an operator decides that it did not happen.
    struct Slow<'a>(&'a Memory);
    impl Action for Slow<'_> {
        fn guarantee(&self) -> Guarantee {
            AT_MOST_ONCE
        }

        async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
            let (table, id) = (&self.0, notification.id());
            let claim = self.0.item(id.as_str()).unwrap().claim.unwrap();
            for change in
                [Change::doubt_claimed(id, &claim, REJECTED), Change::resolve_retry(id, Timestamp::UNIX_EPOCH, &[])]
            {
                table.write(&[change], Timestamp::UNIX_EPOCH).await.unwrap();
            }
            Ok(Effect::default())
        }
    }
    let memory = init(Memory::default(), ["a"]);
    let handled = handle(&memory, Slow(&memory), &records(["a"])).await;
    assert_eq!((handled.reported.len(), status(&memory, "a"), handled.count("InDoubt")), (0, Status::InDoubt, 1));
}
