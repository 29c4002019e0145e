//! One mapping at work. The engine says what is to be read and what is due; this makes the calls, several at once, and
//! tells the engine what came of them.

use crate::error::Error;
use crate::local::function::{Function, Outcome};
use crate::local::mapping::Mapping;
use crate::local::report::{Report, Seen};
use crate::local::source::{Page, ReadError, Shard, Source, arn_part};
use aws::{SdkConfig, SystemClock};
use event_source::payload;
use event_source::stream::{Discarded, Invocation, ReadFrom, StreamMapping};
use futures_util::StreamExt;
use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::FuturesUnordered;
use notification::Timestamp;
use notification::ports::Clock;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Between two looks into a shard that had nothing new: Kinesis allows five a second.
/// <https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html>
const POLL_EVERY: Duration = Duration::from_millis(200);

/// Between two looks for new shards.
const SHARDS_EVERY: Duration = Duration::from_secs(5);

/// After failed looks, the wait doubles this often at the most: to 6.4 seconds.
const DOUBLINGS: u32 = 5;

/// A stream that answers nothing for so long is gone: a local stack starts again much sooner, or never.
const GIVE_UP_AFTER: Duration = Duration::from_mins(2);

/// Sleep at the least: where the engine and the clock do not agree to the nanosecond, nothing may spin.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// A mapping at work.
pub(crate) struct Runner<'a> {
    mapping: &'a Mapping,
    source: Source,
    function: Function,
    /// With the account's own credentials: Lambda need not ask where a queue is.
    queues: aws_sdk_sqs::Client,
    /// With the function's role.
    sqs: aws_sdk_sqs::Client,
    permits: &'a Semaphore,
    report: &'a Report,
}

/// What it knows, beside the calls that are under way.
struct State {
    engine: StreamMapping,
    /// The looks for shards.
    discovery: Poll,
    /// The looks into each shard.
    shards: BTreeMap<Box<str>, Poll>,
    /// When the stream last answered.
    heard_at: Timestamp,
}

/// Looks that are taken again and again.
struct Poll {
    next: Timestamp,
    under_way: bool,
    /// Failures in a row.
    failures: u32,
    /// What was last shown to be wrong.
    problem: Option<String>,
    iterator: Option<String>,
}

/// What came of a call.
enum Event {
    Shards(Result<Vec<Shard>, Error>),
    Page(Box<str>, Result<Page, ReadError>),
    Answer { invocation: Invocation, outcome: Outcome, took: Duration },
    Delivered(Result<(), Error>),
}

type Calls<'a> = FuturesUnordered<LocalBoxFuture<'a, Event>>;

impl<'a> Runner<'a> {
    /// Lambda reads the stream and sends to the on-failure queue with the function's role, and needs no permission of
    /// that role to invoke the function.
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
        })
    }

    /// Works until the stream is gone.
    pub(crate) async fn run(self) -> Result<(), Error> {
        self.report.polls(self.mapping);
        let now = SystemClock.now();
        let mut state = State {
            engine: StreamMapping::new(self.mapping.settings.clone()),
            discovery: Poll::new(now),
            shards: BTreeMap::new(),
            heard_at: now,
        };
        let mut calls = Calls::new();
        loop {
            self.begin(&mut state, &calls);
            let wait = state.wake_at().map_or(POLL_EVERY, |at| until(at, SystemClock.now()));
            tokio::select! {
                Some(event) = calls.next() => self.handle(event, &mut state, &calls)?,
                () = SystemClock.sleep(wait.max(SLEEP_MIN)) => {}
            }
        }
    }

    /// Begins all calls that are due.
    fn begin<'b>(&'b self, state: &mut State, calls: &Calls<'b>) {
        let now = SystemClock.now();
        if state.discovery.begin(now) {
            calls.push(async { Event::Shards(self.source.shards().await) }.boxed_local());
        }
        for (shard, from) in state.engine.to_read() {
            let poll = state.shards.entry(shard.into()).or_insert_with(|| Poll::new(now));
            if poll.begin(now) {
                calls.push(self.read(shard.into(), from.clone(), poll.iterator.clone()).boxed_local());
            }
        }
        let (invocations, discarded) = state.engine.due(now);
        for discarded in discarded {
            self.give_up(&discarded, calls);
        }
        for invocation in invocations {
            calls.push(self.invoke(invocation).boxed_local());
        }
    }

    /// Takes note of what came of a call.
    fn handle<'b>(&'b self, event: Event, state: &mut State, calls: &Calls<'b>) -> Result<(), Error> {
        let now = SystemClock.now();
        match event {
            Event::Shards(Ok(shards)) => {
                state.heard_at = now;
                self.works(&mut state.discovery);
                state.discovery.next = now + SHARDS_EVERY;
                state.discovered(&shards, now);
            }
            Event::Shards(Err(error)) => {
                let heard_at = state.heard_at;
                self.failed(&mut state.discovery, heard_at, &error)?;
            }
            Event::Page(shard, page) => self.page(&shard, page, state)?,
            Event::Answer { invocation, outcome, took } => {
                let bisects = state.engine.bisects();
                let answered = state.engine.answered(invocation.number, outcome.answer(), now);
                let halved = state.engine.bisects() > bisects;
                self.report.invoked(&Seen {
                    mapping: self.mapping,
                    invocation: &invocation,
                    outcome: &outcome,
                    done: answered.done.len(),
                    halved,
                    took,
                });
                if let Some(discarded) = answered.discarded {
                    self.give_up(&discarded, calls);
                }
            }
            Event::Delivered(Ok(())) => {}
            Event::Delivered(Err(error)) => self.report.problem(self.mapping, &error.to_string()),
        }
        Ok(())
    }

    fn page(&self, shard: &str, page: Result<Page, ReadError>, state: &mut State) -> Result<(), Error> {
        let now = SystemClock.now();
        let Some(poll) = state.shards.get_mut(shard) else { return Ok(()) };
        match page {
            Ok(page) => {
                state.heard_at = now;
                self.works(poll);
                if page.trimmed {
                    self.report.problem(self.mapping, &format!("{shard}: records had expired before they were read"));
                }
                // Where there was something, there may be more.
                poll.next = if page.records.is_empty() { now + POLL_EVERY } else { now };
                poll.iterator = page.next;
                let ended = poll.iterator.is_none();
                if ended && !state.discovery.under_way {
                    // Its children may be there.
                    state.discovery.next = now;
                }
                state.engine.read(shard, page.records, ended, now);
                Ok(())
            }
            // The next look begins where the engine stands.
            Err(ReadError::ExpiredIterator) => {
                poll.iterator = None;
                poll.under_way = false;
                poll.next = now + POLL_EVERY;
                Ok(())
            }
            Err(ReadError::Other(error)) => self.failed(poll, state.heard_at, &error),
            Err(ReadError::Trimmed) => {
                poll.iterator = None;
                let cause = "the oldest records expire faster than they are read".to_owned();
                self.failed(poll, state.heard_at, &Error::Aws { call: "GetRecords", cause })
            }
        }
    }

    /// A look that found an answer.
    fn works(&self, poll: &mut Poll) {
        poll.under_way = false;
        poll.failures = 0;
        if poll.problem.take().is_some() {
            self.report.problem(self.mapping, "it answers again");
        }
    }

    /// A look that failed: it is shown once, and taken again later and later, until the stream is surely gone.
    fn failed(&self, poll: &mut Poll, heard_at: Timestamp, error: &Error) -> Result<(), Error> {
        let now = SystemClock.now();
        if until(now, heard_at) > GIVE_UP_AFTER {
            return Err(Error::Gone {
                stream: self.mapping.stream_arn.clone(),
                seconds: GIVE_UP_AFTER.as_secs(),
                cause: error.to_string(),
            });
        }
        poll.failed(now);
        let problem = error.to_string();
        if poll.problem.as_ref() != Some(&problem) {
            self.report.problem(self.mapping, &problem);
            poll.problem = Some(problem);
        }
        Ok(())
    }

    async fn read(&self, shard: Box<str>, from: ReadFrom, iterator: Option<String>) -> Event {
        let page = self.source.read(&shard, &from, iterator).await;
        Event::Page(shard, page)
    }

    async fn invoke(&self, invocation: Invocation) -> Event {
        // Held until the answer is there. The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let start = SystemClock.now();
        let payload = payload(invocation.records.iter().map(|record| &*record.event));
        let outcome = self.function.invoke(payload).await;
        Event::Answer { invocation, outcome, took: until(SystemClock.now(), start) }
    }

    /// Shows what is given up, and sends the message about it.
    fn give_up<'b>(&'b self, discarded: &Discarded, calls: &Calls<'b>) {
        self.report.gave_up(self.mapping, discarded);
        let message = discarded.message(&self.mapping.function_arn, &self.mapping.stream_arn, SystemClock.now());
        if let Some(arn) = self.mapping.settings.on_failure.as_deref().filter(|arn| arn_part(arn, 2) == "sqs") {
            calls.push(async move { Event::Delivered(self.deliver(arn, message.to_string()).await) }.boxed_local());
        }
    }

    async fn deliver(&self, queue_arn: &str, message: String) -> Result<(), Error> {
        let (owner, name) = (arn_part(queue_arn, 4), arn_part(queue_arn, 5));
        let queue = self.queues.get_queue_url().queue_name(name).queue_owner_aws_account_id(owner).send().await;
        let queue = queue.map_err(Error::aws("GetQueueUrl"))?;
        let sent = self.sqs.send_message().set_queue_url(queue.queue_url).message_body(message).send().await;
        sent.map(drop).map_err(Error::aws("SendMessage"))
    }
}

impl State {
    /// Tells the engine of the shards. One that is listed no more has nothing left to be read.
    fn discovered(&mut self, shards: &[Shard], now: Timestamp) {
        let with_parents = shards.iter().map(|shard| {
            let parents = shard.parents.iter().map(String::as_str).collect();
            (shard.name.as_str(), parents)
        });
        self.engine.discovered(with_parents);
        let is_gone = |name: &str| !shards.iter().any(|shard| shard.name == name);
        let gone: Vec<Box<str>> =
            self.engine.to_read().filter(|(name, _)| is_gone(name)).map(|(name, _)| name.into()).collect();
        for name in gone {
            self.engine.read(&name, [], true, now);
            self.shards.remove(&name);
        }
    }

    /// When something is due that no call under way brings.
    fn wake_at(&self) -> Option<Timestamp> {
        let polls = self.engine.to_read().filter_map(|(shard, _)| self.shards.get(shard));
        let polls = polls.chain([&self.discovery]).filter(|poll| !poll.under_way).map(|poll| poll.next);
        polls.chain(self.engine.wake_at()).min()
    }
}

impl Poll {
    fn new(now: Timestamp) -> Self {
        Self { next: now, under_way: false, failures: 0, problem: None, iterator: None }
    }

    /// Whether a look is due; it then is under way.
    fn begin(&mut self, now: Timestamp) -> bool {
        let is_due = !self.under_way && self.next <= now;
        self.under_way |= is_due;
        is_due
    }

    /// The last look failed: the next is taken later, and later still after more of them.
    fn failed(&mut self, now: Timestamp) {
        self.under_way = false;
        self.failures += 1;
        self.next = now + POLL_EVERY * 2_u32.pow(self.failures.min(DOUBLINGS));
    }
}

/// The time from one to the other; none where that is in the past.
fn until(later: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_fail_are_taken_later_and_later_up_to_a_bound() {
        let mut poll = Poll::new(Timestamp::UNIX_EPOCH);
        let mut waits = Vec::new();
        for _ in 0..7 {
            let now = poll.next;
            assert!(poll.begin(now) && !poll.begin(now), "one look at a time");
            poll.failed(now);
            waits.push(until(poll.next, now).as_millis());
        }
        assert_eq!(waits, [400, 800, 1600, 3200, 6400, 6400, 6400]);
    }

    #[test]
    fn a_shard_that_is_listed_no_more_is_done_when_its_records_are_and_its_children_are_read() {
        let now = Timestamp::UNIX_EPOCH;
        let settings = serde_json::json!({"StartingPosition": "TRIM_HORIZON"});
        let settings = event_source::settings::StreamSettings::from_properties(&settings).unwrap();
        let mut state = State {
            engine: StreamMapping::new(settings),
            discovery: Poll::new(now),
            shards: BTreeMap::new(),
            heard_at: now,
        };
        let shard = |name: &str, parents: &[&str]| Shard {
            name: name.to_owned(),
            parents: parents.iter().map(ToString::to_string).collect(),
        };
        let readable = |state: &State| state.engine.to_read().map(|(shard, _)| shard.to_owned()).collect::<Vec<_>>();
        state.discovered(&[shard("parent", &[])], now);
        assert_eq!(readable(&state), ["parent"]);
        state.discovered(&[shard("child", &["parent"])], now);
        assert_eq!(readable(&state), ["child"]);
    }
}
