//! `notifyctl send`: put messages on the queue, ten a call, several calls at once.
//!
//! Where it stops half way, it says how to send the rest: the same messages again. Those that were sent before are duplicates,
//! which change nothing.

use crate::cli::SendArgs;
use crate::error::Error;
use crate::stack::Stack;
use crate::{events, output};
use aws::SystemClock;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use futures_util::stream::{self, StreamExt};
use notification::batch::by_count_and_bytes;
use notification::ports::Clock;
use notification::{Notification, Timestamp, backoff, limits};
use serde_json::json;
use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

pub(crate) async fn run(stack: &Stack, args: &SendArgs, json: bool) -> Result<ExitCode, Error> {
    let now = SystemClock.now();
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    // The seed is in the ids: two runs never make the same id with another amount.
    let prefix = args.prefix.clone().unwrap_or_else(|| format!("made-{seed:016x}"));
    let events = events::to_send(args, seed, &prefix, &format!("{now:.0}"))?;
    // Before anything is sent: what is sent is then surely noted, also where this is interrupted.
    let saved = args.save.as_deref().map_or(Ok(Saved::Nothing), |path| save(path, &events))?;

    let ranges = by_count_and_bytes(events.iter().map(String::len), limits::SQS_BATCH_MAX, limits::SQS_BATCH_MAX_BYTES);
    let finish = || how_to_finish(&stack.name, args, saved, seed, &prefix);
    tokio::select! {
        biased;
        result = all(stack, &events, ranges, |_| now) => result.map_err(|error| error.with(finish())).map(drop),
        _ = tokio::signal::ctrl_c() => Err(Error::SendInterrupted { all: events.len(), finish: finish() }),
    }?;

    let distinct = distinct_ids(&events);
    if json {
        output::json(&json!({"sent": events.len(), "distinct": distinct, "seed": args.count.map(|_| seed)}));
    } else {
        let made = args.count.map(|_| format!(" (ids {prefix}-…, seed {seed})")).unwrap_or_default();
        output::line(format_args!(
            "sent {} messages with {} distinct notification ids{made}",
            output::thousands(events.len()),
            output::thousands(distinct)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Some messages may not have been sent.
#[derive(Debug)]
pub(crate) struct NotSent {
    failed: usize,
    all: usize,
    reason: String,
}

impl NotSent {
    fn with(self, finish: String) -> Error {
        Error::NotSent { failed: self.failed, all: self.all, reason: self.reason, finish }
    }
}

impl From<NotSent> for Error {
    fn from(not_sent: NotSent) -> Self {
        not_sent.with("the others are on their way, and are real notifications".to_owned())
    }
}

/// What the file of `--save` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saved {
    /// There is none.
    Nothing,
    /// The events of this run alone.
    ThisRun,
    /// The events of this run, appended to what was there before.
    MoreThanThisRun,
}

/// How to send the messages that were not sent: a command that sends all of them again. It names the stack, as the
/// environment variable NOTIFY_STACK may name another.
fn how_to_finish(stack: &str, args: &SendArgs, saved: Saved, seed: u64, prefix: &str) -> String {
    let mut command = format!("notifyctl send --stack {}", word(stack));
    let mut add = |text: &str| command.extend([" ", text]);
    let file = args.file.as_deref().filter(|file| *file != Path::new("-"));
    let copy = args.save.as_deref().filter(|_| saved == Saved::ThisRun);
    let mut input = "";
    if let Some(count) = args.count {
        let (duplicates, prefix) = (args.duplicates, word(prefix));
        add(&format!("--count {count} --duplicates {duplicates} --prefix {prefix} --seed {seed}"));
    } else if let Some(file) = file.or(copy) {
        add(&word(&file.display().to_string()));
    } else {
        add("-");
        input = " with the same input";
    }
    if args.unchecked {
        add("--unchecked");
    }
    let audit = args.save.as_ref().map_or_else(String::new, |saved| {
        let saved = word(&saved.display().to_string());
        let lost = format!("so until then `notifyctl audit {saved}` reports the unsent ones as lost");
        format!(". {saved} already lists every message, {lost}")
    });
    format!("to finish, run `{command}`{input}: messages already sent are duplicates and change nothing{audit}")
}

/// A word of a shell's command line.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Sends all events, a call for each range and several calls at once, with progress. A call starts when its first event
/// is due, or later where others have not ended. Returns for each event when its call started.
pub(crate) async fn all(
    stack: &Stack,
    events: &[String],
    ranges: Vec<Range<usize>>,
    due: impl Fn(usize) -> Timestamp,
) -> Result<Vec<Timestamp>, NotSent> {
    let bar = output::progress(events.len(), "sending");
    let results: Vec<_> = stream::iter(ranges)
        .map(|range| async {
            let early = due(range.start).duration_since(SystemClock.now());
            SystemClock.sleep(Duration::try_from(early).unwrap_or_default()).await;
            let batch = &events[range];
            let started = SystemClock.now();
            let result = send_batch(stack, batch).await;
            bar.inc(batch.len() as u64);
            (batch, started, result)
        })
        .buffered(limits::CALLS_IN_FLIGHT)
        .collect()
        .await;
    bar.finish_and_clear();

    let times = results.iter().flat_map(|(batch, started, _)| std::iter::repeat_n(*started, batch.len())).collect();
    let failed = results.iter().filter_map(|(.., result)| Some(result.as_ref().err()?.entries)).sum();
    match results.into_iter().find_map(|(.., result)| result.err()) {
        Some(NotSentBatch { reason, .. }) => Err(NotSent { failed, all: events.len(), reason }),
        None => Ok(times),
    }
}

/// Appends what is to be sent to a file, one event a line. Returns what the file then holds.
fn save(path: &Path, events: &[String]) -> Result<Saved, Error> {
    let mut lines = events.iter().map(|event| events::one_line(event)).collect::<Vec<_>>().join("\n");
    lines.push('\n');
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::file(path))?;
    let before = file.metadata().map_err(Error::file(path))?;
    file.write_all(lines.as_bytes()).map_err(Error::file(path))?;
    // A pipe or a terminal cannot be read again.
    Ok(if before.is_file() && before.len() == 0 { Saved::ThisRun } else { Saved::MoreThanThisRun })
}

fn distinct_ids(events: &[String]) -> usize {
    let ids = events.iter().filter_map(|event| Some(Notification::parse(event.as_str()).ok()?.id().clone()));
    ids.collect::<HashSet<_>>().len()
}

/// Entries of a batch that may not have been sent, and why.
struct NotSentBatch {
    entries: usize,
    reason: String,
}

/// One batch; entries that fail inside the answer are sent again, they alone.
async fn send_batch(stack: &Stack, batch: &[String]) -> Result<(), NotSentBatch> {
    let mut pending: Vec<usize> = (0..batch.len()).collect();
    let mut reason = String::new();
    for attempt in 1..=limits::ENTRY_ATTEMPTS {
        let entry =
            |&n: &usize| SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(&batch[n]).build();
        let not_sent = |reason| NotSentBatch { entries: pending.len(), reason };
        let entries = pending.iter().map(entry).collect::<Result<_, _>>();
        let entries = entries.map_err(|error| not_sent(error.to_string()))?;
        let sent = stack.sqs.send_message_batch().queue_url(&stack.queue_url).set_entries(Some(entries)).send().await;
        let failed = sent.map_err(|error| not_sent(Error::aws("SendMessageBatch")(error).to_string()))?.failed;
        let Some(first) = failed.first() else { return Ok(()) };
        reason = format!("SendMessageBatch: {} for an entry", first.code());
        pending = failed.iter().filter_map(|entry| entry.id().parse().ok()).collect();
        SystemClock.sleep(backoff::delay(attempt, SystemClock.now())).await;
    }
    Err(NotSentBatch { entries: pending.len(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use notification::content;

    /// Checks the command that finishes what this one began, and returns the text around it.
    fn check(command: &str, saved: Saved, finish: &str) -> String {
        let args = match Cli::parse_from(command.split(' ')).command {
            Command::Send(args) => args,
            other => panic!("{other:?}"),
        };
        let text = how_to_finish("notifications-dev", &args, saved, 7, "made-7");
        assert!(text.contains(&format!("`{finish}`")), "{text}");
        text
    }

    /// NOTIFY_STACK may name another stack: clap's default is not what the shell would take.
    #[test]
    fn the_finishing_command_names_its_stack_even_where_it_is_the_default() {
        check("notifyctl send a.jsonl", Saved::Nothing, "notifyctl send --stack notifications-dev a.jsonl");
    }

    #[test]
    fn made_events_are_finished_by_making_the_same_ones_again() {
        check(
            "notifyctl send --count 3 --duplicates 50",
            Saved::Nothing,
            "notifyctl send --stack notifications-dev --count 3 --duplicates 50 --prefix made-7 --seed 7",
        );
        let made = |time| events::made(30, 50, "made-7", 7, time);
        let (first, again) = (made("2026-11-22T10:00:00Z"), made("2026-11-22T10:05:00Z"));
        assert_ne!(first, again);
        assert!(
            first.iter().zip(&again).all(|(first, again)| content::same(first, again)),
            "duplicates, not conflicts"
        );
    }

    #[test]
    fn the_events_of_a_file_are_finished_by_the_file() {
        check(
            "notifyctl send a.jsonl --unchecked --save sent.jsonl",
            Saved::ThisRun,
            "notifyctl send --stack notifications-dev a.jsonl --unchecked",
        );
    }

    #[test]
    fn the_events_of_standard_input_are_finished_by_what_was_saved_or_the_same_input() {
        let command = "notifyctl send - --save sent.jsonl";
        check(command, Saved::ThisRun, "notifyctl send --stack notifications-dev sent.jsonl");
        let same_input = |command, saved| {
            let text = check(command, saved, "notifyctl send --stack notifications-dev -");
            assert!(text.contains("` with the same input"), "{text}");
        };
        same_input("notifyctl send -", Saved::Nothing);
        // Events of an earlier run would be sent again, and may have expired from the table.
        same_input(command, Saved::MoreThanThisRun);
    }

    #[test]
    fn only_a_file_that_was_new_or_empty_holds_this_run_alone() {
        let path = std::env::temp_dir().join(format!("notifyctl-save-{}.jsonl", std::process::id()));
        let save = || save(&path, &["{}".to_owned()]).unwrap();
        let saved = [save(), save()];
        std::fs::write(&path, "").unwrap();
        let saved = [saved[0], saved[1], save()];
        std::fs::remove_file(&path).unwrap();
        assert_eq!(saved, [Saved::ThisRun, Saved::MoreThanThisRun, Saved::ThisRun]);
    }

    #[test]
    fn what_is_saved_but_not_sent_is_reported_as_lost_by_an_audit_and_the_error_says_so() {
        let command = "notifyctl send --count 3 --save sent.jsonl";
        let finish = "notifyctl send --stack notifications-dev --count 3 --duplicates 0 --prefix made-7 --seed 7";
        let text = check(command, Saved::ThisRun, finish);
        let expected = "sent.jsonl already lists every message, so until then `notifyctl audit sent.jsonl` reports";
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains('\n'));
    }

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        for (text, expected) in [("a-1.jsonl", "a-1.jsonl"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''")] {
            assert_eq!(word(text), expected);
        }
    }
}
