//! Concurrent writes to one item: exactly one of them is made.

use crate::items::{BEFORE, COMMITTED, NOW, at, event, id, inserted, item, notification};
use crate::world::World;
use futures_util::future::join_all;
use notification::change::Commit;
use notification::ports::{Committed, DownstreamTable, PendingTable, Table, Written};
use notification::{Change, Claim, Failure, Notification, Put};
use std::slice;

const COUNT: usize = 20;

async fn write(world: &World, change: Change<'_>, time: &str) -> Result<Written, Failure> {
    world.table.write(&[change], at(time)).await.unwrap().remove(0)
}

/// DONE with a new item. The failure may be the call's or its only entry's.
async fn commit(world: &World, notification: &Notification, put: &Put) -> Result<Committed, Failure> {
    let change = Change::done(notification.id(), notification.event(), None);
    world.table.commit(&[Commit { change, puts: slice::from_ref(put) }], at(NOW)).await?.remove(0)
}

#[tokio::test]
async fn of_many_concurrent_inserts_one_is_made_and_the_others_are_duplicates_or_may_be_retried() {
    let world = World::new().await;
    let all: Vec<_> = (0..COUNT).map(|number| Notification::parse(event("a", &number.to_string())).unwrap()).collect();
    let answers = join_all(all.iter().map(|new| write(&world, Change::insert(new), BEFORE))).await;
    let made: Vec<_> = (0..COUNT).filter(|&number| answers[number] == Ok(Written::Yes)).collect();
    let [made] = made[..] else { panic!("{answers:?}") };
    for answer in &answers {
        assert!(answer.is_ok() || answer.as_ref().is_err_and(|failure| failure.kind.is_retryable()), "{answer:?}");
    }
    assert_eq!(world.changes(["a"]).await, [[(None, Some(inserted(&all[made])))]]);
}

#[tokio::test]
async fn of_many_concurrent_claims_one_is_made_and_the_others_see_it_or_may_be_retried() {
    let world = World::new().await;
    let (a, event) = (id("a"), event("a", ""));
    world.put([inserted(&notification("a"))]).await;
    let claims: Vec<_> =
        (0..COUNT).map(|number| Claim { owner: number.to_string().into(), lease_until: at(NOW) }).collect();
    let answers = join_all(claims.iter().map(|claim| write(&world, Change::claim(&a, &event, claim), NOW))).await;
    let made: Vec<_> = (0..COUNT).filter(|&number| answers[number] == Ok(Written::Yes)).collect();
    let [made] = made[..] else { panic!("{answers:?}") };
    for answer in &answers {
        match answer {
            Ok(Written::Yes) => {}
            Ok(Written::Refused(old)) => assert_eq!(old.claim.as_ref(), Some(&claims[made])),
            Ok(Written::RefusedUnseen) => panic!("the item exists"),
            Err(failure) => assert!(failure.kind.is_retryable(), "{failure}"),
        }
    }
    assert_eq!(world.changes(["a"]).await[0].len(), 2);
}

#[tokio::test]
async fn of_many_concurrent_transactions_one_is_committed_and_the_others_are_refused_or_may_be_retried() {
    let world = World::new().await;
    let a = notification("a");
    world.put([inserted(&a)]).await;
    let puts: Vec<_> = (0..COUNT).map(|number| world.new_effect(vec![("id", format!("e{number}"))])).collect();
    let answers = join_all(puts.iter().map(|put| commit(&world, &a, put))).await;
    for (number, answer) in answers.iter().enumerate() {
        let name = format!("e{number}");
        let effect = (*answer == COMMITTED).then(|| item([("id", name.clone())]));
        assert_eq!(world.effect(&name).await, effect, "an effect is there if its transaction is committed");
        match answer {
            Ok(Committed::Written(_)) => {}
            Ok(Committed::HeldUp) => panic!("nothing else is in the transaction"),
            Err(failure) => assert!(failure.kind.is_retryable(), "{failure}"),
        }
    }
    assert_eq!(answers.iter().filter(|answer| **answer == COMMITTED).count(), 1, "{answers:?}");
    assert_eq!(world.changes(["a"]).await[0].len(), 2);
}

#[tokio::test]
async fn of_many_concurrent_sweeps_one_gets_the_lease() {
    let world = World::new().await;
    let leases = join_all((0..COUNT).map(|_| world.table.begin_sweep(at(BEFORE), at(NOW)))).await;
    assert_eq!(leases.iter().filter(|lease| matches!(lease, Ok(Some(_)))).count(), 1, "{leases:?}");
}
