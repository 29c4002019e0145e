//! New notifications: the put that is made only where the id is new.

use crate::items::{BEFORE, NOW, at, event, id, in_a_minute, inserted, largest_notification, notification};
use crate::world::{World, settles_at};
use aws::SystemClock;
use aws_sdk_dynamodb::types::AttributeValue;
use notification::batch::{by_count, call_in_batches};
use notification::change::{After, Before};
use notification::ports::{Table, TableReader, Written};
use notification::{Change, Claim};
use notification::{Notification, Outcome, Status, limits};

/// Whether an answer says that the id exists. An engine may say which item it is; `BatchGetItem` tells where it does not.
fn exists(answer: &Result<Insertion, notification::Failure>) -> bool {
    matches!(answer, Ok(Insertion::Exists(_)))
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn a_new_notification_is_inserted_as_init_and_its_image_is_in_the_stream() {
    let world = World::new().await;
    let new = notification("a");
    assert_eq!(world.table.insert(&[&new], at(BEFORE)).await.unwrap(), [Ok(Insertion::Inserted)]);
    let item = inserted(&new);
    assert_eq!(world.get("a").await, Some(item.clone()));
    assert_eq!(world.changes(["a"]).await, [[(None, Some(item))]]);
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn a_duplicate_is_told_from_a_new_one_and_writes_nothing_whatever_its_content_and_status() {
    let world = World::new().await;
    let (old, new) = (notification("old"), notification("new"));
    let conflict = Notification::parse(event("old", "another")).unwrap();
    world.table.insert(&[&old], at(BEFORE)).await.unwrap().remove(0).unwrap();
    for duplicate in [&old, &conflict] {
        let stored = world.table.read(&[old.id()]).await.unwrap().remove(0).unwrap();
        match &world.table.insert(&[duplicate], at(NOW)).await.unwrap()[..] {
            [Ok(Insertion::Exists(old))] => assert!(old.is_none() || *old == stored, "{old:?}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.get("old").await, Some(inserted(&old)));

    let done = Change { id: old.id(), from: Before::Event(old.event()), to: After::Done(None) };
    assert_eq!(world.table.change(&[done], at(NOW)).await.unwrap(), [Ok(Changed::Yes)]);
    let answers = world.table.insert(&[&old, &new], at(NOW)).await.unwrap();
    assert!(exists(&answers[0]), "{answers:?}");
    assert_eq!(answers[1], Ok(Insertion::Inserted));
    assert_eq!(world.changes(["old"]).await[0].len(), 2, "INIT and DONE");
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn answers_are_in_the_order_of_the_statements() {
    let world = World::new().await;
    let all: Vec<_> = (0..25).map(|number| notification(&format!("n{number}"))).collect();
    let some: Vec<_> = all.iter().step_by(3).collect();
    world.table.insert(&some, at(BEFORE)).await.unwrap();
    let answers = world.table.insert(&all.iter().collect::<Vec<_>>(), at(NOW)).await.unwrap();
    assert_eq!(answers.len(), limits::BATCH_EXECUTE_STATEMENT_MAX);
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(exists(answer), number % 3 == 0, "{number}: {answer:?}");
    }
}

#[ignore = "needs an engine: make contract"]
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
    let events = ids.map(|id| {
        let data = format!(
            r#"{{"text":"\u0000\ud83d\ude00 {0}","amount":19.990000000000000000000000000000000000001}}"#,
            "é'?"
        );
        let id = serde_json::json!(id);
        format!(r#"{{ "specversion":"1.0","id":{id},"source":"'\"?","type":"日","data":{data}}}  "#)
    });
    let notifications = events.map(|event| Notification::parse(event).unwrap());
    for batch in notifications.chunks(limits::BATCH_EXECUTE_STATEMENT_MAX) {
        let answers = world.table.insert(&batch.iter().collect::<Vec<_>>(), at(BEFORE)).await.unwrap();
        assert!(answers.iter().all(|answer| *answer == Ok(Insertion::Inserted)), "{answers:?}");
    }
    let read = world.table.read(&notifications.iter().map(Notification::id).collect::<Vec<_>>()).await.unwrap();
    for (notification, read) in notifications.iter().zip(read) {
        assert_eq!(&*read.unwrap().unwrap().event, notification.event());
        assert_eq!(world.get(notification.id().as_str()).await, Some(inserted(notification)));
        let done = Change { id: notification.id(), from: Before::Event(notification.event()), to: After::Done(None) };
        assert_eq!(world.table.change(&[done], at(NOW)).await.unwrap(), [Ok(Changed::Yes)], "{}", notification.id());
    }
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn as_many_of_the_largest_notifications_as_a_lambda_payload_holds_are_inserted_by_one_call() {
    let world = World::new().await;
    let count = limits::LAMBDA_PAYLOAD_MAX_BYTES / limits::ITEM_MAX_BYTES;
    let all: Vec<_> = (0..count).map(|number| largest_notification(&format!("n{number:02}"))).collect();
    let (entries, table): (Vec<&Notification>, _) = (all.iter().collect(), &world.table);
    let insert = |batch: Vec<_>| async move { table.insert(&batch, at(BEFORE)).await };
    let ranges = by_count(count, limits::BATCH_EXECUTE_STATEMENT_MAX);
    let answers = call_in_batches(&SystemClock, in_a_minute(), &entries, ranges, insert).await;
    assert_eq!(answers, vec![Ok(Insertion::Inserted); count]);
    for notification in &all {
        assert_eq!(world.get(notification.id().as_str()).await, Some(inserted(notification)));
    }
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn the_largest_notification_can_take_every_change() {
    let world = World::new().await;
    let largest = largest_notification("a");
    let (a, event) = (largest.id(), largest.event());
    let claim = Claim { owner: "x".repeat(64).into(), lease_until: at(NOW) };
    let reason = "x".repeat(limits::REASON_MAX_BYTES);
    let outcome = Outcome::new(&"x".repeat(limits::OUTCOME_MAX_BYTES - 2).into());
    assert_eq!(outcome.as_str().len(), limits::OUTCOME_MAX_BYTES);
    world.table.insert(&[&largest], at(BEFORE)).await.unwrap().remove(0).unwrap();
    let changes = [
        (Before::Event(event), After::UnknownCall),
        (Before::Event(event), After::InDoubt(&reason)),
        (Before::Status(Status::InDoubt), After::Init),
        (Before::Untouched(event), After::Claimed(&claim)),
        (Before::Claim(&claim), After::Init),
        (Before::Untouched(event), After::Failed(&reason)),
        (Before::Status(Status::Failed), After::Init),
        (Before::Event(event), After::Done(Some(&outcome))),
    ];
    for (from, to) in changes {
        let change = [Change { id: a, from, to }];
        settles_at(vec![Ok(Changed::Yes)], async || world.table.change(&change, at(NOW)).await.unwrap()).await;
    }
    assert_eq!(world.changes(["a"]).await[0].len(), 1 + changes.len());
}

/// No notification is as large; the id is taken as it is.
#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn an_item_that_would_grow_too_large_fails_permanently_and_its_neighbours_do_not() {
    let world = World::new().await;
    let mut large = inserted(&notification("large"));
    large.insert("event".to_owned(), AttributeValue::S("x".repeat(limits::ITEM_MAX_BYTES - 150)));
    world.put([large.clone(), inserted(&notification("small"))]).await;
    let ids = ["large", "small"].map(id);
    let changes = ids.each_ref().map(|id| {
        let to =
            After::Failed("a reason that is longer than what is left in the item, which is not much, as one can see");
        Change { id, from: Before::Status(Status::Init), to }
    });
    let answers = world.table.change(&changes, at(NOW)).await.unwrap();
    assert!(!answers[0].as_ref().unwrap_err().kind.is_retryable(), "{answers:?}");
    assert_eq!(answers[1], Ok(Changed::Yes));
    assert_eq!(world.get("large").await, Some(large));
}
