//! The proof through the adapters and the SDK, bounded for every run of the tests:
//! `cargo run --release -p simulation -- --adapters` looks further.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod document;

use document::assert_rows;
use expect_test::expect_file;
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
    "a call with an unknown outcome is noted",
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

/// A seed that shows each bug, in the order of the bugs: the search begins there. `simulation adapter-bugs` looks for them from
/// the first seed on.
const SHOWN_BY: [u64; 15] = [46, 2, 18, 4, 0, 1, 21, 62, 0, 137, 68, 90, 90, 0, 2];

#[test]
fn every_known_bug_of_an_adapter_that_is_put_back_is_found() {
    let mut rows = Vec::new();
    for ((bug, words, place), first) in AdapterBug::ALL.iter().zip(SHOWN_BY) {
        let subject = subject().with_adapter_bug(*bug);
        let broken = |seed| {
            let violations = subject.run(&Scenario::of(seed), false).violations;
            violations.into_iter().next().map(|violation| (seed, violation))
        };
        let Some((seed, violation)) = (first..first + 200).find_map(broken) else {
            panic!("not found: {words} ({place})");
        };
        rows.push(format!("| {words} | `{place}` | {seed} | {violation} |"));
    }
    assert_eq!(rows.len(), AdapterBug::ALL.len());
    let header = "| bug | file of `crates/aws/src` | seed | what breaks |\n|---|---|---|---|\n";
    assert_rows(&expect_file!["../../../docs/PROOF.md"], header, &rows);
}
