//! `notifyctl redrive` and `notifyctl resolve`: decisions of an operator. Each is one conditional write. If it makes a
//! notification INIT, the table's stream does the rest.

pub(crate) mod many;
pub(crate) mod plan;
pub(crate) mod running;

use crate::error::Error;
use crate::groups::Key;
use crate::output;
use crate::stack::Stack;
use aws::{DynamoTable, SystemClock};
use clap::Args;
use many::{Order, Selected};
use notification::operator::{Decided, Decision};
use notification::{NotificationId, Status, Timestamp, operator};
use plan::Plan;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

const REDRIVE_EXAMPLES: &str = "\
Examples:
  notifyctl redrive rfd-000007
  notifyctl redrive --group FAILED/rejected/com.example.refund.requested          count them
  notifyctl redrive --group FAILED/rejected/com.example.refund.requested --yes --wait
  notifyctl list --status FAILED --older-than 1d --ids --limit 10000 | notifyctl redrive - --yes --rate 10
  notifyctl redrive --resume notifyctl-20261130T031500Z.plan.jsonl

Exit status: 0 all changed, or only counted; 1 there were none, some were not as expected or failed again, some are still
pending after --wait, or it stopped because of failures; 2 some could not be changed; 130 interrupted.";

const RESOLVE_EXAMPLES: &str = "\
Examples:
  notifyctl resolve rfd-000008 --done --seen 2026-11-30T03:10:00.123Z
  notifyctl resolve --group IN_DOUBT/outcome_unknown/com.example.refund.requested --retry --plan doubt.jsonl
  notifyctl resolve --retry --resume doubt.jsonl                       the receiver has none of these

Exit status: as for `notifyctl redrive`.";

/// The notifications that a decision is about, and how it is carried out.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["ids", "group", "resume"]))]
pub(crate) struct SetArgs {
    /// Notification ids; - reads them from standard input, one per line
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,

    /// All of this group, as `notifyctl groups` prints it
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<Key>,

    /// Make the changes. Without it, they are only counted; a single ID needs no --yes, except with --plan
    #[arg(long)]
    pub(crate) yes: bool,

    /// Change at most this many per second: one in the first second, then twice as many in each
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rate: u32,

    /// Stop when this percentage of the last 100 results (at least 20) are failures: FAILED or IN_DOUBT again, or pending with
    /// a failure
    #[arg(long, value_name = "PCT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) stop_at: u8,

    /// Wait until those that run again are settled, for up to 10 minutes, and say what became of each
    #[arg(long)]
    pub(crate) wait: bool,

    /// Write the plan to this new file: the ids, then the results [default: notifyctl-<time>.plan.jsonl]. Without --yes, only
    /// the ids are written, and --resume changes exactly these
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub(crate) plan: Option<PathBuf>,

    /// Change what is left of the ids in this file: after --plan without --yes, an interruption, or a stop
    #[arg(long, value_name = "FILE")]
    pub(crate) resume: Option<PathBuf>,
}

/// Run failed notifications again: FAILED → INIT
///
/// More than one notification is changed only with --yes; without it, they are counted. The ids are written to a file
/// first, with which an interrupted command can be resumed; later arrivals are not included. However often a plan is
/// resumed, it changes each notification at most once.
#[derive(Debug, Args)]
#[command(after_help = REDRIVE_EXAMPLES)]
pub(crate) struct RedriveArgs {
    #[command(flatten)]
    pub(crate) set: SetArgs,
}

/// Say whether the effect of IN_DOUBT notifications has happened: → DONE, or → INIT to run them again
///
/// A notification that is CLAIMED by a worker that is gone counts as IN_DOUBT.
///
/// Many at once are changed as by `notifyctl redrive`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("decision").required(true).args(["done", "retry"]), after_help = RESOLVE_EXAMPLES)]
pub(crate) struct ResolveArgs {
    #[command(flatten)]
    pub(crate) set: SetArgs,

    /// Its effect has happened: DONE
    #[arg(long)]
    pub(crate) done: bool,

    /// Its effect has not happened: INIT, to run it again
    #[arg(long)]
    pub(crate) retry: bool,

    /// The time that `notifyctl status` showed when you asked the receiver: in_doubt_at, or lease_until of a claim
    ///
    /// If the notification has changed since, another call may have been made, and nothing is changed.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["group", "resume"])]
    pub(crate) seen: Option<Timestamp>,
}

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
    if planned.is_empty() {
        return Ok(order.preview(&planned, &left_alone, json));
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
