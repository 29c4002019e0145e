//! One mapping: the engine says what to read and what is due. This makes the calls, several at once, and tells the engine
//! their results.

use crate::arn;
use crate::clock;
use crate::error::Error;
use crate::function::Function;
use crate::limits::{DOUBLINGS, GIVE_UP_AFTER, POLL_EVERY, SHARDS_EVERY, SLEEP_MIN};
use crate::mapping::Mapping;
use crate::report::Report;
use crate::source::Source;
use aws_config::SdkConfig;
use event_source::payload;
use event_source::stream::{Discarded, Invocation, ReadFrom, StreamMapping};
use futures_util::StreamExt;
use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;
use stream_reader::{CallError, Shard};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

/// A mapping that is polled.
pub(crate) struct Runner<'a> {
    mapping: &'a Mapping,
    source: Source,
    function: Function,
    /// With the account's own credentials: Lambda needs no permission of the role to look up a queue.
    queues: aws_sdk_sqs::Client,
    /// With the function's role.
    sqs: aws_sdk_sqs::Client,
    permits: &'a Semaphore,
    report: &'a Report,
    engine: RefCell<StreamMapping>,
    /// The engine was told something, so other shards may be readable and other invocations due.
    changed: Notify,
    /// A shard was read to its end, so there may be new shards.
    ended: Notify,
    /// When the stream last answered.
    heard_at: Cell<Timestamp>,
}

/// Failures of a call in a row.
#[derive(Default)]
struct Failures {
    count: u32,
    /// The problem that was last reported.
    reported: String,
}

type Calls<'a> = FuturesUnordered<LocalBoxFuture<'a, Result<(), Error>>>;

impl<'a> Runner<'a> {
    /// Lambda reads the stream and sends to the on-failure queue with the function's role, but invokes the function without
    /// it.
    pub(crate) async fn new(
        mapping: &'a Mapping,
        config: &SdkConfig,
        permits: &'a Semaphore,
        report: &'a Report,
    ) -> Result<Self, Error> {
        let with_role = mapping.with_role(config).await?;
        Ok(Self {
            mapping,
            source: Source::of(mapping, &with_role),
            function: Function::of(mapping, config),
            queues: aws_sdk_sqs::Client::new(config),
            sqs: aws_sdk_sqs::Client::new(&with_role),
            permits,
            report,
            engine: RefCell::new(StreamMapping::new(mapping.settings.clone())),
            changed: Notify::new(),
            ended: Notify::new(),
            heard_at: Cell::new(clock::now()),
        })
    }

    /// Runs until the stream is gone.
    pub(crate) async fn run(self) -> Result<(), Error> {
        self.report.polls(self.mapping);
        let mut calls = Calls::new();
        calls.push(self.list_shards().boxed_local());
        let mut reading = BTreeSet::new();
        loop {
            self.begin(&mut reading, &calls);
            let wake_at = self.engine.borrow().wake_at();
            let wait = wake_at.map_or(POLL_EVERY, |at| until(at, clock::now()));
            tokio::select! {
                Some(result) = calls.next() => result?,
                () = self.changed.notified() => {}
                () = sleep(wait.max(SLEEP_MIN)) => {}
            }
        }
    }

    /// Begins to read the shards that became readable, and makes the invocations that are due.
    fn begin<'b>(&'b self, reading: &mut BTreeSet<Box<str>>, calls: &Calls<'b>) {
        let mut engine = self.engine.borrow_mut();
        for shard in not_yet_read(&engine, reading) {
            calls.push(self.read(shard).boxed_local());
        }
        let (invocations, discarded) = engine.due(clock::now());
        if !discarded.is_empty() {
            // Shards that were read far enough ahead may be readable again.
            self.changed.notify_waiters();
        }
        for discarded in discarded {
            calls.push(self.give_up(discarded).map(Ok).boxed_local());
        }
        for invocation in invocations {
            calls.push(self.invoke(invocation).map(Ok).boxed_local());
        }
    }

    /// Looks for new shards, now and then.
    async fn list_shards(&self) -> Result<(), Error> {
        let mut failures = Failures::default();
        loop {
            let wait = match self.source.shards().await {
                Ok(shards) => {
                    self.succeeded(&mut failures);
                    discovered(&mut self.engine.borrow_mut(), &shards, clock::now());
                    self.changed.notify_waiters();
                    SHARDS_EVERY
                }
                Err(error) => self.failed(&mut failures, &error)?,
            };
            // Either way, it is time to look again.
            let _ = timeout(wait, self.ended.notified()).await;
        }
    }

    /// Reads a shard to its end, whenever the engine wants more of it.
    async fn read(&self, shard: Box<str>) -> Result<(), Error> {
        let mut failures = Failures::default();
        let mut iterator = None;
        let mut trimmed = false;
        loop {
            // The engine never wants more of a shard that is no longer listed.
            let Some(position) = self.position(&shard) else {
                self.changed.notified().await;
                continue;
            };
            let from = if trimmed { ReadFrom::TrimHorizon } else { position };
            let wait = match self.source.read(self.mapping, &shard, &from, iterator.clone()).await {
                Ok((records, next)) => {
                    self.succeeded(&mut failures);
                    // After records, there may be more at once.
                    let wait = if records.is_empty() { POLL_EVERY } else { Duration::ZERO };
                    self.engine.borrow_mut().read(&shard, records, next.is_none(), clock::now());
                    self.changed.notify_waiters();
                    if next.is_none() {
                        self.ended.notify_one();
                        return Ok(());
                    }
                    (iterator, trimmed) = (next, false);
                    wait
                }
                // The next read gets a new iterator, where the engine stands.
                Err(error) if error.is_expired_iterator() => {
                    iterator = None;
                    POLL_EVERY
                }
                // Lambda, too, continues with the oldest record.
                Err(error) if error.is_trimmed() && !trimmed => {
                    self.report.problem(self.mapping, &format!("{shard}: records had expired before they were read"));
                    (iterator, trimmed) = (None, true);
                    Duration::ZERO
                }
                Err(error) if error.is_trimmed() => {
                    let problem = format!("the oldest records expire faster than they are read: {error}");
                    self.failed(&mut failures, &problem)?
                }
                Err(error) => self.failed(&mut failures, &error)?,
            };
            sleep(wait).await;
        }
    }

    /// Where to read a shard, if the engine wants more of it.
    fn position(&self, shard: &str) -> Option<ReadFrom> {
        self.engine.borrow().to_read().find(|(readable, _)| *readable == shard).map(|(_, from)| from.clone())
    }

    /// A call succeeded.
    fn succeeded(&self, failures: &mut Failures) {
        self.heard_at.set(clock::now());
        if std::mem::take(failures).count > 0 {
            self.report.problem(self.mapping, "it answers again");
        }
    }

    /// A call failed: the problem is reported once, and the call is retried with longer and longer waits, until the stream is
    /// surely gone. Returns the wait.
    fn failed(&self, failures: &mut Failures, error: &impl Display) -> Result<Duration, Error> {
        let problem = error.to_string();
        if until(clock::now(), self.heard_at.get()) > GIVE_UP_AFTER {
            let (stream, seconds) = (&self.mapping.stream_arn, GIVE_UP_AFTER.as_secs());
            return Err(format!("gave up polling {stream}: no answer for {seconds} s; {problem}").into());
        }
        if failures.reported != problem {
            self.report.problem(self.mapping, &problem);
            failures.reported = problem;
        }
        failures.count += 1;
        Ok(wait_after(failures.count))
    }

    async fn invoke(&self, invocation: Invocation) {
        // Held until the function has answered. The semaphore is never closed.
        let permit = self.permits.acquire().await;
        let start = clock::now();
        let payload = payload(invocation.records.iter().map(|record| &*record.event));
        let outcome = self.function.invoke(payload).await;
        drop(permit);
        let now = clock::now();
        let answered = self.engine.borrow_mut().answered(invocation.number, outcome.answer(), now);
        self.changed.notify_waiters();
        self.report.invoked(self.mapping, &invocation, &outcome, &answered, until(now, start));
        if let Some(discarded) = answered.discarded {
            self.give_up(discarded).await;
        }
    }

    /// Reports discarded records, and sends the message about them.
    async fn give_up(&self, discarded: Discarded) {
        self.report.gave_up(self.mapping, &discarded);
        let message = discarded.message(&self.mapping.function_arn, &self.mapping.stream_arn, clock::now());
        if let Some(arn) = self.mapping.settings.on_failure.as_deref().filter(|arn| arn::part(arn, 2) == "sqs")
            && let Err(error) = self.deliver(arn, message.to_string()).await
        {
            self.report.problem(self.mapping, &error.to_string());
        }
    }

    async fn deliver(&self, queue_arn: &str, message: String) -> Result<(), CallError> {
        let (owner, name) = (arn::part(queue_arn, 4), arn::part(queue_arn, 5));
        let queue = self.queues.get_queue_url().queue_name(name).queue_owner_aws_account_id(owner).send().await;
        let queue = queue.map_err(CallError::of("GetQueueUrl"))?;
        let sent = self.sqs.send_message().set_queue_url(queue.queue_url).message_body(message).send().await;
        sent.map(drop).map_err(CallError::of("SendMessage"))
    }
}

/// The readable shards that are not among those being read; now they are. So no shard is read by two calls at once.
fn not_yet_read(engine: &StreamMapping, reading: &mut BTreeSet<Box<str>>) -> Vec<Box<str>> {
    engine.to_read().filter(|(shard, _)| reading.insert((*shard).into())).map(|(shard, _)| shard.into()).collect()
}

/// Tells the engine of the shards. One that is no longer listed has nothing left to read.
fn discovered(engine: &mut StreamMapping, shards: &[Shard], now: Timestamp) {
    engine.discovered(shards.iter().map(|shard| {
        let parents = shard.parents.iter().map(String::as_str).collect();
        (shard.id.as_str(), parents)
    }));
    let is_gone = |id: &str| !shards.iter().any(|shard| shard.id == id);
    let gone: Vec<Box<str>> = engine.to_read().filter(|(id, _)| is_gone(id)).map(|(id, _)| id.into()).collect();
    for id in gone {
        engine.read(&id, [], true, now);
    }
}

/// The wait after so many failures in a row.
fn wait_after(failures: u32) -> Duration {
    POLL_EVERY * 2_u32.pow(failures.min(DOUBLINGS))
}

/// The time until `later`; zero if it has passed.
fn until(later: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_source::settings::Settings;

    fn shard(id: &str, parents: &[&str]) -> Shard {
        Shard { id: id.to_owned(), parents: parents.iter().map(ToString::to_string).collect(), is_closed: false }
    }

    #[test]
    fn polls_that_fail_wait_longer_and_longer_up_to_a_limit() {
        let waits: Vec<_> = (1..=7).map(|failures| wait_after(failures).as_millis()).collect();
        assert_eq!(waits, [400, 800, 1600, 3200, 6400, 6400, 6400]);
    }

    #[test]
    fn a_shard_that_is_no_longer_listed_ends_and_its_children_are_read() {
        let now = Timestamp::UNIX_EPOCH;
        let settings = Settings::of_stream(&serde_json::json!({"StartingPosition": "TRIM_HORIZON"})).unwrap();
        let mut engine = StreamMapping::new(settings);
        let readable = |engine: &StreamMapping| engine.to_read().map(|(shard, _)| shard.to_owned()).collect::<Vec<_>>();
        discovered(&mut engine, &[shard("parent", &[])], now);
        assert_eq!(readable(&engine), ["parent"]);
        discovered(&mut engine, &[shard("child", &["parent"])], now);
        assert_eq!(readable(&engine), ["child"]);
    }

    #[test]
    fn a_shard_is_read_by_one_call_at_a_time() {
        let mut engine = StreamMapping::new(Settings::of_stream(&serde_json::json!({})).unwrap());
        let mut reading = BTreeSet::new();
        discovered(&mut engine, &[shard("a", &[])], Timestamp::UNIX_EPOCH);
        assert_eq!(not_yet_read(&engine, &mut reading), ["a".to_owned().into_boxed_str()]);
        discovered(&mut engine, &[shard("a", &[]), shard("b", &[])], Timestamp::UNIX_EPOCH);
        assert_eq!(engine.to_read().count(), 2);
        assert_eq!(not_yet_read(&engine, &mut reading), ["b".to_owned().into_boxed_str()]);
        assert!(not_yet_read(&engine, &mut reading).is_empty());
    }
}
