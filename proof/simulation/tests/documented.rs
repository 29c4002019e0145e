//! What the documents say about tests and statuses is true.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod document;

use document::assert_rows;
use expect_test::expect_file;
use notification::Status;
use notification::status::{TRANSITIONS, Transition};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Adds the names of the tests in the files below a folder.
fn find_tests(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            find_tests(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => found.extend(lines.windows(2).filter_map(|pair| rust_test(pair[0], pair[1]))),
            Some("py") => found.extend(lines.iter().filter_map(|line| python_test(line))),
            _ => {}
        }
    }
}

fn rust_test(attribute: &str, line: &str) -> Option<String> {
    let is_test = matches!(attribute, "#[test]" | "#[tokio::test]");
    is_test.then(|| function_name(line, "fn ")).flatten()
}

fn python_test(line: &str) -> Option<String> {
    line.starts_with("def test_").then(|| function_name(line, "def ")).flatten()
}

fn function_name(line: &str, keyword: &str) -> Option<String> {
    let (name, _) = line.split_once(keyword)?.1.split_once('(')?;
    Some(name.to_owned())
}

#[test]
fn every_promise_names_the_tests_that_show_it_and_they_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut known = BTreeSet::new();
    for folder in ["crates", "esm", "examples", "proof", "tests"] {
        find_tests(&root.join(folder), &mut known);
    }
    let semantics = fs::read_to_string(root.join("docs/SEMANTICS.md")).unwrap();

    let (_, promises) = semantics.split_once("## Promises").unwrap();
    let (promises, shown) = promises.split_once("### Shown by").unwrap();
    let (shown, _) = shown.split_once("\n## ").unwrap();
    let rows: Vec<&str> = shown.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    for number in 1..=6 {
        assert!(promises.contains(&format!("\n{number}. ")), "promise {number}");
        assert!(rows.iter().any(|row| row.starts_with(&format!("| {number}. "))), "no tests for promise {number}");
    }
    for row in rows {
        let names: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no tests in: {row}");
        for name in names {
            assert!(known.contains(name), "there is no test {name}: {row}");
        }
    }
}

#[test]
fn every_rule_of_the_engine_names_its_tests_and_they_exist() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../esm/event-source/src");
    let mut known = BTreeSet::new();
    find_tests(&source, &mut known);
    let lib = fs::read_to_string(source.join("lib.rs")).unwrap();
    let (_, rules) = lib.split_once("| rule | source | test |").unwrap();
    let rules: Vec<&str> = rules.lines().skip(2).take_while(|line| line.starts_with("//! |")).collect();
    assert!(rules.len() > 10, "{} rules", rules.len());
    for rule in rules {
        let names: Vec<&str> = rule.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty() && names.iter().all(|&name| known.contains(name)), "{rule}");
    }
}

#[test]
fn the_documented_transitions_are_those_of_the_code() {
    let rows: Vec<String> = TRANSITIONS.iter().map(row).collect();
    let header = "| from | to | by | when |\n|---|---|---|---|\n";
    assert_rows(&expect_file!["../../../docs/SEMANTICS.md"], header, &rows);
}

fn row(transition: &Transition) -> String {
    let from = transition.from.map_or("–", Status::as_str);
    format!("| {from} | {} | {} | {} |", transition.to, transition.by, transition.when)
}
