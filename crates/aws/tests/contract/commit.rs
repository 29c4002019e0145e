//! A change of status and the items of its effect in one transaction: all of it is written, or nothing, and each refused
//! notification is named.

use crate::items::{
    COMMITTED, Item, NINETY_DAYS_LATER, NOW, at, id, inserted, item, largest_notification, notification,
};
use crate::world::{World, eventually, name_of_this_run};
use aws_sdk_dynamodb::types::AttributeValue;
use notification::change::Commit;
use notification::ports::{Answers, Committed, DownstreamTable, TableReader, Written};
use notification::{Change, Failure, FailureKind, Notification, Outcome, Put, limits};
use std::slice;

const AMOUNT: &str = "19.99";

/// One new item with this id for the table of effects.
fn put(world: &World, id: &str) -> Put {
    put_with(world, id, AMOUNT.to_owned())
}

fn put_with(world: &World, id: &str, amount: String) -> Put {
    world.new_effect(vec![("id", id.to_owned()), ("amount", amount)])
}

/// DONE for a notification, with a new item.
fn commit<'a>(notification: &'a Notification, outcome: Option<&'a Outcome>, put: &'a Put) -> Commit<'a> {
    let change = Change::done(notification.id(), notification.event(), outcome);
    Commit { change, puts: slice::from_ref(put) }
}

/// DONE for each notification, with one of the new items.
fn group<'a>(notifications: &'a [Notification], outcome: Option<&'a Outcome>, puts: &'a [Put]) -> Vec<Commit<'a>> {
    notifications.iter().zip(puts).map(|(notification, put)| commit(notification, outcome, put)).collect()
}

/// An inserted item after it has become DONE.
fn done(mut item: Item, outcome: Option<&Outcome>) -> Item {
    item.retain(|name, _| !name.starts_with("pending_"));
    let outcome = outcome.map(|outcome| ("outcome", outcome.as_str().to_owned()));
    let changes = [("status", "DONE"), ("done_at", NOW), ("expires_at", NINETY_DAYS_LATER)];
    item.extend(crate::items::item(changes.map(|(name, text)| (name, text.to_owned())).into_iter().chain(outcome)));
    item
}

/// The failure of a whole call, or of its only refused notification. The domain copes with both.
fn failure(answers: Answers<Committed>) -> Failure {
    let mut answers = match answers {
        Ok(answers) => answers,
        Err(failure) => return failure,
    };
    answers.retain(|answer| *answer != Ok(Committed::HeldUp));
    match &answers[..] {
        [Err(failure)] => failure.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn as_many_notifications_as_a_transaction_holds_are_done_with_their_effects_and_only_once() {
    let world = World::new().await;
    let names: Vec<_> = (0..limits::TRANSACT_WRITE_ITEMS_MAX / 2).map(|number| format!("n{number}")).collect();
    let notifications: Vec<_> = names.iter().map(|name| notification(name)).collect();
    let outcome = Outcome::new(&serde_json::json!({"é": 1}));
    let puts: Vec<_> = names.iter().map(|name| put(&world, name)).collect();
    world.put(notifications.iter().map(inserted)).await;
    let group = group(&notifications, Some(&outcome), &puts);
    assert_eq!(world.table.commit(&group, at(NOW)).await, Ok(vec![COMMITTED; group.len()]));

    // The same group a second time: no notification is INIT any more.
    let ids: Vec<_> = notifications.iter().map(Notification::id).collect();
    let stored = world.table.read(&ids).await.unwrap();
    let answers = world.table.commit(&group, at(NOW)).await.unwrap();
    assert_eq!(answers.len(), group.len());
    for (answer, stored) in answers.into_iter().zip(stored) {
        assert_eq!(answer, Ok(Committed::Written(Written::Refused(stored.unwrap().unwrap()))));
    }
    for name in &names {
        let entry = item([("id", name.clone()), ("amount", AMOUNT.to_owned())]);
        assert_eq!(world.effect(name).await, Some(entry));
    }
    let changes = world.changes(names.iter().map(String::as_str)).await;
    for (notification, changes) in notifications.iter().zip(changes) {
        let init = inserted(notification);
        let done = done(init.clone(), Some(&outcome));
        assert_eq!(changes, [(None, Some(init.clone())), (Some(init), Some(done))]);
    }
}

#[tokio::test]
async fn one_refused_notification_refuses_the_transaction_and_the_reasons_name_it_and_its_item() {
    let world = World::new().await;
    let names = ["fine", "done", "another event", "absent", "effect exists", "fine as well"];
    let notifications = names.map(notification);
    let mut another = inserted(&notifications[2]);
    another.extend(item([("event", "{}".to_owned())]));
    let items = [
        Some(inserted(&notifications[0])),
        Some(done(inserted(&notifications[1]), None)),
        Some(another),
        None,
        Some(inserted(&notifications[4])),
        Some(inserted(&notifications[5])),
    ];
    world.put(items.iter().flatten().cloned()).await;
    let existing = item([("id", names[4].to_owned())]);
    let call = world.client.put_item().table_name(&world.effects).set_item(Some(existing.clone()));
    call.send().await.unwrap();

    let stored = world.table.read(&notifications.each_ref().map(Notification::id)).await.unwrap();
    let refused = |place: usize| Ok(Committed::Written(Written::Refused(stored[place].clone().unwrap().unwrap())));
    let puts = names.map(|name| put(&world, name));
    let group = group(&notifications, None, &puts);
    let answers = world.table.commit(&group, at(NOW)).await.unwrap();
    assert_eq!(answers.len(), names.len());
    assert_eq!(answers[0], Ok(Committed::HeldUp));
    assert_eq!(answers[1], refused(1));
    assert_eq!(answers[2], refused(2));
    assert_eq!(answers[3], Ok(Committed::Written(Written::RefusedUnseen)));
    assert!(matches!(&answers[4], Err(failure) if failure.kind == FailureKind::Permanent), "{answers:?}");
    assert_eq!(answers[5], Ok(Committed::HeldUp));
    for (place, name) in names.iter().enumerate() {
        assert_eq!(world.get(name).await, items[place], "{name}");
        assert_eq!(world.effect(name).await, (place == 4).then(|| existing.clone()), "{name}");
    }

    let held_up = [group[0], group[5]];
    assert_eq!(world.table.commit(&held_up, at(NOW)).await, Ok(vec![COMMITTED; 2]), "without those that were refused");
    for (name, changes) in names.iter().zip(world.changes(names).await) {
        let expected = match *name {
            "absent" => 0,
            "fine" | "fine as well" => 2,
            _ => 1,
        };
        assert_eq!(changes.len(), expected, "{name}: a refused write is not in the stream");
    }
}

#[tokio::test]
async fn a_group_that_can_never_be_committed_fails_permanently_and_writes_nothing() {
    let world = World::new().await;
    let notifications = ["a", "b"].map(notification);
    world.put(notifications.iter().map(inserted)).await;
    let good = put(&world, "a");
    let too_large = put_with(&world, "b", "x".repeat(limits::ITEM_MAX_BYTES));
    let without_key = put(&world, "");
    let same_item = put(&world, "a");
    for bad in [too_large, without_key, same_item] {
        let puts = [good.clone(), bad];
        let failure = failure(world.table.commit(&group(&notifications, None, &puts), at(NOW)).await);
        assert_eq!(failure.kind, FailureKind::Permanent, "{failure}");
    }
    // Downstream never commits one notification twice, and the engines differ in how they refuse it.
    let twice = [commit(&notifications[0], None, &good); 2];
    let answers = world.table.commit(&twice, at(NOW)).await;
    assert!(
        answers.as_ref().is_err() || answers.as_ref().is_ok_and(|answers| !answers.contains(&COMMITTED)),
        "{answers:?}"
    );

    assert_eq!(world.effect("a").await, None);
    let counts: Vec<_> = world.changes(["a", "b"]).await.iter().map(Vec::len).collect();
    assert_eq!(counts, [1, 1], "nothing but the puts");
}

#[tokio::test]
async fn a_notification_whose_outcome_does_not_fit_fails_permanently_and_alone() {
    let world = World::new().await;
    let notifications = ["a", "b"].map(notification);
    // No notification can be this large.
    let mut large = inserted(&notifications[0]);
    let filling = limits::ITEM_MAX_BYTES - 1000;
    large.extend([("filling".to_owned(), AttributeValue::S("x".repeat(filling)))]);
    world.put([large.clone(), inserted(&notifications[1])]).await;
    let outcome = Outcome::new(&"x".repeat(2000).into());
    let puts = ["a", "b"].map(|name| put(&world, name));
    let group = [commit(&notifications[0], Some(&outcome), &puts[0]), commit(&notifications[1], None, &puts[1])];
    let failure = failure(world.table.commit(&group, at(NOW)).await);
    assert_eq!(failure.kind, FailureKind::Permanent, "{failure}");
    assert_eq!(world.get("a").await, Some(large));
    assert_eq!(world.table.commit(&group[1..], at(NOW)).await, Ok(vec![COMMITTED]));
}

#[tokio::test]
async fn a_missing_table_of_effects_is_retryable() {
    let world = World::new().await;
    let a = notification("a");
    world.put([inserted(&a)]).await;
    let put = Put { table: name_of_this_run(), ..put(&world, "a") };
    let failure = failure(world.table.commit(&[commit(&a, None, &put)], at(NOW)).await);
    assert_eq!(failure.kind, FailureKind::Retryable, "{failure}");
    assert_eq!(world.get("a").await, Some(inserted(&a)));
}

/// The limit is 4 MB. Downstream keeps its groups below it.
#[tokio::test]
async fn a_transaction_of_the_largest_notifications_is_committed_up_to_its_limit() {
    let world = World::new().await;
    let count = limits::TRANSACT_WRITE_ITEMS_MAX_BYTES / limits::ITEM_MAX_BYTES;
    let notifications: Vec<_> = (0..count).map(|number| largest_notification(&format!("n{number:02}"))).collect();
    let puts: Vec<_> = notifications.iter().map(|of| put(&world, of.id().as_str())).collect();
    world.put(notifications.iter().map(inserted)).await;
    let group = group(&notifications, None, &puts);
    eventually(Ok(vec![COMMITTED; count]), async || world.table.commit(&group, at(NOW)).await).await;
    assert!(world.effect("n00").await.is_some());
    assert!(matches!(world.table.read(&[&id("n00")]).await.unwrap()[..], [Ok(Some(_))]));
}
