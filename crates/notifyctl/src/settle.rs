//! `notifyctl redrive` and `notifyctl resolve`: what only a person may decide. Each is one conditional write; where it
//! makes a notification INIT, the table's stream does the rest.

use crate::cli::{RedriveArgs, ResolveArgs};
use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use aws::{DynamoTable, SystemClock};
use notification::change::{self, Answer, Persistence};
use notification::ports::{After, Before, Change, Claim, Clock, Stored};
use notification::{Deadline, NotificationId, Status, Timestamp, limits};
use serde_json::json;
use std::process::ExitCode;

/// Why a claim becomes IN_DOUBT before it is resolved.
const LAPSED: &str = "its claim lapsed; an operator resolves it";

/// What became of one decision.
#[derive(Debug, PartialEq, Eq)]
enum Decided {
    /// The notification had the first status and has the second one now.
    Changed(Status, Status),
    /// It is not as the decision needs it. Its status, where it has one that is known.
    NotAsExpected(Option<Status>),
    /// A worker holds it, until this time at the latest.
    Held(Timestamp),
    /// The table does not have it.
    Absent,
}

pub(crate) async fn redrive(stack: &Stack, args: &RedriveArgs, json: bool) -> Result<ExitCode, Error> {
    let table = table(stack);
    let mut status = Exit::default();
    for id in &args.ids {
        let decided = match parse(id) {
            Ok(parsed) => decide(&table, &parsed, Status::Failed, After::Init).await,
            Err(error) => Err(error),
        };
        status.note(id, "FAILED", decided, json);
    }
    Ok(status.code())
}

pub(crate) async fn resolve(stack: &Stack, args: &ResolveArgs, json: bool) -> Result<ExitCode, Error> {
    let to = if args.done { After::Done(None) } else { After::Init };
    let mut status = Exit::default();
    let decided = resolve_one(&table(stack), &parse(&args.id)?, to).await;
    status.note(&args.id, "IN_DOUBT", decided, json);
    Ok(status.code())
}

fn table(stack: &Stack) -> DynamoTable {
    DynamoTable::new(stack.dynamodb.clone(), stack.table_name.clone()).with_done_retention(stack.done_retention_days)
}

fn parse(id: &str) -> Result<NotificationId, Error> {
    NotificationId::parse(id).map_err(|invalid| Error::NoId { id: id.to_owned(), reason: invalid.to_string() })
}

/// Resolves what is IN_DOUBT, or CLAIMED by a worker that is gone.
async fn resolve_one(table: &DynamoTable, id: &NotificationId, to: After<'_>) -> Result<Decided, Error> {
    let decided = decide(table, id, Status::InDoubt, to).await?;
    if decided != Decided::NotAsExpected(Some(Status::Claimed)) {
        return Ok(decided);
    }
    let read = change::read_all(table, &SystemClock, &[id], Deadline::at(Timestamp::MAX)).await.pop();
    let Some(stored) = read.unwrap_or(Ok(None)).map_err(Error::failed("BatchGetItem"))? else {
        return Ok(Decided::Absent);
    };
    match &stored.claim {
        Some(claim) if is_live(claim, SystemClock.now()) => return Ok(Decided::Held(claim.lease_until)),
        claim => {
            // A claim that cannot be read belongs to nobody.
            let from = claim.as_ref().map_or(Before::Status(Status::Claimed), Before::Claim);
            let in_doubt = Change { id, from, to: After::InDoubt(LAPSED) };
            if let Answer::NotAsExpected(stored) = make(table, in_doubt).await? {
                return Ok(Decided::NotAsExpected(stored.status));
            }
        }
    }
    Ok(match decide(table, id, Status::InDoubt, to).await? {
        Decided::Changed(_, to) => Decided::Changed(Status::Claimed, to),
        other => other,
    })
}

/// Whether a worker may still hold a claim. This machine's clock may be fast.
fn is_live(claim: &Claim, now: Timestamp) -> bool {
    now < claim.lease_until.saturating_add(limits::OPERATOR_CLOCK_SKEW).unwrap_or(Timestamp::MAX)
}

async fn decide(table: &DynamoTable, id: &NotificationId, from: Status, to: After<'_>) -> Result<Decided, Error> {
    Ok(match make(table, Change { id, from: Before::Status(from), to }).await? {
        Answer::Made => Decided::Changed(from, to.status()),
        Answer::NotAsExpected(Stored { status, .. }) => Decided::NotAsExpected(status),
        Answer::Absent => Decided::Absent,
    })
}

async fn make(table: &DynamoTable, change: Change<'_>) -> Result<Answer, Error> {
    let deadline = Deadline::at(Timestamp::MAX);
    let answer = change::change_all(table, &SystemClock, &[change], Persistence::Usual, deadline).await.pop();
    answer.unwrap_or(Ok(Answer::Absent)).map_err(Error::failed("BatchExecuteStatement"))
}

/// What the whole command answers: 0 all changed, 1 some were not as expected, 2 some could not be asked about.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Exit {
    some_no: bool,
    some_failed: bool,
}

impl Exit {
    /// Prints what became of one id, and goes on.
    fn note(&mut self, id: &str, expected: &str, decided: Result<Decided, Error>, json: bool) {
        let decided = match decided {
            Ok(decided) => decided,
            Err(error) => {
                self.some_failed = true;
                if json {
                    output::json(&json!({"id": id, "changed": false, "error": error.to_string()}));
                }
                return output::error(&format!("{id}: {error}"));
            }
        };
        let (changed, text) = described(id, expected, &decided);
        self.some_no |= !changed;
        if json {
            let status = match decided {
                Decided::Changed(_, status) => Some(status),
                Decided::NotAsExpected(status) => status,
                Decided::Held(_) => Some(Status::Claimed),
                Decided::Absent => None,
            };
            output::json(&json!({"id": id, "changed": changed, "status": status.map(Status::as_str)}));
        } else {
            output::line(output::verdict(changed, &text));
        }
    }

    fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Self { some_failed: true, .. } => 2,
            Self { some_no: true, .. } => 1,
            _ => 0,
        })
    }
}

/// Whether something was changed, and what became of it in words.
fn described(id: &str, expected: &str, decided: &Decided) -> (bool, String) {
    match decided {
        Decided::Changed(from, to) => (true, format!("{id}: {from} → {to}")),
        Decided::NotAsExpected(status) => {
            let is = status.map_or("of no known status", Status::as_str);
            (false, format!("{id}: not {expected}, it is {is}; nothing was changed"))
        }
        Decided::Held(until) => {
            let from = until.saturating_add(limits::OPERATOR_CLOCK_SKEW).unwrap_or(Timestamp::MAX);
            (false, format!("{id}: CLAIMED by a worker until {until:.0} at the latest; try again at {from:.0}"))
        }
        Decided::Absent => (false, format!("{id}: not in the table")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_described_by_what_became_of_it() {
        let describe = |decided| described("a", "IN_DOUBT", &decided);
        assert_eq!(describe(Decided::Changed(Status::Claimed, Status::Done)), (true, "a: CLAIMED → DONE".to_owned()));
        let (changed, text) = describe(Decided::NotAsExpected(Some(Status::Done)));
        assert!(!changed && text.contains("it is DONE; nothing was changed"), "{text}");
        let (changed, text) = describe(Decided::Held(Timestamp::UNIX_EPOCH));
        assert!(!changed && text.contains("until 1970-01-01T00:00:00Z"), "{text}");
        assert!(text.contains("try again at 1970-01-01T00:05:00Z"), "{text}");
    }

    #[test]
    fn a_claim_is_live_until_even_a_fast_clock_shows_that_it_has_lapsed() {
        let claim = Claim { owner: "w".into(), lease_until: Timestamp::from_second(1_000).unwrap() };
        assert!(is_live(&claim, Timestamp::from_second(1_299).unwrap()));
        assert!(!is_live(&claim, Timestamp::from_second(1_300).unwrap()));
    }

    #[test]
    fn several_ids_go_on_behind_an_error_and_the_worst_of_them_is_the_exit_status() {
        let mut exit = Exit::default();
        exit.note("a", "FAILED", Ok(Decided::Changed(Status::Failed, Status::Init)), true);
        assert_eq!(exit, Exit::default());
        exit.note("b", "FAILED", Err(Error::NoRegion), true);
        exit.note("c", "FAILED", Ok(Decided::Absent), true);
        assert_eq!(exit, Exit { some_no: true, some_failed: true });
    }
}
