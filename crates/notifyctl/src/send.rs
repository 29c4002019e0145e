//! `notifyctl send`: put messages on the queue, ten a call, several calls at once.

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
    if let Some(path) = &args.save {
        // Before anything is sent: what is sent is then surely noted, also where this is interrupted.
        save(path, &events)?;
    }

    let ranges = by_count_and_bytes(events.iter().map(String::len), limits::SQS_BATCH_MAX, limits::SQS_BATCH_MAX_BYTES);
    all(stack, &events, ranges, |_| now).await?;

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

/// Sends all events, a call for each range and several calls at once, with progress. A call starts when its first event
/// is due, or later where others have not ended. Returns for each event when its call started.
pub(crate) async fn all(
    stack: &Stack,
    events: &[String],
    ranges: Vec<Range<usize>>,
    due: impl Fn(usize) -> Timestamp,
) -> Result<Vec<Timestamp>, Error> {
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
    let failed: usize = results.iter().filter_map(|(batch, _, result)| result.is_err().then_some(batch.len())).sum();
    match results.into_iter().find_map(|(.., result)| result.err()) {
        Some(reason) => Err(Error::NotSent { failed, all: events.len(), reason }),
        None => Ok(times),
    }
}

/// Appends what is to be sent to a file, one event a line.
fn save(path: &Path, events: &[String]) -> Result<(), Error> {
    let mut lines = events.iter().map(|event| events::one_line(event)).collect::<Vec<_>>().join("\n");
    lines.push('\n');
    let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::file(path))?;
    file.write_all(lines.as_bytes()).map_err(Error::file(path))
}

fn distinct_ids(events: &[String]) -> usize {
    let ids = events.iter().filter_map(|event| Some(Notification::parse(event.as_str()).ok()?.id().clone()));
    ids.collect::<HashSet<_>>().len()
}

/// One batch; entries that fail inside the answer are sent again, they alone.
async fn send_batch(stack: &Stack, batch: &[String]) -> Result<(), String> {
    let mut pending: Vec<usize> = (0..batch.len()).collect();
    let mut reason = String::new();
    for attempt in 1..=limits::ENTRY_ATTEMPTS {
        let entry =
            |&n: &usize| SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(&batch[n]).build();
        let entries = pending.iter().map(entry).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let sent = stack.sqs.send_message_batch().queue_url(&stack.queue_url).set_entries(Some(entries)).send().await;
        let failed = sent.map_err(|error| Error::aws("SendMessageBatch")(error).to_string())?.failed;
        let Some(first) = failed.first() else { return Ok(()) };
        reason = format!("SendMessageBatch: {} for an entry", first.code());
        pending = failed.iter().filter_map(|entry| entry.id().parse().ok()).collect();
        SystemClock.sleep(backoff::delay(attempt, SystemClock.now())).await;
    }
    Err(reason)
}
