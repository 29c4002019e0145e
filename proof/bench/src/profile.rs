//! The instructions of a function, by owner.
//!
//! callgrind counts them. It does not see the kernel, and it lacks the newer instructions for hashing, so that it overstates
//! signing.

use crate::binaries::Binaries;
use crate::callgrind;
use crate::cli::Options;
use crate::error::Error;
use crate::events;
use crate::host::{Conditions, Host};
use crate::output;
use crate::owner::OWNERS;
use crate::subject::Function;
use crate::tls::Authority;
use hyper::body::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Invocations before counting begins.
const WARM_UP: usize = 3;

/// Invocations whose instructions are counted.
const COUNTED: usize = 5;

/// The profile of a function.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    function: Function,
    batch: usize,
    /// Instructions per notification, by owner.
    instructions: BTreeMap<&'static str, f64>,
}

/// Profiles functions, whose binaries are in `built`, the output directory of `cargo build`.
pub(crate) async fn run(built: &Path, options: &Options, json: bool) -> Result<(), Error> {
    let (functions, batch) = (options.functions(), options.one_batch());
    let binary = |function: Function| built.join(function.binary());
    let binaries = Binaries::copied(functions.iter().map(|&function| binary(function)), "make profile")?;
    let authority = Authority::make()?;
    let conditions = Conditions { behaviour: options.behaviour, authority: &authority, throttle: None };
    let bar = output::progress(functions.len() * 2);
    let mut profiles = Vec::new();
    for &function in functions {
        let original = binary(function);
        let binary = binaries.copy(&original);
        let written = &binaries.dir.join("callgrind");
        let event = Bytes::from(events::batch(function, batch));
        let before = counted(binary, written, function, &event, conditions, WARM_UP).await?;
        bar.inc(1);
        let after = counted(binary, written, function, &event, conditions, WARM_UP + COUNTED).await?;
        bar.inc(1);
        profiles.push(Profile { function, batch, instructions: per_notification(&before, &after, batch) });
    }
    bar.finish_and_clear();
    if json {
        output::json(&profiles);
    } else {
        print(&profiles);
    }
    Ok(())
}

/// Prints the instructions of each function by owner, and their sum.
fn print(profiles: &[Profile]) {
    let headers: Vec<&str> = std::iter::once("").chain(profiles.iter().map(|p| p.function.words())).collect();
    let mut rows = Vec::new();
    for (owner, _) in OWNERS {
        rows.push(row(owner, profiles.iter().map(|p| p.instructions.get(owner).copied().unwrap_or_default())));
    }
    rows.push(row("all", profiles.iter().map(|p| p.instructions.values().sum())));
    output::table("Instructions for a notification, without the kernel (callgrind)", &headers, rows);
}

fn row(name: &str, instructions: impl Iterator<Item = f64>) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(instructions.map(|count| output::number(count, 0))).collect()
}

/// Instructions of a process up to the end of this many invocations, which callgrind writes into the file `written`.
async fn counted(
    binary: &Path,
    written: &Path,
    function: Function,
    event: &Bytes,
    conditions: Conditions<'_>,
    invocations: usize,
) -> Result<BTreeMap<&'static str, u64>, Error> {
    let mut valgrind = Command::new("valgrind");
    valgrind.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", written.display())).arg(binary);
    let mut host = Host::start(valgrind, function, conditions).await?;
    for _ in 0..invocations {
        host.invoke(event.clone()).await?;
    }
    host.stop().await;
    let profile = std::fs::read_to_string(written).map_err(Error::cannot("read what callgrind wrote"))?;
    Ok(callgrind::instructions(&profile))
}

/// The instructions between two counts, per notification.
#[expect(clippy::cast_precision_loss, reason = "the counts are far below 2^52")]
fn per_notification(
    before: &BTreeMap<&'static str, u64>,
    after: &BTreeMap<&'static str, u64>,
    batch: usize,
) -> BTreeMap<&'static str, f64> {
    let mut counts = BTreeMap::new();
    for (owner, after) in after {
        let executed = after.saturating_sub(before.get(owner).copied().unwrap_or_default());
        counts.insert(*owner, executed as f64 / (COUNTED * batch) as f64);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_per_notification_are_those_between_two_counts() {
        let before = BTreeMap::from([("ours", 100)]);
        let after = BTreeMap::from([("ours", 600), ("SDK", 50)]);
        assert_eq!(per_notification(&before, &after, 10), BTreeMap::from([("ours", 10.0), ("SDK", 1.0)]));
    }
}
