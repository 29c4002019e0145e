//! `notifyctl audit`: was anything of what was sent lost or doubled?
//!
//! The verdict is worked out by [`judge`], from the file that says what was sent, the table, the table's stream and the
//! dead-letter queue, without asking the functions.

use crate::cli::AuditArgs;
use crate::error::{Error, exit};
use crate::ledger::{self, Sums};
use crate::stack::Stack;
use crate::stream::Changes;
use crate::{dead_letters, events, output, stream};
use aws::{DynamoTable, SystemClock};
use notification::batch::{by_count, call_in_batches};
use notification::ports::{Stored, TableReader};
use notification::{Deadline, Malformed, Notification, NotificationId, Status, Timestamp, content, limits};
use rust_decimal::Decimal;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;

/// Names shown for each kind of problem, at the most.
const EXAMPLES: usize = 5;

/// What became of what was sent.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Audit {
    /// Messages sent.
    sent: usize,
    /// Distinct notification ids among them.
    distinct: usize,
    /// Notifications that became DONE exactly once.
    done_once: usize,
    /// DONE in the table, but older than the stream's 24 hours: it cannot be shown how often.
    done_before_the_stream: usize,
    /// Messages of an id that was there already, with the same content: nothing was written for them.
    duplicates_suppressed: usize,
    /// Notifications that the table has as FAILED, with its reason there.
    failed: usize,
    /// Messages in the dead-letter queue, by reason.
    dead_lettered: BTreeMap<String, usize>,
    /// What the ledger paid, where the action is `ledger`.
    ledger: Option<Sums>,
    /// What is wrong, each with its id or line.
    problems: Vec<String>,
}

pub(crate) async fn run(stack: &Stack, args: &AuditArgs, json: bool) -> Result<ExitCode, Error> {
    let sent = events::read(&args.file)?;
    let ids: Vec<NotificationId> = {
        let mut ids: Vec<_> =
            sent.iter().filter_map(|event| Some(Notification::parse(event.as_str()).ok()?.id().clone())).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let table = read_table(stack, &ids).await?;
    let mut audit = judge(&sent, &table, &stream::changes(stack).await?, &dead_letters::bodies(stack).await?);
    if let Some(name) = &stack.ledger_table_name {
        let entries = ledger::entries(stack, name).await?;
        let notifications = table.iter().map(|(id, stored)| (id.as_str(), stored.status, &*stored.event));
        audit.ledger = Some(ledger::compare(notifications, &entries, &mut audit.problems));
    }
    if json {
        output::json(&audit);
    } else {
        print(&audit);
    }
    Ok(exit(audit.problems.is_empty()))
}

async fn read_table(stack: &Stack, ids: &[NotificationId]) -> Result<HashMap<String, Stored>, Error> {
    let table = &DynamoTable::new(stack.dynamodb.clone(), stack.table_name.clone());
    let refs: Vec<&NotificationId> = ids.iter().collect();
    let ranges = by_count(refs.len(), limits::BATCH_GET_ITEM_MAX);
    let read = |batch: Vec<_>| async move { table.read(&batch).await };
    let stored = call_in_batches(&SystemClock, Deadline::at(Timestamp::MAX), &refs, ranges, read).await;
    let mut found = HashMap::new();
    for (id, stored) in ids.iter().zip(stored) {
        let stored = stored.map_err(|failure| Error::Aws { call: "BatchGetItem", cause: failure.to_string() })?;
        found.extend(stored.map(|stored| (id.to_string(), stored)));
    }
    Ok(found)
}

/// Works out the verdict.
pub(crate) fn judge(
    sent: &[String],
    table: &HashMap<String, Stored>,
    stream: &HashMap<String, Changes>,
    dead_letters: &[String],
) -> Audit {
    let mut audit = Audit { sent: sent.len(), ..Audit::default() };
    let mut dead: HashMap<String, usize> = HashMap::new();
    for body in dead_letters {
        *dead.entry(events::one_line(body)).or_default() += 1;
    }
    // Takes one message out of the dead-letter queue's bodies, if one like this is there.
    let mut take_dead = |event: &str| {
        let left = dead.get_mut(event).filter(|left| **left > 0);
        left.map(|left| *left -= 1).is_some()
    };

    let mut accepted: BTreeMap<String, usize> = BTreeMap::new();
    for (line, event) in (1..).zip(sent) {
        let refused = match Notification::parse(event.as_str()) {
            Err(malformed) => Some((format!("line {line}"), reason(&malformed))),
            Ok(notification) => {
                let id = notification.id().to_string();
                let copies = accepted.entry(id.clone()).or_default();
                match table.get(&id) {
                    Some(stored) if !content::same(event, &stored.event) => {
                        Some((id, "conflict: the id exists with other content".to_owned()))
                    }
                    _ => {
                        *copies += 1;
                        None
                    }
                }
            }
        };
        if let Some((name, reason)) = refused {
            if take_dead(event) {
                *audit.dead_lettered.entry(reason).or_default() += 1;
            } else {
                audit.problems.push(format!("{name}: lost, refused ({reason}) and not in the dead-letter queue"));
            }
        }
    }

    audit.distinct = accepted.len();
    for (id, copies) in accepted {
        let Some(stored) = table.get(&id) else {
            let in_dead_letters = sent.iter().any(|event| is_of(event, &id) && take_dead(event));
            audit.problems.push(if in_dead_letters {
                format!("{id}: not in the table but in the dead-letter queue; ingest's log has the reason")
            } else {
                format!("{id}: lost, it is not in the table")
            });
            continue;
        };
        audit.duplicates_suppressed += copies.saturating_sub(1);
        let changes = stream.get(&id).copied();
        match (stored.status, changes) {
            // Its insert may be older than the stream's 24 hours.
            (Some(Status::Done), Some(Changes { inserted: 0 | 1, done: 1 })) => audit.done_once += 1,
            (Some(Status::Done), None | Some(Changes { inserted: 0, done: 0 })) => audit.done_before_the_stream += 1,
            (Some(Status::Done), Some(Changes { inserted, done })) => {
                audit.problems.push(format!("{id}: inserted {inserted} times and DONE {done} times, not once"));
            }
            (Some(Status::Failed), _) => audit.failed += 1,
            (Some(status), _) => audit.problems.push(format!("{id}: not settled, it is {status}")),
            (None, _) => audit.problems.push(format!("{id}: its item has no known status")),
        }
    }
    // An accepted message must not be in the dead-letter queue as well.
    for event in sent {
        if take_dead(event) {
            let name = Notification::parse(event.as_str()).map_or("a malformed message".into(), |n| n.id().to_string());
            audit.problems.push(format!("{name}: once more in the dead-letter queue than it was refused"));
        }
    }
    audit
}

fn is_of(event: &str, id: &str) -> bool {
    Notification::parse(event).is_ok_and(|notification| notification.id().as_str() == id)
}

/// A reason that is the same for messages that fail the same rule.
fn reason(malformed: &Malformed) -> String {
    match malformed {
        Malformed::NotJson { .. } => "malformed: not valid JSON".to_owned(),
        other => format!("malformed: {other}"),
    }
}

fn print(audit: &Audit) {
    let good = audit.problems.is_empty();
    let mut rows = vec![
        ("sent", audit.sent, "messages put on the queue".to_owned()),
        ("distinct", audit.distinct, "notification ids among them".to_owned()),
        ("DONE", audit.done_once, "inserted once and DONE once, as the table's stream shows".to_owned()),
        ("suppressed", audit.duplicates_suppressed, "duplicates: same id, same content, nothing written".to_owned()),
    ];
    if audit.done_before_the_stream > 0 {
        let meaning = "DONE, but more than 24 hours ago: how often cannot be shown".to_owned();
        rows.push(("older", audit.done_before_the_stream, meaning));
    }
    if audit.failed > 0 {
        rows.push(("FAILED", audit.failed, "`notifyctl status ID` has the reason".to_owned()));
    }
    let dead: usize = audit.dead_lettered.values().sum();
    rows.push(("DLQ", dead, "refused six times, unchanged in the dead-letter queue".to_owned()));
    rows.extend(audit.dead_lettered.iter().map(|(reason, &count)| ("", count, format!("  {reason}"))));
    output::counts(rows);
    if let Some(Sums { entries, paid, asked }) = &audit.ledger {
        let sum = |sums: &BTreeMap<String, Decimal>| {
            let sums: Vec<_> = sums.iter().map(|(currency, sum)| format!("{sum} {currency}")).collect();
            if sums.is_empty() { "nothing".to_owned() } else { sums.join(", ") }
        };
        output::pairs([
            ("ledger", format!("{} entries, one for each notification that is DONE", output::thousands(*entries))),
            ("paid", sum(paid)),
            ("asked for", format!("{} by the distinct notifications", sum(asked))),
        ]);
    }
    if good {
        output::line(output::verdict(true, "nothing lost, nothing doubled"));
        return;
    }
    output::line(output::verdict(false, &format!("{} problems", output::thousands(audit.problems.len()))));
    for problem in audit.problems.iter().take(EXAMPLES) {
        output::line(format_args!("  {problem}"));
    }
    if audit.problems.len() > EXAMPLES {
        output::line(format_args!("  … and {} more; --json has all", audit.problems.len() - EXAMPLES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, amount: u32) -> String {
        format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"t","data":{amount}}}"#)
    }

    struct World {
        sent: Vec<String>,
        table: HashMap<String, Stored>,
        stream: HashMap<String, Changes>,
        dead: Vec<String>,
    }

    /// a is sent twice, b once with a conflict behind it, and one message is malformed: all as it should be.
    fn good() -> World {
        let stored = |id| Stored { status: Some(Status::Done), event: event(id, 1).into(), claim: None };
        World {
            sent: vec![event("a", 1), event("a", 1), event("b", 1), event("b", 2), "no JSON".into()],
            table: ["a", "b"].map(|id| (id.to_owned(), stored(id))).into(),
            stream: ["a", "b"].map(|id| (id.to_owned(), Changes { inserted: 1, done: 1 })).into(),
            dead: vec!["no JSON".into(), event("b", 2), "of another test".into()],
        }
    }

    fn check(change: impl FnOnce(&mut World), problem: &str) {
        let mut world = good();
        change(&mut world);
        let audit = judge(&world.sent, &world.table, &world.stream, &world.dead);
        assert_eq!(audit.problems.len(), 1, "{audit:?}");
        assert!(audit.problems[0].contains(problem), "{audit:?}");
    }

    #[test]
    fn a_good_run_has_no_problems_and_its_counts_add_up() {
        let world = good();
        let audit = judge(&world.sent, &world.table, &world.stream, &world.dead);
        let dead = [("conflict: the id exists with other content", 1), ("malformed: not valid JSON", 1)];
        let expected = Audit {
            sent: 5,
            distinct: 2,
            done_once: 2,
            duplicates_suppressed: 1,
            dead_lettered: dead.map(|(reason, count)| (reason.to_owned(), count)).into(),
            ..Audit::default()
        };
        assert_eq!(audit, expected);
    }

    #[test]
    fn a_notification_that_is_not_in_the_table_is_lost() {
        check(|world| world.table.retain(|id, _| id != "a"), "a: lost");
    }

    #[test]
    fn a_notification_that_ingest_could_not_write_is_told_from_a_lost_one() {
        let refused = |world: &mut World| {
            world.table.retain(|id, _| id != "a");
            world.dead.push(event("a", 1));
        };
        check(refused, "in the dead-letter queue; ingest's log has the reason");
    }

    #[test]
    fn a_notification_that_is_pending_is_not_settled() {
        check(|world| world.table.get_mut("a").unwrap().status = Some(Status::Init), "not settled");
    }

    #[test]
    fn a_second_done_or_insert_is_a_problem() {
        check(|world| world.stream.get_mut("a").unwrap().done = 2, "DONE 2 times");
        check(|world| world.stream.get_mut("a").unwrap().inserted = 2, "inserted 2 times");
    }

    #[test]
    fn a_refused_message_that_is_not_in_the_dead_letter_queue_is_lost() {
        check(|world| world.dead.retain(|body| body != "no JSON"), "line 5: lost");
        check(|world| world.dead.retain(|body| !body.contains("\"b\"")), "b: lost, refused (conflict");
    }

    #[test]
    fn an_accepted_message_in_the_dead_letter_queue_is_a_problem() {
        check(|world| world.dead.push(event("a", 1)), "once more in the dead-letter queue");
    }
}
