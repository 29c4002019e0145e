//! Reads of items by their ids.

use crate::items::{BEFORE, at, id, in_a_minute, inserted, largest_notification, notification};
use crate::world::World;
use aws::SystemClock;
use notification::change::LastFailure;
use notification::ports::TableReader;
use notification::write::read_all;
use notification::{Claim, Notification, Status, Stored, limits};

#[tokio::test]
async fn a_read_answers_in_the_order_of_the_ids_and_says_which_items_are_absent() {
    let world = World::new().await;
    let all: Vec<_> = (0..limits::BATCH_GET_ITEM_MAX).map(|number| notification(&format!("n{number}"))).collect();
    world.put(all.iter().step_by(2).map(inserted)).await;
    let read = world.table.read(&all.iter().map(Notification::id).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(read.len(), all.len());
    for (number, (read, notification)) in read.into_iter().zip(&all).enumerate() {
        let stored = (number % 2 == 0).then(|| Stored {
            status: Some(Status::Init),
            event: notification.event().into(),
            since: Some(at(BEFORE)),
            ..Stored::default()
        });
        assert_eq!(read, Ok(stored));
    }
}

#[tokio::test]
async fn a_read_returns_every_attribute_that_a_decision_depends_on() {
    let world = World::new().await;
    let mut item = inserted(&notification("a"));
    let attributes = [
        ("status", "CLAIMED"),
        ("owner", "me"),
        ("lease_until", BEFORE),
        ("unknown_call_at", BEFORE),
        ("put_back_at", BEFORE),
        ("earlier_put_backs", "1970-01-01T00:00:01.000Z 1970-01-01T00:00:02.500Z"),
        ("last_failure_at", BEFORE),
        ("failures", "4"),
    ];
    item.extend(crate::items::item(attributes.map(|(name, text)| (name, text.to_owned()))));
    world.put([item]).await;
    let expected = Stored {
        status: Some(Status::Claimed),
        event: notification("a").event().into(),
        claim: Some(Claim { owner: "me".into(), lease_until: at(BEFORE) }),
        since: None,
        unknown_call: true,
        put_back_at: Some(at(BEFORE)),
        earlier_put_backs: ["1970-01-01T00:00:01.000Z", "1970-01-01T00:00:02.500Z"].map(at).into(),
        last_failure: Some(LastFailure { at: at(BEFORE), failures: 4 }),
    };
    assert_eq!(world.table.read(&[&id("a")]).await.unwrap(), [Ok(Some(expected))]);
}

/// An answer holds at most 16 MB.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html>
#[tokio::test]
async fn items_that_do_not_fit_into_one_answer_are_read_by_another_call() {
    let world = World::new().await;
    let all: Vec<_> = (0..43).map(|number| largest_notification(&format!("n{number:02}"))).collect();
    for batch in all.chunks(10) {
        world.put(batch.iter().map(inserted)).await;
    }
    let ids: Vec<_> = all.iter().map(Notification::id).collect();
    let read = read_all(&world.table, &SystemClock, &ids, in_a_minute()).await;
    assert_eq!(read.len(), all.len());
    for (stored, notification) in read.into_iter().zip(&all) {
        assert_eq!(&*stored.unwrap().unwrap().event, notification.event());
    }
}
