//! What goes wrong with calls: the seed and the number of a call decide its fault, so each of them can be
//! left out when a failure is shrunk.

use crate::rng;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused, for example throttled. It has no effect, and the caller knows.
    Refused,
    /// It takes effect, and its reply is lost.
    LostReply,
    /// It has no effect, and the caller waits for a reply until it gives up.
    NoAnswer,
    /// Some of its entries are refused.
    Partial,
    /// The reply is lost, and the SDK repeats the call: it takes effect twice.
    Repeated,
    /// The reply takes some seconds.
    Slow,
    /// The caller gives up, and the call takes effect later.
    Late,
    /// The process dies before the call is sent.
    CrashBefore,
    /// The process dies after the call took effect.
    CrashAfter,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Refused,
        Self::LostReply,
        Self::NoAnswer,
        Self::Partial,
        Self::Repeated,
        Self::Slow,
        Self::Late,
        Self::CrashBefore,
        Self::CrashAfter,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::LostReply => "done, but the reply is lost",
            Self::NoAnswer => "no answer, and not done",
            Self::Partial => "some entries are refused",
            Self::Repeated => "the reply is lost, and the SDK repeats it",
            Self::Slow => "slow",
            Self::Late => "no answer, done later",
            Self::CrashBefore => "the process dies before it",
            Self::CrashAfter => "the process dies after it",
        })
    }
}

/// Which calls have which fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    seed: u64,
    per_mille: u32,
    /// No call has a fault from then on; `None` if that does not matter.
    until: Option<Timestamp>,
    /// The fault of each call that has one. If `None`, the seed decides.
    listed: Option<BTreeMap<u64, Fault>>,
}

impl Plan {
    /// No faults.
    #[must_use]
    pub fn none() -> Self {
        Self::listed([])
    }

    /// So many calls in a thousand, until a time.
    #[must_use]
    pub fn drawn(seed: u64, per_mille: u32, until: Timestamp) -> Self {
        Self { seed, per_mille, until: Some(until), listed: None }
    }

    /// These calls, by their number.
    #[must_use]
    pub fn listed(faults: impl IntoIterator<Item = (u64, Fault)>) -> Self {
        Self { seed: 0, per_mille: 0, until: None, listed: Some(faults.into_iter().collect()) }
    }

    /// The same until the same time, but only these faults.
    #[must_use]
    pub fn only(&self, faults: BTreeMap<u64, Fault>) -> Self {
        Self { listed: Some(faults), ..*self }
    }

    /// Whether it has no faults.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.listed.as_ref().map_or(self.per_mille == 0, BTreeMap::is_empty)
    }

    /// The time from which no call has a fault.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// The fault of a call.
    #[must_use]
    pub fn of(&self, call: u64, now: Timestamp) -> Option<Fault> {
        if self.until.is_some_and(|until| now >= until) {
            return None;
        }
        if let Some(listed) = &self.listed {
            return listed.get(&call).copied();
        }
        let mut rng = rng::numbered(self.seed, "fault", call);
        if rng.u32(0..1000) >= self.per_mille { None } else { rng.choice(Fault::ALL) }
    }
}

/// How long a call takes, by its number.
pub(crate) fn latency(seed: u64, call: u64) -> Duration {
    Duration::from_micros(rng::numbered(seed, "latency", call).u64(1_000..15_000))
}

/// How long a call to a slow table takes.
pub(crate) fn slow_table(seed: u64, call: u64) -> Duration {
    Duration::from_millis(rng::numbered(seed, "slow table", call).u64(3_000..4_500))
}

/// How long a slow call takes.
pub(crate) fn slow(seed: u64, call: u64) -> Duration {
    Duration::from_millis(rng::numbered(seed, "slow", call).u64(500..12_000))
}

/// How long a caller waits for an answer that does not come: the SDK's three attempts of five seconds.
pub(crate) const NO_ANSWER: Duration = Duration::from_secs(15);
