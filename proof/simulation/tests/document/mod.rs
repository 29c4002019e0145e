//! Parts of the documents that are generated from the code. A test compares them, and `make bless` updates them.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

use expect_test::ExpectFile;
use std::fmt::Write;

/// Compares the rows of the table below a header with those that the document should have.
pub(crate) fn assert_rows(document: &ExpectFile, header: &str, rows: &[String]) {
    let text = document.data();
    let (before, below) = text.split_once(header).expect("the document has the table");
    let after = below.lines().skip_while(|line| line.starts_with('|'));
    let lines: Vec<&str> = rows.iter().map(String::as_str).chain(after).collect();
    document.assert_eq(&format!("{before}{header}{}\n", lines.join("\n")));
}

/// A document in which the diagrams below a heading are these.
pub(crate) fn with_diagrams(document: &str, heading: &str, diagrams: &[String]) -> String {
    let (before, section) = document.split_at(document.find(heading).expect("the document has the heading"));
    let (section, after) = section.split_at(section.find("\n#").unwrap_or(section.len()));
    let mut parts = section.split("```mermaid\n");
    let mut updated = before.to_owned() + parts.next().unwrap_or_default();
    let texts: Vec<&str> = parts.map(|part| part.split_once("```").expect("the diagram ends").1).collect();
    assert_eq!(texts.len(), diagrams.len(), "diagrams below {heading:?}: add or remove ```mermaid blocks");
    for (diagram, text) in diagrams.iter().zip(texts) {
        let _ = write!(updated, "```mermaid\n{diagram}```{text}");
    }
    updated + after
}
