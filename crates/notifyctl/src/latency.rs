//! `notifyctl latency`: how long notifications take, by stage and from end to end.

use crate::cli::LatencyArgs;
use crate::error::{Error, exit};
use crate::stack::Stack;
use crate::{arrivals, events, output, send};
use aws::SystemClock;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use notification::batch::by_count;
use notification::ports::Clock;
use notification::{Notification, Status, Timestamp, limits};
use serde::Serialize;
use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

/// Calls a second that the messages are spread over, where the rate is high enough for it. Few messages a call are more
/// even, and cost more calls.
const SENDS_PER_SECOND: usize = 10;

/// Time between two looks at the notifications that are not settled.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The result.
#[derive(Debug, Serialize)]
struct Report {
    /// Notifications sent.
    count: u32,
    /// Notifications a second, as asked for.
    rate: u32,
    /// Seconds from the first call to the last: longer than `count / rate` where the queue's answers took too long.
    sending_seconds: f64,
    /// Notifications that are not DONE. No figure has them.
    missing: usize,
    milliseconds: Stages,
}

/// The figures of each stage, in milliseconds; `None` where no notification has one.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Stages {
    sent_to_received: Option<Figures>,
    received_to_published: Option<Figures>,
    published_to_done: Option<Figures>,
    sent_to_done: Option<Figures>,
}

/// What is shown of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Figures {
    p50: i64,
    p95: i64,
    p99: i64,
    max: i64,
    /// How many notifications these are the figures of.
    notifications: usize,
}

/// When one notification that is DONE was where.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Right before the call that put it on the queue.
    sent: Timestamp,
    /// Its `received_at`.
    received: Timestamp,
    /// When its first record arrived in Kinesis; `None` where none was found.
    published: Option<Timestamp>,
    /// Its `done_at`.
    done: Timestamp,
}

/// `received_at` and `done_at` of a notification that is DONE.
#[derive(Debug, Clone, Copy)]
struct Done {
    received: Timestamp,
    done: Timestamp,
}

pub(crate) async fn run(stack: &Stack, args: &LatencyArgs, json: bool) -> Result<ExitCode, Error> {
    let start = SystemClock.now();
    // Random, as in `send`: no two runs make the same id.
    let seed = fastrand::u64(..);
    let prefix = format!("latency-{seed:016x}");
    let events = events::made(args.count, 0, &prefix, seed, &format!("{start:.0}"));
    let ids: Vec<String> =
        events.iter().filter_map(|event| Some(Notification::parse(event.as_str()).ok()?.id().to_string())).collect();

    let due = |n| start.saturating_add(due_after(n, args.rate)).unwrap_or(Timestamp::MAX);
    let sent = send::all(stack, &events, by_count(events.len(), messages_a_call(args.rate)), due).await?;
    let settled = wait(stack, &ids, Duration::from_secs(args.timeout)).await?;
    let published = arrivals::first(stack, &prefix, start, SystemClock.now()).await?;

    let way = |(id, sent): (&String, &Timestamp)| {
        let Done { received, done } = settled.get(id).copied().flatten()?;
        Some(Way { sent: *sent, received, published: published.get(id).copied(), done })
    };
    let ways: Vec<Way> = ids.iter().zip(&sent).filter_map(way).collect();
    let sending = sent.last().map(|last| last.duration_since(start).as_secs_f64()).unwrap_or_default();
    let missing = ids.len() - ways.len();
    let report =
        Report { count: args.count, rate: args.rate, sending_seconds: sending, missing, milliseconds: stages(&ways) };
    if json {
        output::json(&report);
    } else {
        print(&report, &prefix);
    }
    match ids.iter().find(|id| settled.get(*id).copied().flatten().is_none()) {
        Some(example) => Err(Error::NotDone { missing, all: ids.len(), example: example.clone() }),
        None => Ok(exit(true)),
    }
}

/// When the n-th message is due, counted from 0: how long after the first.
fn due_after(n: usize, rate: u32) -> Duration {
    Duration::from_secs(n as u64) / rate
}

fn messages_a_call(rate: u32) -> usize {
    (rate as usize / SENDS_PER_SECOND).clamp(1, limits::SQS_BATCH_MAX)
}

/// Waits until all notifications are settled, or the time is over. Returns the settled ones, with `None` for those that
/// are not DONE: they will not become so by themselves.
async fn wait(stack: &Stack, ids: &[String], timeout: Duration) -> Result<HashMap<String, Option<Done>>, Error> {
    let start = SystemClock.now();
    let bar = output::progress(ids.len(), "waiting");
    let mut settled = HashMap::new();
    loop {
        let waiting: Vec<&String> = ids.iter().filter(|id| !settled.contains_key(*id)).collect();
        for batch in waiting.chunks(limits::BATCH_GET_ITEM_MAX) {
            settled.extend(look(stack, batch).await?);
            bar.set_position(settled.len() as u64);
        }
        let waited = Duration::try_from(SystemClock.now().duration_since(start)).unwrap_or_default();
        if settled.len() == ids.len() || waited > timeout {
            bar.finish_and_clear();
            return Ok(settled);
        }
        SystemClock.sleep(LOOK_EVERY).await;
    }
}

/// Those of the notifications that are settled. An answer may lack items, or be a moment old: the next look shows them.
async fn look(stack: &Stack, ids: &[&String]) -> Result<Vec<(String, Option<Done>)>, Error> {
    let keys = ids.iter().map(|id| HashMap::from([("id".to_owned(), AttributeValue::S((*id).clone()))])).collect();
    let wanted = KeysAndAttributes::builder()
        .set_keys(Some(keys))
        // Without the event, which is large and may hold personal data.
        .projection_expression("id, #status, received_at, done_at")
        .expression_attribute_names("#status", "status")
        .build()
        .map_err(Error::failed("BatchGetItem"))?;
    let answer = stack.dynamodb.batch_get_item().request_items(&stack.table_name, wanted).send().await;
    let items = answer.map_err(Error::aws("BatchGetItem"))?.responses.unwrap_or_default().into_values().flatten();
    Ok(items.filter_map(|item| settled(&item)).collect())
}

/// The id of an item that is settled, and its times where it is DONE.
fn settled(item: &HashMap<String, AttributeValue>) -> Option<(String, Option<Done>)> {
    let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
    let status: Status = text("status")?.parse().ok()?;
    let time = |name| text(name)?.parse().ok();
    let done = || Some(Done { received: time("received_at")?, done: time("done_at")? });
    let done = if status == Status::Done { done() } else { None };
    (!status.is_pending()).then_some((text("id")?.clone(), done))
}

fn stages(ways: &[Way]) -> Stages {
    let stage = |times: fn(&Way) -> Option<(Timestamp, Timestamp)>| {
        // Whole milliseconds of the epoch: the stages of a notification then add up to its whole way.
        let millis = |(from, to): (Timestamp, Timestamp)| to.as_millisecond() - from.as_millisecond();
        figures(ways.iter().filter_map(times).map(millis).collect())
    };
    Stages {
        sent_to_received: stage(|way| Some((way.sent, way.received))),
        received_to_published: stage(|way| Some((way.received, way.published?))),
        published_to_done: stage(|way| Some((way.published?, way.done))),
        sent_to_done: stage(|way| Some((way.sent, way.done))),
    }
}

fn figures(mut values: Vec<i64>) -> Option<Figures> {
    values.sort_unstable();
    Some(Figures {
        p50: percentile(&values, 50)?,
        p95: percentile(&values, 95)?,
        p99: percentile(&values, 99)?,
        max: *values.last()?,
        notifications: values.len(),
    })
}

/// The percentile of sorted values by nearest rank: the smallest value that at least `percent` of a hundred values do
/// not exceed. `None` where there are no values.
fn percentile(sorted: &[i64], percent: usize) -> Option<i64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

fn print(report: &Report, prefix: &str) {
    output::line(format_args!(
        "sent {} notifications (ids {prefix}-…) in {:.1} s",
        output::thousands(report.count as usize),
        report.sending_seconds
    ));
    let stages = &report.milliseconds;
    let row = |name: &str, figures: Option<Figures>, remark: &str| {
        let figure = |of: fn(Figures) -> i64| figures.map_or("–".to_owned(), |figures| signed(of(figures)));
        let notifications = output::thousands(figures.map_or(0, |figures| figures.notifications));
        let [p50, p95, p99, max] = [figure(|f| f.p50), figure(|f| f.p95), figure(|f| f.p99), figure(|f| f.max)];
        [name.to_owned(), p50, p95, p99, max, notifications, remark.to_owned()]
    };
    output::figures([
        ["milliseconds", "p50", "p95", "p99", "max", "of", ""].map(str::to_owned),
        row("sent → received", stages.sent_to_received, "wait in the queue, and ingest's start"),
        row("received → published", stages.received_to_published, "table write, the table stream's polling, publisher"),
        row("published → done", stages.published_to_done, "Kinesis polling, downstream and its action"),
        row("sent → done", stages.sent_to_done, "all of it"),
    ]);
}

/// A number with its sign and separators, for people.
fn signed(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", output::thousands(usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    fn item(attributes: &[(&str, &str)]) -> HashMap<String, AttributeValue> {
        attributes.iter().map(|(name, value)| ((*name).to_owned(), AttributeValue::S((*value).to_owned()))).collect()
    }

    #[test]
    fn a_percentile_is_the_smallest_value_that_so_many_of_a_hundred_do_not_exceed() {
        let hundred: Vec<i64> = (1..=100).collect();
        for percent in 1..=100 {
            assert_eq!(percentile(&hundred, percent), i64::try_from(percent).ok());
        }
        let five = [15, 20, 35, 40, 50];
        for (percent, value) in [(5, 15), (20, 15), (21, 20), (30, 20), (40, 20), (50, 35), (99, 50), (100, 50)] {
            assert_eq!(percentile(&five, percent), Some(value), "p{percent}");
        }
    }

    #[test]
    fn a_single_value_is_every_percentile_and_no_value_is_none() {
        for percent in [1, 50, 99, 100] {
            assert_eq!(percentile(&[7], percent), Some(7));
            assert_eq!(percentile(&[], percent), None);
        }
        assert_eq!(figures(vec![]), None);
    }

    #[test]
    fn figures_are_of_sorted_values_and_negative_ones_stay_negative() {
        let expected = Figures { p50: -3, p95: 8, p99: 8, max: 8, notifications: 3 };
        assert_eq!(figures(vec![8, -5, -3]), Some(expected));
        assert_eq!((signed(-1_234).as_str(), signed(1_234).as_str()), ("-1,234", "1,234"));
    }

    #[test]
    fn the_stages_of_a_notification_add_up_to_its_whole_way() {
        let sent = Timestamp::from_nanosecond(1_763_805_600_000_999_999).unwrap();
        let ms = sent.as_millisecond();
        let way = Way { sent, received: at(ms + 70), published: Some(at(ms + 50)), done: at(ms + 200) };
        let Stages { sent_to_received, received_to_published, published_to_done, sent_to_done } = stages(&[way]);
        let [one, two, three, all] =
            [sent_to_received, received_to_published, published_to_done, sent_to_done].map(|stage| stage.unwrap().max);
        assert_eq!([one, two, three, all], [70, -20, 150, 200]);
        assert_eq!(one + two + three, all);
    }

    #[test]
    fn a_notification_without_a_kinesis_record_counts_in_the_other_stages_alone() {
        let way = Way { sent: at(0), received: at(1), published: None, done: at(3) };
        let stages = stages(&[way, Way { published: Some(at(2)), ..way }]);
        assert_eq!(stages.sent_to_done.unwrap().notifications, 2);
        assert_eq!(stages.published_to_done.unwrap().notifications, 1);
        assert_eq!(stages.received_to_published.unwrap().notifications, 1);
    }

    #[test]
    fn what_is_pending_is_waited_for_and_what_has_failed_is_not() {
        let times = [("received_at", "2026-11-22T10:00:00.123Z"), ("done_at", "2026-11-22T10:00:01.000Z")];
        let of = |status| settled(&item(&[&[("id", "a"), ("status", status)], &times[..]].concat()));
        assert!(of("INIT").is_none() && of("CLAIMED").is_none() && settled(&item(&[])).is_none());
        assert!(matches!(of("FAILED"), Some((_, None))) && matches!(of("IN_DOUBT"), Some((_, None))));
        let (id, done) = of("DONE").unwrap();
        let Done { received, done } = done.unwrap();
        assert_eq!((id.as_str(), done.as_millisecond() - received.as_millisecond()), ("a", 877));
    }

    #[test]
    fn messages_are_due_evenly_and_calls_never_hold_more_than_sqs_takes() {
        let due: Vec<Duration> = (0..4).map(|n| due_after(n, 4)).collect();
        assert_eq!(due, [0, 250, 500, 750].map(Duration::from_millis));
        assert_eq!([1, 9, 10, 50, 100, 1_000].map(messages_a_call), [1, 1, 1, 5, 10, 10]);
    }
}
