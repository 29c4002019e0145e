//! Every change of a status, against every state that an item can be in: it is made exactly where its condition holds,
//! and a refusal says what the item is.

use crate::items::{BEFORE, Item, NINETY_DAYS_LATER, NOW, at, event, id, item};
use crate::world::World;
use notification::change::{After, Before};
use notification::id::index_shard;
use notification::ports::{Table, TableReader, Written};
use notification::{Change, Claim};
use notification::{NotificationId, Outcome, Status, limits};

const LEASE: &str = "2026-11-22T10:01:10.000Z";

fn claim(owner: &str) -> Claim {
    Claim { owner: owner.into(), lease_until: at(LEASE) }
}

/// States that an item can be in, by name.
const STATES: [&str; 12] = [
    "absent",
    "INIT",
    "INIT, a call unknown",
    "INIT, another event",
    "INIT, no event",
    "CLAIMED by me",
    "CLAIMED by another",
    "CLAIMED by me, earlier",
    "DONE",
    "FAILED",
    "IN_DOUBT",
    "no status",
];

/// The item with this id in a state.
fn in_state(state: &str, id: &str) -> Option<Item> {
    let status = match state {
        "absent" => return None,
        "no status" => None,
        state => Some(state.split([' ', ',']).next().unwrap()),
    };
    let event = match state {
        "INIT, no event" | "no status" => None,
        "INIT, another event" => Some(event(id, "another")),
        _ => Some(event(id, "")),
    };
    let mut attributes = vec![("id", id.to_owned())];
    attributes.extend(status.map(|status| ("status", status.to_owned())));
    attributes.extend(event.map(|event| ("event", event)));
    let (shard, since) = (index_shard(id), BEFORE.to_owned());
    match status {
        Some("INIT" | "CLAIMED") => {
            attributes.extend([("pending_shard", shard.to_string()), ("pending_since", since.clone())]);
        }
        Some("DONE") => attributes.extend([("done_at", since.clone()), ("expires_at", "1800000000".to_owned())]),
        Some("FAILED") => attributes.extend([("failed_at", since.clone()), ("reason", "refused".to_owned())]),
        Some("IN_DOUBT") => attributes.extend([("in_doubt_at", since.clone()), ("reason", "no answer".to_owned())]),
        _ => {}
    }
    if let Some(status @ ("FAILED" | "IN_DOUBT")) = status {
        let partition = format!("{status}#{shard}");
        attributes.extend([("unresolved_partition", partition), ("unresolved_since", since.clone())]);
    }
    let owner = if state == "CLAIMED by another" { "another" } else { "me" };
    let lease = if state == "CLAIMED by me, earlier" { NOW } else { LEASE };
    if status == Some("CLAIMED") {
        attributes.extend([("owner", owner.to_owned()), ("lease_until", lease.to_owned())]);
    }
    if matches!(state, "INIT, a call unknown" | "IN_DOUBT") {
        attributes.push(("unknown_call_at", since));
    }
    Some(item(attributes))
}

/// A change, the states in which it is made, and what it then does to the item.
struct Row<'a> {
    from: Before<'a>,
    to: After<'a>,
    made_in: &'a [&'a str],
    sets: Vec<(&'a str, String)>,
    removes: &'a [&'a str],
}

/// A row for the notification with this id and event.
fn rows<'a>(id: &str, event: &'a str, mine: &'a Claim, outcome: &'a Outcome) -> Vec<Row<'a>> {
    const INIT: &[&str] = &["INIT", "INIT, a call unknown", "INIT, another event", "INIT, no event"];
    const THIS_EVENT: &[&str] = &["INIT", "INIT, a call unknown"];
    const UNTOUCHED: &[&str] = &["INIT"];
    const MINE: &[&str] = &["CLAIMED by me"];
    const CLAIMED: &[&str] = &["CLAIMED by me", "CLAIMED by another", "CLAIMED by me, earlier"];
    const PENDING: &[&str] = &["pending_shard", "pending_since"];
    const CLAIM: &[&str] = &["owner", "lease_until"];
    const CLAIM_AND_PENDING: &[&str] = &["owner", "lease_until", "pending_shard", "pending_since"];
    const UNRESOLVED: &[&str] = &["unresolved_partition", "unresolved_since"];
    const DOUBT: &[&str] = &["unresolved_partition", "unresolved_since", "unknown_call_at"];

    let (now, shard) = (NOW.to_owned(), index_shard(id));
    let claimed = vec![("status", "CLAIMED".into()), ("owner", "me".into()), ("lease_until", LEASE.into())];
    let init = vec![("status", "INIT".into())];
    let done = vec![("status", "DONE".into()), ("done_at", now.clone()), ("expires_at", NINETY_DAYS_LATER.into())];
    let done_with_outcome = [&done[..], &[("outcome", outcome.as_str().to_owned())]].concat();
    let failed = vec![
        ("status", "FAILED".into()),
        ("failed_at", now.clone()),
        ("reason", "no".into()),
        ("unresolved_partition", format!("FAILED#{shard}")),
        ("unresolved_since", now.clone()),
    ];
    let in_doubt = vec![
        ("status", "IN_DOUBT".into()),
        ("in_doubt_at", now.clone()),
        ("reason", "who knows".into()),
        ("unresolved_partition", format!("IN_DOUBT#{shard}")),
        ("unresolved_since", now.clone()),
    ];
    let unknown_call = vec![("status", "INIT".into()), ("unknown_call_at", now.clone())];
    let put_back = vec![
        ("status", "INIT".into()),
        ("put_back_at", now.clone()),
        ("pending_shard", shard.to_string()),
        ("pending_since", now),
    ];

    let of_status = Before::Status;
    let row = |from, to, made_in, sets: &[_], removes| Row { from, to, made_in, sets: sets.to_vec(), removes };
    vec![
        row(Before::Event(event), After::Done(Some(outcome)), THIS_EVENT, &done_with_outcome, PENDING),
        row(Before::Event(event), After::UnknownCall, THIS_EVENT, &unknown_call, &[]),
        row(Before::Event(event), After::InDoubt("who knows"), THIS_EVENT, &in_doubt, PENDING),
        row(Before::Untouched(event), After::Claimed(mine), UNTOUCHED, &claimed, &[]),
        row(Before::Untouched(event), After::Failed("no"), UNTOUCHED, &failed, PENDING),
        row(Before::Claim(mine), After::Init, MINE, &init, CLAIM),
        row(Before::Claim(mine), After::Done(None), MINE, &done, CLAIM_AND_PENDING),
        row(Before::Claim(mine), After::Failed("no"), MINE, &failed, CLAIM_AND_PENDING),
        row(Before::Claim(mine), After::InDoubt("who knows"), MINE, &in_doubt, CLAIM_AND_PENDING),
        row(of_status(Status::Claimed), After::InDoubt("who knows"), CLAIMED, &in_doubt, PENDING),
        row(of_status(Status::Failed), After::Init, &["FAILED"], &put_back, DOUBT),
        row(of_status(Status::InDoubt), After::Init, &["IN_DOUBT"], &put_back, DOUBT),
        row(of_status(Status::InDoubt), After::Done(None), &["IN_DOUBT"], &done, UNRESOLVED),
        row(of_status(Status::Init), After::Done(None), INIT, &done, PENDING),
    ]
}

/// A change in a state, and the item before it and after it.
struct Case<'a> {
    state: &'a str,
    id: NotificationId,
    row: Row<'a>,
    before: Option<Item>,
    after: Option<Item>,
}

impl Case<'_> {
    fn is_made(&self) -> bool {
        self.row.made_in.contains(&self.state)
    }

    /// As the stream should have it: what the test has put, then the change.
    fn images(&self) -> Vec<(Option<Item>, Option<Item>)> {
        let put = self.before.clone().map(|item| (None, Some(item)));
        let change = self.is_made().then(|| (self.before.clone(), self.after.clone()));
        put.into_iter().chain(change).collect()
    }
}

fn after(before: Option<&Item>, row: &Row<'_>) -> Option<Item> {
    let mut after = before?.clone();
    after.retain(|name, _| !row.removes.contains(&name.as_str()));
    after.extend(item(row.sets.clone()));
    Some(after)
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn each_change_is_made_where_its_condition_holds_and_a_refusal_has_the_item_and_the_stream_has_both_images() {
    let world = World::new().await;
    let (mine, outcome) = (claim("me"), Outcome::new(&serde_json::json!({"payment": "é'\"?"})));
    let row_count = rows("", "", &mine, &outcome).len();
    let ids: Vec<String> = (0..row_count * STATES.len()).map(|number| format!("n{number}")).collect();
    let events: Vec<String> = ids.iter().map(|id| event(id, "")).collect();
    let cases: Vec<Case<'_>> = ids
        .iter()
        .zip(&events)
        .enumerate()
        .map(|(number, (text, event))| {
            let state = STATES[number % STATES.len()];
            let row = rows(text, event, &mine, &outcome).swap_remove(number / STATES.len());
            let before = in_state(state, text);
            let made = row.made_in.contains(&state);
            let after = if made { after(before.as_ref(), &row) } else { before.clone() };
            Case { state, id: id(text), row, before, after }
        })
        .collect();
    assert_eq!(cases.iter().filter(|case| case.is_made()).count(), 22, "a name of a state is wrong");
    world.put(cases.iter().filter_map(|case| case.before.clone())).await;

    for cases in cases.chunks(limits::BATCH_EXECUTE_STATEMENT_MAX) {
        let ids: Vec<_> = cases.iter().map(|case| &case.id).collect();
        let stored = world.table.read(&ids).await.unwrap();
        let changes: Vec<_> =
            cases.iter().map(|case| Change { id: &case.id, from: case.row.from, to: case.row.to }).collect();
        let answers = world.table.change(&changes, at(NOW)).await.unwrap();
        assert_eq!(answers.len(), cases.len());
        for ((case, answer), stored) in cases.iter().zip(answers).zip(stored) {
            let expected = if case.is_made() { Changed::Yes } else { Changed::No(stored.unwrap()) };
            assert_eq!(answer, Ok(expected), "{:?} → {:?} in {}", case.row.from, case.row.to, case.state);
        }
    }

    for case in &cases {
        let now = world.get(case.id.as_str()).await;
        assert_eq!(now, case.after, "{:?} → {:?} in {}", case.row.from, case.row.to, case.state);
    }
    for (case, changes) in cases.iter().zip(world.changes(cases.iter().map(|case| case.id.as_str())).await) {
        assert_eq!(changes, case.images(), "{:?} → {:?} in {}", case.row.from, case.row.to, case.state);
    }
}

#[ignore = "needs an engine: make contract"]
#[tokio::test]
async fn a_change_that_changes_nothing_is_made_and_leaves_no_stream_record() {
    let world = World::new().await;
    let (a, event) = (id("a"), event("a", ""));
    world.put(in_state("INIT", "a")).await;
    let note = Change { id: &a, from: Before::Event(&event), to: After::UnknownCall };
    for _ in 0..3 {
        assert_eq!(world.table.change(&[note], at(NOW)).await.unwrap(), [Ok(Changed::Yes)]);
    }
    let [changes] = &world.changes(["a"]).await[..] else { panic!() };
    assert_eq!(changes.len(), 2, "the put and the first note: {changes:?}");
}
