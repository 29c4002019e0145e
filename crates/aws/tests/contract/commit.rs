//! Effects and DONE in one transaction: all of it, or nothing, and each refused notification is named.

use crate::items::{Item, NINETY_DAYS_LATER, NOW, at, id, inserted, item, largest_notification, notification};
use crate::world::{World, settles_at};
use aws_sdk_dynamodb::types::AttributeValue;
use notification::change::Commit;
use notification::ports::{DownstreamTable, NotCommitted, Refused, TableReader};
use notification::{Effect, Failure, FailureKind, Notification, Outcome, Put, limits};

/// An effect that is one new item with this id.
fn effect(world: &World, id: &str) -> Effect {
    effect_with(world, id, "19.99".to_owned())
}

fn effect_with(world: &World, id: &str, amount: String) -> Effect {
    let attributes = vec![("id", id.to_owned()), ("amount", amount)];
    Effect { outcome: None, writes: vec![Put { table: world.effects.clone(), key: "id", attributes }] }
}

/// The notifications, each with its effect.
fn group<'a>(notifications: &'a [Notification], effects: &'a [Effect]) -> Vec<Commit<'a>> {
    let commit = |(of, effect): (&'a Notification, _)| Commit { id: of.id(), event: of.event(), effect };
    notifications.iter().zip(effects).map(commit).collect()
}

/// What becomes of an inserted item.
fn done(mut item: Item, outcome: Option<&Outcome>) -> Item {
    item.retain(|name, _| !name.starts_with("pending_"));
    let outcome = outcome.map(|outcome| ("outcome", outcome.as_str().to_owned()));
    let changes = [("status", "DONE"), ("done_at", NOW), ("expires_at", NINETY_DAYS_LATER)];
    item.extend(crate::items::item(changes.map(|(name, text)| (name, text.to_owned())).into_iter().chain(outcome)));
    item
}

fn refused(answer: Result<(), NotCommitted>) -> Vec<Option<Refused>> {
    match answer {
        Err(NotCommitted::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

/// The failure of a call as a whole, or the one of its only refused notification: `transactional.rs` copes with both.
fn failure(answer: Result<(), NotCommitted>) -> Failure {
    match answer {
        Err(NotCommitted::Failed(failure)) => failure,
        Err(NotCommitted::Refused(refused)) => match &refused.into_iter().flatten().collect::<Vec<_>>()[..] {
            [Refused::Failed(failure)] => failure.clone(),
            other => panic!("{other:?}"),
        },
        Ok(()) => panic!("it was committed"),
    }
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn as_many_notifications_as_a_transaction_holds_are_done_with_their_effects_and_only_once() {
    let world = World::new().await;
    let names: Vec<_> = (0..limits::TRANSACT_WRITE_ITEMS_MAX / 2).map(|number| format!("n{number}")).collect();
    let notifications: Vec<_> = names.iter().map(|name| notification(name)).collect();
    let outcome = Outcome::new(&serde_json::json!({"é": 1}));
    let effects: Vec<_> =
        names.iter().map(|name| Effect { outcome: Some(outcome.clone()), ..effect(&world, name) }).collect();
    world.put(notifications.iter().map(inserted)).await;
    let group = group(&notifications, &effects);
    assert_eq!(world.table.commit(&group, at(NOW)).await, Ok(()));

    // The same again: nothing is INIT any more.
    let ids: Vec<_> = notifications.iter().map(Notification::id).collect();
    let stored = world.table.read(&ids).await.unwrap();
    let refused = refused(world.table.commit(&group, at(NOW)).await);
    for (refused, stored) in refused.into_iter().zip(stored) {
        assert_eq!(refused, Some(Refused::NotAsExpected(stored.unwrap())));
    }
    for name in &names {
        let entry = item([("id", name.clone()), ("amount", "19.99".to_owned())]);
        assert_eq!(world.effect(name).await, Some(entry));
    }
    let changes = world.changes(names.iter().map(String::as_str)).await;
    for (notification, changes) in notifications.iter().zip(changes) {
        let init = inserted(notification);
        let done = done(init.clone(), Some(&outcome));
        assert_eq!(changes, [(None, Some(init.clone())), (Some(init), Some(done))]);
    }
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn one_refused_notification_refuses_the_transaction_and_the_reasons_name_it_and_what_it_is() {
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
    let put = world.client.put_item().table_name(&world.effects).set_item(Some(existing.clone()));
    put.send().await.unwrap();

    let stored = world.table.read(&notifications.each_ref().map(Notification::id)).await.unwrap();
    let effects = names.map(|name| effect(&world, name));
    let group = group(&notifications, &effects);
    let refused = refused(world.table.commit(&group, at(NOW)).await);
    let not_as_expected = |place: usize| Some(Refused::NotAsExpected(stored[place].clone().unwrap()));
    assert_eq!(refused.len(), names.len());
    assert_eq!(refused[0], None);
    assert_eq!(refused[1], not_as_expected(1));
    assert_eq!(refused[2], not_as_expected(2));
    assert_eq!(refused[3], Some(Refused::NotAsExpected(None)));
    assert!(matches!(&refused[4], Some(Refused::Failed(failure)) if failure.kind == FailureKind::Permanent));
    assert_eq!(refused[5], None);
    for (place, name) in names.iter().enumerate() {
        assert_eq!(world.get(name).await, items[place], "{name}");
        assert_eq!(world.effect(name).await, (place == 4).then(|| existing.clone()), "{name}");
    }

    let others = [group[0], group[5]];
    assert_eq!(world.table.commit(&others, at(NOW)).await, Ok(()), "without those that were refused");
    for (name, changes) in names.iter().zip(world.changes(names).await) {
        let expected = match *name {
            "absent" => 0,
            "fine" | "fine as well" => 2,
            _ => 1,
        };
        assert_eq!(changes.len(), expected, "{name}: a refused write is not in the stream");
    }
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn what_can_never_be_committed_fails_permanently_and_writes_nothing() {
    let world = World::new().await;
    let notifications = ["a", "b"].map(notification);
    world.put(notifications.iter().map(inserted)).await;
    let good = effect(&world, "a");
    let too_large = effect_with(&world, "b", "x".repeat(limits::ITEM_MAX_BYTES));
    let without_key = effect(&world, "");
    let same_effect = effect(&world, "a");
    for bad in [too_large, without_key, same_effect] {
        let effects = [good.clone(), bad];
        let failure = failure(world.table.commit(&group(&notifications, &effects), at(NOW)).await);
        assert_eq!(failure.kind, FailureKind::Permanent, "{failure}");
    }
    // Downstream never does this, and the engines differ in how they refuse it.
    let twice = group(&notifications[..1], std::slice::from_ref(&good)).repeat(2);
    world.table.commit(&twice, at(NOW)).await.unwrap_err();

    assert_eq!(world.effect("a").await, None);
    let counts: Vec<_> = world.changes(["a", "b"]).await.iter().map(Vec::len).collect();
    assert_eq!(counts, [1, 1], "nothing but the puts");
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn a_notification_whose_outcome_does_not_fit_fails_permanently_and_alone() {
    let world = World::new().await;
    let notifications = ["a", "b"].map(notification);
    // No notification is as large.
    let mut large = inserted(&notifications[0]);
    let filling = limits::ITEM_MAX_BYTES - 1000;
    large.extend([("filling".to_owned(), AttributeValue::S("x".repeat(filling)))]);
    world.put([large.clone(), inserted(&notifications[1])]).await;
    let outcome = Outcome::new(&"x".repeat(2000).into());
    let effects = [Effect { outcome: Some(outcome), ..effect(&world, "a") }, effect(&world, "b")];
    let group = group(&notifications, &effects);
    let failure = failure(world.table.commit(&group, at(NOW)).await);
    assert_eq!(failure.kind, FailureKind::Permanent, "{failure}");
    assert_eq!(world.get("a").await, Some(large));
    assert_eq!(world.table.commit(&group[1..], at(NOW)).await, Ok(()));
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn a_missing_table_of_effects_is_retryable() {
    let world = World::new().await;
    let notifications = [notification("a")];
    world.put(notifications.iter().map(inserted)).await;
    let mut effect = effect(&world, "a");
    effect.writes[0].table = crate::world::name_of_this_run();
    let failure = failure(world.table.commit(&group(&notifications, &[effect]), at(NOW)).await);
    assert_eq!(failure.kind, FailureKind::Retryable, "{failure}");
    assert_eq!(world.get("a").await, Some(inserted(&notifications[0])));
}

/// Four MB are the limit; downstream keeps its groups below that.
#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn a_transaction_of_the_largest_notifications_is_committed_up_to_its_limit() {
    let world = World::new().await;
    let count = limits::TRANSACT_WRITE_ITEMS_MAX_BYTES / limits::ITEM_MAX_BYTES;
    let notifications: Vec<_> = (0..count).map(|number| largest_notification(&format!("n{number:02}"))).collect();
    let effects: Vec<_> = notifications.iter().map(|of| effect(&world, of.id().as_str())).collect();
    world.put(notifications.iter().map(inserted)).await;
    let group = group(&notifications, &effects);
    settles_at(Ok(()), async || world.table.commit(&group, at(NOW)).await).await;
    assert!(world.effect("n00").await.is_some());
    assert!(matches!(world.table.read(&[&id("n00")]).await.unwrap()[..], [Ok(Some(_))]));
}
