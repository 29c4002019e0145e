//! The dead letters: why each is one, and what becomes of those that a redrive must bring back.

use super::state::World;
use crate::aws::source::Source;
use crate::judge;
use event_source::queue::Message;
use jiff::Timestamp;
use notification::event;
use std::collections::BTreeMap;
use std::time::Duration;

/// What is known about messages and troubles.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    /// When each message was received.
    received: BTreeMap<u64, Vec<Timestamp>>,
    /// When calls had faults.
    troubles: Vec<Timestamp>,
    /// Whether the good letters were redriven at the end.
    redriven: bool,
}

/// Why a message may be a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Malformed,
    Conflict,
    /// Nothing is wrong with it: only an outage can have refused it.
    Outage,
}

impl Letters {
    pub(super) fn received(&mut self, number: u64, now: Timestamp) {
        self.received.entry(number).or_default().push(now);
    }

    pub(crate) fn troubled(&mut self, now: Timestamp) {
        self.troubles.push(now);
    }
}

impl World {
    /// Why a message is a dead letter.
    pub(crate) fn reason_of(&self, body: &str) -> Reason {
        let is_malformed = |message: &&crate::scenario::Message| message.body == body && message.id.is_empty();
        if self.scenario.messages.iter().any(|message| is_malformed(&message)) {
            return Reason::Malformed;
        }
        let item = event::readable_id(body).and_then(|id| self.ever(id.as_str()));
        match item {
            Some(item) if !judge::same(&item.event, body) => Reason::Conflict,
            _ => Reason::Outage,
        }
    }

    /// Checks that something is wrong with a message that becomes a dead letter, or that there was trouble at each of its
    /// receives.
    pub(super) fn check_letter(&mut self, dead: &Message) {
        match self.reason_of(&dead.body) {
            Reason::Malformed | Reason::Conflict => {}
            Reason::Outage if self.was_in_trouble(dead.number) => {
                self.note("a good message becomes a dead letter in an outage");
            }
            Reason::Outage => {
                let id = event::readable_id(&dead.body).map_or_else(String::new, |id| id.to_string());
                self.violated(format!("a message of {id} is a dead letter, and nothing is wrong with it"));
            }
        }
    }

    /// Whether something went wrong between each receive of a message and the next.
    fn was_in_trouble(&self, number: u64) -> bool {
        let Some(received) = self.letters.received.get(&number) else { return false };
        let ends = received.iter().skip(1).copied().chain([self.now]);
        received.iter().zip(ends).all(|(begin, end)| {
            // A fault may also have been a moment before: the receive itself.
            let from = *begin - Duration::from_secs(1);
            self.letters.troubles.iter().any(|trouble| (from..=end).contains(trouble))
                || self.outages.iter().any(|(begins, ends, _)| *begins <= end && *ends >= from)
        })
    }

    /// At the end of the run, an operator redrives the letters with which nothing is wrong. `false` if there is none.
    pub(crate) fn redrive_good_letters(&mut self) -> bool {
        if std::mem::replace(&mut self.letters.redriven, true) || !self.wiring.hands_over {
            return false;
        }
        let kept_since = self.now.saturating_sub(self.deployed.dead_letter_retention).unwrap_or(Timestamp::MIN);
        let is_good =
            |message: &&Message| message.sent_at > kept_since && self.reason_of(&message.body) == Reason::Outage;
        let good: Vec<_> = self.upstream.dead.messages().filter(is_good).cloned().collect();
        for message in &good {
            self.upstream.dead.delete(message.number);
            self.upstream.queue.send(message.body.clone(), self.now);
        }
        if good.is_empty() {
            return false;
        }
        self.note("good letters are redriven at the end");
        self.look_at(Source::Upstream, self.now.max(self.scenario.healed_at()));
        true
    }

    /// The letters that the redrive did not bring back.
    pub(crate) fn letters_left(&self) -> Vec<String> {
        if !self.letters.redriven || !self.seen.contains_key("good letters are redriven at the end") {
            return vec![];
        }
        let left = self.upstream.dead.messages().filter(|message| self.reason_of(&message.body) == Reason::Outage);
        left.map(|message| format!("letter {} was redriven and not accepted", message.number)).collect()
    }
}
