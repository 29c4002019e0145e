//! Many writes to one notification at once: one of them is made.

use crate::items::{BEFORE, NOW, at, event, id, inserted, item, notification};
use crate::world::World;
use futures_util::future::join_all;
use notification::change::{After, Before, Commit};
use notification::ports::{DownstreamTable, NotCommitted, PendingTable, Refused, Table, Written};
use notification::{Change, Claim};
use notification::{Effect, Failure, Notification, Put};

const COUNT: usize = 20;

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn of_many_inserts_at_once_one_is_made_and_the_others_are_duplicates_or_may_be_retried() {
    let world = World::new().await;
    let all: Vec<_> = (0..COUNT).map(|number| Notification::parse(event("a", &number.to_string())).unwrap()).collect();
    let answers =
        join_all(all.iter().map(async |a| world.table.insert(&[a], at(BEFORE)).await.unwrap().remove(0))).await;
    let made: Vec<_> = (0..COUNT).filter(|&number| answers[number] == Ok(Insertion::Inserted)).collect();
    let [made] = made[..] else { panic!("{answers:?}") };
    let is_fine =
        |answer: &Result<_, Failure>| answer.as_ref().map_or_else(|failure| failure.kind.is_retryable(), |_| true);
    assert!(answers.iter().all(is_fine), "{answers:?}");
    assert_eq!(world.changes(["a"]).await, [[(None, Some(inserted(&all[made])))]]);
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn of_many_claims_at_once_one_is_made_and_the_others_see_it_or_may_be_retried() {
    let world = World::new().await;
    let (a, event) = (id("a"), event("a", ""));
    world.put([inserted(&notification("a"))]).await;
    let claims: Vec<_> =
        (0..COUNT).map(|number| Claim { owner: number.to_string().into(), lease_until: at(NOW) }).collect();
    let claim = async |claim: &Claim| {
        let change = Change { id: &a, from: Before::Untouched(&event), to: After::Claimed(claim) };
        world.table.change(&[change], at(NOW)).await.unwrap().remove(0)
    };
    let answers = join_all(claims.iter().map(claim)).await;
    let made: Vec<_> = (0..COUNT).filter(|&number| answers[number] == Ok(Changed::Yes)).collect();
    let [made] = made[..] else { panic!("{answers:?}") };
    for answer in &answers {
        match answer {
            Ok(Changed::Yes) => {}
            Ok(Changed::No(old)) => assert_eq!(old.as_ref().unwrap().claim.as_ref(), Some(&claims[made])),
            Err(failure) => assert!(failure.kind.is_retryable(), "{failure}"),
        }
    }
    assert_eq!(world.changes(["a"]).await[0].len(), 2);
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn of_many_transactions_at_once_one_is_committed_and_the_others_are_refused_or_may_be_retried() {
    let world = World::new().await;
    let a = notification("a");
    world.put([inserted(&a)]).await;
    let effects: Vec<_> = (0..COUNT)
        .map(|number| {
            let attributes = vec![("id", format!("e{number}"))];
            Effect { outcome: None, writes: vec![Put { table: world.effects.clone(), key: "id", attributes }] }
        })
        .collect();
    let commit =
        async |effect: &Effect| world.table.commit(&[Commit { id: a.id(), event: a.event(), effect }], at(NOW)).await;
    let answers = join_all(effects.iter().map(commit)).await;
    for (number, answer) in answers.iter().enumerate() {
        let name = format!("e{number}");
        let effect = answer.is_ok().then(|| item([("id", name.clone())]));
        assert_eq!(world.effect(&name).await, effect, "an effect is there if its transaction is");
        match answer {
            Ok(()) => {}
            Err(NotCommitted::Refused(refused)) => match &refused[..] {
                [Some(Refused::NotAsExpected(_))] => {}
                [Some(Refused::Failed(failure))] => assert!(failure.kind.is_retryable(), "{failure}"),
                other => panic!("{other:?}"),
            },
            Err(NotCommitted::Failed(failure)) => assert!(failure.kind.is_retryable(), "{failure}"),
        }
    }
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    assert_eq!(world.changes(["a"]).await[0].len(), 2);
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn of_many_sweeps_at_once_one_gets_the_lease() {
    let world = World::new().await;
    let leases = join_all((0..COUNT).map(|_| world.table.begin_sweep(at(BEFORE), at(NOW)))).await;
    assert_eq!(leases.iter().filter(|lease| matches!(lease, Ok(Some(_)))).count(), 1, "{leases:?}");
}
