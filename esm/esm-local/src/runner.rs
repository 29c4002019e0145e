//! One mapping: the engine says what to read and what is due. This makes the calls, several at once, and tells the engine
//! their results.

use crate::arn;
use crate::clock;
use crate::error::Error;
use crate::function::{Function, Outcome};
use crate::limits::{DOUBLINGS, GIVE_UP_AFTER, POLL_EVERY, SHARDS_EVERY, SLEEP_MIN};
use crate::mapping::Mapping;
use crate::report::{Report, Seen};
use crate::source::{Read, Source};
use aws_config::SdkConfig;
use event_source::payload;
use event_source::stream::{Discarded, Invocation, ReadFrom, StreamMapping};
use futures_util::StreamExt;
use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;
use stream_reader::{CallError, Shard};
use tokio::sync::Semaphore;

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
}

/// The state of a mapping, apart from the calls in progress.
struct State {
    engine: StreamMapping,
    /// The polls for new shards.
    discovery: Poll,
    /// The polls of each shard.
    shards: BTreeMap<Box<str>, Poll>,
    /// When the stream last answered.
    heard_at: Timestamp,
}

/// A call that is made again and again.
struct Poll {
    next: Timestamp,
    in_progress: bool,
    /// Failures in a row.
    failures: u32,
    /// The problem that was last reported.
    problem: Option<String>,
    iterator: Option<String>,
}

/// The result of a call.
enum Event {
    Shards(Result<Vec<Shard>, CallError>),
    Read(Box<str>, Result<Read, CallError>),
    Answer { invocation: Invocation, outcome: Outcome, took: Duration },
    Delivered(Result<(), CallError>),
}

type Calls<'a> = FuturesUnordered<LocalBoxFuture<'a, Event>>;

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
        })
    }

    /// Runs until the stream is gone.
    pub(crate) async fn run(self) -> Result<(), Error> {
        self.report.polls(self.mapping);
        let now = clock::now();
        let mut state = State {
            engine: StreamMapping::new(self.mapping.settings.clone()),
            discovery: Poll::new(now),
            shards: BTreeMap::new(),
            heard_at: now,
        };
        let mut calls = Calls::new();
        loop {
            self.begin(&mut state, &calls);
            let wait = state.wake_at().map_or(POLL_EVERY, |at| until(at, clock::now()));
            tokio::select! {
                Some(event) = calls.next() => self.handle(event, &mut state, &calls)?,
                () = tokio::time::sleep(wait.max(SLEEP_MIN)) => {}
            }
        }
    }

    /// Begins all calls that are due.
    fn begin<'b>(&'b self, state: &mut State, calls: &Calls<'b>) {
        let now = clock::now();
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

    /// Takes the result of a call.
    fn handle<'b>(&'b self, event: Event, state: &mut State, calls: &Calls<'b>) -> Result<(), Error> {
        let now = clock::now();
        match event {
            Event::Shards(Ok(shards)) => {
                state.heard_at = now;
                self.succeeded(&mut state.discovery);
                state.discovery.next = now + SHARDS_EVERY;
                state.discovered(&shards, now);
            }
            Event::Shards(Err(error)) => {
                let heard_at = state.heard_at;
                self.failed(&mut state.discovery, heard_at, error)?;
            }
            Event::Read(shard, read) => self.handle_read(&shard, read, state)?,
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

    fn handle_read(&self, shard: &str, read: Result<Read, CallError>, state: &mut State) -> Result<(), Error> {
        let now = clock::now();
        let Some(poll) = state.shards.get_mut(shard) else { return Ok(()) };
        let read = match read {
            Ok(read) => read,
            // The next read gets a new iterator, where the engine stands.
            Err(error) if error.is_expired_iterator() => {
                poll.iterator = None;
                poll.in_progress = false;
                poll.next = now + POLL_EVERY;
                return Ok(());
            }
            Err(error) if error.is_trimmed() => {
                poll.iterator = None;
                let cause = "the oldest records expire faster than they are read".to_owned();
                return self.failed(poll, state.heard_at, CallError::new("GetRecords", cause));
            }
            Err(error) => return self.failed(poll, state.heard_at, error),
        };
        state.heard_at = now;
        self.succeeded(poll);
        if read.trimmed {
            self.report.problem(self.mapping, &format!("{shard}: records had expired before they were read"));
        }
        // After records, there may be more at once.
        poll.next = if read.records.is_empty() { now + POLL_EVERY } else { now };
        poll.iterator = read.next;
        let ended = poll.iterator.is_none();
        if ended && !state.discovery.in_progress {
            // It may have children.
            state.discovery.next = now;
        }
        state.engine.read(shard, read.records, ended, now);
        Ok(())
    }

    /// A poll succeeded.
    fn succeeded(&self, poll: &mut Poll) {
        poll.in_progress = false;
        poll.failures = 0;
        if poll.problem.take().is_some() {
            self.report.problem(self.mapping, "it answers again");
        }
    }

    /// A poll failed: the problem is reported once, and the call is retried with longer and longer waits, until the stream
    /// is surely gone.
    fn failed(&self, poll: &mut Poll, heard_at: Timestamp, error: CallError) -> Result<(), Error> {
        let now = clock::now();
        if until(now, heard_at) > GIVE_UP_AFTER {
            let stream = self.mapping.stream_arn.clone();
            return Err(Error::Gone { stream, seconds: GIVE_UP_AFTER.as_secs(), cause: error });
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
        let read = self.source.read(&shard, &from, iterator).await;
        Event::Read(shard, read)
    }

    async fn invoke(&self, invocation: Invocation) -> Event {
        // Held until the function has answered. The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let start = clock::now();
        let payload = payload(invocation.records.iter().map(|record| &*record.event));
        let outcome = self.function.invoke(payload).await;
        Event::Answer { invocation, outcome, took: until(clock::now(), start) }
    }

    /// Reports discarded records, and sends the message about them.
    fn give_up<'b>(&'b self, discarded: &Discarded, calls: &Calls<'b>) {
        self.report.gave_up(self.mapping, discarded);
        let message = discarded.message(&self.mapping.function_arn, &self.mapping.stream_arn, clock::now());
        if let Some(arn) = self.mapping.settings.on_failure.as_deref().filter(|arn| arn::part(arn, 2) == "sqs") {
            calls.push(async move { Event::Delivered(self.deliver(arn, message.to_string()).await) }.boxed_local());
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

impl State {
    /// Tells the engine of the shards. One that is no longer listed has nothing left to read.
    fn discovered(&mut self, shards: &[Shard], now: Timestamp) {
        self.engine.discovered(shards.iter().map(|shard| {
            let parents = shard.parents.iter().map(String::as_str).collect();
            (shard.id.as_str(), parents)
        }));
        let is_gone = |id: &str| !shards.iter().any(|shard| shard.id == id);
        let gone: Vec<Box<str>> =
            self.engine.to_read().filter(|(id, _)| is_gone(id)).map(|(id, _)| id.into()).collect();
        for id in gone {
            self.engine.read(&id, [], true, now);
            self.shards.remove(&id);
        }
    }

    /// When the next call is due, apart from those that a call in progress leads to.
    fn wake_at(&self) -> Option<Timestamp> {
        let polls = self.engine.to_read().filter_map(|(shard, _)| self.shards.get(shard));
        let polls = polls.chain([&self.discovery]).filter(|poll| !poll.in_progress).map(|poll| poll.next);
        polls.chain(self.engine.wake_at()).min()
    }
}

impl Poll {
    fn new(now: Timestamp) -> Self {
        Self { next: now, in_progress: false, failures: 0, problem: None, iterator: None }
    }

    /// Returns whether the call is due; if so, it is now in progress.
    fn begin(&mut self, now: Timestamp) -> bool {
        let is_due = !self.in_progress && self.next <= now;
        self.in_progress |= is_due;
        is_due
    }

    /// The call failed: the next one waits longer with each failure.
    fn failed(&mut self, now: Timestamp) {
        self.in_progress = false;
        self.failures += 1;
        self.next = now + POLL_EVERY * 2_u32.pow(self.failures.min(DOUBLINGS));
    }
}

/// The time until `later`; zero if it has passed.
fn until(later: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: &str, parents: &[&str]) -> Shard {
        Shard { id: id.to_owned(), parents: parents.iter().map(ToString::to_string).collect(), is_closed: false }
    }

    #[test]
    fn polls_that_fail_wait_longer_and_longer_up_to_a_limit() {
        let mut poll = Poll::new(Timestamp::UNIX_EPOCH);
        let mut waits = Vec::new();
        for _ in 0..7 {
            let now = poll.next;
            assert!(poll.begin(now) && !poll.begin(now), "one call at a time");
            poll.failed(now);
            waits.push(until(poll.next, now).as_millis());
        }
        assert_eq!(waits, [400, 800, 1600, 3200, 6400, 6400, 6400]);
    }

    #[test]
    fn a_shard_that_is_no_longer_listed_ends_and_its_children_are_read() {
        let now = Timestamp::UNIX_EPOCH;
        let settings = serde_json::json!({"StartingPosition": "TRIM_HORIZON"});
        let settings = event_source::settings::Settings::of_stream(&settings).unwrap();
        let mut state = State {
            engine: StreamMapping::new(settings),
            discovery: Poll::new(now),
            shards: BTreeMap::new(),
            heard_at: now,
        };
        let readable = |state: &State| state.engine.to_read().map(|(shard, _)| shard.to_owned()).collect::<Vec<_>>();
        state.discovered(&[shard("parent", &[])], now);
        assert_eq!(readable(&state), ["parent"]);
        state.discovered(&[shard("child", &["parent"])], now);
        assert_eq!(readable(&state), ["child"]);
    }
}
