//! Searches: many seeds, every fault at every call, and the smallest form of a failure.

use crate::faults::{Fault, Plan};
use crate::run::{Report, Subject};
use crate::scenario::Scenario;
use notification::Guarantee;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a search found.
#[derive(Debug, Default)]
pub struct Found {
    /// How many runs there were.
    pub runs: u64,
    /// How many notifications were sent.
    pub notifications: u64,
    /// How many messages were sent, duplicates, conflicts and malformed ones included.
    pub messages: u64,
    /// How many calls and invocations were made.
    pub calls: u64,
    /// How many of them had a fault.
    pub faults: u64,
    /// How often each situation occurred.
    pub seen: BTreeMap<&'static str, u64>,
    /// The scenarios that broke a rule, and what they broke.
    pub failures: Vec<(Scenario, Vec<String>)>,
}

impl Found {
    fn add(&mut self, scenario: Scenario, report: Report) {
        self.runs += 1;
        let ids: BTreeSet<&str> = scenario.messages.iter().map(|message| message.id.as_str()).collect();
        self.notifications += ids.iter().filter(|id| !id.is_empty()).count() as u64;
        self.messages += scenario.messages.len() as u64;
        self.calls += report.calls;
        self.faults += report.faults.len() as u64;
        for (what, count) in report.seen {
            *self.seen.entry(what).or_default() += count;
        }
        if !report.violations.is_empty() {
            self.failures.push((scenario, report.violations));
        }
    }
}

/// Runs scenarios on all cores, until `stop_at` of them failed. Calls `progress` after each.
pub(crate) fn search(
    subject: Subject<'_>,
    count: u64,
    scenario: impl Fn(u64) -> Scenario + Sync,
    stop_at: usize,
    progress: impl Fn() + Sync,
) -> Found {
    let next = AtomicU64::new(0);
    let stopped = AtomicBool::new(false);
    let found = Mutex::new(Found::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let scenario = scenario(number);
                    let report = subject.run(&scenario, false);
                    let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    found.add(scenario, report);
                    if found.failures.len() >= stop_at {
                        stopped.store(true, Ordering::Relaxed);
                    }
                    drop(found);
                    progress();
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.failures.sort_by_key(|(scenario, _)| scenario.seed);
    found
}

/// Runs the seeds of a range.
pub fn seeds(subject: Subject<'_>, seeds: Range<u64>, stop_at: usize, progress: impl Fn() + Sync) -> Found {
    seeds_of(subject, Scenario::of, seeds, stop_at, progress)
}

/// Runs the scenarios that are drawn from the seeds of a range.
pub fn seeds_of(
    subject: Subject<'_>,
    draw: fn(u64) -> Scenario,
    seeds: Range<u64>,
    stop_at: usize,
    progress: impl Fn() + Sync,
) -> Found {
    search(subject, seeds.end - seeds.start, |number| draw(seeds.start + number), stop_at, progress)
}

/// The first scenario that breaks a rule, and what it breaks; `None` if none of the first `most` seeds does.
#[must_use]
pub fn first_failure(subject: Subject<'_>, most: u64) -> Option<(Scenario, Vec<String>)> {
    first_failure_of(subject, Scenario::of, 0..most)
}

/// The same for these seeds, and for scenarios that are drawn in this way.
#[must_use]
pub fn first_failure_of(
    subject: Subject<'_>,
    draw: fn(u64) -> Scenario,
    seeds: Range<u64>,
) -> Option<(Scenario, Vec<String>)> {
    // One after the other, so the answer is the same on every machine.
    seeds.map(draw).find_map(|scenario| {
        let violations = subject.run(&scenario, false).violations;
        (!violations.is_empty()).then_some((scenario, violations))
    })
}

/// A scenario in which nothing goes wrong, with every fault at every call, one at a time.
pub(crate) fn single_faults(subject: Subject<'_>, quiet: &Scenario) -> impl Iterator<Item = Scenario> {
    every_fault_at(1..=subject.run(quiet, false).calls)
        .map(|fault| Scenario { faults: Plan::listed([fault]), ..quiet.clone() })
}

fn every_fault_at(calls: RangeInclusive<u64>) -> impl Iterator<Item = (u64, Fault)> {
    calls.flat_map(|call| Fault::ALL.map(|fault| (call, fault)))
}

/// A small world with every fault at every call, one at a time and in pairs.
#[must_use]
pub fn every_fault(subject: Subject<'_>, guarantee: Guarantee) -> Found {
    let quiet = Scenario::small(guarantee);
    let mut plans: Vec<Plan> = Vec::new();
    for first in every_fault_at(1..=subject.run(&quiet, false).calls) {
        let single = Scenario { faults: Plan::listed([first]), ..quiet.clone() };
        let report = subject.run(&single, false);
        plans.push(single.faults);
        // The first fault causes more calls, such as retries. The second may hit those as well.
        let hit = report.faults.keys().next().copied().unwrap_or(0);
        plans.extend(every_fault_at(hit + 1..=report.calls).map(|second| Plan::listed([first, second])));
    }
    let plan = |number: u64| plans[usize::try_from(number).unwrap_or(0)].clone();
    let scenario = |number: u64| Scenario { faults: plan(number), ..quiet.clone() };
    search(subject, plans.len() as u64, scenario, usize::MAX, || {})
}

/// A smaller scenario that breaks the same rule, without the faults, disturbances and messages that do not matter.
#[must_use]
pub fn shrink(subject: Subject<'_>, scenario: &Scenario) -> Scenario {
    let first = subject.run(scenario, false).violations.first().map(|violation| rule(violation));
    shrink_while(subject, scenario, |report| report.violations.iter().any(|violation| Some(rule(violation)) == first))
}

/// The rule that a violation breaks: its words, without ids and counts.
fn rule(violation: &str) -> String {
    let is_word = |word: &&str| !word.contains(|char: char| char.is_ascii_digit());
    violation.split_whitespace().filter(is_word).collect::<Vec<_>>().join(" ")
}

/// A smaller scenario for whose run `does` is still true.
#[must_use]
pub fn shrink_while(subject: Subject<'_>, scenario: &Scenario, does: impl Fn(&Report) -> bool) -> Scenario {
    let fails = |scenario: &Scenario| does(&subject.run(scenario, false));
    let mut smallest = scenario.clone();
    loop {
        let before = smallest.clone();
        leave_out(&mut smallest, |scenario| &mut scenario.messages, fails);
        leave_out(&mut smallest, |scenario| &mut scenario.disturbances, fails);
        let mut left = subject.run(&smallest, false).faults;
        for call in left.keys().copied().collect::<Vec<_>>() {
            let mut fewer = left.clone();
            fewer.remove(&call);
            let smaller = Scenario { faults: smallest.faults.only(fewer.clone()), ..smallest.clone() };
            if fails(&smaller) {
                (smallest, left) = (smaller, fewer);
            }
        }
        if smallest == before {
            return smallest;
        }
    }
}

/// Leaves out each part of a scenario without which it still fails.
fn leave_out<T>(
    smallest: &mut Scenario,
    parts: impl Fn(&mut Scenario) -> &mut Vec<T>,
    fails: impl Fn(&Scenario) -> bool,
) {
    let mut place = 0;
    while place < parts(smallest).len() {
        let mut smaller = smallest.clone();
        parts(&mut smaller).remove(place);
        if fails(&smaller) { *smallest = smaller } else { place += 1 }
    }
}
