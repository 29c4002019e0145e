//! Try.
#![allow(missing_docs)]
use interleavings::{bugs::Bug, search::find};
fn main() {
    let faults: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let filter = std::env::args().nth(2).unwrap_or_default();
    for (bug, words, place) in Bug::ALL {
        if !words.contains(&filter) { continue }
        let t = std::time::Instant::now();
        match find(*bug, faults) {
            None => eprintln!("{words} ({place}): NOT FOUND {:?}", t.elapsed()),
            Some(f) => { eprintln!("{words} ({place}): {} faults, {} choices, {}: {} {:?}", f.search.faults, f.failure.schedule.len(), f.search.scenario, f.failure.violation, t.elapsed());
              if !filter.is_empty() { for l in f.search.trace(&f.failure.schedule) { eprintln!("   {l}"); } } }
        }
    }
}
