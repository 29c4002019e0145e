//! `notifyctl audit`: was any sent notification lost or doubled?
//!
//! It reads the file of sent events, the table, the table's stream and the dead-letter queue, and calls no function.
//! [`judge::judge`] decides the verdict.

mod judge;
mod ledger;
mod stream;

use crate::error::Error;
use crate::stack::{Stack, dead_letters, items};
use crate::summary::queue;
use crate::{events, output};
use aws::SystemClock;
use clap::Args;
use judge::{Audit, Evidence, Sent, Verdict};
use ledger::{Amounts, Sums};
use notification::{Clock, NotificationId, Status};
use serde::Serialize;
use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  notifyctl audit sent.jsonl
  notifyctl audit sent.jsonl --json | jq .verdict           good, bad or cannot_be_shown
  notifyctl audit sent.jsonl --json | jq -r '.problems[], .cannot_be_shown[]'

Exit status: 0 good, 1 bad, 2 the audit could not be carried out, 3 cannot be shown.";

/// Compare the sent events with the table, its stream and the dead-letter queue: was anything lost or doubled?
///
/// The audit calls no function and writes nothing. But reading the dead-letter queue means receiving its messages: dead
/// letters are hidden for up to 5 minutes, and their receive count rises. A notification counts as DONE once only if the
/// table's stream shows its one change to DONE, and its one insert unless that is more than 24 hours old. The stream keeps
/// records for 24 hours, so run the audit within 24 hours of sending. With the action `ledger`, the audit also compares its
/// entries, one by one and in sum.
///
/// Run `notifyctl watch` first, without --expect if some messages should be refused: the audit reports anything still in flight
/// as a problem, and cannot show that a message is lost while the queue has any.
///
/// The verdict:
///   good             nothing lost, nothing doubled, as the evidence shows
///   bad              something is lost, doubled or not settled; each problem has its id
///   cannot_be_shown  no problem was found, but the evidence has gaps: a notification is IN_DOUBT, became DONE more than 24
///                    hours ago, or is missing from what could be read of the stream or the dead-letter queue; or a message was
///                    not found, and the queue is not empty
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub(crate) struct AuditArgs {
    /// The sent events, one per line (written by `notifyctl send --save`)
    pub(crate) file: PathBuf,
}

/// Largest number of problems shown, and of gaps in the evidence.
const PROBLEMS_SHOWN: usize = 5;

/// The result for machines.
#[derive(Serialize)]
struct Report<'a> {
    verdict: Verdict,
    #[serde(flatten)]
    audit: &'a Audit,
}

pub(crate) async fn run(stack: &Stack, args: &AuditArgs, json: bool) -> Result<ExitCode, Error> {
    let sent: Vec<Sent> = events::read(&args.file)?.iter().map(|event| Sent::new(event)).collect();
    let evidence = collect(stack, sent).await?;
    let mut audit = judge::judge(&evidence);
    if let Some(name) = &stack.ledger_table_name {
        let entries = ledger::entries(stack, name, |id| evidence.table.contains_key(id)).await?;
        audit.ledger = Some(ledger::compare(&evidence.table, &entries, &mut audit.problems));
    }
    let verdict = audit.verdict();
    if json {
        output::json(&Report { verdict, audit: &audit });
    } else {
        print(&audit);
    }
    Ok(ExitCode::from(verdict as u8))
}

async fn collect(stack: &Stack, sent: Vec<Sent>) -> Result<Evidence, Error> {
    let ids: HashSet<&NotificationId> = sent.iter().filter_map(|sent| sent.id.as_ref().ok()).collect();
    let ids: Vec<NotificationId> = ids.into_iter().cloned().collect();
    // The queue comes first: a message that leaves it later is still counted.
    let queued = queue(stack, &stack.queue_url).await?.all();
    // The table comes next: the stream, which is read later, has everything that the table shows now.
    let started = SystemClock.now();
    let table = items::read(stack, &ids).await?;
    let done = table.iter().filter(|(_, item)| item.status == Some(Status::Done));
    let missing = done.filter(|(_, item)| !judge::is_older_than_the_stream(item.done_time(), started));
    let missing = missing.map(|(id, _)| id.clone()).collect();
    let stream = stream::read(stack, started, missing, |id| table.contains_key(id)).await?;
    let wanted: HashSet<&str> = sent.iter().map(|sent| sent.event.as_str()).collect();
    let dead_letters = dead_letters::read(stack, |body| wanted.contains(body)).await?;
    // SQS may have missed a message in its first count.
    let queue_is_empty = queued == 0 && queue(stack, &stack.queue_url).await?.all() == 0;
    Ok(Evidence { started, sent, table, stream, dead_letters, queue_is_empty })
}

fn print(audit: &Audit) {
    let reasons = audit.dead_lettered.iter().map(|(reason, &count)| ("", count, format!("  {reason}")));
    output::counts(counts(audit).into_iter().chain(reasons));
    if let Some(Sums { entries, paid, asked }) = &audit.ledger {
        let one_each = if audit.problems.is_empty() { ", one for each notification that is DONE" } else { "" };
        output::pairs([
            ("ledger", format!("{} entries{one_each}", output::thousands(*entries))),
            ("paid", sums(paid)),
            ("asked for", format!("{} by the distinct notifications", sums(asked))),
        ]);
    }
    let text = "nothing wrong was found, but it cannot be shown that nothing was lost or doubled:";
    output::line(match audit.verdict() {
        Verdict::Good => output::verdict(true, "nothing lost, nothing doubled"),
        Verdict::Bad => output::verdict(false, &output::plural(audit.problems.len(), "problem")),
        Verdict::CannotBeShown => output::undecided(text),
    });
    examples(&audit.problems);
    if !audit.problems.is_empty() && !audit.cannot_be_shown.is_empty() {
        output::line("and this cannot be shown:");
    }
    examples(&audit.cannot_be_shown);
}

/// Sums of money, one for each currency.
fn sums(sums: &Amounts) -> String {
    let sums: Vec<_> = sums.iter().map(|(currency, sum)| format!("{} {currency}", sum.to_plain_string())).collect();
    if sums.is_empty() { "nothing".to_owned() } else { sums.join(", ") }
}

/// The counts with their meaning. A row that begins with `false` is left out if its count is zero.
fn counts(audit: &Audit) -> Vec<(&'static str, usize, String)> {
    let older = audit.inserted_before_the_stream;
    let dead = audit.dead_lettered.values().sum();
    let rows = [
        (true, "sent", audit.sent, "messages put on the queue"),
        (true, "distinct", audit.distinct, "notification ids among them"),
        (older == 0, "DONE", audit.done_once - older, "inserted once and DONE once, as the table's stream shows"),
        (false, "DONE", older, "DONE once, as the table's stream shows; inserted more than 24 hours ago"),
        (true, "suppressed", audit.duplicates_suppressed, "duplicates: same id, same content, nothing written"),
        (false, "older", audit.done_before_the_stream, "DONE more than 24 hours ago; how many times cannot be shown"),
        (false, "FAILED", audit.failed, "`notifyctl status ID` has the reason"),
        (false, "IN_DOUBT", audit.in_doubt, "the outcome is unknown; `notifyctl resolve ID`"),
        (true, "DLQ", dead, "refused six times, unchanged in the dead-letter queue"),
    ];
    let shown = rows.into_iter().filter(|(always, _, count, _)| *always || *count > 0);
    shown.map(|(_, name, count, meaning)| (name, count, meaning.to_owned())).collect()
}

fn examples(lines: &[String]) {
    for line in lines.iter().take(PROBLEMS_SHOWN) {
        output::line(format_args!("  {line}"));
    }
    output::more(lines.len(), PROBLEMS_SHOWN).iter().for_each(output::line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_whose_insert_was_not_seen_is_not_called_inserted_once() {
        let rows = |done_once, inserted_before_the_stream| {
            let audit = Audit { done_once, inserted_before_the_stream, ..Audit::default() };
            let done = counts(&audit).into_iter().filter(|(name, ..)| *name == "DONE");
            done.map(|(_, count, text)| (count, text)).collect::<Vec<_>>()
        };
        let seen = "inserted once and DONE once, as the table's stream shows".to_owned();
        let unseen = "DONE once, as the table's stream shows; inserted more than 24 hours ago".to_owned();
        assert_eq!(rows(5, 0), [(5, seen.clone())]);
        assert_eq!(rows(5, 2), [(3, seen.clone()), (2, unseen.clone())]);
        assert_eq!(rows(2, 2), [(2, unseen)]);
        assert_eq!(rows(0, 0), [(0, seen)]);
    }
}
