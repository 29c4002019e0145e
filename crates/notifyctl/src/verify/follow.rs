//! `notifyctl verify --follow`: checks each change of the table, as its stream has it, against the rules.

use super::VerifyArgs;
use super::attributes::item;
use super::metrics::Metrics;
use super::rules::{Removal, wrong_change, wrong_removal};
use super::shards::{Lost, Place, Shards};
use super::{Violation, id_of};
use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use crate::time::since;
use aws::SystemClock;
use aws_sdk_dynamodbstreams::types::{OperationType, Record};
use indicatif::ProgressBar;
use notification::{Clock, Timestamp, limits};
use serde::Serialize;
use std::ops::Sub;
use std::process::ExitCode;
use std::time::Duration;
use stream_reader::CallError;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

/// What was checked. `--json` prints it at the end.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) checked: usize,
    pub(super) violations: usize,
    /// How often the command lost its place in a shard: some changes may not be checked, and others twice.
    pub(super) gaps: usize,
}

struct Monitor<'a> {
    stack: &'a Stack,
    json: bool,
    shards: Shards,
    listed_at: Option<Timestamp>,
    rounds: Rounds,
    counts: Counts,
    /// `None` if nothing is published.
    metrics: Option<Metrics>,
}

/// Follows the stream for as long as the arguments say, or until a signal ends it. Prints a summary in any case.
pub(super) async fn run(stack: &Stack, args: &VerifyArgs, json: bool) -> Result<ExitCode, Error> {
    let metrics = args.publish_metrics.then(Metrics::default);
    let mut monitor = Monitor {
        stack,
        json,
        shards: Shards::default(),
        listed_at: None,
        rounds: Rounds::default(),
        counts: Counts::default(),
        metrics,
    };
    let bar = output::spinner("following the table's stream");
    let result = tokio::select! {
        biased;
        result = monitor.follow(args.for_, &bar) => result,
        () = stop_signal() => Ok(()),
    };
    bar.finish_and_clear();
    // A monitor that has read nothing must not look alive.
    if monitor.rounds.have_begun
        && let Err(problem) = monitor.publish().await
    {
        output::note(&format!("the last counts are not published: {problem}"));
    }
    let exit_code = monitor.counts.report(json);
    result.map(|()| exit_code)
}

/// Ctrl-C, or SIGTERM, with which containers and services are stopped.
async fn stop_signal() {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else {
        // An error means that the runtime has no signals: then Ctrl-C ends the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

/// How the rounds of reading went.
#[derive(Debug, Default)]
struct Rounds {
    /// Whether one has succeeded.
    have_begun: bool,
    failing_since: Option<Timestamp>,
}

impl Rounds {
    fn succeeded(&mut self) {
        *self = Self { have_begun: true, failing_since: None };
    }

    /// Returns the error if it will not pass, or has not passed for too long.
    fn failed(&mut self, error: CallError, now: Timestamp) -> Result<(), CallError> {
        // Before the first success, a permission may be missing. What is not found by now is the stream itself.
        let may_pass = error.is_throttled() || (self.have_begun && !error.is_not_found());
        let is_new = self.failing_since.is_none();
        let failing_since = *self.failing_since.get_or_insert(now);
        if !may_pass || since(failing_since, now) >= limits::FOLLOW_FAILING_MAX {
            return Err(error);
        }
        if is_new {
            output::note(&format!("{error}; it is tried again"));
        }
        Ok(())
    }
}

impl Monitor<'_> {
    /// Reads round by round. A call that fails is made again in the next round, unless nothing was read yet or rounds
    /// have failed for too long: then whoever started this should start it again, with other credentials perhaps.
    async fn follow(&mut self, for_: Option<Duration>, bar: &ProgressBar) -> Result<(), Error> {
        let began = SystemClock.now();
        loop {
            let wait = match self.round().await {
                Ok(found_any) => {
                    self.rounds.succeeded();
                    self.publish_if_due().await?;
                    if found_any { limits::FOLLOW_POLL_BUSY } else { limits::FOLLOW_POLL }
                }
                Err(error) => {
                    self.rounds.failed(error, SystemClock.now())?;
                    limits::BACKOFF_CAP
                }
            };
            bar.set_message(format!("following the table's stream: {}", self.counts.text()));
            bar.tick();
            if for_.is_some_and(|time| since(began, SystemClock.now()) >= time) {
                return Ok(());
            }
            SystemClock.sleep(wait).await;
        }
    }

    /// Reads each shard once, and says whether there were changes. If a call fails, the others are made all the same.
    async fn round(&mut self) -> Result<bool, CallError> {
        let now = SystemClock.now();
        let (mut found_any, mut failed) = (false, None);
        if self.listed_at.is_none_or(|at| since(at, now) >= limits::FOLLOW_LIST_EVERY) {
            match self.stack.table_stream.shards().await {
                Ok(shards) if shards.iter().all(|shard| shard.is_closed) => {
                    failed = Some(CallError::new("DescribeStream", NO_OPEN_SHARD.to_owned()));
                }
                Ok(shards) => {
                    self.shards.list(&shards);
                    self.listed_at = Some(now);
                }
                Err(error) => failed = Some(error),
            }
        }
        for (shard, place) in self.shards.to_read() {
            match self.read(&shard, place).await {
                Ok(changes) => found_any |= changes > 0,
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(found_any), Err)
    }

    /// Reads once from a shard, and returns the number of changes.
    async fn read(&mut self, shard: &str, place: Place) -> Result<usize, CallError> {
        let iterator = match place {
            Place::At(iterator) => Some(iterator),
            Place::From(from) => match self.stack.table_stream.iterator(shard, &from).await {
                Ok(iterator) => {
                    self.shards.begun(shard, iterator.clone());
                    iterator
                }
                Err(error) => return self.lost(shard, error),
            },
            Place::End => None,
        };
        let Some(iterator) = iterator else { return Ok(0) };
        let page = match self.stack.table_stream.records(iterator).await {
            Ok(page) => page,
            Err(error) => return self.lost(shard, error),
        };
        for record in &page.records {
            self.check(record);
        }
        let last = page.records.last().and_then(|record| record.dynamodb()?.sequence_number());
        self.shards.read(shard, last, page.next);
        Ok(page.records.len())
    }

    /// Finds a new place in a shard after an error; other errors are returned.
    fn lost(&mut self, shard: &str, error: CallError) -> Result<usize, CallError> {
        let lost = if error.is_expired_iterator() {
            Lost::Expired
        } else if error.is_trimmed() {
            Lost::Trimmed
        } else if error.is_not_found() {
            Lost::Gone
        } else {
            return Err(error);
        };
        if self.shards.lost(shard, lost) {
            self.counts.gaps += 1;
        }
        Ok(0)
    }

    fn check(&mut self, record: &Record) {
        self.counts.checked += 1;
        let Some((id, problem)) = problem(record) else { return };
        self.counts.violations += 1;
        Violation { id, problem }.print(self.json);
    }

    /// Publishes the metrics from time to time, after a round of reads that succeeded. The first time, an error ends the command:
    /// it may lack a permission.
    async fn publish_if_due(&mut self) -> Result<(), Error> {
        let Some(metrics) = &self.metrics else { return Ok(()) };
        if !metrics.are_due(SystemClock.now()) {
            return Ok(());
        }
        let is_first = metrics.are_new();
        match self.publish().await {
            Err(problem) if is_first => {
                self.metrics = None;
                Err(Error::Failed(problem))
            }
            Err(problem) => {
                output::note(&format!("the counts are published later: {problem}"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    async fn publish(&mut self) -> Result<(), String> {
        let Some(metrics) = &mut self.metrics else { return Ok(()) };
        metrics.publish(self.stack, self.counts, SystemClock.now()).await
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            checked: self.checked - earlier.checked,
            violations: self.violations - earlier.violations,
            gaps: self.gaps - earlier.gaps,
        }
    }
}

impl Counts {
    fn text(self) -> String {
        let checked = output::plural(self.checked, "change");
        format!("{checked} checked, {}", output::plural(self.violations, "violation"))
    }

    fn report(self, json: bool) -> ExitCode {
        if json {
            output::line(output::compact(&self));
        } else {
            output::line(output::verdict(self.violations == 0, &self.text()));
            if self.gaps > 0 {
                output::line(output::undecided("the command lost its place: some changes may not be checked"));
            }
        }
        ExitCode::from(match (self.violations, self.gaps) {
            (0, 0) => 0,
            (0, _) => 3,
            _ => 1,
        })
    }
}

/// What is wrong with a change, and the item that it is about.
pub(super) fn problem(record: &Record) -> Option<(String, String)> {
    let change = record.dynamodb()?;
    let (old, new) = (change.old_image().map(item), change.new_image().map(item));
    let changed = new.as_ref().or(old.as_ref())?;
    let is_expiry = record.user_identity().is_some_and(|identity| identity.principal_id() == Some(TIME_TO_LIVE));
    let problem = match (record.event_name(), &old, &new) {
        (Some(OperationType::Remove), Some(old), _) => {
            wrong_removal(old, if is_expiry { Removal::Expiry } else { Removal::Deletion })
        }
        (_, old, Some(new)) => wrong_change(old.as_ref(), new),
        _ => Some("its record has no image".to_owned()),
    }?;
    Some((id_of(changed), problem))
}

/// Why a stream cannot be followed that AWS still lists, for a day.
const NO_OPEN_SHARD: &str = "the stream has no open shard: it was disabled, or replaced by another";

/// Who removes expired items, by their stream records.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/time-to-live-ttl-streams.html>
const TIME_TO_LIVE: &str = "dynamodb.amazonaws.com";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stack;
    use aws_sdk_dynamodb::types::AttributeValue;
    use stream_reader::Shard;

    /// A monitor that follows the stream from its beginning.
    fn monitor(stack: &Stack, metrics: Option<Metrics>) -> Monitor<'_> {
        let mut shards = Shards::default();
        shards.list(&[]);
        let (rounds, counts) = (Rounds::default(), Counts::default());
        Monitor { stack, json: true, shards, listed_at: None, rounds, counts, metrics }
    }

    async fn put(stack: &Stack, id: &str, status: &str) {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let put = stack.dynamodb.put_item().table_name(&stack.table_name);
        put.item("id", text(id)).item("status", text(status)).send().await.unwrap();
    }

    #[tokio::test]
    async fn each_change_is_checked_once_and_bad_ones_are_counted() {
        let stack = stack().await;
        let mut monitor = monitor(&stack, None);
        put(&stack, "sweep:cursor", "is not looked at").await;
        put(&stack, "a", "DONE").await;
        assert!(monitor.round().await.unwrap());
        assert_eq!(monitor.counts, Counts { checked: 2, violations: 1, gaps: 0 });
        assert!(!monitor.round().await.unwrap());
        put(&stack, "b", "INIT").await;
        assert!(monitor.round().await.unwrap());
        assert_eq!(monitor.counts, Counts { checked: 3, violations: 2, gaps: 0 });
    }

    #[test]
    fn reads_that_fail_are_repeated_for_ten_minutes_but_not_before_one_has_succeeded() {
        let refused = || CallError::new("GetRecords", "no answer in time".to_owned());
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut rounds = Rounds::default();
        assert!(rounds.failed(refused(), at(0)).is_err());
        rounds.succeeded();
        assert!(rounds.failed(refused(), at(100)).is_ok());
        assert!(rounds.failed(refused(), at(699)).is_ok());
        rounds.succeeded();
        assert!(rounds.failed(refused(), at(700)).is_ok());
        assert!(rounds.failed(refused(), at(1_300)).is_err());
        rounds.succeeded();
        assert!(rounds.failed(not_found(), at(1_301)).is_err(), "the stream does not exist any more");
    }

    #[tokio::test]
    async fn a_shard_that_is_gone_is_a_gap_and_the_others_are_read_on() {
        let stack = stack().await;
        let mut monitor = monitor(&stack, None);
        put(&stack, "a", "DONE").await;
        monitor.round().await.unwrap();
        monitor.shards.list(&[Shard { id: "gone".to_owned(), parents: vec![], is_closed: false }]);
        // The model refuses a shard that it does not have in another way than the stream does.
        assert!(monitor.round().await.is_err());
        assert!(monitor.lost("gone", not_found()).is_ok());
        assert!(!monitor.round().await.unwrap());
        assert_eq!(monitor.counts.gaps, 1);
    }

    fn not_found() -> CallError {
        use aws_sdk_dynamodb::error::{ErrorMetadata, SdkError};
        let metadata = ErrorMetadata::builder().code("ResourceNotFoundException").build();
        CallError::of("GetShardIterator")(SdkError::service_error(
            aws_sdk_dynamodbstreams::operation::get_shard_iterator::GetShardIteratorError::generic(metadata),
            (),
        ))
    }

    #[tokio::test]
    async fn a_monitor_that_cannot_publish_at_all_ends() {
        let mut stack = stack().await;
        stack.config = stack.config.into_builder().endpoint_url("http://127.0.0.1:9").build();
        let mut monitor = monitor(&stack, Some(Metrics::default()));
        let error = monitor.publish_if_due().await.unwrap_err();
        assert!(error.to_string().starts_with("PutMetricData: "), "{error}");
        // It does not try once more at the end.
        monitor.publish().await.unwrap();
    }
}
