//! The search for bugs that are put back.

use crate::document::assert_rows;
use expect_test::expect_file;
use simulation::run::Subject;
use simulation::scenario::Scenario;
use simulation::search;

/// Searches for each bug that is put back, and compares the table below a header of docs/PROOF.md: the bug, its place, the number
/// of seeds, and what breaks. The search begins at the seed that the document names; `make bless` begins at the first one.
pub(crate) fn assert_found<'a>(
    header: &str,
    bugs: impl IntoIterator<Item = (Subject<'a>, &'a str, &'a str)>,
    draw: fn(u64) -> Scenario,
    most: u64,
) {
    let document = expect_file!["../../../../docs/PROOF.md"];
    let is_updated = std::env::var_os("UPDATE_EXPECT").is_some();
    let text = document.data();
    let seeds_of = |bug: &str| {
        let row = text.lines().find(|line| line.starts_with(&format!("| {bug} |")))?;
        row.split('|').nth(3)?.trim().parse::<u64>().ok()
    };
    let mut rows = Vec::new();
    for (subject, bug, place) in bugs {
        let first = seeds_of(bug).filter(|_| !is_updated).map_or(0, |seeds| seeds - 1);
        let found = search::first_failure_of(subject, draw, first..first + most);
        let (scenario, violations) = found.unwrap_or_else(|| panic!("not found: {bug} ({place})"));
        rows.push(format!("| {bug} | {place} | {} | {} |", scenario.seed + 1, violations[0]));
    }
    assert_rows(&document, header, &rows);
}
