//! Try.
#![allow(missing_docs)]
use interleavings::{scenario::Scenario, search::Search};
fn main() {
    let faults: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let filter = std::env::args().nth(2).unwrap_or_default();
    for scenario in Scenario::all() {
        if !scenario.to_string().contains(&filter) { continue }
        let search = Search { scenario, bug: None, faults };
        let t = std::time::Instant::now();
        let found = search.every_schedule();
        println!("{scenario}: {} schedules {} states {} transitions {:?}", found.schedules as f64, found.states, found.transitions, t.elapsed());
        if let Some(f) = found.failure { 
            println!("FAIL {}", f.violation);
            if let Some(f) = search.shortest_failure(usize::MAX) { for l in search.trace(&f.schedule) { println!("   {l}"); } } }
    }
}
