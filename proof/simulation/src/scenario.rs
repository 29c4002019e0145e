//! The scenario of a run, drawn from one seed: what upstream sends, what goes wrong, and how the world is set up.

mod deploy;
pub(crate) mod events;
mod large;
mod receiver;

pub use deploy::Deploy;

use crate::faults::Plan;
use crate::rng;
pub use events::PAYLOAD;
use events::Version;
use fastrand::Rng;
use jiff::Timestamp;
use notification::id::index_shard;
use notification::{Guarantee, limits};
pub use receiver::{Receiver, Repeats};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// When every run begins.
pub const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// The longest time that a slow action takes: longer than an invocation.
pub const SLOW_ACTION: Duration = Duration::from_secs(90);

/// The longest time that a slow receiver takes: almost as long as a caller waits.
const SLOW_RECEIVER: Duration = Duration::from_secs(19);

/// Actions can be slow for this time from the beginning of the run.
pub const SLOW_FOR: Duration = Duration::from_mins(30);

/// Retries of a batch in an impatient scenario.
pub const FEW_RETRIES: u32 = 6;
/// The age at which the sweep publishes a notification again in an impatient scenario.
pub const SOON: Duration = Duration::from_mins(2);

/// An instance's clock and the clock from which Lambda takes its deadline differ by no more than this: half of the time that an
/// invocation leaves for its report ([`limits::REPORT_BEFORE_DEADLINE`]). Lambda synchronizes instances by NTP, which keeps
/// them within milliseconds. <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>
pub const CLOCKS_AGREE_MILLIS: i64 = 100;

/// Clocks that are wrong differ by up to this. An invocation can then run into its timeout, but a lease still ends after its worker:
/// with the second by which the clocks of two hosts differ, this is below [`limits::LEASE_BEYOND_DEADLINE`].
pub const CLOCKS_WRONG_MILLIS: i64 = 7_000;

/// Messages of a backlog. Their slow calls take several invocations, so records are delivered more than once.
pub const BACKLOG: usize = 1_000;

/// Idempotent, as the webhook states it.
pub const IDEMPOTENT: Guarantee = Guarantee::Idempotent { timeout: limits::WEBHOOK_TIMEOUT };

/// At most once, as the webhook states it.
pub const AT_MOST_ONCE: Guarantee = Guarantee::AtMostOnce { timeout: limits::WEBHOOK_TIMEOUT };

/// A guarantee in words.
#[must_use]
pub const fn named(guarantee: Guarantee) -> &'static str {
    match guarantee {
        Guarantee::Transactional => "transactional",
        Guarantee::Idempotent { .. } => "idempotent",
        Guarantee::AtMostOnce { .. } => "at most once",
    }
}

/// One run.
#[expect(clippy::struct_excessive_bools, reason = "each says something of its own about the world")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// The seed that it was drawn from.
    pub seed: u64,
    /// The guarantee of the action.
    pub guarantee: Guarantee,
    /// What upstream sends.
    pub messages: Vec<Message>,
    /// Ids that the business refuses.
    pub rejected: BTreeSet<String>,
    /// What goes wrong with calls.
    pub faults: Plan,
    /// What goes wrong with the world.
    pub disturbances: Vec<Disturbance>,
    /// How many operators there are, who redrive and resolve notifications.
    pub operators: u8,
    /// How many shards the Kinesis stream has at first.
    pub kinesis_shards: usize,
    /// Whether the answers of refused conditions lack the old item.
    pub hides_old_items: bool,
    /// The largest difference between the world's clock and one from which Lambda takes deadlines, in milliseconds.
    pub clock_skew_millis: i64,
    /// The largest difference between an instance's clock and the one from which its deadline comes, in milliseconds.
    pub instance_skew_millis: i64,
    /// Whether progress resets a batch's retries, which Lambda's documentation leaves open.
    pub progress_resets_retries: bool,
    /// When the mappings begin to read their streams.
    pub mappings_start: Timestamp,
    /// The longest time that an action takes.
    pub action_takes: Duration,
    /// The batch size of the mappings, instead of the template's.
    pub batch_size: Option<usize>,
    /// Whether the streams have few retries and the sweep publishes early, instead of as in the template.
    pub impatient: bool,
    /// Whether the world runs on until DONE items expire.
    pub runs_until_expiry: bool,
    /// How the receiver of the webhook behaves.
    pub receiver: Receiver,
    /// A partition of the index of pending notifications that fails all the time, and has no notification of the scenario.
    pub index_partition_down: Option<u64>,
}

/// One message that upstream sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// When it is sent.
    pub at: Timestamp,
    /// The id of its notification; empty if it has none.
    pub id: String,
    /// Its body.
    pub body: String,
}

/// Something that happens to the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disturbance {
    /// When it happens.
    pub at: Timestamp,
    /// What happens.
    pub what: What,
}

/// What happens to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A shard of the Kinesis stream is split in two.
    Split,
    /// Two shards of the Kinesis stream become one.
    Merge,
    /// The shards of the table's stream are closed, and others follow.
    Rollover,
    /// The poller of the table's stream restarts from its checkpoint.
    RestartTableMapping,
    /// The poller of the Kinesis stream restarts from its checkpoint.
    RestartStreamMapping,
    /// Every process dies.
    KillAll,
    /// Something fails for this time.
    Trouble(Trouble, Duration),
    /// A record that belongs to no notification arrives in the Kinesis stream.
    ForeignRecord,
    /// An orphan arrives in the Kinesis stream under the id of a notification.
    OrphanOfKnownId(Orphan),
    /// An operator moves the dead-letter queue back into the queue.
    RedriveDeadLetters,
    /// Another program writes an item that is no notification, and it is first in this partition of the pending index.
    InvalidIndexEntry(u64),
    /// The stack is deployed with another setting.
    Deploy(Deploy),
}

/// A record of another producer with the id of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphan {
    /// It is valid, with other content than the notification.
    OtherEvent,
    /// It is malformed.
    Malformed,
}

/// What fails for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Every call to the table fails.
    TableDown,
    /// Every invocation of publisher fails.
    PublisherDown,
    /// Every invocation of downstream fails.
    DownstreamDown,
    /// Every invocation is throttled.
    Throttled,
    /// No stream is read and no sweep runs, so records can expire.
    NothingReads,
    /// Every call to the table takes three or four seconds, which is less than its callers wait.
    TableSlow,
    /// Most entries of each call to the table are throttled.
    TableThrottled,
    /// Most entries of each call to Kinesis are throttled.
    StreamThrottled,
    /// No query of this partition of the pending index succeeds.
    PartitionDown(u64),
}

impl Scenario {
    /// Draws a run.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = rng::of(seed, "scenario");
        let guarantee = pick(&mut rng, [Guarantee::Transactional, IDEMPOTENT, AT_MOST_ONCE]);
        let is_healthy = rng.u8(0..8) == 0;
        let spread = Duration::from_secs(pick(&mut rng, [0, 1, 5, 60, 900]));
        let count = rng.usize(1..=21);
        let (messages, rejected) = workload(seed, &mut rng, count, spread);
        let mut scenario = Self {
            messages,
            rejected,
            kinesis_shards: rng.usize(1..=3),
            hides_old_items: rng.u8(0..8) == 0,
            clock_skew_millis: if rng.bool() { 0 } else { 1_000 },
            progress_resets_retries: rng.bool(),
            mappings_start: START + Duration::from_secs(if rng.u8(0..4) == 0 { 30 } else { 0 }),
            action_takes: Duration::from_millis(pick(&mut rng, [10, 200, 5_000])),
            batch_size: pick(&mut rng, [None, None, Some(1), Some(3), Some(10)]),
            impatient: rng.bool(),
            runs_until_expiry: rng.u8(0..50) == 0,
            ..Self::quiet(seed, guarantee)
        };
        if !is_healthy {
            let per_mille = pick(&mut rng, [0, 10, 50, 150, 300]);
            let minutes = pick(&mut rng, [1, 5, 30]);
            scenario.faults = Plan::drawn(seed, per_mille, START + spread + Duration::from_mins(minutes));
            if rng.u8(0..8) == 0 {
                scenario.action_takes = SLOW_ACTION;
            }
            scenario.disturbances = disturbances(&mut rng, spread + Duration::from_mins(minutes));
            if rng.u8(0..8) == 0 {
                let lasts = Duration::from_secs(pick(&mut rng, [5, 120, 1_800]));
                let at = START + Duration::from_secs(rng.u64(0..spread.as_secs().max(60)));
                scenario.disturbances.push(Disturbance { at, what: What::Trouble(Trouble::TableDown, lasts) });
            }
            add_late_duplicates(&mut rng, &mut scenario);
            let troubled_until = START + spread + Duration::from_mins(minutes);
            add_operators(seed, &mut scenario);
            let deployments = deploy::draw(seed, spread + Duration::from_mins(minutes));
            scenario.disturbances.extend(deployments);
            scenario.disturbances.sort_by_key(|disturbance| disturbance.at);
            scenario.receiver = Receiver::of(seed, guarantee, troubled_until);
            if rng::of(seed, "slow receiver").u8(0..8) == 0 {
                scenario.action_takes = SLOW_RECEIVER;
            }
            scenario.index_partition_down = partition_down(seed, &scenario.messages);
        }
        add_orphans(seed, &mut scenario, spread);
        skew_instances(seed, is_healthy, &mut scenario);
        if scenario.has_changing_rules() {
            // What its calls leave behind is judged for one guarantee at a time.
            scenario.receiver = Receiver::plain();
        }
        scenario
    }

    /// A run in which nothing is sent and nothing goes wrong.
    #[must_use]
    pub fn quiet(seed: u64, guarantee: Guarantee) -> Self {
        Self {
            seed,
            guarantee,
            messages: vec![],
            rejected: BTreeSet::new(),
            faults: Plan::none(),
            disturbances: vec![],
            operators: 0,
            kinesis_shards: 1,
            hides_old_items: false,
            clock_skew_millis: 0,
            instance_skew_millis: 0,
            progress_resets_retries: false,
            mappings_start: START,
            action_takes: Duration::from_millis(10),
            batch_size: None,
            impatient: false,
            runs_until_expiry: false,
            receiver: Receiver::plain(),
            index_partition_down: None,
        }
    }

    /// A small run for the sweep of all faults: two notifications, and a duplicate of one.
    #[must_use]
    pub fn small(guarantee: Guarantee) -> Self {
        let duplicate = Message::new(START + Duration::from_millis(100), "a");
        let messages = vec![Message::new(START, "a"), Message::new(START, "b"), duplicate];
        Self { messages, ..Self::quiet(0, guarantee) }
    }

    /// A backlog: more slow calls than one invocation has time for, and nothing goes wrong.
    #[must_use]
    pub fn backlog(guarantee: Guarantee) -> Self {
        let messages = (0..BACKLOG).map(|number| Message::new(START, format!("n{number}"))).collect();
        Self { messages, action_takes: Duration::from_secs(5), ..Self::quiet(0, guarantee) }
    }

    /// The table is down from the first receive on. Messages arrive all the time, one of them malformed.
    #[must_use]
    pub fn table_outage(lasts: Duration) -> Self {
        let message = |number: u32| Message::new(START + lasts * number / 40, format!("n{number}"));
        let malformed = Message { at: START, id: String::new(), body: "not JSON".to_owned() };
        Self {
            messages: (0..=40).map(message).chain([malformed]).collect(),
            disturbances: vec![Disturbance { at: START, what: What::Trouble(Trouble::TableDown, lasts) }],
            ..Self::quiet(0, Guarantee::Transactional)
        }
    }

    /// A run with one message and many faults.
    #[must_use]
    pub fn lone(seed: u64, guarantee: Guarantee) -> Self {
        let mut rng = rng::of(seed, "lone");
        let trouble = Duration::from_mins(30);
        Self {
            messages: vec![Message::new(START, "a")],
            faults: Plan::drawn(seed, 300, START + trouble),
            disturbances: disturbances(&mut rng, Duration::from_secs(10)),
            ..Self::quiet(seed, guarantee)
        }
    }

    /// Whether the clocks differ by so little that every invocation must end before its timeout.
    #[must_use]
    pub fn clocks_agree(&self) -> bool {
        self.instance_skew_millis <= CLOCKS_AGREE_MILLIS
    }

    /// Whether nothing goes wrong in it, so that each record is delivered once.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.faults.is_none()
            && self.clocks_agree()
            && self.operators == 0
            && self.messages.len() < BACKLOG
            && self.action_takes < SLOW_ACTION
            && self
                .disturbances
                .iter()
                .all(|disturbance| matches!(disturbance.what, What::ForeignRecord | What::OrphanOfKnownId(_)))
            && self.receiver.is_calm()
    }

    /// Whether operators act, the guarantee changes, or clocks are wrong: then the receiver is plain, and an unknown outcome is not
    /// judged exactly.
    #[must_use]
    pub fn has_changing_rules(&self) -> bool {
        let changes_guarantee =
            |disturbance: &Disturbance| matches!(disturbance.what, What::Deploy(Deploy::Guarantee(_)));
        self.operators > 0 || !self.clocks_agree() || self.disturbances.iter().any(changes_guarantee)
    }

    /// The time from which nothing goes wrong any more.
    #[must_use]
    pub fn healed_at(&self) -> Timestamp {
        self.healed_except(|_| false)
    }

    /// The same, but it does not matter whether single partitions of the index can be read.
    #[must_use]
    pub fn healed_but_partitions_at(&self) -> Timestamp {
        self.healed_except(|what| matches!(what, What::Trouble(Trouble::PartitionDown(_), _)))
    }

    fn healed_except(&self, ignored: impl Fn(What) -> bool) -> Timestamp {
        let counted = self.disturbances.iter().filter(|disturbance| !ignored(disturbance.what));
        let ends = counted.map(|disturbance| disturbance.at + disturbance.what.lasts());
        let sent = self.messages.iter().map(|message| message.at);
        ends.chain(sent).chain(self.faults.until()).chain([self.mappings_start]).max().unwrap_or(START)
    }
}

impl Message {
    /// A message with a notification of this id.
    fn new(at: Timestamp, id: impl Into<String>) -> Self {
        let id = id.into();
        Self { at, body: event(&id, 1, false), id }
    }
}

impl What {
    /// How long it lasts.
    #[must_use]
    pub fn lasts(self) -> Duration {
        if let Self::Trouble(_, lasts) = self { lasts } else { Duration::ZERO }
    }
}

impl Trouble {
    const fn words(self) -> &'static str {
        match self {
            Self::TableDown => "the table fails",
            Self::PublisherDown => "publisher fails",
            Self::DownstreamDown => "downstream fails",
            Self::Throttled => "every invocation is throttled",
            Self::NothingReads => "nothing reads the streams",
            Self::TableSlow => "the table is slow",
            Self::TableThrottled => "the table throttles most entries",
            Self::StreamThrottled => "Kinesis throttles most entries",
            Self::PartitionDown(_) => "a partition of the pending index fails",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.lasts().as_secs().div_ceil(60);
        match self {
            Self::Split => f.write_str("a shard of Kinesis is split"),
            Self::Merge => f.write_str("two shards of Kinesis are merged"),
            Self::Rollover => f.write_str("the shards of the table's stream roll over"),
            Self::RestartTableMapping => f.write_str("the poller of the table's stream restarts"),
            Self::RestartStreamMapping => f.write_str("the poller of Kinesis restarts"),
            Self::KillAll => f.write_str("every process dies"),
            Self::Trouble(trouble, _) => write!(f, "{}, for {minutes} min", trouble.words()),
            Self::ForeignRecord => f.write_str("an orphan arrives in Kinesis"),
            Self::OrphanOfKnownId(_) => f.write_str("an orphan with the id of a notification arrives in Kinesis"),
            Self::RedriveDeadLetters => f.write_str("an operator moves the dead letters back"),
            Self::InvalidIndexEntry(_) => f.write_str("an entry that is no notification is first in the pending index"),
            Self::Deploy(deploy) => write!(f, "a deployment: {deploy}"),
        }
    }
}

/// The JSON of an event, in one of two spellings of the same content.
#[must_use]
pub fn event(id: &str, amount: u32, spelled_differently: bool) -> String {
    if spelled_differently {
        return format!(
            r#"{{ "data":{{"currency":"EUR","amount":"{amount}.50","orderId":"o-{id}"}}, "type":"refund.requested","source":"urn:orders","id":"{id}","specversion":"1.0" }}"#
        );
    }
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"urn:orders","type":"refund.requested","data":{{"orderId":"o-{id}","amount":"{amount}.50","currency":"EUR"}}}}"#
    )
}

/// One of several, each as likely as the others.
fn pick<T: Copy, const N: usize>(rng: &mut Rng, choices: [T; N]) -> T {
    choices[rng.usize(..N)]
}

fn workload(seed: u64, rng: &mut Rng, count: usize, spread: Duration) -> (Vec<Message>, BTreeSet<String>) {
    let mut messages = Vec::new();
    let mut rejected = BTreeSet::new();
    let moment =
        |rng: &mut Rng| START + Duration::from_millis(rng.u64(0..=u64::try_from(spread.as_millis()).unwrap_or(0)));
    for number in 0..count {
        let id = format!("n{number}");
        let at = moment(rng);
        if rng.u8(0..20) == 0 {
            let body = pick(rng, [r#"{"specversion":"1.0","id":"#, "[]", r#"{"specversion":"1.0","id":"x"}"#]);
            messages.push(Message { at, id: String::new(), body: body.to_owned() });
            continue;
        }
        if rng.u8(0..20) == 0 {
            rejected.insert(id.clone());
        }
        let message = |at, version| Message { at, body: events::event(seed, &id, version), id: id.clone() };
        messages.push(message(at, Version::Original));
        if rng.u8(0..5) == 0 {
            let at = if rng.bool() { at } else { moment(rng) };
            let version = if rng.bool() { Version::Respelled(0) } else { Version::Original };
            messages.push(message(at, version));
        }
        if rng.u8(0..20) == 0 {
            messages.push(message(moment(rng), Version::Conflict(0)));
        }
    }
    messages.sort_by_key(|message| message.at);
    (messages, rejected)
}

fn disturbances(rng: &mut Rng, within: Duration) -> Vec<Disturbance> {
    let count = pick(rng, [0, 0, 1, 2, 4]);
    let mut disturbances: Vec<Disturbance> = (0..count)
        .map(|_| {
            let at = START + Duration::from_millis(rng.u64(0..u64::try_from(within.as_millis()).unwrap_or(1).max(1)));
            let lasts = Duration::from_secs(pick(rng, [5, 120, 1_800]));
            let what = match rng.u8(0..24) {
                0..3 => What::Split,
                3..5 => What::Merge,
                5..7 => What::Rollover,
                7..9 => What::RestartTableMapping,
                9..11 => What::RestartStreamMapping,
                11..14 => What::KillAll,
                14..16 => What::Trouble(Trouble::PublisherDown, lasts),
                16..18 => What::Trouble(Trouble::DownstreamDown, lasts),
                18..20 => What::Trouble(Trouble::Throttled, lasts),
                20 => What::Trouble(Trouble::NothingReads, Duration::from_hours(25)),
                21..23 => What::ForeignRecord,
                _ => What::Trouble(Trouble::NothingReads, lasts),
            };
            Disturbance { at, what }
        })
        .collect();
    disturbances.sort_by_key(|disturbance| disturbance.at);
    disturbances
}

/// Orphans with the ids of notifications arrive in some runs, while the notifications are on their way and after.
fn add_orphans(seed: u64, scenario: &mut Scenario, spread: Duration) {
    let mut rng = rng::of(seed, "orphans");
    for _ in 0..pick(&mut rng, [0, 0, 0, 1, 3]) {
        let within = pick(&mut rng, [Duration::from_secs(2), spread + Duration::from_mins(2)]);
        let at = START + Duration::from_millis(rng.u64(0..u64::try_from(within.as_millis()).unwrap_or(1)));
        let what = What::OrphanOfKnownId(pick(&mut rng, [Orphan::OtherEvent, Orphan::Malformed]));
        scenario.disturbances.push(Disturbance { at, what });
    }
}

/// A partition that fails, in some runs: none of these notifications is in it.
fn partition_down(seed: u64, messages: &[Message]) -> Option<u64> {
    let mut rng = rng::of(seed, "partition");
    let partition = rng.u64(0..limits::PENDING_SHARDS);
    let is_used = messages.iter().any(|message| index_shard(&message.id) == partition);
    (rng.u8(0..8) == 0 && !is_used).then_some(partition)
}

/// Operators have something to do where the business refuses more than usual.
fn add_operators(seed: u64, scenario: &mut Scenario) {
    let mut rng = rng::of(seed, "operators");
    scenario.operators = pick(&mut rng, [0, 0, 1, 2]);
    if scenario.operators > 0 {
        let ids = scenario.messages.iter().map(|message| &message.id).filter(|id| !id.is_empty());
        scenario.rejected.extend(ids.filter(|_| rng.u8(0..6) == 0).cloned());
    }
}

/// How far the instances' clocks differ from those of their deadlines. Where they are wrong, actions are slow, the timeout is
/// short, and pollers restart: only then does another worker judge a lease while its worker is still at work.
fn skew_instances(seed: u64, is_healthy: bool, scenario: &mut Scenario) {
    if scenario.clock_skew_millis == 0 {
        return;
    }
    scenario.instance_skew_millis = CLOCKS_AGREE_MILLIS;
    let mut rng = rng::of(seed, "clocks");
    if !is_healthy && rng.u8(0..4) == 0 {
        scenario.instance_skew_millis = CLOCKS_WRONG_MILLIS;
        scenario.action_takes = SLOW_ACTION;
        let timeout = Deploy::Timeout(Duration::from_secs(30));
        scenario.disturbances.push(Disturbance { at: START, what: What::Deploy(timeout) });
        // A restart of the poller brings a second worker.
        let restarts = (0..3).map(|_| START + Duration::from_secs(rng.u64(5..120)));
        let restarts = restarts.map(|at| Disturbance { at, what: What::RestartStreamMapping });
        scenario.disturbances.extend(restarts);
        scenario.disturbances.sort_by_key(|disturbance| disturbance.at);
    }
}

/// A message can stay in the queue and the dead-letter queue for days before it is received again.
fn add_late_duplicates(rng: &mut Rng, scenario: &mut Scenario) {
    if rng.u8(0..20) != 0 {
        return;
    }
    let days = pick(rng, [2, 13, 27]);
    let at = START + Duration::from_hours(24 * days);
    let valid: Vec<&Message> = scenario.messages.iter().filter(|message| !message.id.is_empty()).collect();
    let again: Vec<Message> =
        rng.choose_multiple(valid, 3).into_iter().map(|message| Message { at, ..message.clone() }).collect();
    scenario.messages.extend(again);
    // A dead letter is kept for 14 days.
    let at = START + Duration::from_hours(24 * days.min(13));
    scenario.disturbances.push(Disturbance { at, what: What::RedriveDeadLetters });
}
