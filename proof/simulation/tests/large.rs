//! Large runs: work that takes several calls, pages and invocations. `cargo run --release -p simulation -- large` looks further.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod document;
mod put_back;

use put_back::assert_found;
use simulation::mutants::Mutant;
use simulation::run::Subject;
use simulation::scenario::Scenario;
use simulation::search;
use simulation::template::Deployed;
use std::sync::LazyLock;

static DEPLOYED: LazyLock<Deployed> = LazyLock::new(|| Deployed::read().unwrap());

fn subject() -> Subject<'static> {
    Subject::new(&DEPLOYED)
}

/// What the large runs must reach, or they would prove nothing that the small ones do not.
const SOMETIMES: &[&str] = &[
    "a second batch of statements is sent",
    "a second chunk is claimed",
    "a second transaction is needed by its actions",
    "a second transaction is needed by its bytes",
    "a second PutRecords is needed by its entries",
    "a second PutRecords is needed by its bytes",
    "a second page of the index is read",
    "an entry of the index is no notification",
    "a sweep stops at its deadline",
    "a sweep continues where the last one stopped",
    "some entries of a later call are refused",
    "a batch ends before its deadline and reports the rest",
    "many rejections are written in one call",
];

#[test]
fn large_runs_break_no_rule_and_reach_all_that_only_they_can_reach() {
    let found = search::seeds_of(subject(), Scenario::large, 16..24, 1, || {});
    if let Some((scenario, violations)) = found.failures.first() {
        panic!("seed {}: {violations:#?}", scenario.seed);
    }
    for what in SOMETIMES {
        assert!(found.seen.contains_key(what), "never: {what}");
    }
}

#[test]
fn every_known_bug_that_only_large_runs_show_is_found() {
    let bugs = Mutant::ALL.into_iter().filter(|(mutant, ..)| mutant.is_large());
    let bugs = bugs.map(|(mutant, bug, place)| (subject().with_mutant(mutant), bug, place));
    let header = "| bug that needs a large run | where | seeds | what breaks |\n|---|---|---|---|\n";
    assert_found(header, bugs, Scenario::just_large, 100);
}
