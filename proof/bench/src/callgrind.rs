//! Instructions by owner, from the output of callgrind.
//! <https://valgrind.org/docs/manual/cl-format.html>

use crate::owner::{REST, of_file, of_symbol};
use std::collections::{BTreeMap, HashMap};

/// Instructions of each owner. Inlined code belongs to the crate of its source file, and code of the standard library to the
/// function that contains it.
pub(crate) fn instructions(profile: &str) -> BTreeMap<&'static str, u64> {
    let mut costs = BTreeMap::new();
    let (mut files, mut functions) = (Names::default(), Names::default());
    let (mut file, mut function) = ("", "");
    let mut is_of_a_call = false;
    for line in profile.lines() {
        if let Some((key, value)) = line.split_once('=') {
            match key {
                "fl" | "fi" | "fe" => file = files.name(value),
                "fn" => function = functions.name(value),
                "cfi" | "cfl" => drop(files.name(value)),
                "cfn" => drop(functions.name(value)),
                // The next line has the cost of the callee, which is counted in its own place.
                "calls" => is_of_a_call = true,
                _ => {}
            }
        } else if line.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '*')) {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok()).unwrap_or_default();
            if !std::mem::take(&mut is_of_a_call) {
                let owner = of_file(file).or_else(|| of_symbol(function)).unwrap_or(REST);
                *costs.entry(owner).or_default() += cost;
            }
        }
    }
    costs
}

/// Names are written in full once, `(7) name`, and then only by their number, `(7)`.
#[derive(Default)]
struct Names<'a>(HashMap<&'a str, &'a str>);

impl<'a> Names<'a> {
    fn name(&mut self, value: &'a str) -> &'a str {
        match value.split_once(' ') {
            Some((number, name)) => {
                self.0.insert(number, name);
                name
            }
            None => self.0.get(value).copied().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_belong_to_their_source_file_and_those_of_a_call_count_once() {
        let profile = "\
events: Ir

fl=(1) /w/crates/ingest/src/lib.rs
fn=(1) ingest::handle
10 5
+2 7
fi=(2) /r/.cargo/registry/src/index/serde_json-1.0.1/src/de.rs
100 11
fe=(1)
cfi=(3) /rustc/x/library/alloc/src/vec.rs
cfn=(2) <alloc::vec::Vec<aws_smithy_types::Blob>>::push
calls=3 4
12 1000
* 1
fl=(3)
fn=(2)
4 30
fl=(4) ???
fn=(3) memmove
0 9
";
        let expected =
            BTreeMap::from([("this project", 13), ("reading JSON (serde_json)", 11), ("AWS SDK", 30), (REST, 9)]);
        assert_eq!(instructions(profile), expected);
    }
}
