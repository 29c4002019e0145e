//! New notifications: an insert is made only where its id is new.

use crate::items::{BEFORE, NOW, at, event, id, in_a_minute, inserted, largest_notification, notification};
use crate::world::{World, eventually};
use aws::SystemClock;
use aws_sdk_dynamodb::types::AttributeValue;
use notification::batch::{Attempts, by_count, call_in_batches};
use notification::change::Run;
use notification::ports::{Table, TableReader, Written};
use notification::reason::Note;
use notification::{Change, Claim, Failure, Notification, Outcome, Reason, ReasonCode, limits};

/// Whether an answer says that the id exists. An engine may leave out the item; the domain reads it then.
fn exists(answer: &Result<Written, Failure>) -> bool {
    matches!(answer, Ok(Written::Refused(_) | Written::RefusedUnseen))
}

#[tokio::test]
async fn a_new_notification_is_inserted_as_init_and_its_image_is_in_the_stream() {
    let world = World::new().await;
    let new = notification("a");
    assert_eq!(world.table.write(&[Change::insert(&new)], at(BEFORE)).await.unwrap(), [Ok(Written::Yes)]);
    let item = inserted(&new);
    assert_eq!(world.get("a").await, Some(item.clone()));
    assert_eq!(world.changes(["a"]).await, [[(None, Some(item))]]);
}

#[tokio::test]
async fn a_duplicate_is_refused_and_writes_nothing_whatever_its_content_and_status() {
    let world = World::new().await;
    let (old, new) = (notification("old"), notification("new"));
    let conflict = Notification::parse(event("old", "another")).unwrap();
    assert_eq!(world.table.write(&[Change::insert(&old)], at(BEFORE)).await.unwrap(), [Ok(Written::Yes)]);
    for duplicate in [&old, &conflict] {
        let stored = world.table.read(&[old.id()]).await.unwrap().remove(0).unwrap();
        match &world.table.write(&[Change::insert(duplicate)], at(NOW)).await.unwrap()[..] {
            [Ok(Written::Refused(old))] => assert_eq!(Some(old), stored.as_ref()),
            [Ok(Written::RefusedUnseen)] => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.get("old").await, Some(inserted(&old)));

    let done = Change::done(old.id(), old.event(), None);
    assert_eq!(world.table.write(&[done], at(NOW)).await.unwrap(), [Ok(Written::Yes)]);
    let answers = world.table.write(&[&old, &new].map(Change::insert), at(NOW)).await.unwrap();
    assert!(exists(&answers[0]), "{answers:?}");
    assert_eq!(answers[1], Ok(Written::Yes));
    assert_eq!(world.changes(["old"]).await[0].len(), 2, "INIT and DONE");
}

#[tokio::test]
async fn answers_are_in_the_order_of_the_statements() {
    let world = World::new().await;
    let all: Vec<_> = (0..25).map(|number| notification(&format!("n{number}"))).collect();
    let inserts: Vec<_> = all.iter().map(Change::insert).collect();
    let some: Vec<_> = inserts.iter().copied().step_by(3).collect();
    world.table.write(&some, at(BEFORE)).await.unwrap();
    let answers = world.table.write(&inserts, at(NOW)).await.unwrap();
    assert_eq!(answers.len(), limits::BATCH_EXECUTE_STATEMENT_MAX);
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(exists(answer), number % 3 == 0, "{number}: {answer:?}");
    }
}

/// The text of an event with this id, with whitespace, escapes and a number that a JSON library would rewrite.
fn unusual_event(id: &str) -> String {
    let data = r#"{"text":"\u0000\ud83d\ude00 é'?","amount":19.990000000000000000000000000000000000001}"#;
    let id = serde_json::json!(id);
    format!(r#"{{ "specversion":"1.0","id":{id},"source":"'\"?","type":"日","data":{data}}}  "#)
}

#[tokio::test]
async fn ids_and_events_are_kept_byte_for_byte_and_compared_by_their_bytes() {
    let longest = "日".repeat(limits::ID_MAX_CHARS);
    let pairs = "😀".repeat(limits::ID_MAX_CHARS / 2);
    let ids = [
        "'",
        "''",
        "\"",
        "\\",
        "?",
        "--",
        "`",
        "{}",
        "[?]",
        "a b",
        " ",
        "a ",
        "A",
        "a",
        "%",
        "é",
        "e\u{301}",
        "ﬁ",
        "\u{202e}x",
        "NULL",
        "DROP TABLE \"t\"",
        "x' OR '1'='1",
        "0",
        "00",
        &longest,
        &pairs,
    ];
    let world = World::new().await;
    let notifications = ids.map(|id| Notification::parse(unusual_event(id)).unwrap());
    for batch in notifications.chunks(limits::BATCH_EXECUTE_STATEMENT_MAX) {
        let inserts: Vec<_> = batch.iter().map(Change::insert).collect();
        let answers = world.table.write(&inserts, at(BEFORE)).await.unwrap();
        assert_eq!(answers, vec![Ok(Written::Yes); batch.len()]);
    }
    let read = world.table.read(&notifications.iter().map(Notification::id).collect::<Vec<_>>()).await.unwrap();
    for (notification, read) in notifications.iter().zip(read) {
        assert_eq!(&*read.unwrap().unwrap().event, notification.event());
        assert_eq!(world.get(notification.id().as_str()).await, Some(inserted(notification)));
        let done = Change::done(notification.id(), notification.event(), None);
        assert_eq!(world.table.write(&[done], at(NOW)).await.unwrap(), [Ok(Written::Yes)], "{}", notification.id());
    }
}

#[tokio::test]
async fn as_many_of_the_largest_notifications_as_a_lambda_payload_holds_are_inserted_by_one_call() {
    let world = World::new().await;
    let count = limits::LAMBDA_PAYLOAD_MAX_BYTES / limits::ITEM_MAX_BYTES;
    let all: Vec<_> = (0..count).map(|number| largest_notification(&format!("n{number:02}"))).collect();
    let inserts: Vec<_> = all.iter().map(Change::insert).collect();
    let (table, ranges) = (&world.table, by_count(count, limits::BATCH_EXECUTE_STATEMENT_MAX));
    let write = |batch: Vec<_>| async move { table.write(&batch, at(BEFORE)).await };
    let answers = call_in_batches(&SystemClock, in_a_minute(), Attempts::Limited, &inserts, ranges, write).await;
    assert_eq!(answers, vec![Ok(Written::Yes); count]);
    for notification in &all {
        assert_eq!(world.get(notification.id().as_str()).await, Some(inserted(notification)));
    }
}

#[tokio::test]
async fn the_largest_notification_can_take_every_change() {
    let world = World::new().await;
    let largest = largest_notification("a");
    let (a, event) = (largest.id(), largest.event());
    let claim = Claim { owner: "x".repeat(64).into(), lease_until: at(NOW) };
    let text = "x".repeat(limits::REASON_MAX_BYTES);
    let reason = Reason { code: ReasonCode::ReceiverUnavailable, text: &text };
    let note = Note { reason, failures: u32::MAX };
    let outcome = Outcome::new(&"x".repeat(limits::OUTCOME_MAX_BYTES - 2).into());
    let earlier = [at(BEFORE); limits::EARLIER_PUT_BACKS_MAX];
    assert_eq!(outcome.as_str().len(), limits::OUTCOME_MAX_BYTES);
    assert_eq!(world.table.write(&[Change::insert(&largest)], at(BEFORE)).await.unwrap(), [Ok(Written::Yes)]);
    let changes = [
        Change::note_unknown_call(a, event, note),
        Change::note_failure(a, event, Run::First, note),
        Change::doubt(a, event, reason),
        Change::resolve_retry(a, at(NOW), &earlier),
        Change::claim(a, event, &claim),
        Change::release(a, &claim, note),
        Change::fail(a, event, Run::PutBackAt(at(NOW)), reason),
        Change::redrive(a, at(NOW), &earlier),
        Change::done(a, event, Some(&outcome)),
    ];
    for change in changes {
        eventually(vec![Ok(Written::Yes)], async || world.table.write(&[change], at(NOW)).await.unwrap()).await;
    }
    // The second note says the same, so the stream does not have it.
    assert_eq!(world.changes(["a"]).await[0].len(), changes.len());
}

/// No notification can be this large.
#[tokio::test]
async fn an_item_that_would_grow_too_large_fails_permanently_and_its_neighbours_do_not() {
    let world = World::new().await;
    let small = notification("small");
    let (large_id, large_event) = (id("large"), "x".repeat(limits::ITEM_MAX_BYTES - 150));
    let mut large = inserted(&notification("large"));
    large.insert("event".to_owned(), AttributeValue::S(large_event.clone()));
    world.put([large.clone(), inserted(&small)]).await;
    let text = "a reason that is longer than the space left in the item";
    let reason = Reason { code: ReasonCode::Rejected, text };
    let changes = [
        Change::fail(&large_id, &large_event, Run::Any, reason),
        Change::fail(small.id(), small.event(), Run::Any, reason),
    ];
    let answers = world.table.write(&changes, at(NOW)).await.unwrap();
    assert!(!answers[0].as_ref().unwrap_err().kind.is_retryable(), "{answers:?}");
    assert_eq!(answers[1], Ok(Written::Yes));
    assert_eq!(world.get("large").await, Some(large));
}
