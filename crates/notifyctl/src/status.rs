//! `notifyctl status`: shows one notification, and what happened to it.

pub(crate) mod logs;
pub(crate) mod timeline;

use crate::dlq::{self, Letter};
use crate::error::Error;
use crate::output;
use crate::stack::{Stack, dead_letters};
use crate::status::timeline::{Event, Origin};
use crate::time::{before, duration};
use aws::SystemClock;
use aws_sdk_dynamodb::types::AttributeValue;
use clap::Args;
use notification::{Clock, Timestamp, limits};
use serde_json::{Map, Value};
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  notifyctl status rfd-000001
  notifyctl status rfd-000001 --dead-letters               was a message with this id refused?
  notifyctl status rfd-000001 --since 2h                   search only the last two hours of the logs
  notifyctl status rfd-000001 --json | jq -r '.timeline[] | [.at, .from, .what] | @tsv'

Exit status: 0, even if logs or dead letters could not be read; 1 if the table does not have it; 2 if the table could not be read.";

/// Show one notification, and what happened to it
///
/// The timeline is made of the times in the table and of the lines of the three functions' logs that name the notification. At
/// the log level INFO, a step that succeeds has no line. The table has the last failure, and the last 11 times at which an
/// operator put the notification back; earlier failures are in the logs, as long as these are kept.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatusArgs {
    /// The notification id
    pub(crate) id: String,

    /// Show the event, the action's outcome and the lines that your own action logged, too: they may contain personal data
    #[arg(long)]
    pub(crate) event: bool,

    /// Search the logs this far back, e.g. 90s, 5m, 2h or 1d
    ///
    /// The default is from two hours before it was received or, if it is not in the table, a day.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) since: Option<Duration>,

    /// Do not search the logs
    #[arg(long, conflicts_with = "since")]
    pub(crate) no_logs: bool,

    /// Look for its dead letters, too
    ///
    /// Reads the whole dead-letter queue. Its messages are hidden meanwhile, and their receive counts rise.
    #[arg(long)]
    pub(crate) dead_letters: bool,
}

/// The attributes, the most interesting ones first.
const ATTRIBUTES: [&str; 19] = [
    "id",
    "status",
    "source",
    "type",
    "received_at",
    "pending_since",
    "unknown_call_at",
    "put_back_at",
    "owner",
    "lease_until",
    "done_at",
    "failed_at",
    "in_doubt_at",
    "reason",
    "reason_code",
    "last_failure_at",
    "failures",
    "expires_at",
    "raw_bytes",
];

/// Those that have content of the event, or may have: the action notes the outcome.
const CONTENT: [&str; 2] = ["outcome", "event"];

/// A notification as it is shown.
pub(crate) struct Shown {
    /// Text or, for attributes of the type N, numbers.
    pub(crate) attributes: Vec<(&'static str, Value)>,
    /// What happened to it, as its item says.
    pub(crate) timeline: Vec<Event>,
}

/// Reads a notification, with its content only if that is asked for. `None` if it is not in the table.
pub(crate) async fn read(stack: &Stack, id: &str, with_content: bool) -> Result<Option<Shown>, Error> {
    let call = stack.dynamodb.get_item().table_name(&stack.table_name).key("id", AttributeValue::S(id.to_owned()));
    let answer = call.consistent_read(true).send().await.map_err(Error::aws("GetItem"))?;
    let shown = answer.item.map(|item| {
        let attribute = |name| Some((name, value(item.get(name)?)?));
        let names = ATTRIBUTES.into_iter().chain(CONTENT.into_iter().filter(|_| with_content));
        Shown { attributes: names.filter_map(attribute).collect(), timeline: timeline::of(&item) }
    });
    Ok(shown)
}

/// The value of an attribute that is text or a number.
fn value(attribute: &AttributeValue) -> Option<Value> {
    match attribute {
        AttributeValue::S(text) => Some(text.as_str().into()),
        AttributeValue::N(number) => serde_json::from_str(number).ok(),
        _ => None,
    }
}

/// An attribute for people.
pub(crate) fn for_people(name: &str, value: &Value) -> String {
    let expires_at = value.as_i64().filter(|_| name == "expires_at");
    match (value, expires_at.and_then(|seconds| Timestamp::from_second(seconds).ok())) {
        (_, Some(time)) => time.to_string(),
        (Value::String(text), None) => text.clone(),
        (other, None) => other.to_string(),
    }
}

/// What to make of a notification that is not in the table.
pub(crate) const ABSENT: &str = "is not in the table: still in the queue, refused (see `notifyctl dlq list`), never sent, or DONE longer ago than the table keeps it";

pub(crate) async fn run(stack: &Stack, args: &StatusArgs, json: bool) -> Result<ExitCode, Error> {
    let Report { found, timeline, remarks } = collect(stack, args).await?;
    let exit_code = if found.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if json {
        output::json(&as_json(&args.id, found.unwrap_or_default(), timeline, remarks));
        return Ok(exit_code);
    }
    match found {
        Some(attributes) => {
            output::pairs(attributes.iter().map(|(name, value)| (name, for_people(name, value))));
        }
        None => output::line(format_args!("{} {ABSENT}", args.id)),
    }
    print(timeline);
    for remark in &remarks {
        output::note(remark);
    }
    Ok(exit_code)
}

/// All that is known about a notification.
struct Report {
    /// Its attributes; `None` if it is not in the table.
    found: Option<Vec<(&'static str, Value)>>,
    timeline: Vec<Event>,
    /// What could not be read, or not to its end.
    remarks: Vec<String>,
}

/// Reads the table, the logs and the dead letters. Only the table must be readable.
async fn collect(stack: &Stack, args: &StatusArgs) -> Result<Report, Error> {
    let (found, mut timeline) = match read(stack, &args.id, args.event).await? {
        Some(Shown { attributes, timeline }) => (Some(attributes), timeline),
        None => (None, Vec::new()),
    };
    let mut remarks = Vec::new();
    if !args.no_logs {
        let since = search_from(args, &timeline, SystemClock.now());
        let last = timeline.last().and_then(|last| last.at.parse().ok());
        let wanted = logs::Wanted { id: &args.id, since, last, with_content: args.event };
        let (lines, unread) = logs::naming(stack, &wanted).await;
        timeline.extend(lines);
        remarks.extend(unread);
    }
    let (letters, unread) = dead_letters_of(stack, args).await;
    timeline.extend(letters);
    remarks.extend(unread);
    Ok(Report { found, timeline: timeline::in_order(timeline), remarks })
}

/// From when on the logs are searched: as asked, or from shortly before the first time that the table has.
fn search_from(args: &StatusArgs, of_table: &[Event], now: Timestamp) -> Timestamp {
    if let Some(since) = args.since {
        return before(now, since);
    }
    match of_table.first().and_then(|first| first.at.parse().ok()) {
        Some(first) => before(first, limits::LOGS_BEFORE_RECEIVED),
        None => before(now, limits::LOGS_OF_ABSENT),
    }
}

/// The dead letters with the notification's id, if they are asked for, and remarks about those that may be missing.
async fn dead_letters_of(stack: &Stack, args: &StatusArgs) -> (Vec<Event>, Vec<String>) {
    if !args.dead_letters {
        let remark = match dead_letters::count(stack).await {
            Ok(0) => return (Vec::new(), Vec::new()),
            Ok(count) => {
                let count = output::plural(count, "message");
                format!("the dead-letter queue has about {count}; --dead-letters looks for this id among them")
            }
            Err(error) => format!("the dead letters were not counted: {error}"),
        };
        return (Vec::new(), vec![remark]);
    }
    let dlq::Found { letters, more, is_complete } = match dlq::find(stack, &args.id).await {
        Ok(found) => found,
        Err(error) => return (Vec::new(), vec![format!("the dead letters were not read: {error}")]),
    };
    let mut remarks = Vec::new();
    if more > 0 {
        let have = if more == 1 { "has" } else { "have" };
        remarks.push(format!("{} {have} this id", output::plural(more, "more dead letter")));
    }
    if !is_complete {
        remarks.push("SQS counts more dead letters than were read: run it again".to_owned());
    }
    (letters.iter().filter_map(dead_letter).collect(), remarks)
}

/// A dead letter, at the time when it was sent: SQS does not say when it became one. `None` if SQS does not say when it was
/// sent, although it is asked.
fn dead_letter(letter: &Letter) -> Option<Event> {
    // The time of its first sending is an attribute, which upstream may have set to anything.
    let sent = letter.first_sent_at().or_else(|| letter.sent_at())?;
    let receives = letter.receives().unwrap_or_default();
    let what = format!(
        "sent; now a dead letter, {}: {} (receive {receives}, message {})",
        letter.reason,
        letter.why,
        letter.message_id()
    );
    Some(Event::new(format!("{sent:.3}"), Origin::DeadLetter, what))
}

fn as_json(id: &str, attributes: Vec<(&str, Value)>, timeline: Vec<Event>, remarks: Vec<String>) -> Map<String, Value> {
    // Without an item, these are all.
    let mut shown = Map::from_iter([("id".to_owned(), id.into()), ("status".to_owned(), Value::Null)]);
    shown.extend(attributes.into_iter().map(|(name, value)| (name.to_owned(), value)));
    shown.insert("timeline".to_owned(), serde_json::to_value(timeline).unwrap_or_default());
    shown.insert("remarks".to_owned(), remarks.into());
    shown
}

fn print(timeline: Vec<Event>) {
    if timeline.is_empty() {
        return;
    }
    output::line("");
    let after = |event: &Event| event.after_ms.map(timeline::span).unwrap_or_default();
    let row = |event: Event| [event.at.clone(), after(&event), event.from.as_str().to_owned(), event.what];
    output::table(timeline.into_iter().map(row), 1);
}

#[cfg(test)]
mod tests;
