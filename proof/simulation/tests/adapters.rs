//! The proof through the adapters and the SDK, bounded for every run of the tests:
//! `cargo run --release -p simulation -- --adapters` looks further.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod document;
mod put_back;

use put_back::assert_found;
use simulation::adapters::AdapterBug;
use simulation::run::Subject;
use simulation::scenario::Scenario;
use simulation::search;
use simulation::template::Deployed;
use std::sync::LazyLock;

static DEPLOYED: LazyLock<Deployed> = LazyLock::new(|| Deployed::read().unwrap());

fn subject() -> Subject<'static> {
    Subject::through_adapters(&DEPLOYED)
}

/// What the runs must reach, or they would prove nothing.
const SOMETIMES: &[&str] = &[
    "DynamoDB leaves out a key",
    "DynamoDB refuses a change",
    "DynamoDB refuses an insert",
    "Kinesis has a notification twice",
    "Kinesis refuses a record",
    "a DONE item expires",
    "a call is refused",
    "a failure of an action is noted",
    "a claim is released",
    "a claimed notification becomes IN_DOUBT",
    "a connection is reset",
    "a failed message is hidden",
    "a message that is not in flight cannot be hidden",
    "a process dies after a call",
    "a process dies before a call",
    "a reply is lost",
    "a sweep leaves the work to another one",
    "a transaction is refused",
    "an answer comes after the SDK's time-out",
    "an effect takes place after its caller gave up",
    "an orphan is quarantined",
    "no answer comes",
    "some entries of a call are refused",
    "the SDK repeats a call that took place",
    "the sweep publishes something again",
    "transactions meet",
];

#[test]
fn two_hundred_seeds_through_the_adapters_break_no_rule_and_reach_all_that_must_be_reached() {
    let found = search::seeds(subject(), 0..200, 1, || {});
    if let Some((scenario, violations)) = found.failures.first() {
        let smallest = search::shrink(subject(), scenario);
        let trace = subject().run(&smallest, true).trace.text();
        panic!("seed {}: {violations:#?}\nwithout what it can do without:\n{trace}", scenario.seed);
    }
    for what in SOMETIMES {
        assert!(found.seen.contains_key(what), "never: {what}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_through_the_adapters() {
    for seed in 0..10 {
        let scenario = Scenario::of(seed);
        let trace = || subject().run(&scenario, true).trace.text();
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

#[test]
fn every_known_bug_of_an_adapter_that_is_put_back_is_found() {
    let bugs = AdapterBug::ALL.iter().map(|(bug, words, place)| (subject().with_adapter_bug(*bug), *words, *place));
    let header = "| bug of an adapter | file of `crates/aws/src` | seeds | what breaks |\n|---|---|---|---|\n";
    assert_found(header, bugs, Scenario::of, 2_000);
}
