//! Poison: quarantined once, at a bounded cost, and never at the expense of a valid notification.

use crate::support::{START, event, handle, init, record, records, status};
use notification::ports::Table;
use notification::testing::{Fault, Memory, NOTE};
use notification::{
    Action, ActionError, Deadline, Effect, Failure, Guarantee, MarkDone, Notification, NotificationId, Put, Status,
    Timestamp, limits,
};
use notification::{Change, Claim};
use std::time::Duration;

const IDEMPOTENT: Guarantee = Guarantee::Idempotent { timeout: Duration::from_secs(5) };
const AT_MOST_ONCE: Guarantee = Guarantee::AtMostOnce { timeout: Duration::from_secs(5) };

/// An action that rejects everything.
struct Rejecting;

impl Action for Rejecting {
    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }

    async fn run(&self, _: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        Err(ActionError::Rejected("no such order".into()))
    }
}

#[tokio::test]
async fn a_thousand_rejections_need_forty_writes() {
    let ids: Vec<String> = (0..1000).map(|n| format!("id{n}")).collect();
    let ids = || ids.iter().map(String::as_str);
    let memory = init(Memory::default(), ids());
    let handled = handle(&memory, Rejecting, &records(ids())).await;
    assert_eq!((handled.reported.len(), handled.count("Failed")), (0, 1000));
    assert_eq!(memory.calls("write").len(), 40);
}

#[tokio::test]
async fn a_throttled_write_of_failed_is_repeated_as_often_as_any_write() {
    let throttled = |call: &notification::testing::Call| {
        (call.method == "write").then(|| Fault::Entries(vec!["a"], Failure::retryable("throttled")))
    };
    let memory = init(Memory::failing(throttled), ["a"]);
    let handled = handle(&memory, Rejecting, &records(["a"])).await;
    assert_eq!(handled.reported, ["0"]);
    assert_eq!(memory.calls("write").len(), usize::try_from(limits::ENTRY_ATTEMPTS).unwrap());
}

#[tokio::test]
async fn a_write_that_the_table_refuses_never_makes_a_notification_an_orphan() {
    let invalid = |call: &notification::testing::Call| {
        (call.method == "write").then(|| Fault::Entries(vec!["a"], Failure::permanent("ValidationError")))
    };
    let memory = init(Memory::failing(invalid), ["a"]);
    let handled = handle(&memory, MarkDone, &records(["a"])).await;
    assert_eq!(handled.reported, ["0"], "it is retried, and stays pending where it is seen");
    assert_eq!((status(&memory, "a"), memory.items().len()), (Status::Init, 1));
}

#[tokio::test]
async fn a_failed_notification_is_counted_although_the_reply_to_its_write_was_lost() {
    let memory = Memory::failing(|call| (call.method == "write").then_some(Fault::LostReply));
    let memory = init(memory, ["a"]);
    let handled = handle(&memory, Rejecting, &records(["a"])).await;
    assert_eq!((handled.reported.len(), handled.count("Failed"), handled.count("Repeated")), (0, 1, 0));
    assert_eq!(status(&memory, "a"), Status::Failed);
}

#[tokio::test]
async fn a_malformed_record_under_a_known_id_is_quarantined_and_its_notification_is_left_alone() {
    let memory = init(Memory::default(), ["a"]);
    let handled = handle(&memory, MarkDone, &[record(0, br#"{"id":"a"}"#), record(1, event("a"))]).await;
    assert_eq!((handled.reported.len(), status(&memory, "a")), (0, Status::Done));
    let orphan = memory.item("kinesis:shardId-0:0").unwrap();
    assert_eq!((orphan.status, orphan.raw), (Status::Failed, br#"{"id":"a"}"#.to_vec()));
    assert!(orphan.reason.unwrap().contains("specversion"));
}

#[tokio::test]
async fn a_notification_whose_own_event_is_malformed_is_failed() {
    let memory = Memory::default().with("a", Status::Init, r#"{"id":"a"}"#);
    let handled = handle(&memory, MarkDone, &[record(0, br#"{"id":"a"}"#)]).await;
    assert_eq!((handled.reported.len(), status(&memory, "a"), memory.items().len()), (0, Status::Failed, 1));
}

#[tokio::test]
async fn a_record_with_another_event_than_the_table_has_never_makes_a_notification_done() {
    let memory = init(Memory::default(), ["a"]);
    let foreign = event("a").replace("\"s\"", "\"elsewhere\"");
    let handled = handle(&memory, MarkDone, &[record(0, &foreign)]).await;
    assert_eq!((handled.reported.len(), status(&memory, "a")), (0, Status::Init));
    assert_eq!(memory.item("kinesis:shardId-0:0").unwrap().raw, foreign.into_bytes());
}

#[tokio::test]
async fn an_effect_is_never_written_for_other_content_than_the_table_has() {
    struct Paying;
    impl Action for Paying {
        fn guarantee(&self) -> Guarantee {
            Guarantee::Transactional
        }

        async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
            let attributes = vec![("id", notification.id().to_string()), ("source", notification.source().to_owned())];
            Ok(Effect { outcome: None, writes: vec![Put { table: "ledger".into(), key: "id", attributes }] })
        }
    }
    let memory = init(Memory::default(), ["a"]);
    let foreign = event("a").replace("\"s\"", "\"elsewhere\"");
    let handled = handle(&memory, Paying, &[record(0, &foreign), record(1, event("a"))]).await;
    assert_eq!((handled.reported.len(), status(&memory, "a")), (0, Status::Done));
    assert_eq!(memory.effects()["ledger/a"][1], ("source", "s".to_owned()));
    assert_eq!(memory.item("kinesis:shardId-0:0").unwrap().raw, foreign.into_bytes());
}

/// An action that rejects events from elsewhere.
struct RejectingElsewhere(Guarantee);

impl Action for RejectingElsewhere {
    fn guarantee(&self) -> Guarantee {
        self.0
    }

    async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        match notification.source() {
            "elsewhere" => Err(ActionError::Rejected("no such order".into())),
            _ => Ok(Effect::default()),
        }
    }
}

#[tokio::test]
async fn an_orphan_fails_no_notification_even_if_the_action_rejects_it() {
    for guarantee in [Guarantee::Transactional, IDEMPOTENT, AT_MOST_ONCE] {
        let memory = init(Memory::default(), ["a"]);
        let foreign = event("a").replace("\"s\"", "\"elsewhere\"");
        let batch = [record(0, &foreign), record(1, event("a"))];
        let handled = handle(&memory, RejectingElsewhere(guarantee), &batch).await;
        assert_eq!((handled.reported.len(), status(&memory, "a")), (0, Status::Done), "{guarantee:?}");
        assert_eq!(memory.item("kinesis:shardId-0:0").unwrap().raw, foreign.into_bytes(), "{guarantee:?}");
    }
}

/// As an older version may have accepted it.
const MALFORMED: &str = r#"{"specversion":"1.0","id":"a","source":"s","type":"t","time":"2026-11-22T10Z"}"#;

#[tokio::test]
async fn a_notification_whose_own_event_is_malformed_is_in_doubt_if_a_call_may_have_succeeded() {
    let expired = Claim { owner: "gone".into(), lease_until: Timestamp::from_millisecond(START - 1).unwrap() };
    let claimed = Memory::default().with("a", Status::Init, MALFORMED).with_claim("a", expired);
    let called = Memory::default().with("a", Status::Init, MALFORMED);
    let id = NotificationId::parse("a").unwrap();
    (&called).write(&[Change::note_unknown_call(&id, MALFORMED, NOTE)], Timestamp::UNIX_EPOCH).await.unwrap();
    for memory in [claimed, called] {
        let handled = handle(&memory, MarkDone, &[record(0, MALFORMED)]).await;
        assert_eq!((handled.reported.len(), handled.count("InDoubt")), (0, 1));
        assert_eq!(status(&memory, "a"), Status::InDoubt);
    }
}

#[tokio::test]
async fn a_thousand_expired_claims_need_forty_writes() {
    let expired = Claim { owner: "gone".into(), lease_until: Timestamp::from_millisecond(START - 1).unwrap() };
    let ids: Vec<String> = (0..1000).map(|n| format!("id{n}")).collect();
    let ids = || ids.iter().map(String::as_str);
    let memory = ids().fold(init(Memory::default(), ids()), |memory, id| memory.with_claim(id, expired.clone()));
    let handled = handle(&memory, RejectingElsewhere(IDEMPOTENT), &records(ids())).await;
    assert_eq!((handled.reported.len(), handled.count("InDoubt")), (0, 1000));
    assert_eq!(memory.calls("write").len(), 40);
}

#[tokio::test]
async fn only_a_rejection_that_meets_a_call_with_an_unknown_outcome_is_written_a_second_time() {
    let expired = Claim { owner: "gone".into(), lease_until: Timestamp::from_millisecond(START - 1).unwrap() };
    let memory = init(Memory::default(), ["a", "b", "c"]).with_claim("c", expired);
    let (id, event_of_b) = (NotificationId::parse("b").unwrap(), event("b"));
    (&memory).write(&[Change::note_unknown_call(&id, &event_of_b, NOTE)], Timestamp::UNIX_EPOCH).await.unwrap();
    let handled = handle(&memory, Rejecting, &records(["a", "b", "c"])).await;
    assert_eq!((handled.reported.len(), handled.count("Failed"), handled.count("InDoubt")), (0, 1, 2));
    assert_eq!(["a", "b", "c"].map(|id| status(&memory, id)), [Status::Failed, Status::InDoubt, Status::InDoubt]);
    let written: Vec<_> = memory.calls("write").into_iter().skip(1).map(|call| call.ids).collect();
    assert_eq!(written, [vec!["c", "a", "b"], vec!["b"]], "the read showed that the claim of c has expired");
}

#[tokio::test]
async fn a_claim_that_cannot_be_read_is_in_doubt() {
    let memory = Memory::default().with("a", Status::Claimed, &event("a"));
    let handled = handle(&memory, MarkDone, &records(["a"])).await;
    assert_eq!((handled.reported.len(), status(&memory, "a")), (0, Status::InDoubt));
}
