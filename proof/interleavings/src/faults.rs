//! What can go wrong with one request.

use crate::ports::EFFECT;
use notification::Guarantee;
use notification::testing::Call;
use std::fmt;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It is refused, for example throttled. It has no effect, and the caller knows.
    Refused,
    /// It takes effect, and its reply is lost.
    LostReply,
    /// It takes effect, and its caller waits for a reply until it gives up.
    Unanswered,
    /// It has no effect, and its reply is lost.
    NoAnswer,
    /// Its reply is lost, and it takes effect later.
    Late,
    /// It takes effect later, while its caller waits for the reply, or after its caller gave up.
    Slow,
    /// It takes effect, its reply is lost, and the SDK repeats it. The repeat takes effect later.
    Repeated,
    /// The process dies before it sends the request.
    DiesBefore,
    /// The process dies after the request took effect.
    DiesAfter,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Refused,
        Self::LostReply,
        Self::Unanswered,
        Self::NoAnswer,
        Self::Late,
        Self::Slow,
        Self::Repeated,
        Self::DiesBefore,
        Self::DiesAfter,
    ];

    /// Whether a call can have it. Only an SDK repeats calls, and an action at most once has none.
    pub(crate) fn is_possible(self, call: &Call, guarantee: Guarantee) -> bool {
        self != Self::Repeated || call.method != EFFECT || !matches!(guarantee, Guarantee::AtMostOnce { .. })
    }

    /// Whether the request takes effect at once.
    pub(crate) const fn takes_effect_now(self) -> bool {
        matches!(self, Self::LostReply | Self::Unanswered | Self::Repeated | Self::DiesAfter)
    }

    /// Whether the request takes effect later, at any time.
    pub(crate) const fn takes_effect_later(self) -> bool {
        matches!(self, Self::Late | Self::Slow | Self::Repeated)
    }

    /// Whether it can leave unknown what has happened. A repeat by the SDK is answered, unless its caller gives up first.
    pub(crate) const fn leaves_doubt(self) -> bool {
        !matches!(self, Self::Refused | Self::Repeated)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::LostReply => "done, but the reply is lost",
            Self::Unanswered => "done, but no reply comes",
            Self::NoAnswer => "not done, and no reply",
            Self::Late => "no reply, done later",
            Self::Slow => "slow",
            Self::Repeated => "done, but the reply is lost, and the SDK repeats it",
            Self::DiesBefore => "the process dies before it",
            Self::DiesAfter => "the process dies after it",
        })
    }
}
