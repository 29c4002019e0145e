//! The command line of the search.
fn main() {}
