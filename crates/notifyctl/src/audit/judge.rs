//! The verdict of an audit, from the collected evidence alone.

use crate::audit::ledger::Sums;
use crate::audit::stream::{Changes, Reading};
use crate::events;
use crate::stack::dead_letters::DeadLetters;
use crate::stack::items::Item;
use crate::time::since;
use notification::{Malformed, Notification, NotificationId, Status, Timestamp, content, limits};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// How long the table's stream keeps records.
const STREAM_RETENTION: Duration = Duration::from_hours(24 * limits::DYNAMODB_STREAM_RETENTION_DAYS as u64);

/// Why a message that was not found may not be lost.
const STILL_QUEUED: &str = "and the queue still has messages; run `notifyctl watch` first";

/// The answer to "was anything lost or doubled?", with its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// No, and the evidence shows it.
    Good = 0,
    /// Something is wrong.
    Bad = 1,
    /// Nothing wrong was found, but the evidence has gaps.
    CannotBeShown = 3,
}

/// One message that was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    /// On one line.
    pub(crate) event: String,
    /// Its notification id, or the reason why it has none.
    pub(crate) id: Result<NotificationId, Malformed>,
}

impl Sent {
    pub(crate) fn new(event: &str) -> Self {
        let id = Notification::parse(event).map(|notification| notification.id().clone());
        Self { event: events::one_line(event), id }
    }
}

/// The evidence for an audit.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// When the audit started; the table was read right after.
    pub(crate) started: Timestamp,
    /// The sent messages.
    pub(crate) sent: Vec<Sent>,
    /// Their items in the table, by notification id.
    pub(crate) table: HashMap<String, Item>,
    /// Their changes in the table's stream.
    pub(crate) stream: Reading,
    /// Those that are in the dead-letter queue.
    pub(crate) dead_letters: DeadLetters,
    /// Whether SQS counted no message in the queue, both before the table was read and after the dead letters were.
    pub(crate) queue_is_empty: bool,
}

/// The result of an audit.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Audit {
    /// Messages sent.
    pub(crate) sent: usize,
    /// Distinct notification ids among them.
    pub(crate) distinct: usize,
    /// Notifications that became DONE exactly once, as the table's stream shows.
    pub(crate) done_once: usize,
    /// Those of them that were inserted more than 24 hours ago, so that the stream no longer shows their insert.
    pub(crate) inserted_before_the_stream: usize,
    /// Notifications that became DONE more than 24 hours ago: how often cannot be shown.
    pub(crate) done_before_the_stream: usize,
    /// Messages with the id and the content of an earlier one: nothing was written for them.
    pub(crate) duplicates_suppressed: usize,
    /// Notifications that are FAILED.
    pub(crate) failed: usize,
    /// Notifications that are IN_DOUBT: settled, but with an unknown outcome.
    pub(crate) in_doubt: usize,
    /// Messages in the dead-letter queue, by reason.
    pub(crate) dead_lettered: BTreeMap<String, usize>,
    /// The sums of the ledger, if the action is `ledger`.
    pub(crate) ledger: Option<Sums>,
    /// Problems, each with its id or line.
    pub(crate) problems: Vec<String>,
    /// Gaps in the evidence, each with its id or line.
    pub(crate) cannot_be_shown: Vec<String>,
}

impl Audit {
    pub(crate) fn verdict(&self) -> Verdict {
        match (self.problems.is_empty(), self.cannot_be_shown.is_empty()) {
            (false, _) => Verdict::Bad,
            (true, false) => Verdict::CannotBeShown,
            (true, true) => Verdict::Good,
        }
    }
}

/// Something that is wrong with a message or a notification, or that cannot be shown about it.
enum Finding {
    Problem(String),
    Gap(String),
}
use Finding::{Gap, Problem};

/// Judges the evidence.
///
/// A notification counts as DONE once only if the stream shows it, together with its insert unless that is too old for the
/// stream. The records of an item are in order, closed shards are read to their end, and the last record that was read has the
/// `done_at` of the table: so every earlier record was read as well. Whatever the stream should show but does not is never
/// taken as good.
pub(crate) fn judge(evidence: &Evidence) -> Audit {
    let mut audit = Audit { sent: evidence.sent.len(), ..Audit::default() };
    // The dead letters that no message has been matched with yet, by their text.
    let mut dead = evidence.dead_letters.found.clone();

    let mut accepted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (line, Sent { event, id }) in (1..).zip(&evidence.sent) {
        let (name, reason) = match id {
            Err(malformed) => (format!("line {line}"), reason(malformed)),
            Ok(id) => {
                let copies = accepted.entry(id.as_str()).or_default();
                match evidence.table.get(id.as_str()) {
                    Some(item) if !content::same(event, &item.event) => {
                        (id.to_string(), "conflict: the id exists with other content".to_owned())
                    }
                    _ => {
                        copies.push(event);
                        continue;
                    }
                }
            }
        };
        if take(&mut dead, event) {
            *audit.dead_lettered.entry(reason).or_default() += 1;
        } else {
            audit.note(&name, refused_and_not_found(&reason, evidence));
        }
    }

    audit.distinct = accepted.len();
    for (id, copies) in accepted {
        let dead = copies.iter().filter(|event| take(&mut dead, event)).count();
        let Some(item) = evidence.table.get(id) else {
            audit.note(id, absent(dead > 0, evidence));
            continue;
        };
        audit.duplicates_suppressed += copies.len().saturating_sub(1);
        if let Some(finding) = audit.present(id, item, evidence) {
            audit.note(id, finding);
        }
        if dead > 0 {
            audit.problems.push(format!("{id}: accepted, and {dead} of its messages are in the dead-letter queue"));
        }
    }
    if audit.done_before_the_stream > 0 {
        let text = "DONE more than 24 hours ago: the table's stream no longer shows how often";
        audit.cannot_be_shown.push(format!("{} {text}", audit.done_before_the_stream));
    }
    if !evidence.stream.whole {
        let minutes = limits::AUDIT_READ_MAX.as_secs() / 60;
        audit.cannot_be_shown.push(format!("the table's stream could not be read to its end in {minutes} minutes"));
    }
    audit
}

impl Audit {
    /// Notes a finding about the message or the notification of this name.
    fn note(&mut self, name: &str, finding: Finding) {
        match finding {
            Problem(text) => self.problems.push(format!("{name}: {text}")),
            Gap(text) => self.cannot_be_shown.push(format!("{name}: {text}")),
        }
    }

    /// Judges and counts a notification that the table has.
    fn present(&mut self, id: &str, item: &Item, evidence: &Evidence) -> Option<Finding> {
        let none = Changes::default();
        let changes = evidence.stream.changes.get(id).unwrap_or(&none);
        if changes.left_done > 0 {
            return Some(Problem("was DONE, and was then changed".into()));
        }
        match item.status {
            Some(Status::Done) => self.done(item, changes, evidence.started),
            Some(Status::Failed) => {
                self.failed += 1;
                contradiction(Status::Failed, changes)
            }
            Some(Status::InDoubt) => {
                self.in_doubt += 1;
                let unknown = "IN_DOUBT, the outcome is unknown; `notifyctl resolve ID` decides";
                contradiction(Status::InDoubt, changes).or(Some(Gap(unknown.into())))
            }
            Some(status @ (Status::Init | Status::Claimed)) => Some(Problem(format!("not settled, it is {status}"))),
            None => Some(Problem("its item has no known status".into())),
        }
    }

    /// Judges and counts a notification that is DONE.
    fn done(&mut self, item: &Item, changes: &Changes, started: Timestamp) -> Option<Finding> {
        let older = |time| is_older_than_the_stream(time, started);
        Some(match (changes.inserted, changes.done) {
            (0 | 1, 0) if older(item.done_time()) => {
                self.done_before_the_stream += 1;
                return None;
            }
            (0 | 1, 0) => Gap("DONE, but the table's stream does not show it".into()),
            (0, 1) if !older(item.received_at) => Gap("DONE, but the table's stream does not show its insert".into()),
            (0 | 1, 1) => match (&changes.done_at, &item.done_at) {
                (Some(streamed), Some(stored)) if streamed == stored => {
                    self.done_once += 1;
                    self.inserted_before_the_stream += usize::from(changes.inserted == 0);
                    return None;
                }
                (Some(streamed), Some(stored)) => Problem(format!(
                    "DONE twice: at {streamed} as the table's stream shows, and at {stored} as the table has it"
                )),
                _ => Gap("DONE, but has no done_at to compare with the table's stream".into()),
            },
            (inserted, done) => Problem(format!("inserted {} and DONE {}", times(inserted), times(done))),
        })
    }
}

/// Judges a notification that the table does not have. `is_dead`: one of its messages is in the dead-letter queue.
fn absent(is_dead: bool, evidence: &Evidence) -> Finding {
    if is_dead {
        Problem("not in the table but in the dead-letter queue; ingest's log has the reason".into())
    } else if !evidence.queue_is_empty {
        Gap(format!("not in the table, {STILL_QUEUED}"))
    } else if evidence.dead_letters.complete {
        Problem("lost, it is not in the table".into())
    } else {
        Problem("not in the table, nor in what could be read of the dead-letter queue".into())
    }
}

/// Judges a message that must be rejected, and was not found in the dead-letter queue.
fn refused_and_not_found(reason: &str, evidence: &Evidence) -> Finding {
    if !evidence.queue_is_empty {
        Gap(format!("refused ({reason}), not in the dead-letter queue, {STILL_QUEUED}"))
    } else if evidence.dead_letters.complete {
        Problem(format!("lost, refused ({reason}) and not in the dead-letter queue"))
    } else {
        Gap(format!("refused ({reason}), and not in what could be read of the dead-letter queue"))
    }
}

/// Whether the stream no longer had records of this time when the audit started. An unknown time is not older.
pub(crate) fn is_older_than_the_stream(time: Option<Timestamp>, started: Timestamp) -> bool {
    time.is_some_and(|time| since(time, started) >= STREAM_RETENTION)
}

/// A notification that is FAILED or IN_DOUBT although the stream shows a second insert or a change to DONE.
fn contradiction(status: Status, Changes { inserted, done, .. }: &Changes) -> Option<Finding> {
    let shown = format!("the table's stream shows it inserted {} and DONE {}", times(*inserted), times(*done));
    (*inserted > 1 || *done > 0).then(|| Problem(format!("{status}, but {shown}")))
}

fn times(count: usize) -> String {
    match count {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        _ => format!("{count} times"),
    }
}

/// Takes a dead letter with this text, if there is one.
fn take(dead: &mut HashMap<String, usize>, event: &str) -> bool {
    let left = dead.get_mut(event).filter(|left| **left > 0);
    left.map(|left| *left -= 1).is_some()
}

/// The reason, which is the same for all messages that break the same rule.
fn reason(malformed: &Malformed) -> String {
    match malformed {
        Malformed::NotJson { .. } => "malformed: not valid JSON".to_owned(),
        other => format!("malformed: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DONE_AT: &str = "2026-11-22T10:00:02.000Z";

    fn event(id: &str, amount: u32) -> String {
        format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"t","data":{amount}}}"#)
    }

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn item(id: &str) -> Item {
        Item {
            status: Some(Status::Done),
            event: event(id, 1).into(),
            received_at: Some(at("2026-11-22T10:00:01Z")),
            done_at: Some(DONE_AT.into()),
        }
    }

    /// a was sent twice, b once and then with other content, and one message is malformed. All were processed correctly.
    fn good() -> Evidence {
        let changes = Changes { inserted: 1, done: 1, done_at: Some(DONE_AT.into()), left_done: 0 };
        let sent = [event("a", 1), event("a", 1), event("b", 1), event("b", 2), "not JSON".into()];
        let dead = ["not JSON".into(), event("b", 2)];
        Evidence {
            started: at("2026-11-22T11:00:00Z"),
            sent: sent.iter().map(|event| Sent::new(event)).collect(),
            table: ["a", "b"].map(|id| (id.to_owned(), item(id))).into(),
            stream: Reading { changes: ["a", "b"].map(|id| (id.to_owned(), changes.clone())).into(), whole: true },
            dead_letters: DeadLetters { found: dead.map(|event| (event, 1)).into(), complete: true },
            queue_is_empty: true,
        }
    }

    fn a(evidence: &mut Evidence) -> (&mut Item, &mut Changes) {
        (evidence.table.get_mut("a").unwrap(), evidence.stream.changes.get_mut("a").unwrap())
    }

    fn set_a(evidence: &mut Evidence, status: Status, inserted: usize, done: usize) {
        let (item, changes) = a(evidence);
        item.status = Some(status);
        *changes = Changes { inserted, done, ..Changes::default() };
    }

    fn audit(change: impl FnOnce(&mut Evidence)) -> Audit {
        let mut evidence = good();
        change(&mut evidence);
        judge(&evidence)
    }

    /// Checks that the change leads to exactly this problem.
    fn check(change: impl FnOnce(&mut Evidence), problem: &str) {
        let audit = audit(change);
        assert_eq!((audit.verdict(), audit.problems.len()), (Verdict::Bad, 1), "{audit:?}");
        assert!(audit.problems[0].contains(problem), "{audit:?}");
    }

    /// Checks that the change leads to no problem and exactly this gap.
    fn check_gap(change: impl FnOnce(&mut Evidence), gap: &str) {
        let audit = audit(change);
        assert_eq!((audit.verdict(), audit.cannot_be_shown.len()), (Verdict::CannotBeShown, 1), "{audit:?}");
        assert!(audit.cannot_be_shown[0].contains(gap), "{audit:?}");
    }

    #[test]
    fn a_good_run_has_no_problems_and_its_counts_add_up() {
        let audit = audit(|_| {});
        let dead = [("conflict: the id exists with other content", 1), ("malformed: not valid JSON", 1)];
        let expected = Audit {
            sent: 5,
            distinct: 2,
            done_once: 2,
            duplicates_suppressed: 1,
            dead_lettered: dead.map(|(reason, count)| (reason.to_owned(), count)).into(),
            ..Audit::default()
        };
        assert_eq!(audit.verdict(), Verdict::Good);
        assert_eq!(audit, expected);
    }

    #[test]
    fn a_notification_that_is_not_in_the_table_is_lost() {
        check(|evidence| drop(evidence.table.remove("a")), "a: lost");
    }

    #[test]
    fn messages_are_matched_with_dead_letters_in_one_pass() {
        // Comparing each message with each other would take 400 million comparisons.
        let audit = audit(|evidence| {
            evidence.sent = (0..20_000).map(|n| Sent::new(&event(&n.to_string(), 1))).collect();
            evidence.dead_letters.found = (0..10_000).map(|n| (event(&n.to_string(), 1), 1)).collect();
        });
        let lost = audit.problems.iter().filter(|problem| problem.contains("lost")).count();
        assert_eq!((audit.problems.len(), lost), (20_000, 10_000));
    }

    #[test]
    fn a_notification_that_ingest_could_not_write_is_told_from_a_lost_one() {
        for copies in [1, 2] {
            let dead = |evidence: &mut Evidence| {
                evidence.table.remove("a");
                evidence.dead_letters.found.insert(event("a", 1), copies);
            };
            check(dead, "in the dead-letter queue; ingest's log has the reason");
        }
    }

    #[test]
    fn a_notification_that_is_pending_is_not_settled() {
        check(|evidence| a(evidence).0.status = Some(Status::Init), "not settled, it is INIT");
        check(|evidence| a(evidence).0.status = Some(Status::Claimed), "not settled, it is CLAIMED");
    }

    #[test]
    fn a_notification_in_doubt_is_settled_but_its_outcome_cannot_be_shown() {
        check_gap(|evidence| set_a(evidence, Status::InDoubt, 1, 0), "a: IN_DOUBT, the outcome is unknown");
        assert_eq!(audit(|evidence| set_a(evidence, Status::InDoubt, 1, 0)).in_doubt, 1);
    }

    #[test]
    fn a_second_done_or_insert_is_a_problem() {
        check(|evidence| a(evidence).1.done = 2, "a: inserted once and DONE 2 times");
        check(|evidence| a(evidence).1.inserted = 2, "a: inserted 2 times and DONE once");
        check(|evidence| a(evidence).0.done_at = Some("2026-11-22T10:30:00.000Z".into()), "a: DONE twice");
        check(|evidence| a(evidence).1.left_done = 1, "a: was DONE, and was then changed");
    }

    #[test]
    fn a_done_that_the_stream_should_show_and_does_not_cannot_be_shown() {
        check_gap(|evidence| drop(evidence.stream.changes.remove("a")), "a: DONE, but the table's stream");
        let read_too_little = |evidence: &mut Evidence| *a(evidence).1 = Changes { inserted: 1, ..Changes::default() };
        check_gap(read_too_little, "a: DONE, but the table's stream");
        assert_eq!(audit(read_too_little).done_once, 1);
        check_gap(|evidence| a(evidence).1.inserted = 0, "does not show its insert");
        check_gap(|evidence| a(evidence).0.done_at = None, "no done_at");
    }

    #[test]
    fn only_an_item_whose_own_time_says_so_is_older_than_the_stream() {
        for (done_at, older, gap) in [
            ("2026-11-21T11:00:00.000Z", 1, "1 DONE more than 24 hours ago"),
            ("2026-11-21T11:00:00.001Z", 0, "a: DONE, but the table's stream does not show it"),
        ] {
            let unseen = |evidence: &mut Evidence| {
                evidence.stream.changes.remove("a");
                evidence.table.get_mut("a").unwrap().done_at = Some(done_at.into());
            };
            let audit = audit(unseen);
            assert_eq!((audit.done_once, audit.done_before_the_stream), (1, older));
            // Either way, how often it became DONE cannot be shown.
            check_gap(unseen, gap);
        }
    }

    #[test]
    fn an_insert_that_is_too_old_for_the_stream_is_not_a_gap() {
        let audit = audit(|evidence| {
            let (item, changes) = a(evidence);
            item.received_at = Some(at("2026-11-20T10:00:00Z"));
            changes.inserted = 0;
        });
        let counts = (audit.verdict(), audit.done_once, audit.inserted_before_the_stream);
        assert_eq!(counts, (Verdict::Good, 2, 1), "counted separately: the stream shows one insert of two");
    }

    #[test]
    fn a_notification_that_is_failed_or_in_doubt_was_inserted_once_and_never_done() {
        for (status, inserted, done, problem) in [
            (Status::Failed, 2, 0, "a: FAILED, but the table's stream shows it inserted 2 times and DONE never"),
            (Status::Failed, 1, 1, "a: FAILED, but the table's stream shows it inserted once and DONE once"),
            (Status::InDoubt, 1, 1, "a: IN_DOUBT, but the table's stream shows it inserted once and DONE once"),
            (Status::InDoubt, 2, 0, "a: IN_DOUBT, but the table's stream shows it inserted 2 times and DONE never"),
        ] {
            check(|evidence| set_a(evidence, status, inserted, done), problem);
        }
        let failed = audit(|evidence| set_a(evidence, Status::Failed, 1, 0));
        assert_eq!((failed.verdict(), failed.failed), (Verdict::Good, 1));
    }

    #[test]
    fn a_message_that_was_not_found_may_be_in_a_queue_that_is_not_empty() {
        let absent = |evidence: &mut Evidence| {
            evidence.table.remove("a");
            evidence.queue_is_empty = false;
        };
        check_gap(absent, "a: not in the table, and the queue still has messages; run `notifyctl watch` first");
        let gap = "line 5: refused (malformed: not valid JSON), not in the dead-letter queue, and the queue still has messages";
        for complete in [true, false] {
            let refused = |evidence: &mut Evidence| {
                evidence.dead_letters.found.remove("not JSON");
                evidence.dead_letters.complete = complete;
                evidence.queue_is_empty = false;
            };
            check_gap(refused, gap);
        }
        let nothing_is_missing = audit(|evidence| evidence.queue_is_empty = false);
        assert_eq!(nothing_is_missing.verdict(), Verdict::Good);
    }

    #[test]
    fn a_stream_that_was_not_read_to_its_end_is_a_gap() {
        check_gap(|evidence| evidence.stream.whole = false, "could not be read to its end");
    }

    #[test]
    fn a_refused_message_that_is_not_in_the_dead_letter_queue_is_lost() {
        check(
            |evidence| {
                evidence.dead_letters.found.remove("not JSON");
            },
            "line 5: lost",
        );
        check(
            |evidence| {
                evidence.dead_letters.found.remove(&event("b", 2));
            },
            "b: lost, refused (conflict",
        );
    }

    #[test]
    fn a_queue_that_was_read_in_part_cannot_show_that_it_has_a_refused_message() {
        check_gap(
            |evidence| evidence.dead_letters = DeadLetters { found: [(event("b", 2), 1)].into(), complete: false },
            "line 5: refused (malformed: not valid JSON), and not in what could be read",
        );
        let nothing_is_missing = audit(|evidence| evidence.dead_letters.complete = false);
        assert_eq!(nothing_is_missing.verdict(), Verdict::Good);
    }

    #[test]
    fn a_refused_message_that_was_sent_again_may_be_in_the_dead_letter_queue_twice() {
        let audit = audit(|evidence| {
            evidence.dead_letters.found.insert(event("b", 2), 2);
        });
        assert_eq!(audit.verdict(), Verdict::Good);
    }

    #[test]
    fn an_accepted_message_in_the_dead_letter_queue_is_a_problem() {
        let dead = |evidence: &mut Evidence| {
            evidence.dead_letters.found.insert(event("a", 1), 1);
        };
        check(dead, "a: accepted, and 1 of its messages");
    }

    #[test]
    fn an_event_over_several_lines_is_found_in_the_dead_letter_queue() {
        let audit = audit(|evidence| {
            evidence.sent.push(Sent::new("{\n\"no\": \"notification\"}"));
            evidence.dead_letters.found.insert("{ \"no\": \"notification\"}".into(), 1);
        });
        assert_eq!(audit.verdict(), Verdict::Good);
    }
}
