//! One id twice in one call. The functions send each id once, but if one ever came twice, it must do no harm. An engine may
//! answer each entry, or refuse the call (perhaps after a part of it was written); then the call is split.

use crate::items::{BEFORE, NOW, at, event, id, in_a_minute, inserted, notification};
use crate::world::World;
use aws::SystemClock;
use notification::batch::{Attempts, by_count, call_in_batches};
use notification::ports::{Table, Written};
use notification::write::{Answer, read_all, write_all};
use notification::{Change, Claim, Notification, Status};

#[tokio::test]
async fn of_two_inserts_of_one_id_in_one_call_the_first_is_made_and_the_second_finds_it() {
    let world = World::new().await;
    let (first, second) = (notification("a"), Notification::parse(event("a", "another")).unwrap());
    let (inserts, table) = ([&first, &second].map(Change::insert), &world.table);
    let write = |batch: Vec<_>| async move { table.write(&batch, at(BEFORE)).await };
    let ranges = by_count(2, 2);
    let answers = call_in_batches(&SystemClock, in_a_minute(), Attempts::Limited, &inserts, ranges, write).await;
    // Where the call was refused after its first statement, the repeat finds the item of that statement.
    answers[0].as_ref().unwrap();
    assert!(matches!(answers[1], Ok(Written::Refused(_) | Written::RefusedUnseen)), "{answers:?}");
    assert_eq!(world.changes(["a"]).await, [[(None, Some(inserted(&first)))]]);
}

#[tokio::test]
async fn of_two_changes_of_one_notification_in_one_call_the_first_is_made_and_the_second_sees_it() {
    let world = World::new().await;
    let (a, event) = (id("a"), event("a", ""));
    let claim = Claim { owner: "me".into(), lease_until: at(NOW) };
    world.put([inserted(&notification("a"))]).await;
    let changes = [Change::claim(&a, &event, &claim), Change::done(&a, &event, None)];
    let answers = write_all(&world.table, &SystemClock, &changes, Attempts::Limited, in_a_minute()).await;
    assert_eq!(answers[0], Ok(Answer::Made));
    let Ok(Answer::NotAsExpected(stored)) = &answers[1] else { panic!("{answers:?}") };
    assert_eq!(stored.status, Some(Status::Claimed));
    assert_eq!(world.changes(["a"]).await[0].len(), 2, "the put and the claim");
}

#[tokio::test]
async fn an_id_twice_in_one_read_is_answered_twice() {
    let world = World::new().await;
    let a = notification("a");
    world.put([inserted(&a)]).await;
    let read = read_all(&world.table, &SystemClock, &[a.id(), a.id()], in_a_minute()).await;
    assert_eq!(read.len(), 2);
    for stored in read {
        assert_eq!(&*stored.unwrap().unwrap().event, a.event());
    }
}
