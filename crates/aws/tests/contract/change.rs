//! Every change of a status, tried on an item in every state: it is made exactly where its condition holds, and a refusal
//! returns the item as it is.

use crate::items::{BEFORE, Item, NINETY_DAYS_LATER, NOW, at, event, id, item, notification};
use crate::world::{Images, World};
use notification::change::{After, Run};
use notification::id::index_shard;
use notification::ports::{Table, TableReader, Written};
use notification::reason::Note;
use notification::{Change, Claim, Notification, Outcome, Reason, ReasonCode, Stored, Timestamp, limits};

const LEASE: &str = "2026-11-22T10:01:10.000Z";

fn claim(owner: &str) -> Claim {
    Claim { owner: owner.into(), lease_until: at(LEASE) }
}

/// The states that an item can be in, by name.
const STATES: [&str; 13] = [
    "absent",
    "INIT",
    "INIT, unknown call",
    "INIT, put back",
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
        Some("FAILED") => attributes.extend([
            ("failed_at", since.clone()),
            ("reason", "refused".to_owned()),
            ("reason_code", "rejected".to_owned()),
        ]),
        Some("IN_DOUBT") => attributes.extend([
            ("in_doubt_at", since.clone()),
            ("reason", "no answer".to_owned()),
            ("reason_code", "outcome_unknown".to_owned()),
        ]),
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
    match state {
        "INIT, unknown call" | "IN_DOUBT" => {
            attributes.extend([
                ("unknown_call_at", since.clone()),
                ("last_failure_at", since),
                ("failures", "2".to_owned()),
            ]);
        }
        "INIT, put back" => attributes.push(("put_back_at", since)),
        _ => {}
    }
    Some(item(attributes))
}

/// A change, the states in which it is made, and what it then does to the item.
struct Row<'a> {
    change: Change<'a>,
    made_in: &'a [&'a str],
    sets: Vec<(&'a str, String)>,
    removes: &'a [&'a str],
}

impl Row<'_> {
    /// The item after the change. An insert needs no item before it.
    fn apply(&self, before: Option<&Item>) -> Item {
        let mut after = before.cloned().unwrap_or_default();
        after.retain(|name, _| !self.removes.contains(&name.as_str()));
        after.extend(item(self.sets.clone()));
        after
    }
}

/// A row for each constructor of [`Change`], with changes of this notification.
fn rows<'a>(new: &'a Notification, mine: &'a Claim, outcome: &'a Outcome, earlier: &'a [Timestamp]) -> Vec<Row<'a>> {
    const THIS_EVENT: &[&str] = &["INIT", "INIT, unknown call", "INIT, put back"];
    const UNTOUCHED: &[&str] = &["INIT", "INIT, put back"];
    const FIRST_RUN: &[&str] = &["INIT"];
    const SECOND_RUN: &[&str] = &["INIT, put back"];
    const MINE: &[&str] = &["CLAIMED by me"];
    const CLAIMED: &[&str] = &["CLAIMED by me", "CLAIMED by another", "CLAIMED by me, earlier"];
    const PENDING: &[&str] = &["pending_shard", "pending_since"];
    const CLAIM: &[&str] = &["owner", "lease_until"];
    const CLAIM_AND_PENDING: &[&str] = &["owner", "lease_until", "pending_shard", "pending_since"];
    const UNRESOLVED: &[&str] = &["unresolved_partition", "unresolved_since"];
    const RUN: &[&str] =
        &["unresolved_partition", "unresolved_since", "unknown_call_at", "reason_code", "last_failure_at", "failures"];
    const REFUSED: Reason<'_> = Reason { code: ReasonCode::Rejected, text: "no" };
    const UNKNOWN: Reason<'_> = Reason { code: ReasonCode::OutcomeUnknown, text: "outcome unknown" };
    const NOTE: Note<'_> = Note { reason: UNKNOWN, failures: 3 };

    let (id, event) = (new.id(), new.event());
    let (now, shard) = (NOW.to_owned(), index_shard(id.as_str()));
    let inserted = vec![
        ("id", id.as_str().to_owned()),
        ("status", "INIT".into()),
        ("event", event.to_owned()),
        ("source", new.source().to_owned()),
        ("type", new.event_type().to_owned()),
        ("received_at", now.clone()),
        ("pending_shard", shard.to_string()),
        ("pending_since", now.clone()),
    ];
    let claimed = vec![("status", "CLAIMED".into()), ("owner", "me".into()), ("lease_until", LEASE.into())];
    let released = vec![
        ("status", "INIT".into()),
        ("reason", UNKNOWN.text.into()),
        ("reason_code", "outcome_unknown".into()),
        ("last_failure_at", now.clone()),
        ("failures", "3".into()),
    ];
    let done = vec![("status", "DONE".into()), ("done_at", now.clone()), ("expires_at", NINETY_DAYS_LATER.into())];
    let done_with_outcome = [&done[..], &[("outcome", outcome.as_str().to_owned())]].concat();
    let failed = vec![
        ("status", "FAILED".into()),
        ("failed_at", now.clone()),
        ("reason", "no".into()),
        ("reason_code", "rejected".into()),
        ("unresolved_partition", format!("FAILED#{shard}")),
        ("unresolved_since", now.clone()),
    ];
    let in_doubt = vec![
        ("status", "IN_DOUBT".into()),
        ("in_doubt_at", now.clone()),
        ("reason", UNKNOWN.text.into()),
        ("reason_code", "outcome_unknown".into()),
        ("unresolved_partition", format!("IN_DOUBT#{shard}")),
        ("unresolved_since", now.clone()),
    ];
    let unknown_call = [&released[..], &[("unknown_call_at", now.clone())]].concat();
    let put_back = vec![
        ("status", "INIT".into()),
        ("put_back_at", now.clone()),
        ("pending_shard", shard.to_string()),
        ("pending_since", now),
    ];
    let earlier_text = earlier.iter().map(|at| format!("{at:.3}")).collect::<Vec<_>>().join(" ");
    let put_back_again = [&put_back[..], &[("earlier_put_backs", earlier_text)]].concat();

    let row = |change, made_in, sets: &[_], removes| Row { change, made_in, sets: sets.to_vec(), removes };
    vec![
        row(Change::insert(new), &["absent"], &inserted, &[]),
        row(Change::done(id, event, Some(outcome)), THIS_EVENT, &done_with_outcome, PENDING),
        row(Change::fail(id, event, Run::Any, REFUSED), UNTOUCHED, &failed, PENDING),
        row(Change::fail(id, event, Run::First, REFUSED), FIRST_RUN, &failed, PENDING),
        row(Change::fail(id, event, Run::PutBackAt(at(BEFORE)), REFUSED), SECOND_RUN, &failed, PENDING),
        row(Change::note_unknown_call(id, event, NOTE), THIS_EVENT, &unknown_call, &[]),
        row(Change::note_failure(id, event, Run::Any, NOTE), THIS_EVENT, &released, &[]),
        row(Change::note_failure(id, event, Run::First, NOTE), &["INIT", "INIT, unknown call"], &released, &[]),
        row(Change::note_failure(id, event, Run::PutBackAt(at(BEFORE)), NOTE), SECOND_RUN, &released, &[]),
        row(Change::doubt(id, event, UNKNOWN), THIS_EVENT, &in_doubt, PENDING),
        row(Change::claim(id, event, mine), UNTOUCHED, &claimed, &[]),
        row(Change::done_claimed(id, mine, None), MINE, &done, CLAIM_AND_PENDING),
        row(Change::fail_claimed(id, mine, REFUSED), MINE, &failed, CLAIM_AND_PENDING),
        row(Change::release(id, mine, NOTE), MINE, &released, CLAIM),
        row(Change::doubt_claimed(id, mine, UNKNOWN), MINE, &in_doubt, CLAIM_AND_PENDING),
        row(Change::doubt_unreadable_claim(id, UNKNOWN), CLAIMED, &in_doubt, CLAIM_AND_PENDING),
        row(Change::redrive(id, at(BEFORE), &[]), &["FAILED"], &put_back, RUN),
        row(Change::redrive(id, at(BEFORE), earlier), &["FAILED"], &put_back_again, RUN),
        row(Change::resolve_retry(id, at(BEFORE), &[]), &["IN_DOUBT"], &put_back, RUN),
        row(Change::resolve_retry(id, at(BEFORE), earlier), &["IN_DOUBT"], &put_back_again, RUN),
        row(Change::resolve_done(id, at(BEFORE)), &["IN_DOUBT"], &done, UNRESOLVED),
        row(Change::redrive(id, at(NOW), earlier), &[], &put_back, RUN),
        row(Change::resolve_retry(id, at(NOW), earlier), &[], &put_back, RUN),
    ]
}

/// A change in a state, and the item before it and after it.
struct Case<'a> {
    state: &'a str,
    row: Row<'a>,
    before: Option<Item>,
    after: Option<Item>,
}

impl<'a> Case<'a> {
    fn new(state: &'a str, row: Row<'a>) -> Self {
        let before = in_state(state, row.change.id().as_str());
        let after = if row.made_in.contains(&state) { Some(row.apply(before.as_ref())) } else { before.clone() };
        Self { state, row, before, after }
    }

    fn id(&self) -> &'a str {
        self.row.change.id().as_str()
    }

    fn is_made(&self) -> bool {
        self.row.made_in.contains(&self.state)
    }

    fn description(&self) -> String {
        format!("{:?} → {:?} in {}", self.row.change.from(), self.row.change.to(), self.state)
    }

    /// The answers that an engine may give. The item was read just before the change.
    fn answers(&self, stored: Option<Stored>) -> Vec<Written> {
        match (self.is_made(), self.row.change.to()) {
            (true, _) => vec![Written::Yes],
            // An engine may leave out the item that already has the id of an insert.
            (false, After::Inserted(_)) => vec![Written::RefusedUnseen, Written::Refused(stored.unwrap())],
            (false, _) => vec![stored.map_or(Written::RefusedUnseen, Written::Refused)],
        }
    }

    /// The images that the stream must have: first the item that the test puts, then the change.
    fn images(&self) -> Vec<Images> {
        let put = self.before.clone().map(|item| (None, Some(item)));
        let change = self.is_made().then(|| (self.before.clone(), self.after.clone()));
        put.into_iter().chain(change).collect()
    }
}

#[tokio::test]
async fn each_change_is_made_where_its_condition_holds_and_a_refusal_has_the_item_and_the_stream_has_both_images() {
    let world = World::new().await;
    let (mine, outcome) = (claim("me"), Outcome::new(&serde_json::json!({"payment": "é'\"?"})));
    let earlier = [1_000, 2_500].map(|millis| Timestamp::from_millisecond(millis).unwrap());
    let row_count = rows(&notification("a"), &mine, &outcome, &earlier).len();
    let notifications: Vec<_> =
        (0..row_count * STATES.len()).map(|number| notification(&format!("n{number}"))).collect();
    let mut cases = Vec::with_capacity(notifications.len());
    for (number, new) in notifications.iter().enumerate() {
        let row = rows(new, &mine, &outcome, &earlier).swap_remove(number / STATES.len());
        cases.push(Case::new(STATES[number % STATES.len()], row));
    }
    assert_eq!(cases.iter().filter(|case| case.is_made()).count(), 34, "a row names a state that does not exist");
    world.put(cases.iter().filter_map(|case| case.before.clone())).await;

    for cases in cases.chunks(limits::BATCH_EXECUTE_STATEMENT_MAX) {
        let changes: Vec<_> = cases.iter().map(|case| case.row.change).collect();
        let ids: Vec<_> = changes.iter().map(Change::id).collect();
        let stored = world.table.read(&ids).await.unwrap();
        let answers = world.table.write(&changes, at(NOW)).await.unwrap();
        assert_eq!(answers.len(), cases.len());
        for ((case, answer), stored) in cases.iter().zip(answers).zip(stored) {
            let answer = answer.unwrap();
            assert!(case.answers(stored.unwrap()).contains(&answer), "{}: {answer:?}", case.description());
        }
    }

    for case in &cases {
        assert_eq!(world.get(case.id()).await, case.after, "{}", case.description());
    }
    for (case, changes) in cases.iter().zip(world.changes(cases.iter().map(Case::id)).await) {
        assert_eq!(changes, case.images(), "{}", case.description());
    }
}

#[tokio::test]
async fn a_change_that_changes_nothing_is_made_and_leaves_no_stream_record() {
    let world = World::new().await;
    let (a, event) = (id("a"), event("a", ""));
    world.put(in_state("INIT", "a")).await;
    let note = Change::note_unknown_call(&a, &event, notification::testing::NOTE);
    for _ in 0..3 {
        assert_eq!(world.table.write(&[note], at(NOW)).await.unwrap(), [Ok(Written::Yes)]);
    }
    let [changes] = &world.changes(["a"]).await[..] else { panic!() };
    assert_eq!(changes.len(), 2, "the put and the first note: {changes:?}");
}
