//! One id twice in one call. The functions ask for each id once, but where that went wrong, nothing else should: an engine
//! may answer each, or refuse the call (and have done a part of it all the same), and then the call is split.

use crate::items::{BEFORE, NOW, at, event, id, in_a_minute, inserted, notification};
use crate::world::World;
use aws::SystemClock;
use notification::batch::{by_count, call_in_batches};
use notification::change::{After, Before};
use notification::change::{Answer, Persistence, change_all, read_all};
use notification::ports::{Table, Written};
use notification::{Change, Claim};
use notification::{Notification, Status};

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn of_two_inserts_of_one_id_in_one_call_the_first_is_made_and_the_second_finds_it() {
    let world = World::new().await;
    let (first, second) = (notification("a"), Notification::parse(event("a", "another")).unwrap());
    let (entries, table) = ([&first, &second], &world.table);
    let insert = |batch: Vec<_>| async move { table.insert(&batch, at(BEFORE)).await };
    let answers = call_in_batches(&SystemClock, in_a_minute(), &entries, by_count(2, 2), insert).await;
    // Where the call was refused after its first statement, the repeat finds what that has written.
    assert!(matches!(answers[0], Ok(Insertion::Inserted | Insertion::Exists(_))), "{answers:?}");
    assert!(matches!(answers[1], Ok(Insertion::Exists(_))), "{answers:?}");
    assert_eq!(world.changes(["a"]).await, [[(None, Some(inserted(&first)))]]);
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn of_two_changes_of_one_notification_in_one_call_the_first_is_made_and_the_second_sees_it() {
    let world = World::new().await;
    let (a, event) = (id("a"), event("a", ""));
    let claim = Claim { owner: "me".into(), lease_until: at(NOW) };
    world.put([inserted(&notification("a"))]).await;
    let changes =
        [After::Claimed(&claim), After::Done(None)].map(|to| Change { id: &a, from: Before::Untouched(&event), to });
    let answers = change_all(&world.table, &SystemClock, &changes, Persistence::Usual, in_a_minute()).await;
    assert_eq!(answers[0], Ok(Answer::Made));
    let Ok(Answer::NotAsExpected(stored)) = &answers[1] else { panic!("{answers:?}") };
    assert_eq!(stored.status, Some(Status::Claimed));
    assert_eq!(world.changes(["a"]).await[0].len(), 2, "the put and the claim");
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn an_id_twice_in_one_read_is_read_twice() {
    let world = World::new().await;
    let a = notification("a");
    world.put([inserted(&a)]).await;
    let read = read_all(&world.table, &SystemClock, &[a.id(), a.id()], in_a_minute()).await;
    assert_eq!(read.len(), 2);
    for stored in read {
        assert_eq!(&*stored.unwrap().unwrap().event, a.event());
    }
}
