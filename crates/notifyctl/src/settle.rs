//! `notifyctl redrive` and `notifyctl resolve`: decisions of an operator. Each is one conditional write. If it makes a
//! notification INIT, the table's stream does the rest.

use crate::cli::{RedriveArgs, ResolveArgs};
use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use aws::{DynamoTable, SystemClock};
use notification::batch::Attempts;
use notification::write::{Answer, write_all};
use notification::{Change, Claim, Clock, Deadline, NotificationId, Status, Stored, Timestamp, limits};
use serde_json::json;
use std::process::ExitCode;

/// Why a claim becomes IN_DOUBT before it is resolved.
const EXPIRED: &str = "its claim expired; an operator resolves it";

/// The effect of a decision.
#[derive(Debug, PartialEq, Eq)]
enum Decided {
    /// The notification had the first status, and now has the second.
    Changed(Status, Status),
    /// It does not have the status that the decision is for. This is its status, if it has a known one.
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
            Ok(id) => redrive_one(&table, &id).await,
            Err(error) => Err(error),
        };
        status.note(id, "FAILED", decided, json);
    }
    Ok(status.code())
}

pub(crate) async fn resolve(stack: &Stack, args: &ResolveArgs, json: bool) -> Result<ExitCode, Error> {
    let id = parse(&args.id)?;
    let change = if args.done { Change::resolve_done(&id) } else { Change::resolve_retry(&id) };
    let mut status = Exit::default();
    status.note(&args.id, "IN_DOUBT", resolve_one(&table(stack), change).await, json);
    Ok(status.code())
}

fn table(stack: &Stack) -> DynamoTable {
    DynamoTable::new(stack.dynamodb.clone(), stack.table_name.clone()).with_done_retention(stack.done_retention_days)
}

fn parse(id: &str) -> Result<NotificationId, Error> {
    NotificationId::parse(id).map_err(|invalid| Error::Failed(format!("{id:?} is not a notification id: {invalid}")))
}

async fn redrive_one(table: &DynamoTable, id: &NotificationId) -> Result<Decided, Error> {
    Ok(match write(table, Change::redrive(id)).await? {
        Answer::Made => Decided::Changed(Status::Failed, Status::Init),
        Answer::NotAsExpected(stored) => Decided::NotAsExpected(stored.status),
        Answer::Absent => Decided::Absent,
    })
}

/// Resolves a notification that is IN_DOUBT, or CLAIMED by a worker that is gone.
async fn resolve_one(table: &DynamoTable, change: Change<'_>) -> Result<Decided, Error> {
    let resolved = change.to().status();
    let claim = match write(table, change).await? {
        Answer::Made => return Ok(Decided::Changed(Status::InDoubt, resolved)),
        Answer::NotAsExpected(Stored { status: Some(Status::Claimed), claim, .. }) => claim,
        Answer::NotAsExpected(stored) => return Ok(Decided::NotAsExpected(stored.status)),
        Answer::Absent => return Ok(Decided::Absent),
    };
    let in_doubt = match &claim {
        Some(claim) if is_live(claim, SystemClock.now()) => return Ok(Decided::Held(claim.lease_until)),
        Some(claim) => Change::doubt_claimed(change.id(), claim, EXPIRED),
        // No worker can present a claim that cannot be read.
        None => Change::doubt_unreadable_claim(change.id(), EXPIRED),
    };
    for next in [in_doubt, change] {
        match write(table, next).await? {
            Answer::Made => {}
            Answer::NotAsExpected(stored) => return Ok(Decided::NotAsExpected(stored.status)),
            Answer::Absent => return Ok(Decided::Absent),
        }
    }
    Ok(Decided::Changed(Status::Claimed, resolved))
}

/// Whether a worker may still hold a claim, even if this machine's clock is fast.
fn is_live(claim: &Claim, now: Timestamp) -> bool {
    now < claim.lease_until.saturating_add(limits::OPERATOR_CLOCK_SKEW).unwrap_or(Timestamp::MAX)
}

async fn write(table: &DynamoTable, change: Change<'_>) -> Result<Answer, Error> {
    let deadline = Deadline::at(Timestamp::MAX);
    let answer = write_all(table, &SystemClock, &[change], Attempts::Limited, deadline).await.pop();
    answer.unwrap_or(Ok(Answer::Absent)).map_err(Error::failed("BatchExecuteStatement"))
}

/// The exit status of the command: 0 if all were changed, 1 if some were not as expected, 2 if a call failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Exit {
    some_no: bool,
    some_failed: bool,
}

impl Exit {
    /// Prints the result for one id.
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

/// Whether the notification was changed, and the result in words.
fn described(id: &str, expected: &str, decided: &Decided) -> (bool, String) {
    match decided {
        Decided::Changed(from, to) => (true, format!("{id}: {from} → {to}")),
        Decided::NotAsExpected(status) => {
            let is = status.map_or("of unknown status", Status::as_str);
            (false, format!("{id}: not {expected}: it is {is}; nothing was changed"))
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
    fn a_decision_is_described_by_its_result() {
        let describe = |decided| described("a", "IN_DOUBT", &decided);
        assert_eq!(describe(Decided::Changed(Status::Claimed, Status::Done)), (true, "a: CLAIMED → DONE".to_owned()));
        let (changed, text) = describe(Decided::NotAsExpected(Some(Status::Done)));
        assert!(!changed && text.contains("it is DONE; nothing was changed"), "{text}");
        let (changed, text) = describe(Decided::Held(Timestamp::UNIX_EPOCH));
        assert!(!changed && text.contains("until 1970-01-01T00:00:00Z"), "{text}");
        assert!(text.contains("try again at 1970-01-01T00:05:00Z"), "{text}");
    }

    #[test]
    fn a_claim_is_live_until_even_a_fast_clock_shows_that_it_has_expired() {
        let claim = Claim { owner: "w".into(), lease_until: Timestamp::from_second(1_000).unwrap() };
        assert!(is_live(&claim, Timestamp::from_second(1_299).unwrap()));
        assert!(!is_live(&claim, Timestamp::from_second(1_300).unwrap()));
    }

    #[test]
    fn an_error_does_not_stop_the_other_ids_and_the_exit_status_is_the_worst_of_all() {
        let mut exit = Exit::default();
        exit.note("a", "FAILED", Ok(Decided::Changed(Status::Failed, Status::Init)), true);
        assert_eq!(exit, Exit::default());
        exit.note("b", "FAILED", Err(Error::Failed("no answer".to_owned())), true);
        exit.note("c", "FAILED", Ok(Decided::Absent), true);
        assert_eq!(exit, Exit { some_no: true, some_failed: true });
    }
}
