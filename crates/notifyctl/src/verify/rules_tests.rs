//! Each rule of `rules`, broken one at a time.

use super::attributes::item;
use super::follow::problem;
use super::rules::*;
use crate::testing::stack;
use aws::table::DynamoTable;
use notification::change::Run;
use notification::id::index_shard;
use notification::ports::{DownstreamTable, Orphan, Table, Written};
use notification::reason::Note;
use notification::report::Identifier;
use notification::status::TRANSITIONS;
use notification::{
    Change, Claim, Notification, NotificationId, Outcome, Reason, ReasonCode, Status, Timestamp, limits,
};
use std::collections::{BTreeSet, HashMap};
use stream_reader::ReadFrom;

const EVENT: &str = r#"{"specversion":"1.0","id":"a","source":"s","type":"t"}"#;
const RECEIVED: &str = "2026-11-22T10:00:00.000Z";
const PUT_BACK: &str = "2026-11-22T10:05:00.000Z";
const LATER: &str = "2026-11-22T10:06:00.000Z";

/// An item of this kind with everything that such an item can have, all at once.
fn full(kind: &str) -> Item {
    let column = COLUMNS.iter().position(|column| *column == kind).unwrap();
    let has = ATTRIBUTES.iter().filter(|attribute| attribute.has[column] != Has::Never);
    has.map(|attribute| (attribute.name.to_owned(), value(attribute.name, kind))).collect()
}

/// A value that is right in an item that was put back once.
fn value(name: &str, kind: &str) -> Value {
    let id = if kind == "orphan" { "kinesis:shardId-0:7" } else { "a" };
    let status = if kind == "orphan" { "FAILED" } else { kind };
    let text = match name {
        "id" => id,
        "status" => status,
        "event" => EVENT,
        "source" => "s",
        "type" => "t",
        "received_at" => RECEIVED,
        "pending_since" | "put_back_at" => PUT_BACK,
        "reason_code" => "rejected",
        "pending_shard" => return Value::Number(index_shard(id).to_string()),
        "unresolved_partition" => return Value::Text(format!("{status}#{}", index_shard(id))),
        "failures" | "raw_bytes" => return Value::Number("3".to_owned()),
        // 90 days after `LATER`.
        "expires_at" => return Value::Number("1803117960".to_owned()),
        "raw" => return Value::Bytes,
        "earlier_put_backs" => return texts([RECEIVED]),
        "owner" | "outcome" | "reason" => "x",
        _ => LATER,
    };
    Value::Text(text.to_owned())
}

fn with(mut item: Item, name: &str, value: Value) -> Item {
    item.insert(name.to_owned(), value);
    item
}

fn without(mut item: Item, name: &str) -> Item {
    item.remove(name);
    item
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn texts<const N: usize>(texts: [&str; N]) -> Value {
    Value::Texts(texts.map(str::to_owned).to_vec())
}

#[test]
fn an_item_with_all_that_its_status_allows_breaks_no_rule() {
    for kind in COLUMNS {
        assert_eq!(wrong_item(&full(kind)), None, "{kind}");
    }
}

#[test]
fn an_item_without_an_attribute_that_it_always_has_or_with_one_that_it_never_has_is_found() {
    for (column, kind) in COLUMNS.iter().enumerate() {
        for Attribute { name, has, .. } in ATTRIBUTES {
            let (broken, told) = match has[column] {
                Has::Always => (without(full(kind), name), format!("no {name}")),
                Has::Never => (with(full(kind), name, value(name, kind)), format!("has {name}")),
                Has::Maybe => continue,
            };
            let problem = wrong_item(&broken).unwrap_or_else(|| panic!("{kind}: {told}"));
            // Without its status, nothing says what else it should have.
            assert!(problem.contains(&told) || problem == "it has no known status", "{problem}: not {told}");
        }
    }
}

#[test]
fn a_value_of_another_type_is_found() {
    for kind in COLUMNS {
        for name in full(kind).keys().filter(|name| !["id", "status"].contains(&name.as_str())) {
            let problem = wrong_item(&with(full(kind), name, Value::Other)).unwrap();
            assert!(problem.contains(&format!("its {name} is not a")), "{problem}");
        }
    }
    for time in ["now", "2026-11-22T10:00:00Z", "2026-11-22T11:00:00.000+01:00", "2026-11-22T10:00:00.000000Z"] {
        let problem = wrong_item(&with(full("DONE"), "received_at", text(time))).unwrap();
        assert_eq!(problem, "its received_at is not a time in UTC with milliseconds", "{time}");
    }
    let number = |number: &str| wrong_item(&with(full("INIT"), "failures", Value::Number(number.to_owned())));
    assert_eq!(number("1.5").unwrap(), "its failures is not a number");
}

#[test]
fn an_attribute_that_needs_another_one_is_found_without_it() {
    for (name, needed) in NEEDS {
        let broken = needed.iter().fold(full("DONE"), |item, needed| without(item, needed));
        // DONE has no rule of its own for any of these.
        let problem = wrong_item(&broken).unwrap();
        let all: Vec<_> =
            NEEDS.iter().map(|(name, needed)| format!("it has {name} and no {}", needed.join(" or "))).collect();
        assert!(all.contains(&problem), "{name}: {problem}");
        assert!(broken.contains_key(*name));
    }
}

#[test]
fn each_rule_about_values_is_found_broken() {
    let never_put_back = |kind: &str| {
        let gone = ["put_back_at", "earlier_put_backs", "failed_at", "in_doubt_at"];
        gone.iter()
            .filter(|name| !name.starts_with("in_doubt") || kind != "IN_DOUBT")
            .fold(full(kind), |item, name| without(item, name))
    };
    assert_eq!(wrong_item(&with(never_put_back("INIT"), "pending_since", text(RECEIVED))), None);
    assert_eq!(wrong_item(&never_put_back("IN_DOUBT")), None);
    for (broken, told) in [
        (with(full("INIT"), "status", text("OPEN")), "no known status"),
        (with(full("orphan"), "status", text("INIT")), "it is an orphan and INIT"),
        (with(full("INIT"), "colour", text("red")), "it has colour, which no item has"),
        (with(full("INIT"), "pending_since", text(RECEIVED)), "its pending_since is not its put_back_at"),
        (never_put_back("CLAIMED"), "its pending_since is not its received_at"),
        (with(full("FAILED"), "failed_at", text(RECEIVED)), "its unresolved_since is not its failed_at"),
        (with(full("IN_DOUBT"), "in_doubt_at", text(RECEIVED)), "its unresolved_since is not its in_doubt_at"),
        (with(full("orphan"), "failed_at", text(RECEIVED)), "its unresolved_since is not its failed_at"),
        (without(without(full("DONE"), "put_back_at"), "earlier_put_backs"), "it was FAILED and has no put_back_at"),
        (
            without(without(full("FAILED"), "put_back_at"), "earlier_put_backs"),
            "it was IN_DOUBT and has no put_back_at",
        ),
        (with(full("INIT"), "pending_shard", Value::Number("13".to_owned())), "its pending_shard is"),
        (with(full("FAILED"), "unresolved_partition", text("IN_DOUBT#12")), "its unresolved_partition is"),
        (with(full("FAILED"), "reason_code", text("refused")), "its reason_code is not a known one"),
        (without(full("INIT"), "reason_code"), "one of reason_code and failures"),
        (with(full("DONE"), "failures", Value::Number("0".to_owned())), "its failures are 0"),
        (with(full("DONE"), "expires_at", Value::Number("1798000000".to_owned())), "less than 36 days"),
        (with(full("DONE"), "expires_at", Value::Number("1803117961".to_owned())), "not expire whole days"),
        (with(full("DONE"), "id", text("sweep:x")), "its id is not a notification id"),
        (with(full("DONE"), "event", text("{}")), "its event is malformed"),
        (with(full("DONE"), "event", text(&EVENT.replace("\"a\"", "\"b\""))), "its event has another id"),
        (with(full("DONE"), "source", text("other")), "its source is not that of its event"),
        (with(full("DONE"), "type", text("other")), "its type is not that of its event"),
    ] {
        let problem = wrong_item(&broken).unwrap_or_else(|| panic!("not found: {told}"));
        assert!(problem.contains(told), "{problem}: not {told}");
    }
    assert_eq!(wrong_item(&with(full("FAILED"), "event", text("{}"))), None, "a FAILED item may have any event");
    assert_eq!(wrong_item(&Item::from([("id".to_owned(), text("sweep:cursor"))])), None);
}

/// The items before and after a change, with all that it allows.
fn images(change: &super::rules::Change) -> (Option<Item>, Item) {
    let is_orphan = change.sets.concat().contains(&"raw");
    let old = change.from.map(|status| full(status.as_str()));
    let mut new = old.clone().unwrap_or_default();
    for name in change.removes.concat() {
        new.remove(name);
    }
    let kind = if is_orphan { "orphan" } else { change.to.as_str() };
    for name in change.sets.concat().iter().chain(change.may_set).chain(&["status"]) {
        let set = if change.from.is_none() && *name == "pending_since" { text(RECEIVED) } else { value(name, kind) };
        new.insert((*name).to_owned(), set);
    }
    if change.sets.concat().contains(&"put_back_at") {
        new.insert("earlier_put_backs".to_owned(), texts([RECEIVED, PUT_BACK]));
    }
    // A claim is made, and FAILED is written, only where no call has an unknown outcome.
    let column = COLUMNS.iter().position(|column| *column == kind).unwrap();
    let is_never = |name: &str| ATTRIBUTES.iter().any(|it| it.name == name && it.has[column] == Has::Never);
    let old = old.map(|old| {
        let kept = |name: &String| !new.contains_key(name) || !is_never(name);
        old.into_iter().filter(|(name, _)| kept(name)).collect()
    });
    new.retain(|name, _| !is_never(name));
    (old, new)
}

#[test]
fn every_transition_is_allowed_with_what_it_sets_and_removes() {
    let transitions: BTreeSet<_> = TRANSITIONS.iter().map(|transition| (transition.from, transition.to)).collect();
    let changes: BTreeSet<_> = CHANGES.iter().map(|change| (change.from, change.to)).collect();
    assert_eq!(changes, transitions);
    assert_eq!(CHANGES.len(), changes.len());
    for change in CHANGES {
        let (old, new) = images(change);
        assert_eq!(wrong_change(old.as_ref(), &new), None, "{:?} → {}", change.from, change.to);
    }
}

#[test]
fn a_change_that_does_anything_else_to_an_attribute_is_found() {
    for change in CHANGES {
        let (old, new) = images(change);
        let (sets, removes) = (change.sets.concat(), change.removes.concat());
        for Attribute { name, .. } in ATTRIBUTES.iter().filter(|attribute| attribute.name != "status") {
            let mut broken = vec![];
            if sets.contains(name) {
                broken.push((old.clone(), without(new.clone(), name)));
            } else if removes.contains(name) {
                // It may be kept where the status allows it, so that only the change is wrong.
                let kept = old.as_ref().and_then(|old| old.get(*name)).cloned();
                broken.extend(kept.map(|kept| (old.clone(), with(new.clone(), name, kept))));
            } else if let Some(value) = new.get(*name) {
                // What it may set, it need not set; but it does not remove it.
                let had = old.as_ref().is_some_and(|old| old.contains_key(*name));
                broken.extend(had.then(|| (old.clone(), without(new.clone(), name))));
                let changed =
                    old.clone().map(|old| with(old, name, Value::Other)).filter(|_| !change.may_set.contains(name));
                broken.extend(changed.map(|old| (Some(old), with(new.clone(), name, value.clone()))));
            } else if change.from.is_none() {
                broken.push((None, with(new.clone(), name, value(name, "INIT"))));
            }
            for (old, new) in broken {
                let from = change.from.map_or("nothing", Status::as_str);
                assert!(wrong_change(old.as_ref(), &new).is_some(), "{from} → {}: {name}", change.to);
            }
        }
    }
}

#[test]
fn only_transitions_are_allowed() {
    for (from, from_text) in [(Some("DONE"), "DONE"), (Some("FAILED"), "FAILED"), (None, "nothing")] {
        let old = from.map(full);
        let problem = wrong_change(old.as_ref(), &full("CLAIMED")).unwrap();
        assert_eq!(problem, format!("it was changed from {from_text} to CLAIMED, which is not an allowed transition"));
    }
    let problem = wrong_change(Some(&without(full("INIT"), "status")), &full("INIT")).unwrap();
    assert_eq!(problem, "it had no known status, and is INIT");
    assert_eq!(wrong_change(Some(&full("DONE")), &Item::from([("id".to_owned(), text("sweep:cursor"))])), None);
}

#[test]
fn what_is_no_transition_is_named_whatever_else_is_wrong_with_the_item() {
    let overwritten = with(full("DONE"), "status", text("FAILED"));
    let problem = wrong_change(Some(&full("DONE")), &overwritten).unwrap();
    assert_eq!(problem, "it was changed from DONE to FAILED, which is not an allowed transition");
}

#[test]
fn a_right_change_of_an_item_that_was_wrong_before_is_no_violation() {
    let change = CHANGES.iter().find(|change| change.from == Some(Status::Failed)).unwrap();
    let (old, new) = images(change);
    let wrong = |item: Item| with(item, "event", text("no event"));
    assert!(wrong_item(&wrong(new.clone())).is_some());
    assert_eq!(wrong_change(Some(&wrong(old.clone().unwrap())), &wrong(new.clone())), None);
    assert!(wrong_change(old.as_ref(), &wrong(new)).is_some());
}

#[test]
fn a_note_changes_nothing_that_says_since_when_or_what() {
    let noted = |name: &str, value: &str| wrong_change(Some(&full("INIT")), &with(full("INIT"), name, text(value)));
    assert_eq!(noted("reason", "another"), None);
    let earlier = |name: &str, value: &str| wrong_change(Some(&with(full("INIT"), name, text(value))), &full("INIT"));
    assert_eq!(earlier("unknown_call_at", RECEIVED), None, "the last failure is another call without an answer");
    assert_eq!(earlier("pending_since", RECEIVED).unwrap(), "it became INIT, and its pending_since was changed");
    assert_eq!(earlier("received_at", LATER).unwrap(), "it became INIT, and its received_at was changed");
    assert_eq!(
        earlier("event", &EVENT.replace('}', ",\"data\":1}")).unwrap(),
        "it became INIT, and its event was changed"
    );
    assert_eq!(
        noted("unknown_call_at", RECEIVED).unwrap(),
        "it became INIT, and its new unknown_call_at is not its last_failure_at"
    );
}

#[test]
fn an_item_that_is_put_back_keeps_the_last_times_before() {
    let change = CHANGES.iter().find(|change| change.from == Some(Status::Failed)).unwrap();
    let (old, new) = images(change);
    let old = old.unwrap();
    let wrong = |old: &Item, earlier| wrong_change(Some(old), &with(new.clone(), "earlier_put_backs", earlier));
    assert_eq!(wrong(&old, texts([RECEIVED, PUT_BACK])), None);
    let told = "it became INIT, and its earlier_put_backs are not those before it and its put_back_at of then";
    for earlier in [texts([]), texts([PUT_BACK]), texts([PUT_BACK, RECEIVED]), texts([RECEIVED, PUT_BACK, PUT_BACK])] {
        assert_eq!(wrong(&old, earlier).as_deref(), Some(told));
    }
    let first =
        ["put_back_at", "earlier_put_backs", "in_doubt_at"].iter().fold(old.clone(), |item, name| without(item, name));
    let once = ["earlier_put_backs", "in_doubt_at"].iter().fold(new.clone(), |item, name| without(item, name));
    assert_eq!(wrong_change(Some(&first), &once), None);
    let full = with(old, "earlier_put_backs", texts([RECEIVED; limits::EARLIER_PUT_BACKS_MAX]));
    let mut kept = [RECEIVED; limits::EARLIER_PUT_BACKS_MAX];
    kept[limits::EARLIER_PUT_BACKS_MAX - 1] = PUT_BACK;
    assert_eq!(wrong(&full, texts(kept)), None, "the oldest one leaves");
    assert_eq!(
        wrong_item(&with(new.clone(), "earlier_put_backs", texts([RECEIVED, "now"]))).unwrap(),
        "its earlier_put_backs is not a list of times in UTC with milliseconds"
    );
}

#[test]
fn a_note_has_a_reason_and_a_new_run_begins_without_the_notes_of_the_last_one() {
    let plain = ["reason", "reason_code", "last_failure_at", "failures", "unknown_call_at"]
        .iter()
        .fold(full("INIT"), |item, name| without(item, name));
    assert_eq!(wrong_item(&plain), None);
    assert_eq!(wrong_change(Some(&plain), &plain).unwrap(), "it became INIT, and its reason was not set");
    assert_eq!(wrong_change(Some(&full("IN_DOUBT")), &plain).unwrap(), "it became INIT, and its reason was changed");
    let put_back = with(with(plain, "reason", text("x")), "earlier_put_backs", texts([RECEIVED, PUT_BACK]));
    assert_eq!(wrong_change(Some(&full("IN_DOUBT")), &put_back), None);
    let kept = with(without(full("INIT"), "unknown_call_at"), "earlier_put_backs", texts([RECEIVED, PUT_BACK]));
    assert_eq!(
        wrong_change(Some(&full("IN_DOUBT")), &kept).unwrap(),
        "it became INIT, and its failures was not removed"
    );
}

#[test]
fn only_done_items_are_removed_and_only_by_their_time_to_live() {
    assert_eq!(wrong_removal(&full("DONE"), Removal::Expiry), None);
    assert_eq!(wrong_removal(&full("INIT"), Removal::Expiry).unwrap(), "it expired although it was not DONE");
    assert!(wrong_removal(&full("DONE"), Removal::Deletion).unwrap().contains("deleted"));
    assert_eq!(wrong_removal(&Item::from([("id".to_owned(), text("sweep:cursor"))]), Removal::Deletion), None);
}

#[test]
fn the_documented_attributes_and_changes_are_those_of_the_code() {
    let header = format!("| attribute | type | {} |\n|---|---|{}\n", COLUMNS.join(" | "), "---|".repeat(6));
    let cell = |has| match has {
        Has::Always => "yes",
        Has::Never => "–",
        Has::Maybe => "maybe",
    };
    let row = |Attribute { name, kind, has }: &Attribute| {
        format!("| `{name}` | {} | {} |\n", kind.name(), has.map(cell).join(" | "))
    };
    assert_documented(&(header + &ATTRIBUTES.iter().map(row).collect::<String>()));

    let names = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        if names.is_empty() { "–".to_owned() } else { names.join(" ") }
    };
    let row = |change: &super::rules::Change| {
        let from = change.from.map_or("–", Status::as_str);
        let (sets, removes) = (names(&change.sets.concat()), names(&change.removes.concat()));
        format!("| {from} | {} | {sets} | {} | {removes} |\n", change.to, names(change.may_set))
    };
    let header = "| from | to | sets | may set | removes |\n|---|---|---|---|---|\n";
    assert_documented(&(header.to_owned() + &CHANGES.iter().map(row).collect::<String>()));
}

fn assert_documented(table: &str) {
    let semantics = include_str!("../../../../docs/SEMANTICS.md");
    assert!(semantics.contains(table), "docs/SEMANTICS.md does not have this table:\n{table}");
}

/// Every change that the code can make, on the model of DynamoDB, in an order in which each finds what it expects.
#[tokio::test]
async fn no_change_that_the_code_makes_breaks_a_rule() {
    let stack = stack().await;
    let table = DynamoTable::new(stack.dynamodb.clone(), stack.table_name.clone());
    let at = |second: i64| Timestamp::from_second(1_795_341_600 + second).unwrap();
    let claim = Claim { owner: "w".into(), lease_until: at(900) };
    let refused = Reason { code: ReasonCode::Rejected, text: "no" };
    let note = Note { reason: refused, failures: 1 };
    let outcome = Outcome::new(&serde_json::json!(1));
    let mut time = 0;
    let event = |id: &str| EVENT.replace("\"a\"", &format!("\"{id}\""));
    let first_redrive = [at(13)];
    let ids = ["a", "b", "c", "d", "e", "f"].map(|id| NotificationId::parse(id).unwrap());
    let notifications = ids.each_ref().map(|id| Notification::parse(event(id.as_str())).unwrap());
    let mut changes: Vec<Change<'_>> = notifications.iter().map(Change::insert).collect();
    let [asked, redriven, released, unreadable, unknown, doubted] = &ids;
    let events = notifications.each_ref().map(Notification::event);
    changes.extend([
        // asked: fails twice, and once its outcome is unknown; then an operator finds out that it did not happen.
        Change::note_failure(asked, events[0], Run::First, note),
        Change::note_unknown_call(asked, events[0], note),
        Change::note_unknown_call(asked, events[0], note),
        Change::doubt(asked, events[0], refused),
        Change::resolve_retry(asked, at(9), &[]),
        Change::done(asked, events[0], Some(&outcome)),
        // redriven: FAILED, redriven, FAILED under a claim, redriven again, done under a claim.
        Change::fail(redriven, events[1], Run::First, refused),
        Change::redrive(redriven, at(12), &[]),
        Change::claim(redriven, events[1], &claim),
        Change::fail_claimed(redriven, &claim, refused),
        Change::redrive(redriven, at(15), &first_redrive),
        Change::claim(redriven, events[1], &claim),
        Change::done_claimed(redriven, &claim, Some(&outcome)),
        // released: and claimed again, then in doubt under a claim; an operator finds out that it happened.
        Change::claim(released, events[2], &claim),
        Change::release(released, &claim, note),
        Change::claim(released, events[2], &claim),
        Change::doubt_claimed(released, &claim, refused),
        Change::resolve_done(released, at(22)),
        // unreadable: a claim that cannot be read.
        Change::claim(unreadable, events[3], &claim),
        Change::doubt_unreadable_claim(unreadable, refused),
        Change::resolve_retry(unreadable, at(25), &[]),
        Change::done(unreadable, events[3], None),
        // unknown: done after a call without an answer. doubted: in doubt at once.
        Change::note_unknown_call(unknown, events[4], note),
        Change::done(unknown, events[4], None),
        Change::doubt(doubted, events[5], refused),
    ]);
    let count = changes.len();
    for change in changes {
        let answers = table.write(&[change], at(time)).await.unwrap();
        assert_eq!(answers, [Ok(Written::Yes)], "{time}: {change:?}");
        time += 1;
    }
    let sequence_number = Identifier::parse(Some("7")).unwrap();
    let orphan = Orphan { shard: "shardId-0", sequence_number: &sequence_number, raw: b"\xFF" };
    table.quarantine(orphan, "not valid UTF-8", at(time)).await.unwrap();

    let shards = stack.table_stream.shards().await.unwrap();
    let iterator = stack.table_stream.iterator(&shards[0].id, &ReadFrom::TrimHorizon).await.unwrap().unwrap();
    let records = stack.table_stream.records(iterator).await.unwrap().records;
    assert_eq!(records.len(), count + 1);
    for record in &records {
        assert_eq!(problem(record), None, "{record:?}");
    }
    let made: BTreeSet<_> = records
        .iter()
        .map(|record| {
            let status = |image: Option<&HashMap<_, _>>| image.map(|image| item(image)["status"].clone());
            let change = record.dynamodb().unwrap();
            format!("{:?} → {:?}", status(change.old_image()), status(change.new_image()))
        })
        .collect();
    assert_eq!(made.len(), CHANGES.len(), "every transition was made: {made:#?}");
}
