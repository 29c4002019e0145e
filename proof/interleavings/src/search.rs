//! The search: depth-first through every schedule of a scenario, and breadth-first for the shortest one that breaks a rule.

use crate::bugs::Bug;
use crate::replay::{Choice, Replay};
use crate::scenario::Scenario;
use std::collections::{HashMap, HashSet};

/// What is searched.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// The scenario.
    pub scenario: Scenario,
    /// The bug that is put back.
    pub bug: Option<Bug>,
    /// How many faults a schedule may have.
    pub faults: usize,
}

/// The result of a search.
#[derive(Debug, Default)]
pub struct Found {
    /// How many schedules there are.
    pub schedules: u128,
    /// How many different states they pass through.
    pub states: usize,
    /// How many choices were made, each in one state.
    pub transitions: u64,
    /// The first schedule that breaks a rule.
    pub failure: Option<Failure>,
}

/// A schedule that breaks a rule.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The rule that it breaks.
    pub violation: String,
    /// Its choices.
    pub schedule: Vec<Choice>,
}

impl Search {
    /// Explores every schedule. It stops at the first one that breaks a rule.
    #[must_use]
    pub fn every_schedule(self) -> Found {
        let mut explorer = Explorer { search: self, schedule: vec![], known: HashMap::new(), transitions: 0, failure: None };
        let schedules = explorer.explore(self.replay(&[], false));
        let Explorer { known, transitions, failure, .. } = explorer;
        Found { schedules, states: known.len(), transitions, failure }
    }

    /// The shortest schedule that breaks a rule, if it has fewer choices than `below`.
    #[must_use]
    pub fn shortest_failure(self, below: usize) -> Option<Failure> {
        let mut known = HashSet::new();
        let mut schedules = vec![vec![]];
        for _ in 0..below {
            let mut longer = Vec::new();
            for schedule in schedules {
                let mut replay = self.replay(&schedule, false);
                let choices = replay.choices();
                if choices.is_empty() {
                    replay.finish();
                }
                if let Some(violation) = replay.violation() {
                    return Some(Failure { violation, schedule });
                }
                if known.insert(replay.digest()) {
                    longer.extend(choices.into_iter().map(|choice| [&schedule[..], &[choice]].concat()));
                }
            }
            if longer.is_empty() {
                break;
            }
            schedules = longer;
        }
        None
    }

    /// A schedule, replayed.
    #[must_use]
    pub fn replay(self, schedule: &[Choice], traced: bool) -> Replay {
        let mut replay = Replay::new(self.scenario, self.bug, self.faults, traced);
        for &choice in schedule {
            replay.choose(choice);
        }
        replay
    }

    /// A schedule to its end, in words.
    #[must_use]
    pub fn trace(self, schedule: &[Choice]) -> Vec<String> {
        let mut replay = self.replay(schedule, true);
        if replay.violation().is_none() && replay.choices().is_empty() {
            replay.finish();
        }
        replay.trace()
    }
}

/// A depth-first search in progress.
struct Explorer {
    search: Search,
    /// The choices that lead to the current state.
    schedule: Vec<Choice>,
    /// How many schedules lead on from each state that was explored, by its digest.
    known: HashMap<u64, u128>,
    transitions: u64,
    failure: Option<Failure>,
}

impl Explorer {
    /// Explores all schedules that go on from a state, and returns how many there are.
    fn explore(&mut self, mut replay: Replay) -> u128 {
        if self.has_failed(&replay) {
            return 1;
        }
        let digest = replay.digest();
        if let Some(&schedules) = self.known.get(&digest) {
            return schedules;
        }
        let choices = replay.choices();
        let mut schedules = 0;
        if choices.is_empty() {
            replay.finish();
            if self.has_failed(&replay) {
                return 1;
            }
            schedules = 1;
        }
        // The first choice goes on from here; the others come back by a replay.
        let mut here = Some(replay);
        for choice in choices {
            let mut next = here.take().unwrap_or_else(|| self.search.replay(&self.schedule, false));
            next.choose(choice);
            self.transitions += 1;
            self.schedule.push(choice);
            schedules += self.explore(next);
            if self.failure.is_some() {
                return schedules;
            }
            self.schedule.pop();
        }
        self.known.insert(digest, schedules);
        schedules
    }

    fn has_failed(&mut self, replay: &Replay) -> bool {
        if let Some(violation) = replay.violation() {
            self.failure = Some(Failure { violation, schedule: self.schedule.clone() });
        }
        self.failure.is_some()
    }
}

/// How a bug that is put back was found: with the fewest faults, and then with the fewest choices.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What was searched.
    pub search: Search,
    /// The shortest schedule.
    pub failure: Failure,
}

/// Looks for a bug in every scenario: first without faults, then with one, and so on.
#[must_use]
pub fn find(bug: Bug, faults: usize) -> Option<Finding> {
    for faults in 0..=faults {
        let mut shortest: Option<Finding> = None;
        for scenario in Scenario::all() {
            let search = Search { scenario, bug: Some(bug), faults };
            let below = shortest.as_ref().map_or(usize::MAX, |finding| finding.failure.schedule.len());
            if let Some(failure) = search.shortest_failure(below) {
                shortest = Some(Finding { search, failure });
            }
        }
        if shortest.is_some() {
            return shortest;
        }
    }
    None
}
