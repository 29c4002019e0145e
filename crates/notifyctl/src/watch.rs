//! `notifyctl watch`: shows the counts until every notification is settled.

use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use crate::summary::{Counted, Summary};
use crate::time::since;
use aws::SystemClock;
use clap::Args;
use console::Term;
use indicatif::ProgressBar;
use notification::{Clock, Status, Timestamp, limits};
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  notifyctl watch --timeout 1800                           until nothing is left to do
  notifyctl watch --expect 1000                            until 1,000 are in the table, and settled

Exit status: 0 all are settled, FAILED and IN_DOUBT ones too; 1 not within --timeout.";

/// Follow the counts until every notification is settled (with --expect, reads the whole table each time)
///
/// Settled means that nothing is left to do: the queue is empty, and every notification is DONE, FAILED or IN_DOUBT.
///
/// SQS counts are approximate, and can miss a message for a minute after it was sent. So without --expect, the counts must not
/// change for 75 seconds, and --timeout must be longer than that. With --expect N, the table must have N notifications, all of
/// them settled; two identical readings in a row are then enough. N includes notifications from before, but not duplicates or
/// refused messages, which may still be on their way.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub(crate) struct WatchArgs {
    /// Give up after this many seconds; more than 75 without --expect
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,

    /// Read the counts every this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) interval: u64,

    /// Wait until the table has at least this many notifications, including those from before; without it, until nothing has
    /// changed for 75 seconds
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) expect: usize,
}

pub(crate) async fn run(stack: &Stack, args: &WatchArgs, json: bool) -> Result<ExitCode, Error> {
    let bar = output::styled(ProgressBar::new(0), "{elapsed:>4} [{bar:40.green}] {msg}");
    let prints_changes = json || !Term::stderr().is_term();
    let start = SystemClock.now();
    let timeout = timeout_of(args)?;
    let mut watch = Watch { expect: args.expect, last: None };
    let mut last: Option<Summary> = None;
    // Only the whole table shows how many notifications there are.
    let counted = if args.expect == 0 { Counted::Indexes } else { Counted::WholeTable };
    let mut most_left = 0;
    loop {
        let summary = Summary::read(stack, counted).await?;
        let now = SystemClock.now();
        let mut line = counts(&summary);
        if prints_changes && !last.as_ref().is_some_and(|last| last.is_same(&summary)) {
            output::line(if json { output::compact(&summary) } else { line.clone() });
        }
        last = Some(summary.clone());
        let left = args.expect.saturating_sub(summary.total()).max(summary.queue.all()) + summary.pending();
        most_left = most_left.max(left).max(1);
        bar.set_length(most_left as u64);
        bar.set_position((most_left - left) as u64);
        match watch.look(&summary, now) {
            State::Working => {}
            State::Quiet(since) => {
                let quiet = limits::WATCH_QUIET.as_secs();
                line = format!("{line} · unchanged for {} of {quiet} s", since.as_secs());
            }
            State::Settled => {
                bar.finish_and_clear();
                if !json {
                    output::line(format_args!("{}: {line}", output::verdict(true, "all settled")));
                }
                return Ok(ExitCode::SUCCESS);
            }
        }
        if since(start, now) > timeout {
            bar.finish_and_clear();
            return Err(Error::Negative(format!(
                "not settled after {} s: {line}; --timeout waits longer",
                args.timeout
            )));
        }
        bar.set_message(line);
        SystemClock.sleep(Duration::from_secs(args.interval)).await;
    }
}

/// The longest time to wait. Without an expected number, it must be longer than the time for which the counts must not change.
fn timeout_of(args: &WatchArgs) -> Result<Duration, Error> {
    let timeout = Duration::from_secs(args.timeout);
    if args.expect == 0 && timeout <= limits::WATCH_QUIET {
        let quiet = limits::WATCH_QUIET.as_secs();
        return Err(Error::Failed(format!(
            "--timeout must be more than {quiet} without --expect: `watch` ends only when no count has changed for {quiet} \
             seconds"
        )));
    }
    Ok(timeout)
}

/// The state, by all readings so far.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Working,
    /// According to the counts, nothing is left. They have not changed for this long, but may lag.
    Quiet(Duration),
    Settled,
}

/// Decides when everything is settled.
///
/// SQS counts are approximate, and can miss a message for a minute. So without an expected number, the counts must not change
/// for [`limits::WATCH_QUIET`]. The table is read consistently: once it has the expected number of notifications, two identical
/// readings in a row are enough.
#[derive(Debug)]
struct Watch {
    /// Notifications that must be in the table; 0 if the number is unknown.
    expect: usize,
    last: Option<(Summary, Timestamp)>,
}

impl Watch {
    fn look(&mut self, summary: &Summary, now: Timestamp) -> State {
        let unchanged_since = self.last.take().filter(|(last, _)| last.is_same(summary)).map(|(_, first)| first);
        let first = unchanged_since.unwrap_or(now);
        self.last = Some((summary.clone(), first));
        let quiet = since(first, now);
        if !summary.is_settled() || summary.total() < self.expect {
            State::Working
        } else if self.expect == 0 {
            if quiet < limits::WATCH_QUIET { State::Quiet(quiet) } else { State::Settled }
        } else if unchanged_since.is_some() {
            State::Settled
        } else {
            State::Working
        }
    }
}

/// The counts on one line. FAILED and IN_DOUBT are left out if their count is zero, and DONE if it was not counted.
fn counts(summary: &Summary) -> String {
    let shown = |status: &Status| summary.count(*status) > 0;
    let count = |status: Status| format!("{status} {}", output::thousands(summary.count(status)));
    let pending = format!("pending {}", output::thousands(summary.pending()));
    let settled = [Status::Done, Status::Failed, Status::InDoubt].into_iter().filter(shown).map(count);
    let statuses: Vec<_> = [pending].into_iter().chain(settled).collect();
    let queue = output::thousands(summary.queue.all());
    let dead = output::thousands(summary.dead_letter_queue.all());
    format!("queue {queue} · {} · DLQ {dead}", statuses.join(" · "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Queue;

    fn summary(init: usize, done: usize, queue: usize) -> Summary {
        Summary {
            notifications: [("INIT".to_owned(), init), ("DONE".to_owned(), done)].into(),
            queue: Queue { visible: queue, ..Queue::default() },
            ..Summary::default()
        }
    }

    #[test]
    fn without_an_expected_number_a_timeout_within_the_quiet_time_is_an_error() {
        let check = |timeout, expect| timeout_of(&WatchArgs { timeout, interval: 1, expect });
        let error = check(75, 0).unwrap_err();
        assert!(error.to_string().starts_with("--timeout must be more than 75 without --expect: "), "{error}");
        assert_eq!(error.exit_code(), std::process::ExitCode::from(2));
        assert_eq!(check(76, 0).unwrap(), Duration::from_secs(76));
        assert_eq!(check(1, 5).unwrap(), Duration::from_secs(1));
    }

    /// Checks the state after readings of the counts (INIT, DONE, queue) at these seconds.
    fn check(expect: usize, looks: &[(i64, (usize, usize, usize))], expected: &State) {
        let mut watch = Watch { expect, last: None };
        let look = |(second, (init, done, queue)): &(i64, (usize, usize, usize))| {
            watch.look(&summary(*init, *done, *queue), Timestamp::from_second(*second).unwrap())
        };
        assert_eq!(looks.iter().map(look).last().as_ref(), Some(expected));
    }

    const SECONDS: i64 = limits::WATCH_QUIET.as_secs().cast_signed();

    #[test]
    fn if_nothing_is_left_the_counts_must_not_change_until_sqs_counts_are_consistent() {
        check(0, &[(0, (0, 5, 0)), (1, (0, 5, 0))], &State::Quiet(Duration::from_secs(1)));
        check(0, &[(0, (0, 5, 0)), (SECONDS, (0, 5, 0))], &State::Settled);
        // A message that was not counted at first becomes a sixth notification: the time starts again.
        check(
            0,
            &[(0, (0, 5, 0)), (9, (0, 6, 0)), (SECONDS, (0, 6, 0))],
            &State::Quiet(Duration::from_secs(limits::WATCH_QUIET.as_secs() - 9)),
        );
        const { assert!(limits::WATCH_QUIET.as_secs() > 60) }
    }

    #[test]
    fn with_an_expected_number_two_identical_readings_in_a_row_are_enough() {
        check(5, &[(0, (0, 5, 0))], &State::Working);
        check(5, &[(0, (0, 5, 0)), (1, (0, 5, 0))], &State::Settled);
        check(5, &[(0, (0, 5, 0)), (1, (0, 6, 0))], &State::Working);
        check(6, &[(0, (0, 5, 0)), (SECONDS, (0, 5, 0))], &State::Working);
    }

    #[test]
    fn pending_notifications_and_messages_in_the_queue_are_not_settled() {
        check(5, &[(0, (1, 4, 0)), (SECONDS, (1, 4, 0))], &State::Working);
        check(5, &[(0, (0, 5, 1)), (SECONDS, (0, 5, 1))], &State::Working);
        check(0, &[(0, (0, 5, 1)), (SECONDS, (0, 5, 1))], &State::Working);
    }
}
