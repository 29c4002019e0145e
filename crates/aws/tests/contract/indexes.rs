//! The index of pending notifications, the index of unresolved items, and how far the sweep is.

use crate::items::{BEFORE, Item, NOW, at, item, notification};
use crate::world::{World, settles_at};
use notification::change::{After, Before};
use notification::id::{SWEEP_CURSOR_ID, index_shard};
use notification::ports::{IndexKey, Pass, PendingPage, PendingTable, ShardState, SweepState, Table, Written};
use notification::{Change, Claim};
use notification::{Status, limits};
use std::collections::BTreeMap;

/// The partition that a test reads where it does not matter which.
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

/// All pages behind a key: the ids in order.
async fn ids_behind(world: &World, mut after: Option<IndexKey>, limit: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..100 {
        let page = page(world, after.as_ref(), limit).await;
        assert!(page.keys.len() + page.unreadable.len() <= limit);
        assert!(page.keys.is_empty() || page.read_units > 0.0, "a page costs something");
        ids.extend(page.keys.iter().map(|key| key.id.to_string()));
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
    panic!("the pages do not end: {ids:?}");
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn pages_have_what_is_due_oldest_first_each_once_and_nothing_of_other_partitions() {
    let world = World::new().await;
    let due: Vec<_> = [30, 4, 11, 0, 29].iter().map(|&at| pending(&format!("n{at:02}"), &second(at))).collect();
    let mut elsewhere = pending("elsewhere", &second(1));
    elsewhere.extend(item([("pending_shard", (SHARD + 1).to_string())]));
    let later = pending("later", "2026-11-22T10:00:30.001Z");
    world.put(due.into_iter().chain([elsewhere, later])).await;
    let expected = ["n00", "n04", "n11", "n29", "n30"].map(str::to_owned);
    for limit in [100, 5, 2, 1] {
        settles_at(expected.to_vec(), async || ids_behind(&world, None, limit).await).await;
    }
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn pages_go_on_between_entries_of_the_same_millisecond() {
    let world = World::new().await;
    let mut expected: Vec<_> = (0..7).map(|number| format!("n{number}")).collect();
    world.put(expected.iter().map(|id| pending(id, BEFORE))).await;
    expected.sort();
    for limit in [3, 1] {
        settles_at(expected.clone(), async || {
            let mut ids = ids_behind(&world, None, limit).await;
            ids.sort(); // Which of them is first is not defined.
            ids
        })
        .await;
    }
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn a_page_goes_on_behind_an_entry_that_has_left_the_index_since() {
    let world = World::new().await;
    world.put((0..4).map(|number| pending(&format!("n{number}"), &second(number)))).await;
    let all = ["n0", "n1", "n2", "n3"].map(str::to_owned);
    settles_at(all.to_vec(), async || ids_behind(&world, None, 10).await).await;
    let next = page(&world, None, 2).await.next.unwrap();
    assert_eq!(next, IndexKey { id: "n1".into(), since: second(1).into() });
    world.put(["n1", "n2"].map(|id| item([("id", id.to_owned())]))).await;
    settles_at(vec!["n3".to_owned()], async || ids_behind(&world, Some(next.clone()), 2).await).await;
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn an_entry_that_is_no_notification_is_named_and_the_pages_go_on_behind_it() {
    let world = World::new().await;
    let longest = "日".repeat(2048 / 3);
    let entries = [("kinesis:x'\"?", "0"), (&longest, "1"), ("a", "2026"), ("b", BEFORE)];
    world.put(entries.map(|(id, since)| pending(id, since))).await;
    let key = |(id, since): (&str, &str)| IndexKey { id: id.into(), since: since.into() };
    settles_at(entries[..3].iter().copied().map(key).collect(), async || page(&world, None, 10).await.unreadable).await;
    assert_eq!(page(&world, None, 1).await.next, Some(key(entries[0])));
    assert_eq!(page(&world, Some(&key(entries[0])), 1).await.unreadable, [key(entries[1])]);
    assert_eq!(ids_behind(&world, Some(key(entries[1])), 1).await, ["b"]);
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn a_notification_is_in_each_index_only_while_it_has_its_status() {
    let world = World::new().await;
    let a = notification("a");
    let claim = Claim { owner: "me".into(), lease_until: at(NOW) };
    let settles = async |pending: Option<&str>, failed: usize, in_doubt: usize| {
        settles_at((pending.map(at), failed, in_doubt), async || {
            let page = world.table.pending(a.id().pending_shard(), at(NOW), None, 9).await.unwrap();
            let count = async |status| {
                let shard = index_shard(a.id().as_str());
                world.table.count_unresolved(status, shard, at(BEFORE), 9).await.unwrap().count
            };
            (page.keys.first().map(|key| key.since), count(Status::Failed).await, count(Status::InDoubt).await)
        })
        .await;
    };
    let change = async |from, to| {
        let change = Change { id: a.id(), from, to };
        assert_eq!(world.table.change(&[change], at(NOW)).await.unwrap(), [Ok(Changed::Yes)]);
    };

    settles(None, 0, 0).await;
    world.table.insert(&[&a], at(BEFORE)).await.unwrap();
    settles(Some(BEFORE), 0, 0).await;
    change(Before::Event(a.event()), After::UnknownCall).await;
    settles(Some(BEFORE), 0, 0).await;
    change(Before::Event(a.event()), After::InDoubt("?")).await;
    settles(None, 0, 1).await;
    change(Before::Status(Status::InDoubt), After::Init).await;
    settles(Some(NOW), 0, 0).await;
    change(Before::Untouched(a.event()), After::Claimed(&claim)).await;
    settles(Some(NOW), 0, 0).await;
    change(Before::Claim(&claim), After::Init).await;
    settles(Some(NOW), 0, 0).await;
    change(Before::Untouched(a.event()), After::Failed("no")).await;
    settles(None, 1, 0).await;
    change(Before::Status(Status::Failed), After::Init).await;
    settles(Some(NOW), 0, 0).await;
    change(Before::Event(a.event()), After::Done(None)).await;
    settles(None, 0, 0).await;
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn unresolved_items_are_counted_since_a_time_and_up_to_a_limit() {
    let world = World::new().await;
    let unresolved = |number: u32| {
        let attributes = [("id", format!("n{number}")), ("unresolved_since", second(number))];
        item(attributes.into_iter().chain([("unresolved_partition", format!("FAILED#{SHARD}"))]))
    };
    world.put((0..5).map(unresolved)).await;
    let count = async |since, limit| {
        let counted = world.table.count_unresolved(Status::Failed, SHARD, at(&second(since)), limit).await.unwrap();
        assert!(counted.count == 0 || counted.read_units > 0.0, "counting costs something");
        (counted.count, counted.more)
    };
    settles_at((5, false), async || count(0, 100).await).await;
    assert_eq!(count(3, 100).await, (2, false));
    assert_eq!(count(5, 100).await, (0, false));
    assert_eq!(count(0, 4).await, (4, true));
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn one_run_has_the_sweeps_lease_and_the_next_reads_what_it_has_saved() {
    let world = World::new().await;
    let begin = async |now, until| world.table.begin_sweep(at(now), at(until)).await.unwrap();
    assert_eq!(begin(BEFORE, NOW).await, Some(SweepState::default()), "nothing is saved yet");
    assert_eq!(begin(BEFORE, LATER).await, None, "another run has the lease");
    assert_eq!(begin(NOW, LATER).await, Some(SweepState::default()), "the lease is over");

    let after = Some(IndexKey { id: "kinesis:'\"?\n".into(), since: "0".into() });
    let pass = Pass { began: at(NOW), after, all_published: false };
    let every = |shard| (shard, ShardState { published_until: Some(at(BEFORE)), unfinished: Some(pass.clone()) });
    let full = SweepState { next_shard: 31, shards: (0..limits::PENDING_SHARDS).map(every).collect() };
    let last = SweepState { next_shard: 1, shards: BTreeMap::from([(3, ShardState::default())]) };
    let lapsed = world.table.end_sweep(&last, at(NOW)).await.unwrap_err();
    assert!(!lapsed.kind.is_retryable(), "{lapsed}");
    for state in [full, last, SweepState::default()] {
        for _ in 0..2 {
            assert_eq!(world.table.end_sweep(&state, at(LATER)).await, Ok(()), "also where the first reply was lost");
        }
        assert_eq!(begin(BEFORE, LATER).await, Some(state));
    }
    assert!(world.get(SWEEP_CURSOR_ID).await.is_some_and(|item| !item.contains_key("status")), "it is not published");
}
