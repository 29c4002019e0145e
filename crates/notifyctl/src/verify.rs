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

use crate::cli::VerifyArgs;
use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use crate::time::since;
use aws::SystemClock;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use notification::{Clock, Timestamp, limits};
use progress::{Position, Progress};
use rules::{Item, Value};
use serde::Serialize;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

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

/// Removes a file, if there is one: the whole table may be one page.
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
