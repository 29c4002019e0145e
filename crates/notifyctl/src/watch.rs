//! `notifyctl watch`: the counts, live, until every notification is settled.

use crate::cli::WatchArgs;
use crate::error::{Error, exit};
use crate::output;
use crate::stack::Stack;
use crate::summary::Summary;
use aws::SystemClock;
use console::Term;
use indicatif::{ProgressBar, ProgressStyle};
use notification::Status;
use notification::ports::Clock;
use std::process::ExitCode;
use std::time::Duration;

pub(crate) async fn run(stack: &Stack, args: &WatchArgs, json: bool) -> Result<ExitCode, Error> {
    let bar = ProgressBar::new(0);
    if let Ok(template) = ProgressStyle::with_template("{elapsed:>4} [{bar:40.green}] {msg}") {
        bar.set_style(template.progress_chars("=> "));
    }
    let is_terminal = Term::stderr().is_term();
    let start = SystemClock.now();
    let timeout = Duration::from_secs(args.timeout);
    let mut last = None;
    loop {
        let summary = Summary::read(stack).await?;
        bar.set_length(summary.total().max(args.expect).max(1) as u64);
        bar.set_position((summary.total() - summary.pending()) as u64);
        bar.set_message(counts(&summary));
        let seen = if json { output::compact(&summary) } else { counts(&summary) };
        if last.as_ref() != Some(&seen) && (json || !is_terminal) {
            output::line(&seen);
        }
        // SQS counts approximately, so one look is not enough.
        let settled = summary.is_settled() && summary.total() >= args.expect;
        if settled && last.as_ref() == Some(&seen) {
            bar.finish_and_clear();
            if !json {
                output::line(format_args!("{}: {}", output::verdict(true, "all settled"), counts(&summary)));
            }
            return Ok(exit(true));
        }
        if Duration::try_from(SystemClock.now().duration_since(start)).unwrap_or_default() > timeout {
            bar.finish_and_clear();
            return Err(Error::NotSettled { seconds: args.timeout, left: counts(&summary) });
        }
        last = Some(seen);
        SystemClock.sleep(Duration::from_secs(args.interval)).await;
    }
}

/// The counts on one line. Rare statuses are named only where there are some.
fn counts(summary: &Summary) -> String {
    let shown = |status: &Status| matches!(status, Status::Init | Status::Done) || summary.count(*status) > 0;
    let count = |status: Status| format!("{status} {}", output::thousands(summary.count(status)));
    let statuses: Vec<_> = Status::ALL.into_iter().filter(shown).map(count).collect();
    let queue = output::thousands(summary.queue.all());
    let dead = output::thousands(summary.dead_letter_queue.all());
    format!("queue {queue} · {} · DLQ {dead}", statuses.join(" · "))
}
