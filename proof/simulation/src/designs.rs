//! The designs that were tried before this one, as small flows in the same world. They show what each design breaks.

use crate::aws::lambda::Invocation;
use crate::aws::source::{Function, Source};
use crate::checks;
use crate::pipeline::Pipeline;
use crate::ports::Ports;
use crate::run::{Deployment, Report, Subject, Work};
use crate::scenario::{AT_MOST_ONCE, IDEMPOTENT, Scenario};
use crate::search;
use crate::trace::Trace;
use crate::world::{EFFECT, SEND, Wiring, World};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use notification::ports::{Publication, Stream, Table, TableReader, Written};
use notification::testing::{Call, Calls};
use notification::{Change, Clock, Failure, Guarantee, Notification, Status};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A design.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Design {
    /// The notification service publishes, then writes DONE.
    PublishThenDone,
    /// The notification service writes DONE, then publishes.
    DoneThenPublish,
    /// CDC to an SQS queue, and several workers behind it.
    WorkQueue,
    /// CDC to Kinesis; the notification service writes DONE when it has published.
    DoneWhenPublished,
    /// This project, with a receiver that dedupes.
    Idempotent,
    /// This project, with a receiver that cannot dedupe.
    AtMostOnce,
    /// This project, with the effect in the same transaction as DONE.
    Transactional,
}

/// A rule that a design should keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// The effect of each accepted notification happens, or its failure is reported.
    NothingLost,
    /// No effect happens twice.
    NothingDoubled,
    /// The effect of a DONE notification has happened, and that of a failed one has not.
    DoneIsTrue,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NothingLost, Self::NothingDoubled, Self::DoneIsTrue];

    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NothingLost => "nothing is lost",
            Self::NothingDoubled => "nothing happens twice",
            Self::DoneIsTrue => "the status is true",
        }
    }
}

/// The shortest run that breaks an invariant.
#[derive(Debug)]
pub struct Broken {
    /// What it broke.
    pub violation: String,
    /// What happened in it.
    pub trace: Trace,
}

impl Design {
    /// All of them, in the order of the story.
    pub const ALL: [Self; 7] = [
        Self::PublishThenDone,
        Self::DoneThenPublish,
        Self::WorkQueue,
        Self::DoneWhenPublished,
        Self::Idempotent,
        Self::AtMostOnce,
        Self::Transactional,
    ];

    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::PublishThenDone => "1. publish, then DONE",
            Self::DoneThenPublish => "2. DONE, then publish",
            Self::WorkQueue => "3. CDC to a queue with several workers",
            Self::DoneWhenPublished => "4. CDC to Kinesis, DONE when published",
            Self::Idempotent => "5. this project, receiver dedupes",
            Self::AtMostOnce => "5. this project, at most once",
            Self::Transactional => "6. this project, effect and DONE in one transaction",
        }
    }

    /// The invariants that it breaks, and no others.
    #[must_use]
    pub const fn breaks(self) -> &'static [Invariant] {
        match self {
            Self::PublishThenDone => &[Invariant::NothingDoubled, Invariant::DoneIsTrue],
            Self::DoneThenPublish => &[Invariant::NothingLost, Invariant::DoneIsTrue],
            Self::WorkQueue | Self::DoneWhenPublished => {
                &[Invariant::NothingLost, Invariant::NothingDoubled, Invariant::DoneIsTrue]
            }
            Self::Idempotent | Self::AtMostOnce | Self::Transactional => &[],
        }
    }

    const fn is_this_project(self) -> bool {
        matches!(self, Self::Idempotent | Self::AtMostOnce | Self::Transactional)
    }

    const fn guarantee(self) -> Guarantee {
        match self {
            Self::Idempotent => IDEMPOTENT,
            Self::Transactional => Guarantee::Transactional,
            // The receiver cannot dedupe.
            _ => AT_MOST_ONCE,
        }
    }

    /// Looks for the shortest run that breaks each invariant: one message and one fault, and if that breaks nothing, that many
    /// seeds.
    #[must_use]
    pub fn broken(self, subject: Subject<'_>, seeds: u64) -> BTreeMap<Invariant, Broken> {
        let subject = Subject { deployment: &self, ..subject };
        let mut broken: BTreeMap<Invariant, Broken> = BTreeMap::new();
        let mut small = Scenario::small(self.guarantee());
        small.messages.truncate(1);
        for scenario in search::single_faults(subject, &small) {
            note(subject, &scenario, &mut broken);
        }
        for seed in 0..seeds {
            let scenario = Scenario::lone(seed, self.guarantee());
            for violation in subject.run(&scenario, false).violations {
                let Some(invariant) = invariant_of(&violation) else { continue };
                let breaks = |report: &Report| report.violations.iter().any(|v| invariant_of(v) == Some(invariant));
                note(subject, &search::shrink_while(subject, &scenario, breaks), &mut broken);
            }
        }
        broken
    }
}

/// Remembers a run if it is the shortest so far that breaks an invariant.
fn note(subject: Subject<'_>, scenario: &Scenario, broken: &mut BTreeMap<Invariant, Broken>) {
    let report = subject.run(scenario, true);
    for violation in report.violations {
        let Some(invariant) = invariant_of(&violation) else { continue };
        if broken.get(&invariant).is_none_or(|known| known.trace.len() > report.trace.len()) {
            broken.insert(invariant, Broken { violation, trace: report.trace.clone() });
        }
    }
}

/// The invariant that a violation names. Other violations are of the project's own rules.
fn invariant_of(violation: &str) -> Option<Invariant> {
    let (label, _) = violation.split_once(": ")?;
    Invariant::ALL.into_iter().find(|invariant| invariant.words() == label)
}

impl Deployment for Design {
    fn wiring(&self) -> Wiring {
        let reads_table_stream = !matches!(self, Self::PublishThenDone | Self::DoneThenPublish);
        Wiring { reads_table_stream, hands_over: self.is_this_project(), adapters: false, adapter_bug: None }
    }

    fn invoke(&self, invocation: Invocation, ports: Ports) -> Work {
        if self.is_this_project() {
            Pipeline.invoke(invocation, ports)
        } else {
            Box::pin(self.handle(invocation, ports))
        }
    }

    fn check(&self, world: &World) -> Vec<String> {
        let mut violations = Vec::new();
        let dead: Vec<_> = [&world.upstream, &world.work].iter().flat_map(|source| source.dead.messages()).collect();
        for (id, item) in world.every_item() {
            if id.starts_with(notification::id::QUARANTINE_PREFIX) {
                continue;
            }
            let effects = match checks::effects(world, id) {
                // The receiver knows the id and ignores the second call.
                effects if *self == Self::Idempotent => effects.min(1),
                effects => effects,
            };
            let is_named = dead.iter().any(|message| message.body == *item.event)
                || matches!(item.status, Status::Failed | Status::InDoubt);
            let mut broken = |invariant: Invariant, what: &str| {
                violations.push(format!("{}: {what}", invariant.words()));
            };
            if effects == 0 && !is_named {
                broken(Invariant::NothingLost, &format!("{id} is {} and its effect never happened", item.status));
            }
            if effects > 1 {
                broken(Invariant::NothingDoubled, &format!("the effect of {id} happened {effects} times"));
            }
            if item.status == Status::Done && effects == 0 {
                broken(Invariant::DoneIsTrue, &format!("{id} is DONE, and its effect never happened"));
            }
            if effects > 0 && matches!(item.status, Status::Init | Status::Claimed | Status::Failed) {
                broken(Invariant::DoneIsTrue, &format!("{id} is {} for ever, and its effect happened", item.status));
            }
        }
        violations
    }
}

impl Design {
    async fn handle(self, invocation: Invocation, ports: Ports) -> Result<String, String> {
        let event: Value = serde_json::from_str(&invocation.payload).map_err(|error| error.to_string())?;
        let records = event["Records"].as_array().cloned().unwrap_or_default();
        let mut failures = Vec::new();
        for record in &records {
            if let Err(failure) = self.step(invocation.function, &ports, record).await {
                let sequence_number =
                    record.pointer("/dynamodb/SequenceNumber").or(record.pointer("/kinesis/sequenceNumber"));
                failures.push(json!({"itemIdentifier": sequence_number.unwrap_or(&record["messageId"])}));
                // In a stream, a failure holds up the records after it.
                if sequence_number.is_some() || failure.kind == notification::FailureKind::Permanent {
                    break;
                }
            }
        }
        Ok(json!({"batchItemFailures": failures}).to_string())
    }

    async fn step(self, function: Function, ports: &Ports, record: &Value) -> Result<(), Failure> {
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        match (self, function) {
            (Self::PublishThenDone, Function::Ingest) => {
                let Some(notification) = accepted(ports, &text("/body")).await? else { return Ok(()) };
                publish(ports, &notification).await?;
                done(ports, &notification).await.map(drop)
            }
            (Self::DoneThenPublish, Function::Ingest) => {
                let Some(notification) = accepted(ports, &text("/body")).await? else { return Ok(()) };
                // Only the one that writes DONE publishes.
                if done(ports, &notification).await? { publish(ports, &notification).await } else { Ok(()) }
            }
            (_, Function::Ingest) => accepted(ports, &text("/body")).await.map(drop),
            (_, Function::Publisher) => {
                if text("/dynamodb/NewImage/status/S") != Status::Init.as_str() {
                    return Ok(());
                }
                let notification = parse(&text("/dynamodb/NewImage/event/S"))?;
                if self == Self::WorkQueue {
                    return enqueue(ports, &notification).await;
                }
                let publication = Publication { id: notification.id(), event: notification.event() };
                ports.put(&[publication]).await?.remove(0)?;
                done(ports, &notification).await.map(drop)
            }
            (Self::WorkQueue, Function::Downstream) => {
                let notification = parse(&text("/body"))?;
                let stored = ports.read(&[notification.id()]).await?.remove(0)?;
                if stored.is_some_and(|stored| stored.status == Some(Status::Init)) {
                    publish(ports, &notification).await?;
                    done(ports, &notification).await?;
                }
                Ok(())
            }
            (_, Function::Downstream) => {
                let data = BASE64_STANDARD.decode(text("/kinesis/data")).unwrap_or_default();
                match parse(&String::from_utf8_lossy(&data)) {
                    Ok(notification) => publish(ports, &notification).await,
                    Err(_) => Ok(()),
                }
            }
        }
    }
}

fn parse(event: &str) -> Result<Notification, Failure> {
    Notification::parse(event).map_err(|malformed| Failure::permanent(malformed.to_string()))
}

/// Puts the notification of a message; `None` if it is DONE already.
async fn accepted(ports: &Ports, body: &str) -> Result<Option<Notification>, Failure> {
    let notification = parse(body)?;
    ports.write(&[Change::insert(&notification)], ports.now()).await?.remove(0)?;
    let stored = ports.read(&[notification.id()]).await?.remove(0)?;
    let is_done = stored.is_some_and(|stored| stored.status == Some(Status::Done));
    Ok((!is_done).then_some(notification))
}

/// Makes the effect happen, which the business wants once.
async fn publish(ports: &Ports, notification: &Notification) -> Result<(), Failure> {
    let id = notification.id().to_string();
    ports
        .call(Call::new(EFFECT, [&id]), move |world, _| {
            *world.effects.entry(id.clone()).or_default() += 1;
            Ok(())
        })
        .await
}

/// Writes DONE if the notification is INIT. `true` if it was.
async fn done(ports: &Ports, notification: &Notification) -> Result<bool, Failure> {
    let change = Change::done(notification.id(), notification.event(), None);
    ports.write(&[change], ports.now()).await?.remove(0).map(|written| written == Written::Yes)
}

async fn enqueue(ports: &Ports, notification: &Notification) -> Result<(), Failure> {
    let event = notification.event().to_owned();
    ports
        .call(Call::new(SEND, [notification.id()]), move |world, _| {
            world.enqueue(Source::WorkQueue, event.clone());
            Ok(())
        })
        .await
}
