//! How a schedule begins.

use notification::{Guarantee, Status, limits};
use std::fmt;

/// The guarantees, with the time that a call to the receiver may take.
const TRANSACTIONAL: Guarantee = Guarantee::Transactional;
const IDEMPOTENT: Guarantee = Guarantee::Idempotent { timeout: limits::WEBHOOK_TIMEOUT };
const AT_MOST_ONCE: Guarantee = Guarantee::AtMostOnce { timeout: limits::WEBHOOK_TIMEOUT };

/// The beginning of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// The guarantee of the action.
    pub guarantee: Guarantee,
    /// What is special about it, in words.
    pub situation: &'static str,
    /// The item of the notification.
    pub item: Start,
    /// Whether the effect has happened before.
    pub has_happened: bool,
    /// The receiver, or the business code of a transactional action.
    pub receiver: Receiver,
    /// What the operator may do.
    pub operator: Operator,
    /// Whether the second worker's record has another event under the same id.
    pub has_orphan: bool,
}

/// The item of the notification at the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Written once, or settled: with this status.
    Status(Status),
    /// INIT, with a note that a call had an unknown outcome.
    Noted,
    /// CLAIMED by a worker that is gone. Its claim has expired.
    Expired,
}

/// What the receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// It accepts every call.
    Accepts,
    /// It rejects every call.
    Rejects,
    /// It rejects every call until the operator has fixed it, just before a redrive.
    RejectsUntilFixed,
    /// It rejects every call after one that it accepted.
    RejectsRepeats,
}

/// What the operator does, once, at any time at which it is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Nothing.
    Absent,
    /// `notifyctl redrive` of a FAILED notification.
    Redrives,
    /// `notifyctl resolve` of an IN_DOUBT notification, or of an expired claim: `--done` if the effect has happened, and
    /// `--retry` if it has not and no call is on its way.
    Resolves,
}

impl Scenario {
    const fn new(guarantee: Guarantee, situation: &'static str) -> Self {
        Self {
            guarantee,
            situation,
            item: Start::Status(Status::Init),
            has_happened: false,
            receiver: Receiver::Accepts,
            operator: Operator::Resolves,
            has_orphan: false,
        }
    }

    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for guarantee in [TRANSACTIONAL, IDEMPOTENT, AT_MOST_ONCE] {
            let init = |situation| Self::new(guarantee, situation);
            let with = |situation, status| Self { item: Start::Status(status), ..init(situation) };
            all.extend([
                init("INIT"),
                Self { has_orphan: true, ..init("INIT, and another event under the same id") },
                Self { has_happened: true, ..with("DONE", Status::Done) },
                Self { operator: Operator::Redrives, ..with("FAILED, and a redrive", Status::Failed) },
                with("IN_DOUBT: not happened", Status::InDoubt),
                Self { has_happened: true, ..with("IN_DOUBT: happened", Status::InDoubt) },
                Self { item: Start::Expired, ..init("an expired claim: not called") },
                Self { receiver: Receiver::Rejects, ..init("a receiver that rejects") },
                Self {
                    receiver: Receiver::RejectsUntilFixed,
                    operator: Operator::Redrives,
                    ..init("a receiver that rejects until a redrive")
                },
            ]);
            let called_before = [
                Self { item: Start::Noted, has_happened: true, ..init("INIT, and a call with an unknown outcome") },
                Self { item: Start::Expired, has_happened: true, ..init("an expired claim: called") },
            ];
            match guarantee {
                Guarantee::Transactional => {}
                Guarantee::Idempotent { .. } => {
                    all.extend(called_before);
                    all.push(Self { receiver: Receiver::RejectsRepeats, ..init("a receiver that rejects repeats") });
                }
                Guarantee::AtMostOnce { .. } => all.extend(called_before),
            }
        }
        all
    }

    /// The guarantee in words.
    #[must_use]
    pub const fn guarantee_name(&self) -> &'static str {
        match self.guarantee {
            Guarantee::Transactional => "transactional",
            Guarantee::Idempotent { .. } => "idempotent",
            Guarantee::AtMostOnce { .. } => "at most once",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.guarantee_name(), self.situation)
    }
}
