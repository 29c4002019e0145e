//! `notifyctl latency`: how long notifications take, by stage and from end to end.

mod arrivals;

use crate::error::Error;
use crate::stack::Stack;
use crate::stack::items::{self, Item};
use crate::time::{after, since};
use crate::{events, output, send};
use aws::SystemClock;
use clap::Args;
use notification::batch::by_count;
use notification::event::readable_id;
use notification::{Clock, NotificationId, Status, Timestamp, limits};
use serde::Serialize;
use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  notifyctl latency                                        500 notifications, 50 per second
  notifyctl latency --count 6000 --rate 200                more load, for half a minute
  notifyctl latency --json | jq .milliseconds.sent_to_done.p99

Exit status: 1 if some are not DONE; the figures then include only the others.";

/// Measure how long notifications take, by stage and from end to end (sends real ones)
///
/// Sends generated notifications at an even rate, waits until they are DONE, and prints the percentiles of each stage in
/// milliseconds, by nearest rank: each figure is the time of one notification.
///
///   sent → received       wait in the queue, and ingest's start
///   received → published  table write, the table stream's polling, publisher
///   published → done      Kinesis polling, downstream and its action
///   sent → done           all of it
///
/// These are real notifications: the deployed action runs for each, and they stay in the table like any other.
///
/// The times come from different clocks: sent from this machine's, received and done from Lambda's (each taken just before its
/// write), published from Kinesis'. A stage that is shorter than the difference of the clocks means nothing, and may be negative.
///
/// Kinesis is read after all are DONE, so that this does not slow down downstream's reads.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub(crate) struct LatencyArgs {
    /// Send this many notifications
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) count: u32,

    /// Send this many per second, unless the queue answers too slowly
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rate: u32,

    /// Give up this many seconds after the last is sent
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
}

/// The result.
#[derive(Debug, Serialize)]
struct Report {
    /// Notifications sent.
    count: u32,
    /// Requested notifications per second.
    rate: u32,
    /// Seconds from the first call to the last: longer than `count / rate` if the queue answered too slowly.
    sending_seconds: f64,
    /// Notifications that are not DONE, and that no figure includes.
    missing: usize,
    milliseconds: Stages,
}

/// The figures of each stage, in milliseconds; `None` if no notification has one.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Stages {
    sent_to_received: Option<Figures>,
    received_to_published: Option<Figures>,
    published_to_done: Option<Figures>,
    sent_to_done: Option<Figures>,
}

/// The figures of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Figures {
    p50: i64,
    p95: i64,
    p99: i64,
    max: i64,
    /// Number of notifications.
    notifications: usize,
}

/// When a notification that is DONE passed each stage.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Just before the call that sent it.
    sent: Timestamp,
    /// Its `received_at`.
    received: Timestamp,
    /// When its first record arrived in Kinesis; `None` if none was found.
    published: Option<Timestamp>,
    /// Its `done_at`.
    done: Timestamp,
}

pub(crate) async fn run(stack: &Stack, args: &LatencyArgs, json: bool) -> Result<ExitCode, Error> {
    let start = SystemClock.now();
    // Random, as in `send`: no two runs make the same id.
    let seed = fastrand::u64(..);
    let prefix = format!("latency-{seed:016x}");
    let events = events::made(args.count, 0, &prefix, seed, &format!("{start:.0}"));
    let ids: Vec<NotificationId> = events.iter().filter_map(|event| readable_id(event)).collect();

    let due = |n| after(start, due_after(n, args.rate));
    let ranges = by_count(events.len(), messages_a_call(args.rate));
    let others = "the others are on their way, and are real notifications";
    let sent = send::all(stack, &events, ranges, due, others).await?;
    let settled = wait(stack, &ids, Duration::from_secs(args.timeout)).await?;
    let published = arrivals::first(stack, &prefix, start, SystemClock.now()).await?;

    let mut ways = Vec::new();
    let mut missing = Vec::new();
    for (id, &sent) in ids.iter().zip(&sent) {
        let published = published.get(id.as_str()).copied();
        match settled.get(id.as_str()).and_then(|item| Way::of(item, sent, published)) {
            Some(way) => ways.push(way),
            None => missing.push(id),
        }
    }
    let report = Report {
        count: args.count,
        rate: args.rate,
        sending_seconds: sent.last().map(|last| last.duration_since(start).as_secs_f64()).unwrap_or_default(),
        missing: missing.len(),
        milliseconds: stages(&ways),
    };
    if json {
        output::json(&report);
    } else {
        print(&report, &prefix);
    }
    let Some(example) = missing.first() else { return Ok(ExitCode::SUCCESS) };
    Err(Error::Negative(format!(
        "{} of {} notifications are not DONE, so the figures do not include them; `notifyctl status {example}` shows one of them",
        missing.len(),
        ids.len()
    )))
}

/// How long after the first message the n-th is due, counted from 0.
fn due_after(n: usize, rate: u32) -> Duration {
    Duration::from_secs(n as u64) / rate
}

fn messages_a_call(rate: u32) -> usize {
    (rate as usize / limits::LATENCY_CALLS_PER_SECOND).clamp(1, limits::SQS_BATCH_MAX)
}

/// Waits until all notifications are settled or the time is over. Returns the items of the settled ones, by their ids.
async fn wait(stack: &Stack, ids: &[NotificationId], timeout: Duration) -> Result<HashMap<String, Item>, Error> {
    let start = SystemClock.now();
    let bar = output::progress(ids.len(), "waiting");
    let mut settled = HashMap::new();
    loop {
        let waiting: Vec<_> = ids.iter().filter(|id| !settled.contains_key(id.as_str())).cloned().collect();
        let items = items::read(stack, &waiting).await?;
        settled.extend(items.into_iter().filter(|(_, item)| is_settled(item)));
        bar.set_position(settled.len() as u64);
        if settled.len() == ids.len() || since(start, SystemClock.now()) > timeout {
            bar.finish_and_clear();
            return Ok(settled);
        }
        SystemClock.sleep(limits::LATENCY_LOOK_EVERY).await;
    }
}

fn is_settled(item: &Item) -> bool {
    item.status.is_some_and(|status| !status.is_pending())
}

impl Way {
    /// `None` if the notification is not DONE.
    fn of(item: &Item, sent: Timestamp, published: Option<Timestamp>) -> Option<Self> {
        let is_done = item.status == Some(Status::Done);
        is_done.then_some(Self { sent, received: item.received_at?, published, done: item.done_time()? })
    }
}

fn stages(ways: &[Way]) -> Stages {
    Stages {
        sent_to_received: stage(ways, |way| Some((way.sent, way.received))),
        received_to_published: stage(ways, |way| Some((way.received, way.published?))),
        published_to_done: stage(ways, |way| Some((way.published?, way.done))),
        sent_to_done: stage(ways, |way| Some((way.sent, way.done))),
    }
}

/// The figures of the time between two points, in whole milliseconds, so that the stages of a notification add up to its total.
fn stage(ways: &[Way], points: fn(&Way) -> Option<(Timestamp, Timestamp)>) -> Option<Figures> {
    let points = ways.iter().filter_map(points);
    figures(points.map(|(from, to)| to.as_millisecond() - from.as_millisecond()).collect())
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

/// The percentile of sorted values by nearest rank: the smallest value that at least `percent` percent of the values do not
/// exceed. `None` if there are no values.
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
    let rows = [
        ["milliseconds", "p50", "p95", "p99", "max", "of", ""].map(str::to_owned),
        row("sent → received", stages.sent_to_received, "wait in the queue, and ingest's start"),
        row("received → published", stages.received_to_published, "table write, the table stream's polling, publisher"),
        row("published → done", stages.published_to_done, "Kinesis polling, downstream and its action"),
        row("sent → done", stages.sent_to_done, "all of it"),
    ];
    output::table(rows, 5);
}

fn row(name: &str, figures: Option<Figures>, remark: &str) -> [String; 7] {
    let Some(Figures { p50, p95, p99, max, notifications }) = figures else {
        return [name, "–", "–", "–", "–", "0", remark].map(str::to_owned);
    };
    let [p50, p95, p99, max] = [p50, p95, p99, max].map(signed);
    [name.to_owned(), p50, p95, p99, max, output::thousands(notifications), remark.to_owned()]
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

    fn item(status: Option<Status>) -> Item {
        let (received_at, done_at) = (at(123), "1970-01-01T00:00:01.000Z".to_owned());
        Item { status, received_at: Some(received_at), done_at: Some(done_at), ..Item::default() }
    }

    #[test]
    fn a_percentile_is_the_smallest_value_that_this_many_percent_do_not_exceed() {
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
    fn the_stages_of_a_notification_add_up_to_its_total() {
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
    fn a_notification_without_a_kinesis_record_counts_only_in_the_other_stages() {
        let way = Way { sent: at(0), received: at(1), published: None, done: at(3) };
        let stages = stages(&[way, Way { published: Some(at(2)), ..way }]);
        assert_eq!(stages.sent_to_done.unwrap().notifications, 2);
        assert_eq!(stages.published_to_done.unwrap().notifications, 1);
        assert_eq!(stages.received_to_published.unwrap().notifications, 1);
    }

    #[test]
    fn a_pending_notification_is_waited_for_and_a_failed_one_is_not() {
        for pending in [None, Some(Status::Init), Some(Status::Claimed)] {
            assert!(!is_settled(&item(pending)), "{pending:?}");
        }
        for not_done in [Status::Failed, Status::InDoubt] {
            let item = item(Some(not_done));
            assert!(is_settled(&item) && Way::of(&item, at(0), None).is_none());
        }
        let Way { received, done, .. } = Way::of(&item(Some(Status::Done)), at(0), None).unwrap();
        assert_eq!((received, done), (at(123), at(1_000)));
    }

    #[test]
    fn messages_are_due_evenly_and_no_call_has_more_than_sqs_takes() {
        let due: Vec<Duration> = (0..4).map(|n| due_after(n, 4)).collect();
        assert_eq!(due, [0, 250, 500, 750].map(Duration::from_millis));
        assert_eq!([1, 9, 10, 50, 100, 1_000].map(messages_a_call), [1, 1, 1, 5, 10, 10]);
    }
}
