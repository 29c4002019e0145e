//! The index of pending notifications, the index of unresolved items, and the item that keeps the sweep's state.

use crate::items::{BEFORE, Item, NOW, at, item, notification};
use crate::world::{World, eventually};
use notification::change::Run;
use notification::id::{SWEEP_CURSOR_ID, index_shard};
use notification::ports::{IndexKey, Pass, PendingPage, PendingTable, ShardState, SweepState, Table, Written};
use notification::testing::{NOTE, REJECTED};
use notification::{Change, Claim, Notification, Status, limits};
use std::collections::BTreeMap;

/// The partition that the tests read when any will do.
const SHARD: u64 = 7;

/// A pending item in that partition.
fn pending(id: &str, since: &str) -> Item {
    item([("id", id.to_owned()), ("pending_shard", SHARD.to_string()), ("pending_since", since.to_owned())])
}

const LATER: &str = "2026-11-22T10:01:10.000Z";

fn second(second: u32) -> String {
    format!("2026-11-22T10:00:{second:02}.000Z")
}

async fn page(world: &World, after: Option<&IndexKey>, limit: usize) -> PendingPage {
    world.table.pending(SHARD, at(&second(30)), after, limit).await.unwrap()
}

/// The ids on all the pages after a key, in order.
async fn ids_after(world: &World, mut after: Option<IndexKey>, limit: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..100 {
        let page = page(world, after.as_ref(), limit).await;
        assert!(page.keys.len() + page.invalid.len() <= limit);
        assert!(page.keys.is_empty() || page.read_units > 0.0, "a page costs read units");
        ids.extend(page.keys.iter().map(|key| key.id.to_string()));
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
    panic!("the pages do not end: {ids:?}");
}

#[tokio::test]
async fn pages_list_each_due_entry_once_oldest_first_and_none_of_other_partitions() {
    let world = World::new().await;
    let due: Vec<_> = [30, 4, 11, 0, 29].iter().map(|&at| pending(&format!("n{at:02}"), &second(at))).collect();
    let mut elsewhere = pending("elsewhere", &second(1));
    elsewhere.extend(item([("pending_shard", (SHARD + 1).to_string())]));
    let later = pending("later", "2026-11-22T10:00:30.001Z");
    world.put(due.into_iter().chain([elsewhere, later])).await;
    let expected = ["n00", "n04", "n11", "n29", "n30"].map(str::to_owned);
    for limit in [100, 5, 2, 1] {
        eventually(expected.to_vec(), async || ids_after(&world, None, limit).await).await;
    }
}

#[tokio::test]
async fn a_page_may_end_between_entries_of_the_same_millisecond() {
    let world = World::new().await;
    let mut expected: Vec<_> = (0..7).map(|number| format!("n{number}")).collect();
    world.put(expected.iter().map(|id| pending(id, BEFORE))).await;
    expected.sort();
    for limit in [3, 1] {
        eventually(expected.clone(), async || {
            let mut ids = ids_after(&world, None, limit).await;
            ids.sort(); // Their order is not defined.
            ids
        })
        .await;
    }
}

#[tokio::test]
async fn a_page_continues_after_an_entry_that_has_since_left_the_index() {
    let world = World::new().await;
    world.put((0..4).map(|number| pending(&format!("n{number}"), &second(number)))).await;
    let all = ["n0", "n1", "n2", "n3"].map(str::to_owned);
    eventually(all.to_vec(), async || ids_after(&world, None, 10).await).await;
    let next = page(&world, None, 2).await.next.unwrap();
    assert_eq!(next, IndexKey { id: "n1".into(), since: second(1).into() });
    world.put(["n1", "n2"].map(|id| item([("id", id.to_owned())]))).await;
    eventually(vec!["n3".to_owned()], async || ids_after(&world, Some(next.clone()), 2).await).await;
}

#[tokio::test]
async fn an_entry_that_is_not_a_notification_is_reported_and_the_pages_continue_after_it() {
    let world = World::new().await;
    let longest = "日".repeat(2048 / 3);
    let entries = [("kinesis:x'\"?", "0"), (&longest, "1"), ("a", "2026"), ("b", BEFORE)];
    world.put(entries.map(|(id, since)| pending(id, since))).await;
    let key = |(id, since): (&str, &str)| IndexKey { id: id.into(), since: since.into() };
    eventually(entries[..3].iter().copied().map(key).collect(), async || page(&world, None, 10).await.invalid).await;
    assert_eq!(page(&world, None, 1).await.next, Some(key(entries[0])));
    assert_eq!(page(&world, Some(&key(entries[0])), 1).await.invalid, [key(entries[1])]);
    assert_eq!(ids_after(&world, Some(key(entries[1])), 1).await, ["b"]);
}

async fn write(world: &World, change: Change<'_>, time: &str) {
    assert_eq!(world.table.write(&[change], at(time)).await.unwrap(), [Ok(Written::Yes)]);
}

/// Checks since when a notification is pending (`None`: it is not), and how many FAILED and IN_DOUBT items its partitions
/// have.
async fn check_indexes(
    world: &World,
    notification: &Notification,
    pending: Option<&str>,
    failed: usize,
    in_doubt: usize,
) {
    let (pending_shard, shard) = (notification.id().pending_shard(), index_shard(notification.id().as_str()));
    eventually((pending.map(at), failed, in_doubt), async || {
        let page = world.table.pending(pending_shard, at(NOW), None, 9).await.unwrap();
        let failed = world.table.count_unresolved(Status::Failed, shard, at(BEFORE), 9).await.unwrap();
        let in_doubt = world.table.count_unresolved(Status::InDoubt, shard, at(BEFORE), 9).await.unwrap();
        (page.keys.first().map(|key| key.since), failed.count, in_doubt.count)
    })
    .await;
}

#[tokio::test]
async fn a_notification_is_in_each_index_only_while_it_has_its_status() {
    let world = World::new().await;
    let a = notification("a");
    let claim = Claim { owner: "me".into(), lease_until: at(NOW) };
    check_indexes(&world, &a, None, 0, 0).await;
    write(&world, Change::insert(&a), BEFORE).await;
    check_indexes(&world, &a, Some(BEFORE), 0, 0).await;
    write(&world, Change::note_unknown_call(a.id(), a.event(), NOTE), NOW).await;
    check_indexes(&world, &a, Some(BEFORE), 0, 0).await;
    write(&world, Change::doubt(a.id(), a.event(), REJECTED), NOW).await;
    check_indexes(&world, &a, None, 0, 1).await;
    write(&world, Change::resolve_retry(a.id(), at(NOW), &[]), NOW).await;
    check_indexes(&world, &a, Some(NOW), 0, 0).await;
    write(&world, Change::claim(a.id(), a.event(), &claim), NOW).await;
    check_indexes(&world, &a, Some(NOW), 0, 0).await;
    write(&world, Change::release(a.id(), &claim, NOTE), NOW).await;
    check_indexes(&world, &a, Some(NOW), 0, 0).await;
    write(&world, Change::fail(a.id(), a.event(), Run::PutBackAt(at(NOW)), REJECTED), NOW).await;
    check_indexes(&world, &a, None, 1, 0).await;
    write(&world, Change::redrive(a.id(), at(NOW), &[]), NOW).await;
    check_indexes(&world, &a, Some(NOW), 0, 0).await;
    write(&world, Change::done(a.id(), a.event(), None), NOW).await;
    check_indexes(&world, &a, None, 0, 0).await;
}

/// An item that has been FAILED since this second.
fn failed(number: u32) -> Item {
    item([
        ("id", format!("n{number}")),
        ("unresolved_partition", format!("FAILED#{SHARD}")),
        ("unresolved_since", second(number)),
    ])
}

/// How many items have been FAILED since a second or later, and whether there are more than the limit.
async fn count_failed(world: &World, since: u32, limit: usize) -> (usize, bool) {
    let counted = world.table.count_unresolved(Status::Failed, SHARD, at(&second(since)), limit).await.unwrap();
    assert!(counted.count == 0 || counted.read_units > 0.0, "counting costs read units");
    (counted.count, counted.more)
}

#[tokio::test]
async fn unresolved_items_are_counted_since_a_time_and_up_to_a_limit() {
    let world = World::new().await;
    world.put((0..5).map(failed)).await;
    eventually((5, false), async || count_failed(&world, 0, 100).await).await;
    assert_eq!(count_failed(&world, 3, 100).await, (2, false));
    assert_eq!(count_failed(&world, 5, 100).await, (0, false));
    assert_eq!(count_failed(&world, 0, 4).await, (4, true));
}

#[tokio::test]
async fn one_run_has_the_sweeps_lease_and_the_next_run_reads_the_state_that_it_saved() {
    let world = World::new().await;
    let begin = async |now, until| world.table.begin_sweep(at(now), at(until)).await.unwrap();
    assert_eq!(begin(BEFORE, NOW).await, Some(SweepState::default()), "nothing is saved yet");
    assert_eq!(begin(BEFORE, LATER).await, None, "another run has the lease");
    assert_eq!(begin(NOW, LATER).await, Some(SweepState::default()), "the lease has expired");

    let after = Some(IndexKey { id: "kinesis:'\"?\n".into(), since: "0".into() });
    let pass = Pass { began: at(NOW), after, all_published: false };
    let every = |shard| (shard, ShardState { published_until: Some(at(BEFORE)), unfinished: Some(pass.clone()) });
    let full = SweepState { next_shard: 31, shards: (0..limits::PENDING_SHARDS).map(every).collect() };
    let last = SweepState { next_shard: 1, shards: BTreeMap::from([(3, ShardState::default())]) };
    let expired = world.table.end_sweep(&last, at(NOW)).await.unwrap_err();
    assert!(!expired.kind.is_retryable(), "{expired}");
    for state in [full, last, SweepState::default()] {
        for _ in 0..2 {
            assert_eq!(world.table.end_sweep(&state, at(LATER)).await, Ok(()), "also if the first reply was lost");
        }
        assert_eq!(begin(BEFORE, LATER).await, Some(state));
    }
    assert!(world.get(SWEEP_CURSOR_ID).await.is_some_and(|item| !item.contains_key("status")), "it is not published");
}
