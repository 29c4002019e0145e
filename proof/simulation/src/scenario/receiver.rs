//! How the receiver of a scenario behaves.

use super::{START, pick};
use crate::rng;
use jiff::Timestamp;
use notification::Guarantee;
use std::time::Duration;

/// The receiver that the webhook calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// What it does with the repeat of a call.
    pub repeats: Repeats,
    /// How many of a thousand requests have an unusual answer: 5xx, 408, 429, or 2xx with a body that never ends.
    pub unusual_per_mille: u32,
    /// No request has an unusual answer from then on.
    pub until: Timestamp,
    /// When its signing secret is replaced.
    pub rotations: Vec<Timestamp>,
}

/// What a receiver does with the repeat of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// It does not know the key: the effect happens again.
    MadeAgain,
    /// It knows the key, and answers as it answered the first call. While that is in progress, it answers 409.
    Recognised,
    /// It knows the key, and refuses the repeat of a call that succeeded. While that is in progress, it answers 409.
    Refused,
}

impl Receiver {
    /// A receiver without keys that answers every call.
    #[must_use]
    pub fn plain() -> Self {
        Self { repeats: Repeats::MadeAgain, unusual_per_mille: 0, until: START, rotations: vec![] }
    }

    /// Draws a receiver. Its troubles are over at `until`.
    pub(super) fn of(seed: u64, guarantee: Guarantee, until: Timestamp) -> Self {
        let mut rng = rng::of(seed, "receiver");
        let repeats = match guarantee {
            Guarantee::Idempotent { .. } => {
                pick(&mut rng, [Repeats::MadeAgain, Repeats::Recognised, Repeats::Recognised, Repeats::Refused])
            }
            // At most once is for receivers that cannot recognise a repeat.
            Guarantee::Transactional | Guarantee::AtMostOnce { .. } => Repeats::MadeAgain,
        };
        let lasts = Duration::try_from(until.duration_since(START)).unwrap_or_default();
        let count = pick(&mut rng, [0, 0, 1, 3]);
        let mut rotations: Vec<Timestamp> =
            (0..count).map(|_| START + Duration::from_millis(rng.u64(0..=millis(lasts)))).collect();
        rotations.sort_unstable();
        Self { repeats, unusual_per_mille: pick(&mut rng, [0, 0, 50, 300]), until, rotations }
    }

    /// Whether it answers every call as usual.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.unusual_per_mille == 0 && self.rotations.is_empty()
    }

    /// Whether it recognises a call by its key.
    #[must_use]
    pub fn knows_keys(&self) -> bool {
        self.repeats != Repeats::MadeAgain
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
