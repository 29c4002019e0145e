//! `notifyctl redrive` and `notifyctl resolve`: decisions of an operator. Each is one conditional write. If it makes a
//! notification INIT, the table's stream does the rest.

use crate::cli::{RedriveArgs, ResolveArgs};
use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use crate::time::after;
use aws::{DynamoTable, SystemClock};
use notification::batch::Attempts;
use notification::write::{Answer, write_all};
use notification::{Change, Claim, Clock, Deadline, NotificationId, Status, Stored, Timestamp, limits};
use serde_json::json;
use std::process::ExitCode;

/// Why a claim becomes IN_DOUBT before it is resolved.
const EXPIRED: &str = "its claim expired; an operator resolves it";

/// The result of a decision.
#[derive(Debug, PartialEq, Eq)]
struct Decided {
    changed: bool,
    /// The notification's status now, if it has a known one.
    status: Option<Status>,
    text: String,
}

impl Decided {
    fn changed(from: Status, to: Status) -> Self {
        Self { changed: true, status: Some(to), text: format!("{from} → {to}") }
    }

    /// Nothing was changed, because the notification does not have the status that the decision is for.
    fn not_expected(expected: Status, status: Option<Status>) -> Self {
        let is = status.map_or("of unknown status", Status::as_str);
        Self { changed: false, status, text: format!("not {expected}: it is {is}; nothing was changed") }
    }

    /// Nothing was changed, because a worker may still hold the notification.
    fn held(until: Timestamp) -> Self {
        let from = held_until(until);
        let text = format!("CLAIMED by a worker until {until:.0} at the latest; try again at {from:.0}");
        Self { changed: false, status: Some(Status::Claimed), text }
    }

    /// The result of a change that is for a notification in the status `expected`. It led from the status `from` to `to`.
    fn by(answer: Answer, expected: Status, from: Status, to: Status) -> Self {
        match answer {
            Answer::Made => Self::changed(from, to),
            Answer::NotAsExpected(stored) => Self::not_expected(expected, stored.status),
            Answer::Absent => Self { changed: false, status: None, text: "not in the table".to_owned() },
        }
    }
}

pub(crate) async fn redrive(stack: &Stack, args: &RedriveArgs, json: bool) -> Result<ExitCode, Error> {
    let table = table(stack);
    Ok(ExitCode::from(each(&args.ids, json, async |id| redrive_one(&table, id).await).await))
}

/// Decides on each id, also after an error. Returns the worst exit status.
async fn each(ids: &[String], json: bool, decide: impl AsyncFn(&str) -> Result<Decided, Error>) -> u8 {
    let mut worst = 0;
    for id in ids {
        worst = worst.max(report(id, decide(id).await, json));
    }
    worst
}

pub(crate) async fn resolve(stack: &Stack, args: &ResolveArgs, json: bool) -> Result<ExitCode, Error> {
    let id = parse(&args.id)?;
    let change = if args.done { Change::resolve_done(&id) } else { Change::resolve_retry(&id) };
    let decided = resolve_one(&table(stack), change).await;
    Ok(ExitCode::from(report(&args.id, decided, json)))
}

fn table(stack: &Stack) -> DynamoTable {
    DynamoTable::new(stack.dynamodb.clone(), stack.table_name.clone()).with_done_retention(stack.done_retention_days)
}

fn parse(id: &str) -> Result<NotificationId, Error> {
    NotificationId::parse(id).map_err(|invalid| Error::Failed(format!("{id:?} is not a notification id: {invalid}")))
}

async fn redrive_one(table: &DynamoTable, id: &str) -> Result<Decided, Error> {
    let answer = write(table, Change::redrive(&parse(id)?)).await?;
    Ok(Decided::by(answer, Status::Failed, Status::Failed, Status::Init))
}

/// Resolves a notification that is IN_DOUBT, or CLAIMED by a worker that is gone.
async fn resolve_one(table: &DynamoTable, change: Change<'_>) -> Result<Decided, Error> {
    let mut from = Status::InDoubt;
    let mut answer = write(table, change).await?;
    if let Answer::NotAsExpected(Stored { status: Some(Status::Claimed), claim, .. }) = &answer {
        let in_doubt = match claim {
            Some(claim) if is_live(claim, SystemClock.now()) => return Ok(Decided::held(claim.lease_until)),
            Some(claim) => Change::doubt_claimed(change.id(), claim, EXPIRED),
            // No worker can present a claim that cannot be read.
            None => Change::doubt_unreadable_claim(change.id(), EXPIRED),
        };
        from = Status::Claimed;
        answer = match write(table, in_doubt).await? {
            Answer::Made => write(table, change).await?,
            other => other,
        };
    }
    Ok(Decided::by(answer, Status::InDoubt, from, change.to().status()))
}

/// Whether a worker may still hold a claim.
fn is_live(claim: &Claim, now: Timestamp) -> bool {
    now < held_until(claim.lease_until)
}

/// The time at which a claim has expired even if this machine's clock is fast.
fn held_until(lease_until: Timestamp) -> Timestamp {
    after(lease_until, limits::OPERATOR_CLOCK_SKEW)
}

async fn write(table: &DynamoTable, change: Change<'_>) -> Result<Answer, Error> {
    let deadline = Deadline::at(Timestamp::MAX);
    let answer = write_all(table, &SystemClock, &[change], Attempts::Limited, deadline).await.pop();
    answer.unwrap_or(Ok(Answer::Absent)).map_err(Error::failed("BatchExecuteStatement"))
}

/// Prints the result for one id. Returns the exit status: 0 if it was changed, 1 if it was not as expected, 2 if a call failed.
fn report(id: &str, decided: Result<Decided, Error>, json: bool) -> u8 {
    match decided {
        Ok(Decided { changed, status, text }) => {
            if json {
                output::json(&json!({"id": id, "changed": changed, "status": status.map(Status::as_str)}));
            } else {
                output::line(output::verdict(changed, &format!("{id}: {text}")));
            }
            u8::from(!changed)
        }
        Err(error) => {
            if json {
                output::json(&json!({"id": id, "changed": false, "error": error.to_string()}));
            }
            output::error(&format!("{id}: {error}"));
            2
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_described_by_its_result() {
        let Decided { changed, text, .. } = Decided::changed(Status::Claimed, Status::Done);
        assert_eq!((changed, text), (true, "CLAIMED → DONE".to_owned()));
        let Decided { changed, text, .. } = Decided::not_expected(Status::InDoubt, Some(Status::Done));
        assert!(!changed && text.contains("it is DONE; nothing was changed"), "{text}");
        let Decided { changed, text, .. } = Decided::held(Timestamp::UNIX_EPOCH);
        assert!(!changed && text.contains("until 1970-01-01T00:00:00Z"), "{text}");
        assert!(text.contains("try again at 1970-01-01T00:05:00Z"), "{text}");
    }

    #[test]
    fn a_claim_is_live_until_even_a_fast_clock_shows_that_it_has_expired() {
        let claim = Claim { owner: "w".into(), lease_until: Timestamp::from_second(1_000).unwrap() };
        assert!(is_live(&claim, Timestamp::from_second(1_299).unwrap()));
        assert!(!is_live(&claim, Timestamp::from_second(1_300).unwrap()));
    }

    #[tokio::test]
    async fn an_error_counts_more_than_a_notification_that_is_not_as_expected() {
        let statuses = [
            report("a", Ok(Decided::changed(Status::Failed, Status::Init)), true),
            report("b", Err(Error::Failed("no answer".to_owned())), true),
            report("c", Ok(Decided::by(Answer::Absent, Status::Failed, Status::Failed, Status::Init)), true),
        ];
        assert_eq!(statuses, [0, 2, 1]);

        let decided = std::cell::RefCell::new(Vec::new());
        let ids = ["a", "b", "c"].map(str::to_owned);
        let worst = each(&ids, true, async |id| {
            decided.borrow_mut().push(id.to_owned());
            match id {
                "a" => Ok(Decided::changed(Status::Failed, Status::Init)),
                "b" => Err(Error::Failed("no answer".to_owned())),
                _ => Ok(Decided::by(Answer::Absent, Status::Failed, Status::Failed, Status::Init)),
            }
        });
        assert_eq!(worst.await, 2);
        assert_eq!(decided.into_inner(), ids, "an error does not stop the others");
    }
}
