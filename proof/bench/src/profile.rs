//! The instructions and the CPU time of a function, by owner and as a flame graph.
//!
//! callgrind counts the instructions. It does not see the kernel, and it lacks the newer instructions for hashing, so that
//! it overstates signing. perf samples the time, kernel included.

use crate::backend::Behaviour;
use crate::callgrind;
use crate::error::Error;
use crate::events;
use crate::host::{Conditions, Host, Program};
use crate::output;
use crate::owner::Owner;
use crate::subject::{Function, Subject, Variant};
use crate::tls::Authority;
use hyper::body::Bytes;
use inferno::collapse::Collapse;
use inferno::collapse::perf::{Folder, Options as FolderOptions};
use inferno::flamegraph::Options as FlameOptions;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Invocations before counting or sampling begins.
const WARM_UP: usize = 3;

/// Invocations whose instructions are counted.
const COUNTED: usize = 5;

/// Duration of sampling, and samples per second (not a round number, so that samples do not align with timers).
const SAMPLED: Duration = Duration::from_secs(5);
const FREQUENCY: u32 = 1_999;

/// Frames narrower than this percentage of a flame graph are left out.
const NARROWEST: f64 = 0.8;

/// The profile of a function.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    function: Function,
    batch: usize,
    /// Instructions per notification, by owner.
    instructions: BTreeMap<Owner, f64>,
    /// Fractions of the CPU time, by owner.
    time: BTreeMap<Owner, f64>,
}

/// Profiles functions, and writes a flame graph of each into a directory.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(
    binaries: &Path,
    functions: &[Function],
    batch: usize,
    into: &Path,
    json: bool,
) -> Result<(), Error> {
    std::fs::create_dir_all(into).map_err(|cause| Error::File { path: into.to_owned(), cause })?;
    let authority = Authority::make(None)?;
    let conditions = Conditions { behaviour: Behaviour::default(), authority: &authority, throttle: None };
    let bar = output::progress(functions.len() * 3);
    let mut profiles = Vec::new();
    for &function in functions {
        let subject = Subject { function, variant: Variant::Deployed, batch };
        let binary = binaries.join(subject.binary());
        let before = counted(&binary, subject, conditions, WARM_UP).await?;
        bar.inc(1);
        let after = counted(&binary, subject, conditions, WARM_UP + COUNTED).await?;
        bar.inc(1);
        let stacks = sampled(&binary, subject, conditions).await?;
        bar.inc(1);
        let name = function.words().replace(", ", "-");
        draw(&into.join(format!("{name}.svg")), &format!("{}, {batch} a batch", function.words()), &stacks)?;
        profiles.push(Profile {
            function,
            batch,
            instructions: per_notification(&before, &after, batch),
            time: parts(&stacks),
        });
    }
    bar.finish_and_clear();
    if json {
        output::json(&profiles);
    } else {
        print(&profiles);
    }
    Ok(())
}

fn print(profiles: &[Profile]) {
    print_by_owner(
        profiles,
        "CPU time, in percent (perf)",
        |profile| &profile.time,
        |part| format!("{:.0}", part * 100.0),
    );
    print_by_owner(
        profiles,
        "Instructions for a notification, without the kernel (callgrind)",
        |profile| &profile.instructions,
        |count| format!("{count:.0}"),
    );
}

/// Prints a figure of each profile by owner, and its sum.
fn print_by_owner(
    profiles: &[Profile],
    title: &str,
    of: fn(&Profile) -> &BTreeMap<Owner, f64>,
    format: fn(f64) -> String,
) {
    let headers: Vec<&str> = std::iter::once("").chain(profiles.iter().map(|p| p.function.words())).collect();
    let rows = Owner::ALL.into_iter().map(|owner| {
        let figures = profiles.iter().map(|profile| of(profile).get(&owner).copied().unwrap_or_default());
        std::iter::once(owner.words().to_owned()).chain(figures.map(format)).collect()
    });
    let sums = profiles.iter().map(|profile| format(of(profile).values().sum()));
    let sums = std::iter::once("all".to_owned()).chain(sums).collect();
    output::table(title, &headers, rows.chain([sums]));
}

/// Instructions of a process up to the end of this many invocations.
async fn counted(
    binary: &Path,
    subject: Subject,
    conditions: Conditions<'_>,
    invocations: usize,
) -> Result<BTreeMap<Owner, u64>, Error> {
    let written = scratch("callgrind");
    let mut out = OsString::from("--callgrind-out-file=");
    out.push(&written);
    let under = vec!["valgrind".into(), "--tool=callgrind".into(), out];
    let program = Program { under, ..binary.to_owned().into() };
    let event = Bytes::from(events::batch(subject.function, subject.batch));
    let mut host = Host::start(&program, subject, conditions).await?;
    for _ in 0..invocations {
        host.invoke(event.clone()).await?;
    }
    host.stop().await;
    let profile = std::fs::read_to_string(&written).map_err(|cause| Error::File { path: written.clone(), cause })?;
    let _ = std::fs::remove_file(&written);
    Ok(callgrind::instructions(&profile))
}

/// The instructions between two counts, per notification.
#[expect(clippy::cast_precision_loss, reason = "the counts are far below 2^52")]
fn per_notification(before: &BTreeMap<Owner, u64>, after: &BTreeMap<Owner, u64>, batch: usize) -> BTreeMap<Owner, f64> {
    let count = |(owner, after): (&Owner, &u64)| {
        let executed = after.saturating_sub(before.get(owner).copied().unwrap_or_default());
        (*owner, executed as f64 / (COUNTED * batch) as f64)
    };
    after.iter().map(count).collect()
}

/// Stacks of a busy process: one per line, with its number of samples.
async fn sampled(binary: &Path, subject: Subject, conditions: Conditions<'_>) -> Result<String, Error> {
    let written = scratch("perf");
    let event = Bytes::from(events::batch(subject.function, subject.batch));
    let mut host = Host::start(&binary.to_owned().into(), subject, conditions).await?;
    for _ in 0..WARM_UP {
        host.invoke(event.clone()).await?;
    }
    let perf = |cause| Error::Program { path: PathBuf::from("perf"), cause };
    let mut recording = Command::new("perf")
        .args(["record", "--quiet", "--event", "cpu-clock", "--call-graph", "fp"])
        .args(["--freq", &FREQUENCY.to_string(), "--pid", &host.pid().to_string(), "--output"])
        .arg(&written)
        .args(["--", "sleep", &SAMPLED.as_secs().to_string()])
        .stderr(Stdio::null())
        .spawn()
        .map_err(perf)?;
    while recording.try_wait().map_err(perf)?.is_none() {
        host.invoke(event.clone()).await?;
    }
    host.stop().await;
    let script = Command::new("perf").args(["script", "--input"]).arg(&written).output().map_err(perf)?;
    let _ = std::fs::remove_file(&written);
    let mut options = FolderOptions::default();
    options.annotate_kernel = true;
    let mut stacks = Vec::new();
    Folder::from(options).collapse(&*script.stdout, &mut stacks).map_err(perf)?;
    if stacks.is_empty() {
        let silent = std::io::Error::other("perf recorded nothing; check kernel.perf_event_paranoid");
        return Err(perf(silent));
    }
    String::from_utf8(stacks).map_err(|error| Error::Unmeasurable(error.to_string()))
}

/// The fraction of samples of each owner. A sample belongs to the innermost frame that has an owner.
#[expect(clippy::cast_precision_loss, reason = "the counts are far below 2^52")]
fn parts(stacks: &str) -> BTreeMap<Owner, f64> {
    let mut samples: BTreeMap<Owner, u64> = BTreeMap::new();
    for line in stacks.lines() {
        let Some((stack, count)) = line.rsplit_once(' ') else { continue };
        let owner =
            if stack.ends_with("_[k]") { Some(Owner::Kernel) } else { stack.rsplit(';').find_map(Owner::of_symbol) };
        *samples.entry(owner.unwrap_or(Owner::Rest)).or_default() += count.parse::<u64>().unwrap_or_default();
    }
    let all: u64 = samples.values().sum();
    samples.into_iter().map(|(owner, samples)| (owner, samples as f64 / all as f64)).collect()
}

fn draw(path: &Path, title: &str, stacks: &str) -> Result<(), Error> {
    let mut options = FlameOptions::default();
    title.clone_into(&mut options.title);
    options.hash = true;
    options.min_width = NARROWEST;
    let file = std::fs::File::create(path).map_err(|cause| Error::File { path: path.to_owned(), cause })?;
    inferno::flamegraph::from_lines(&mut options, stacks.lines(), std::io::BufWriter::new(file))
        .map_err(|error| Error::Plot(error.to_string()))
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("bench-{name}-{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_belongs_to_the_innermost_frame_that_has_an_owner() {
        let stacks = "\
publisher;main;publisher::handle;<serde_json::read::StrRead>::parse_str;memmove 3
publisher;main;hyper::proto::poll;__writev;tcp_sendmsg_[k] 5
publisher;main;aws_sdk_kinesis::put;_int_malloc 1
publisher;_start 1
";
        let expected = [(Owner::Json, 0.3), (Owner::Allocator, 0.1), (Owner::Kernel, 0.5), (Owner::Rest, 0.1)];
        assert_eq!(parts(stacks), BTreeMap::from(expected));
    }

    #[test]
    fn instructions_per_notification_are_those_between_two_counts() {
        let before = BTreeMap::from([(Owner::Ours, 100)]);
        let after = BTreeMap::from([(Owner::Ours, 600), (Owner::Sdk, 50)]);
        assert_eq!(per_notification(&before, &after, 10), BTreeMap::from([(Owner::Ours, 10.0), (Owner::Sdk, 1.0)]));
    }
}
