//! `notifyctl redrive` and `notifyctl resolve`: decisions of an operator. Each is one conditional write. If it makes a
//! notification INIT, the table's stream does the rest.

pub(crate) mod many;
pub(crate) mod plan;
pub(crate) mod running;

use crate::cli::{RedriveArgs, ResolveArgs, SetArgs};
use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use aws::{DynamoTable, SystemClock};
use many::{Order, Selected};
use notification::operator::{Decided, Decision};
use notification::{NotificationId, Status, Timestamp, operator};
use plan::Plan;
use serde_json::json;
use std::process::ExitCode;

pub(crate) async fn redrive(stack: &Stack, args: &RedriveArgs, json: bool) -> Result<ExitCode, Error> {
    run(stack, Decision::Redrive, &args.set, None, json).await
}

pub(crate) async fn resolve(stack: &Stack, args: &ResolveArgs, json: bool) -> Result<ExitCode, Error> {
    let decision = if args.done { Decision::ResolveDone } else { Decision::ResolveRetry };
    run(stack, decision, &args.set, args.seen, json).await
}

/// Decides on one notification, or on many as planned.
async fn run(
    stack: &Stack,
    decision: Decision,
    set: &SetArgs,
    seen: Option<Timestamp>,
    json: bool,
) -> Result<ExitCode, Error> {
    let table = table(stack);
    let order = Order { stack, table: &table, decision, set };
    if let Some(path) = &set.resume {
        return order.carry_out(Plan::open(path, &stack.table_name, decision)?, &[], json).await;
    }
    let one = one_id(set);
    if let (Some(id), false, None) = (one, set.wait, &set.plan) {
        return Ok(ExitCode::from(report(id, decide(&table, id, decision, seen).await, json)));
    }
    if seen.is_some() && one.is_none() {
        return Err(Error::Failed("--seen is for one notification: give one id".to_owned()));
    }
    let Selected { set: mut planned, left_alone } = order.select().await?;
    if let (Some(seen), [planned]) = (seen, &mut planned[..]) {
        planned.seen = seen;
    }
    if planned.is_empty() && left_alone.is_empty() {
        return Err(Error::Negative("nothing was changed: there is no such notification".to_owned()));
    }
    if !set.yes && (one.is_none() || set.plan.is_some()) {
        // With a plan, exactly these can be changed later, when the operator has asked the receiver about them.
        let set = if set.plan.is_some() { order.write(planned)?.left } else { planned };
        return Ok(order.preview(&set, &left_alone, json));
    }
    order.carry_out(order.write(planned)?, &left_alone, json).await
}

/// The id, if there is exactly one.
fn one_id(set: &SetArgs) -> Option<&str> {
    match (&set.ids[..], &set.group) {
        ([id], None) if id != many::STANDARD_INPUT => Some(id),
        _ => None,
    }
}

/// The table of a stack, for decisions.
pub(crate) fn table(stack: &Stack) -> DynamoTable {
    DynamoTable::new(stack.dynamodb.clone(), stack.table_name.clone()).with_done_retention(stack.done_retention_days)
}

async fn decide(table: &DynamoTable, id: &str, decision: Decision, seen: Option<Timestamp>) -> Result<Decided, Error> {
    let id = NotificationId::parse(id)
        .map_err(|invalid| Error::Failed(format!("{id:?} is not a notification id: {invalid}")))?;
    let decided = operator::decide(table, &SystemClock, &id, decision, seen).await;
    decided.map_err(|failure| Error::Failed(failure.to_string()))
}

/// What became of a decision, in words.
pub(crate) fn described(decided: Decided) -> String {
    match decided {
        Decided::Changed { from, to } => format!("{from} → {to}"),
        Decided::NotExpected { expected, status } => {
            let is = status.map_or("of unknown status", Status::as_str);
            format!("not {expected}: it is {is}; nothing was changed")
        }
        Decided::Overtaken { status } => {
            let is = status.map_or("of unknown status", Status::as_str);
            format!("changed meanwhile: it is {is} now; nothing was changed; look at it again before you decide")
        }
        Decided::Held { lease_until, until } => {
            format!("CLAIMED by a worker until {lease_until:.0} at the latest; try again at {until:.0}")
        }
        Decided::Absent => "not in the table".to_owned(),
    }
}

/// The status of the notification now, if it has a known one.
const fn status(decided: Decided) -> Option<Status> {
    match decided {
        Decided::Changed { to, .. } => Some(to),
        Decided::NotExpected { status, .. } | Decided::Overtaken { status } => status,
        Decided::Held { .. } => Some(Status::Claimed),
        Decided::Absent => None,
    }
}

/// Prints the result for one id. Returns the exit status: 0 if it was changed, 1 if it was not as expected, 2 if a call failed.
fn report(id: &str, decided: Result<Decided, Error>, json: bool) -> u8 {
    match decided {
        Ok(decided) => {
            let changed = matches!(decided, Decided::Changed { .. });
            if json {
                let status = status(decided).map(Status::as_str);
                output::json(&json!({"id": id, "changed": changed, "status": status}));
            } else {
                output::line(output::verdict(changed, &format!("{id}: {}", described(decided))));
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

    const CHANGED: Decided = Decided::Changed { from: Status::Claimed, to: Status::Done };

    #[test]
    fn a_decision_is_described_by_its_result() {
        assert_eq!(described(CHANGED), "CLAIMED → DONE");
        let text = described(Decided::NotExpected { expected: Status::InDoubt, status: Some(Status::Done) });
        assert_eq!(text, "not IN_DOUBT: it is DONE; nothing was changed");
        let text = described(Decided::Overtaken { status: Some(Status::InDoubt) });
        assert!(text.contains("it is IN_DOUBT now; nothing was changed"), "{text}");
        let until = Timestamp::from_second(300).unwrap();
        let text = described(Decided::Held { lease_until: Timestamp::UNIX_EPOCH, until });
        assert!(text.contains("until 1970-01-01T00:00:00Z"), "{text}");
        assert!(text.contains("try again at 1970-01-01T00:05:00Z"), "{text}");
    }

    #[test]
    fn an_error_counts_more_than_a_notification_that_is_not_as_expected() {
        let failed = || Err(Error::Failed("no answer".to_owned()));
        let statuses = [Ok(CHANGED), Ok(Decided::Absent), failed()].map(|decided| report("a", decided, true));
        assert_eq!(statuses, [0, 1, 2]);
    }
}
