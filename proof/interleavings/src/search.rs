//! The search: depth-first through every schedule of a scenario, and breadth-first for the shortest one that breaks a rule.

use crate::bugs::Bug;
use crate::replay::{Choice, Replay};
use crate::scenario::Scenario;
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

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
    /// How many choices there are in these states.
    pub choices: u64,
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
    /// For a bug that is put back, in the scenario with this name; `None` if there is no such scenario.
    #[must_use]
    pub fn for_bug(bug: Bug, scenario: &str, faults: usize) -> Option<Self> {
        let scenario = Scenario::all().into_iter().find(|one| one.to_string() == scenario)?;
        Some(Self { scenario, bug: Some(bug), faults })
    }

    /// Explores every schedule. It stops at the first one that breaks a rule.
    #[must_use]
    pub fn every_schedule(self) -> Found {
        let mut explorer =
            Explorer { search: self, schedule: vec![], known: HashMap::new(), choices: 0, failure: None };
        let schedules = explorer.explore(self.replay(&[], false));
        let Explorer { known, choices, failure, .. } = explorer;
        Found { schedules, states: known.len(), choices, failure }
    }

    /// The shortest schedule that breaks a rule, if there is one.
    #[must_use]
    pub fn shortest_failure(self) -> Option<Failure> {
        let mut known = HashSet::new();
        let mut schedules = vec![vec![]];
        while !schedules.is_empty() {
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
            schedules = longer;
        }
        None
    }

    /// A schedule that breaks a rule: the shortest one with up to one fault. With more faults, finding that can take minutes,
    /// so it is the first one of the depth-first search.
    #[must_use]
    pub fn example(self) -> Option<Failure> {
        if self.faults > 1 { self.every_schedule().failure } else { self.shortest_failure() }
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

/// Explores scenarios on all cores, and returns what was found in the order of the scenarios. `ended` is called after each.
pub fn explore_all(
    scenarios: &[Scenario],
    faults: usize,
    ended: impl Fn(Search, &Found) + Sync,
) -> Vec<(Search, Found)> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let explore = || {
        while let Some((place, &scenario)) = scenarios.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
            let search = Search { scenario, bug: None, faults };
            let found = search.every_schedule();
            ended(search, &found);
            if let Ok(mut results) = results.lock() {
                results.push((place, (search, found)));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(explore);
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

/// A depth-first search in progress.
struct Explorer {
    search: Search,
    /// The choices that lead to the current state.
    schedule: Vec<Choice>,
    /// How many schedules lead on from each state that was explored, by its digest.
    known: HashMap<u64, u128>,
    choices: u64,
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
            self.choices += 1;
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
