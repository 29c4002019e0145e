//! `notifyctl send`: sends messages to the queue, ten per call, with several calls at once.
//!
//! If it stops half way, it prints how to send the rest: by sending the same messages again. Those that were sent before are
//! duplicates, which change nothing.

use crate::error::Error;
use crate::stack::Stack;
use crate::time::since;
use crate::{events, output};
use aws::SystemClock;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use clap::Args;
use indicatif::ProgressBar;
use notification::batch::{Attempts, Size, by_count_and_bytes, call_in_batches};
use notification::ports::Answers;
use notification::{Clock, Deadline, Failure, Notification, Timestamp, limits};
use serde_json::json;
use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  notifyctl send refunds.jsonl                             the events of a file, one per line
  notifyctl send --count 1000 --duplicates 10 --save sent.jsonl
  jq -c '.[]' events.json | notifyctl send -

Exit status: 0 all are sent; 2 some are not, and the error says how to send the rest; 130 interrupted, likewise.";

/// Send notifications to the queue: from a file or standard input, or generated ones
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["file", "count"]), after_help = EXAMPLES)]
pub(crate) struct SendArgs {
    /// CloudEvents JSON, one event per line (or one event over several lines); - is standard input
    pub(crate) file: Option<PathBuf>,

    /// Generate this many notifications
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: Option<u32>,

    /// Send this percentage of the generated ones twice
    #[arg(long, value_name = "PCT", default_value_t = 0, requires = "count", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) duplicates: u32,

    /// Prefix of the generated ids [default: made-<seed>]
    #[arg(long, value_name = "TEXT", requires = "count")]
    pub(crate) prefix: Option<String>,

    /// Seed for the amounts and the order; the same count, prefix and seed generate the same notifications [default: random, and printed]
    #[arg(long, value_name = "N", requires = "count")]
    pub(crate) seed: Option<u64>,

    /// Send malformed events, too
    #[arg(long)]
    pub(crate) unchecked: bool,

    /// Append the sent events to this file, one per line, for `notifyctl audit`
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
}

pub(crate) async fn run(stack: &Stack, args: &SendArgs, json: bool) -> Result<ExitCode, Error> {
    let now = SystemClock.now();
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    // The ids contain the seed, so that two runs never use the same id for different amounts.
    let prefix = args.prefix.clone().unwrap_or_else(|| format!("made-{seed:016x}"));
    let events = events::to_send(args, seed, &prefix, &format!("{now:.0}"))?;
    // Saved before anything is sent, so that all sent messages are in the file even after an interruption.
    let is_saved_alone = args.save.as_deref().map_or(Ok(false), |path| save(path, &events))?;

    let sizes = events.iter().map(|event| Size { count: 1, bytes: event.len() });
    let ranges = by_count_and_bytes(sizes, Size { count: limits::SQS_BATCH_MAX, bytes: limits::SQS_BATCH_MAX_BYTES });
    let finish = how_to_finish(&stack.name, args, is_saved_alone, seed, &prefix);
    let all_sent = all(stack, &events, ranges, |_| now, &finish);
    tokio::select! {
        biased;
        result = all_sent => drop(result?),
        _ = tokio::signal::ctrl_c() => {
            let unsent = format!("interrupted: some of {} messages may not have been sent; {finish}", events.len());
            return Err(Error::Interrupted(unsent));
        }
    }

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

/// How to send the messages that were not sent: a command that sends all of them again. It names the stack, because the
/// environment variable NOTIFY_STACK may name a different one. `is_saved_alone`: the file of `--save` has only the
/// events of this run.
fn how_to_finish(stack: &str, args: &SendArgs, is_saved_alone: bool, seed: u64, prefix: &str) -> String {
    let file = args.file.as_deref().filter(|file| *file != Path::new("-"));
    let copy = args.save.as_deref().filter(|_| is_saved_alone);
    let mut input = "";
    let events = if let Some(count) = args.count {
        format!("--count {count} --duplicates {} --prefix {} --seed {seed}", args.duplicates, word(prefix))
    } else if let Some(file) = file.or(copy) {
        word(&file.display().to_string())
    } else {
        input = " with the same input";
        "-".to_owned()
    };
    let unchecked = if args.unchecked { " --unchecked" } else { "" };
    let command = format!("notifyctl send --stack {} {events}{unchecked}", word(stack));
    let audit = args.save.as_ref().map_or_else(String::new, |saved| {
        let saved = word(&saved.display().to_string());
        let lost = format!("so until then `notifyctl audit {saved}` reports the unsent ones as lost");
        format!(". {saved} already lists every message, {lost}")
    });
    format!("to finish, run `{command}`{input}: messages already sent are duplicates and change nothing{audit}")
}

/// A word for a shell's command line.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Sends all events, with one call for each range and several calls at once, and shows the progress. A call starts when its
/// first event is due, or later if others have not ended. Returns when the call that sent each event started. An error ends
/// with `finish`, which says what to do about the rest.
pub(crate) async fn all(
    stack: &Stack,
    events: &[String],
    ranges: Vec<Range<usize>>,
    due: impl Fn(usize) -> Timestamp + Sync,
    finish: &str,
) -> Result<Vec<Timestamp>, Error> {
    let bar = output::progress(events.len(), "sending");
    let places: Vec<usize> = (0..events.len()).collect();
    let send = |batch: Vec<usize>| send_when_due(stack, events, due(batch[0]), batch, &bar);
    let deadline = Deadline::at(Timestamp::MAX);
    let sent = call_in_batches(&SystemClock, deadline, Attempts::Limited, &places, ranges, send).await;
    bar.finish_and_clear();

    let failed = sent.iter().filter(|sent| sent.is_err()).count();
    let times: Result<_, Failure> = sent.into_iter().collect();
    times.map_err(|Failure { reason, .. }| {
        Error::Failed(format!("{failed} of {} messages may not have been sent: {reason}; {finish}", events.len()))
    })
}

/// Sends a batch when it is due. Returns for each of its events when the call started.
async fn send_when_due(
    stack: &Stack,
    events: &[String],
    due: Timestamp,
    batch: Vec<usize>,
    bar: &ProgressBar,
) -> Answers<Timestamp> {
    SystemClock.sleep(since(SystemClock.now(), due)).await;
    let started = SystemClock.now();
    let mut call = stack.sqs.send_message_batch().queue_url(&stack.queue_url);
    for (place, &n) in batch.iter().enumerate() {
        let entry = SendMessageBatchRequestEntry::builder().id(place.to_string()).message_body(&events[n]).build();
        call = call.entries(entry.map_err(|error| Failure::permanent(error.to_string()))?);
    }
    let answer = call
        .send()
        .await
        .map_err(|error| Failure::may_have_happened(Error::aws("SendMessageBatch")(error).to_string()))?;
    bar.inc(answer.successful.len() as u64);
    let mut sent = vec![Ok(started); batch.len()];
    for failed in answer.failed {
        if let Some(sent) = failed.id.parse().ok().and_then(|place: usize| sent.get_mut(place)) {
            *sent = Err(Failure::retryable(format!("SendMessageBatch: {} for an entry", failed.code)));
        }
    }
    Ok(sent)
}

/// Appends events to a file, one per line. Returns whether it now contains only them, and can be read again.
fn save(path: &Path, events: &[String]) -> Result<bool, Error> {
    let mut lines = events.iter().map(|event| events::one_line(event)).collect::<Vec<_>>().join("\n");
    lines.push('\n');
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::file(path))?;
    let before = file.metadata().map_err(Error::file(path))?;
    file.write_all(lines.as_bytes()).map_err(Error::file(path))?;
    // A pipe or a terminal cannot be read again.
    Ok(before.is_file() && before.len() == 0)
}

fn distinct_ids(events: &[String]) -> usize {
    let ids = events.iter().filter_map(|event| Some(Notification::parse(event.as_str()).ok()?.id().clone()));
    ids.collect::<HashSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use notification::content;

    /// Checks the command that sends the rest of what this one should have sent, and returns the whole text.
    fn check(command: &str, is_saved_alone: bool, finish: &str) -> String {
        let args = match Cli::parse_from(command.split(' ')).command {
            Command::Send(args) => args,
            other => panic!("{other:?}"),
        };
        let text = how_to_finish("notifications-dev", &args, is_saved_alone, 7, "made-7");
        assert!(text.contains(&format!("`{finish}`")), "{text}");
        text
    }

    /// NOTIFY_STACK may name another stack: clap's default is not what the shell would take.
    #[test]
    fn the_finishing_command_names_its_stack_even_if_it_is_the_default() {
        check("notifyctl send a.jsonl", false, "notifyctl send --stack notifications-dev a.jsonl");
    }

    #[test]
    fn generated_events_are_finished_by_generating_the_same_ones_again() {
        check(
            "notifyctl send --count 3 --duplicates 50",
            false,
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
            true,
            "notifyctl send --stack notifications-dev a.jsonl --unchecked",
        );
    }

    #[test]
    fn the_events_of_standard_input_are_finished_by_what_was_saved_or_the_same_input() {
        let command = "notifyctl send - --save sent.jsonl";
        check(command, true, "notifyctl send --stack notifications-dev sent.jsonl");
        let same_input = |command| {
            let text = check(command, false, "notifyctl send --stack notifications-dev -");
            assert!(text.contains("` with the same input"), "{text}");
        };
        same_input("notifyctl send -");
        // Events of an earlier run would be sent again, and may have expired from the table.
        same_input(command);
    }

    #[test]
    fn only_a_file_that_was_new_or_empty_contains_nothing_but_this_run() {
        let path = std::env::temp_dir().join(format!("notifyctl-save-{}.jsonl", std::process::id()));
        let save = || save(&path, &["{}".to_owned()]).unwrap();
        let saved = [save(), save()];
        std::fs::write(&path, "").unwrap();
        let saved = [saved[0], saved[1], save()];
        std::fs::remove_file(&path).unwrap();
        assert_eq!(saved, [true, false, true]);
    }

    #[test]
    fn the_error_says_that_an_audit_reports_saved_but_unsent_messages_as_lost() {
        let command = "notifyctl send --count 3 --save sent.jsonl";
        let finish = "notifyctl send --stack notifications-dev --count 3 --duplicates 0 --prefix made-7 --seed 7";
        let text = check(command, true, finish);
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
