//! `notifyctl verify`: every rule for every item of the table; or, with `--follow`, for every change from now on. It only reads.
//!
//! | file | concern |
//! |---|---|
//! | `rules` | the rules: pure, and in tables |
//! | `attributes` | items as the SDK has them |
//! | `progress` | how far the table has been read |
//! | `follow` | the monitor of the table's stream |
//! | `shards` | where the monitor reads each shard next |
//! | `metrics` | what the monitor publishes |

mod attributes;
mod follow;
mod metrics;
mod progress;
mod rules;
#[cfg(test)]
mod rules_tests;
mod shards;

use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use crate::time::{duration, since};
use aws::SystemClock;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use clap::Args;
use notification::{Clock, Timestamp, limits};
use progress::{Position, Progress};
use rules::{Item, Value};
use serde::Serialize;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  notifyctl verify
  notifyctl verify --state verify.json --read-units 100     slowly; run it again after an interruption
  notifyctl verify --follow --for 1h --json
  notifyctl verify --follow --publish-metrics               a monitor, until Ctrl-C or SIGTERM

Exit status: 0 no violation; 1 violations; 2 the table could not be read, or the first metrics not published; 3 some
changes may not be checked; 130 interrupted. With --follow, Ctrl-C and SIGTERM end it normally, and do not count as an interruption.";

/// Check every item in the table, or every change from now on (--follow), against the rules
///
/// Each item must have exactly the attributes that its status implies, an event that is its notification's, and valid
/// times (docs/SEMANTICS.md#attributes). Reads the whole table, at a limited rate. Each violation is printed when it is
/// found.
///
/// With --follow, each change that the table's stream shows must be one of the allowed transitions, must set and remove
/// the attributes of that transition and no others, and must leave a valid item; only DONE items may be removed, and only
/// by their time to live. Run one such monitor for a stack: two readers can share a shard of the stream, and publisher's
/// event source mapping is one of them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyArgs {
    /// Read at most this many capacity units per second
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) read_units: u32,

    /// Save the progress in this file, and continue with it if it exists; a finished run deletes it
    #[arg(long, value_name = "FILE", conflicts_with = "follow")]
    pub(crate) state: Option<PathBuf>,

    /// Follow the table's stream until this is interrupted
    #[arg(long)]
    pub(crate) follow: bool,

    /// Publish what --follow counts in CloudWatch, once a minute; without this, nothing is written anywhere (needs
    /// cloudwatch:PutMetricData in the namespace AtomicNotification)
    #[arg(long, requires = "follow")]
    pub(crate) publish_metrics: bool,

    /// Follow for this long, e.g. 90s, 5m, 2h or 1d
    #[arg(long = "for", value_name = "DURATION", requires = "follow", value_parser = duration)]
    pub(crate) for_: Option<Duration>,
}

/// A broken invariant.
#[derive(Debug, Serialize)]
struct Violation {
    id: String,
    problem: String,
}

impl Violation {
    fn print(&self, json: bool) {
        if json {
            output::line(output::compact(self));
        } else {
            output::line(output::verdict(false, &format!("{}: {}", self.id, self.problem)));
        }
    }
}

/// What `--json` prints at the end.
#[derive(Debug, Serialize)]
struct Answer {
    checked: usize,
    violations: usize,
    read_units: f64,
}

pub(crate) async fn run(stack: &Stack, args: &VerifyArgs, json: bool) -> Result<ExitCode, Error> {
    if args.follow {
        return follow::run(stack, args, json).await;
    }
    let mut progress = match &args.state {
        Some(path) => Progress::open_or_new(path, &stack.table_name)?,
        None => Progress::new(&stack.table_name),
    };
    let bar = output::spinner("reading the table");
    while let Some(segment) = progress.next() {
        let began = SystemClock.now();
        let page = read_page(stack, segment, progress.position(segment)).await?;
        for item in &page.items {
            if let Some(problem) = rules::wrong_item(item) {
                progress.violations += 1;
                Violation { id: id_of(item), problem }.print(json);
            }
        }
        progress.take(segment, page.items.len(), page.read_units, page.next);
        // A file of a finished run would make the next one check nothing.
        if let (Some(path), Some(_)) = (&args.state, progress.next()) {
            progress.save(path)?;
        }
        bar.set_message(format!("reading the table: {}", output::plural(progress.checked, "item")));
        bar.tick();
        SystemClock.sleep(pause(page.read_units, args.read_units, began, SystemClock.now())).await;
    }
    bar.finish_and_clear();
    if let Some(path) = &args.state {
        remove(path).map_err(Error::file(path))?;
    }
    Ok(report(&progress, json))
}

/// Removes a file, if it is still there.
fn remove(path: &Path) -> std::io::Result<()> {
    std::fs::remove_file(path).or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn report(progress: &Progress, json: bool) -> ExitCode {
    let Progress { checked, violations, read_units, .. } = *progress;
    if json {
        output::line(output::compact(&Answer { checked, violations, read_units }));
    } else {
        let text = format!("{} checked, {}", output::plural(checked, "item"), output::plural(violations, "violation"));
        output::line(output::verdict(violations == 0, &text));
    }
    ExitCode::from(u8::from(violations > 0))
}

/// How long to wait, so that this many read units are not exceeded in a second.
fn pause(read: f64, per_second: u32, began: Timestamp, now: Timestamp) -> Duration {
    let needed = Duration::try_from_secs_f64(read / f64::from(per_second)).unwrap_or_default();
    needed.saturating_sub(since(began, now))
}

/// A page of a segment of the table.
struct Page {
    items: Vec<Item>,
    read_units: f64,
    next: Position,
}

async fn read_page(stack: &Stack, segment: usize, position: Position) -> Result<Page, Error> {
    let start = match position {
        Position::After(id) => Some(HashMap::from([("id".to_owned(), AttributeValue::S(id))])),
        Position::Start | Position::End => None,
    };
    let (segments, segment) = (limits::VERIFY_SEGMENTS, i32::try_from(segment).unwrap_or_default());
    let answer = stack
        .dynamodb
        .scan()
        .table_name(&stack.table_name)
        .segment(segment)
        .total_segments(i32::try_from(segments).unwrap_or(1))
        .set_exclusive_start_key(start)
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .send()
        .await
        .map_err(Error::aws("Scan"))?;
    let last = answer.last_evaluated_key().and_then(|key| crate::stack::items::text(key, "id"));
    let next = last.map_or(Position::End, |id| Position::After(id.to_owned()));
    let read_units = answer.consumed_capacity().and_then(|consumed| consumed.capacity_units).unwrap_or_default();
    let items = answer.items().iter().map(attributes::item).collect();
    Ok(Page { items, read_units, next })
}

fn id_of(item: &Item) -> String {
    match item.get("id") {
        Some(Value::Text(id)) => id.clone(),
        _ => "(no id)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_slowed_down_to_the_read_units_that_are_allowed() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        assert_eq!(pause(128.0, 256, at(0), at(100)), Duration::from_millis(400));
        assert_eq!(pause(128.0, 256, at(0), at(600)), Duration::ZERO);
        assert_eq!(pause(0.0, 1, at(0), at(0)), Duration::ZERO);
    }
}
