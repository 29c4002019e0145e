//! The search, bounded for every run of the tests: `cargo run --release -p interleavings -- --faults 2` looks further.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../../simulation/tests/document/mod.rs"]
mod document;

use document::assert_rows;
use expect_test::expect_file;
use interleavings::bugs::{Bug, Known};
use interleavings::scenario::Scenario;
use interleavings::search::{Found, Search, explore_all};

/// Fails with a schedule that breaks a rule.
fn assert_no_rule_is_broken(search: Search, found: &Found) {
    if let Some(failure) = &found.failure {
        let trace = search.trace(&failure.schedule).join("\n");
        panic!("{}: {}\n{trace}", search.scenario, failure.violation);
    }
}

/// A number with separators.
fn thousands(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn no_order_of_two_workers_calls_with_one_fault_breaks_a_rule() {
    let mut rows = Vec::new();
    for (search, found) in explore_all(&Scenario::all(), 1, |_, _| ()) {
        assert_no_rule_is_broken(search, &found);
        let (guarantee, situation) = (search.scenario.guarantee_name(), search.scenario.situation);
        let (schedules, states) = (thousands(found.schedules), thousands(found.states as u128));
        rows.push(format!("| {guarantee} | {situation} | {schedules} | {states} |"));
    }
    let header = "| guarantee | it begins with | schedules | states |\n|---|---|---|---|\n";
    assert_rows(&expect_file!["../../../docs/PROOF.md"], header, &rows);
}

#[test]
fn no_order_with_two_faults_breaks_a_rule_where_the_search_is_short() {
    let mut scenarios = Scenario::all();
    let is_short = |situation| ["INIT", "DONE", "a receiver that rejects repeats"].contains(&situation);
    scenarios.retain(|scenario| is_short(scenario.situation));
    assert_eq!(scenarios.len(), 7);
    for (search, found) in explore_all(&scenarios, 2, |_, _| ()) {
        assert_no_rule_is_broken(search, &found);
    }
}

#[test]
fn every_known_bug_breaks_a_rule_in_some_order() {
    let mut rows = Vec::new();
    for Known { bug, words, place, scenario, faults } in Bug::ALL {
        let search = Search::for_bug(*bug, scenario, *faults).unwrap();
        let Some(failure) = search.example() else { panic!("not found: {words} ({place}) in {scenario}") };
        let (choices, violation) = (failure.schedule.len(), failure.violation);
        rows.push(format!("| {words} | {place} | {scenario} | {faults} | {choices} | {violation} |"));
    }
    let header = "| bug | where | shown by | faults | choices | what breaks |\n|---|---|---|---|---|---|\n";
    assert_rows(&expect_file!["../../../docs/PROOF.md"], header, &rows);
}

#[test]
fn the_same_schedule_always_leads_to_the_same_state() {
    let scenario = Scenario::all().into_iter().find(|one| one.to_string() == "at most once: INIT").unwrap();
    let search = Search { scenario, bug: None, faults: 2 };
    let mut schedule = Vec::new();
    // Every choice in turn, so that faults occur too.
    for step in 0.. {
        let replay = search.replay(&schedule, false);
        assert_eq!(replay.digest(), search.replay(&schedule, false).digest(), "{schedule:?}");
        let choices = replay.choices();
        if choices.is_empty() {
            break;
        }
        schedule.push(choices[step % choices.len()]);
    }
    assert!(schedule.len() > 5, "{schedule:?}");
    assert_eq!(search.trace(&schedule), search.trace(&schedule));
}

#[test]
fn states_that_are_explored_once_stand_for_every_schedule() {
    /// Counts schedules without recognising states.
    fn count(search: Search, schedule: &mut Vec<interleavings::replay::Choice>) -> u128 {
        let choices = search.replay(schedule, false).choices();
        if choices.is_empty() {
            return 1;
        }
        let mut schedules = 0;
        for choice in choices {
            schedule.push(choice);
            schedules += count(search, schedule);
            schedule.pop();
        }
        schedules
    }
    for scenario in Scenario::all() {
        let search = Search { scenario, bug: None, faults: 0 };
        let found = search.every_schedule();
        // The others have too many schedules to walk through each.
        if found.schedules < 500 {
            assert_eq!(count(search, &mut vec![]), found.schedules, "{scenario}");
        }
    }
}
