//! A decision about many notifications: at a rate that grows from one per second, with a limit on how many are pending, until
//! too many of those that run again fail again.

use crate::attention::{self, Entry, State};
use crate::decide::SetArgs;
use crate::decide::described;
use crate::decide::plan::{Plan, Planned, runs_again};
use crate::decide::running::{Became, Fates, Running, Stop, is_done};
use crate::error::Error;
use crate::groups::Key;
use crate::output;
use crate::stack::Stack;
use crate::time::since;
use aws::{DynamoTable, SystemClock};
use futures_util::stream::{self, StreamExt};
use notification::operator::{Decided, Decision, seen};
use notification::write::read_all;
use notification::{Clock, Deadline, Failure, NotificationId, Status, Stored, Timestamp, limits, operator};
use serde::Serialize;
use serde_json::json;
use std::io::BufRead;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::oneshot;

/// As an id: read the ids from standard input, one per line.
pub(crate) const STANDARD_INPUT: &str = "-";

/// Why a notification is left alone whose item does not say since when it is as it is.
const UNSEEN: &str =
    "its item does not say since when it has its status; decide on it alone, without --wait and --plan";

/// Why the item of an orphan is left alone.
const ORPHAN: &str = "an orphan (a Kinesis record that belongs to no notification), which cannot run again";

/// What an operator wants of many notifications.
pub(crate) struct Order<'a> {
    pub(crate) stack: &'a Stack,
    pub(crate) table: &'a DynamoTable,
    pub(crate) decision: Decision,
    pub(crate) set: &'a SetArgs,
}

/// The notifications that a command changes, and those that it leaves alone, with the reason.
pub(crate) struct Selected {
    pub(crate) set: Vec<Planned>,
    pub(crate) left_alone: Vec<LeftAlone>,
}

/// A notification that a command does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LeftAlone {
    pub(crate) id: String,
    pub(crate) reason: String,
}

/// What became of the set. Each notification is in one of the counts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    /// Changed, as decided.
    changed: usize,
    /// Left alone, because it was not as expected.
    not_as_expected: usize,
    /// A call failed, and the change may still take effect.
    errors: usize,
    /// Calls that failed since the last one that did not.
    #[serde(skip)]
    errors_in_a_row: usize,
}

/// How far a decision about many notifications is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Progress {
    /// Still to be decided on.
    pub(crate) left: usize,
    pub(crate) decided: Tally,
    pub(crate) became: Became,
    /// `None` unless it stopped by itself.
    pub(crate) stopped: Option<Stop>,
}

/// The last step of the progress, and what became of each notification.
pub(crate) type Ended = (Progress, Fates);

/// The lines of standard input. They are read by a thread of their own, so that Ctrl-C ends the command.
async fn standard_input() -> Result<Vec<String>, Error> {
    let (sender, lines) = oneshot::channel();
    std::thread::spawn(move || {
        let lines: Result<Vec<_>, _> = std::io::stdin().lock().lines().collect();
        // It fails only if nobody waits any more.
        let _ = sender.send(lines);
    });
    let lines = lines.await.map_err(Error::failed("reading standard input"))?;
    let mut lines = lines.map_err(Error::failed("reading standard input"))?;
    lines.retain(|line| !line.is_empty());
    Ok(lines)
}

/// How many are decided on in a second: one in the first, then twice as many in each, up to the rate.
fn ramp(second: u32, rate: u32) -> usize {
    let doubled = 1_u32.checked_shl(second).unwrap_or(u32::MAX);
    doubled.min(rate) as usize
}

impl Order<'_> {
    /// Fixes the set.
    pub(crate) async fn select(&self) -> Result<Selected, Error> {
        match &self.set.group {
            Some(group) => self.group(group).await,
            None => self.named().await,
        }
    }

    /// The notifications of a group. Their index says since when each has had its status.
    async fn group(&self, group: &Key) -> Result<Selected, Error> {
        let (state, expected) = (group.state.as_str(), self.decision.expected().as_str());
        if state != expected {
            let hint = match group.state {
                State::Pending => "what is PENDING is retried without you",
                State::Failed => "`notifyctl redrive` changes what is FAILED",
                State::InDoubt => "`notifyctl resolve` changes what is IN_DOUBT",
            };
            return Err(Error::Failed(format!(
                "the group is {state}, and this changes only what is {expected}: {hint}"
            )));
        }
        let mut selected = Selected { set: vec![], left_alone: vec![] };
        let note = |entry: Entry| {
            if Key::of(&entry) != *group {
                return;
            }
            match (NotificationId::parse(&entry.id), entry.since.parse()) {
                (Ok(id), Ok(seen)) => selected.set.push(Planned { id, seen }),
                _ => selected.left_alone.push(LeftAlone { id: entry.id, reason: ORPHAN.to_owned() }),
            }
        };
        attention::each(self.stack, &group.filter(), note).await?;
        selected.set.sort_by(|a, b| a.seen.cmp(&b.seen).then_with(|| a.id.cmp(&b.id)));
        Ok(selected)
    }

    /// The notifications with the given ids.
    async fn named(&self) -> Result<Selected, Error> {
        let mut texts = self.set.ids.clone();
        if texts == [STANDARD_INPUT] {
            texts = standard_input().await?;
        }
        let mut selected = Selected { set: vec![], left_alone: vec![] };
        let mut ids = Vec::new();
        for text in texts {
            match NotificationId::parse(&text) {
                Ok(id) => ids.push(id),
                Err(invalid) => selected.left_alone.push(LeftAlone { id: text, reason: invalid.to_string() }),
            }
        }
        ids.sort();
        ids.dedup();
        let no_deadline = Deadline::at(Timestamp::MAX);
        for ids in ids.chunks(limits::REDRIVE_PENDING_MAX) {
            let keys: Vec<_> = ids.iter().collect();
            let read = read_all(self.table, &SystemClock, &keys, no_deadline).await;
            for (id, stored) in ids.iter().zip(read) {
                let stored = stored.map_err(|failure| Error::Failed(failure.to_string()))?;
                match self.plan_for(id, stored.as_ref()) {
                    Ok(planned) => selected.set.push(planned),
                    Err(reason) => selected.left_alone.push(LeftAlone { id: id.to_string(), reason }),
                }
            }
        }
        Ok(selected)
    }

    /// Plans the decision for a notification, or says why it is left alone.
    fn plan_for(&self, id: &NotificationId, stored: Option<&Stored>) -> Result<Planned, String> {
        let Some(stored) = stored else { return Err(described(Decided::Absent)) };
        let expected = self.decision.expected();
        // One that is CLAIMED may have a claim that has expired: the decision says so, or when it will have.
        let is_claimed = stored.status == Some(Status::Claimed) && expected == Status::InDoubt;
        if stored.status != Some(expected) && !is_claimed {
            return Err(described(Decided::NotExpected { expected, status: stored.status }));
        }
        let seen = seen(stored).ok_or_else(|| UNSEEN.to_owned())?;
        Ok(Planned { id: id.clone(), seen })
    }

    /// Prints what would be changed. The exit status is 1 if there is nothing.
    pub(crate) fn preview(&self, set: &[Planned], left_alone: &[LeftAlone], json: bool) -> ExitCode {
        let count = set.len();
        let exit = ExitCode::from(u8::from(set.is_empty()));
        if json {
            let ids: Vec<_> = set.iter().map(|planned| planned.id.as_str()).collect();
            let plan = self.set.plan.as_ref().filter(|_| count > 0);
            output::json(&json!({"would_change": count, "ids": ids, "left_alone": left_alone, "plan": plan}));
            return exit;
        }
        for LeftAlone { id, reason } in left_alone {
            output::line(output::verdict(false, &format!("{id}: {reason}")));
        }
        if set.is_empty() {
            output::line(output::verdict(false, "there is nothing to change"));
            return exit;
        }
        let seconds = seconds(count, self.set.rate);
        let how = match &self.set.plan {
            Some(path) => format!("--resume {}", path.display()),
            None => "--yes".to_owned(),
        };
        output::line(format_args!(
            "{} would be changed, in about {seconds} s at {} per second; {how} changes them",
            output::plural(count, "notification"),
            self.set.rate
        ));
        exit
    }

    /// Writes the plan's file.
    pub(crate) fn write(&self, set: Vec<Planned>) -> Result<Plan, Error> {
        let path = self.set.plan.clone().unwrap_or_else(|| {
            PathBuf::from(format!("notifyctl-{}.plan.jsonl", SystemClock.now().strftime("%Y%m%dT%H%M%SZ")))
        });
        Plan::create(&path, &self.stack.table_name, self.decision, set)
    }

    /// Decides on what is left of the plan. What cannot be decided on at all was left alone.
    pub(crate) async fn carry_out(
        &self,
        mut plan: Plan,
        left_alone: &[LeftAlone],
        json: bool,
    ) -> Result<ExitCode, Error> {
        let (all, file) = (plan.left.len(), plan.path.display().to_string());
        output::note(&format!(
            "{} of {} left; if this is interrupted, --resume {file} continues",
            output::thousands(all),
            output::plural(plan.count, "notification")
        ));
        for LeftAlone { id, reason } in left_alone {
            output::error(&format!("{id}: {reason}"));
        }
        let bar = output::progress(all, "deciding");
        let show = |Progress { left, became, .. }: Progress| {
            if left > 0 {
                bar.set_position((all - left) as u64);
            } else {
                bar.set_message("waiting");
                bar.set_position(all.saturating_sub(became.pending) as u64);
            }
        };
        let ended = tokio::select! {
            biased;
            ended = self.decide_on_all(&mut plan, show) => ended,
            _ = tokio::signal::ctrl_c() => {
                Err(Error::Interrupted(format!("interrupted: --resume {file} continues with what is left")))
            }
        };
        bar.finish_and_clear();
        let (mut progress, fates) = ended?;
        progress.decided.not_as_expected += left_alone.len();
        Ok(self.report(&plan, left_alone, progress, &fates, json))
    }

    /// Decides on what is left of the plan, and waits for the results if that is wanted. Calls `show` with each step of the
    /// progress. Returns the last of them, and what became of each notification that ran again and is settled.
    pub(crate) async fn decide_on_all(&self, plan: &mut Plan, mut show: impl FnMut(Progress)) -> Result<Ended, Error> {
        let left = std::mem::take(&mut plan.left);
        let mut progress = Progress { left: left.len(), ..Progress::default() };
        let mut running = Running::resumed(std::mem::take(&mut plan.run_again));
        running.look(self.stack).await?;
        let (mut undecided, mut moved) = (&left[..], SystemClock.now());
        for second in 0.. {
            let began = SystemClock.now();
            let count = undecided.len().min(ramp(second, self.set.rate)).min(running.room());
            let (now, later) = undecided.split_at(count);
            self.decide_on(now, plan, &mut running, &mut progress, &mut show).await?;
            undecided = later;
            let settled = look(&mut running, self.stack).await;
            if count + settled > 0 {
                moved = SystemClock.now();
            }
            progress.became = running.became();
            if !undecided.is_empty() {
                let unmoved = since(moved, SystemClock.now());
                progress.stopped = (progress.decided.must_stop())
                    .or_else(|| running.must_stop(usize::from(self.set.stop_at), unmoved));
            }
            show(progress);
            if undecided.is_empty() || progress.stopped.is_some() {
                break;
            }
            SystemClock.sleep(pause(count + settled).saturating_sub(since(began, SystemClock.now()))).await;
        }
        if self.set.wait && progress.stopped.is_none() {
            self.wait(&mut running, &mut progress, &mut show).await;
        }
        Ok((progress, running.into_fates()))
    }

    /// Decides on these at once, and notes each decision in the plan's file.
    async fn decide_on(
        &self,
        these: &[Planned],
        plan: &mut Plan,
        running: &mut Running,
        progress: &mut Progress,
        show: &mut impl FnMut(Progress),
    ) -> Result<(), Error> {
        let decisions = stream::iter(these).map(|planned| self.decide(planned));
        let mut decided = decisions.buffer_unordered(limits::CALLS_IN_FLIGHT);
        while let Some((planned, result)) = decided.next().await {
            progress.decided.note(&planned.id, &result, running);
            // An error may pass, and a claim expires: the notification is decided on again.
            match result {
                Err(_) | Ok(Decided::Held { .. }) => {}
                Ok(decided) => plan.note(&planned.id, decided)?,
            }
            progress.left -= 1;
            show(*progress);
        }
        Ok(())
    }

    /// Waits until those that run again are settled, but not for ever.
    async fn wait(&self, running: &mut Running, progress: &mut Progress, show: &mut impl FnMut(Progress)) {
        let began = SystemClock.now();
        let mut settled = 1;
        while progress.became.pending > 0 && since(began, SystemClock.now()) < limits::REDRIVE_WAIT {
            SystemClock.sleep(pause(settled)).await;
            settled = look(running, self.stack).await;
            progress.became = running.became();
            show(*progress);
        }
    }

    async fn decide<'p>(&self, planned: &'p Planned) -> (&'p Planned, Result<Decided, Failure>) {
        let Planned { id, seen } = planned;
        (planned, operator::decide(self.table, &SystemClock, id, self.decision, Some(*seen)).await)
    }

    /// Prints what became of the set. 0: all changed, and none failed again. 1: not all, or it stopped. 2: a call failed.
    fn report(&self, plan: &Plan, left_alone: &[LeftAlone], progress: Progress, fates: &Fates, json: bool) -> ExitCode {
        let Progress { left, decided: tally, became, stopped } = progress;
        let file = plan.path.display().to_string();
        if json {
            output::json(&json!({
                "plan": file, "left": left, "left_alone": left_alone, "decided": tally, "became": became,
                "stopped": stopped, "notifications": fates,
            }));
        } else {
            let Tally { changed, not_as_expected, errors, .. } = tally;
            let is_good = not_as_expected == 0 && errors == 0;
            let text = format!("changed {changed}, not as expected {not_as_expected}, errors {errors}");
            output::line(output::verdict(is_good, &text));
            if self.decision != Decision::ResolveDone {
                let Became { done, failed_again, pending, failing } = became;
                let of_these = if failing > 0 { format!(", of which {failing} are failing") } else { String::new() };
                let text = format!("DONE {done}, failed again {failed_again}, still pending {pending}{of_these}");
                output::line(output::verdict(failed_again + failing == 0, &text));
                print_failed_again(fates);
            }
        }
        match stopped {
            Some(Stop::FailAgain { failed, of }) => output::error(&format!(
                "stopped: {failed} of the last {of} fail again; fix the cause (`notifyctl groups`), then continue with \
                 --resume {file}"
            )),
            Some(Stop::CallsFail { in_a_row }) => output::error(&format!(
                "stopped: the last {in_a_row} calls failed; when their cause is fixed, continue with --resume {file}"
            )),
            Some(Stop::NoneSettled) => output::error(&format!(
                "stopped: {} are pending, and none was settled for {} minutes: they wait for Lambda's next retry or the sweep, \
                 or something holds them up (`notifyctl doctor`); continue later with --resume {file}",
                became.pending,
                limits::REDRIVE_WAIT.as_secs() / 60
            )),
            None if tally.errors > 0 => {
                output::error(&format!("{} could not be decided on; --resume {file} tries again", tally.errors));
            }
            None => {}
        }
        let is_negative = stopped.is_some()
            || tally.not_as_expected > 0
            || became.failed_again + became.failing > 0
            || (self.set.wait && became.pending > 0);
        match (tally.errors, is_negative) {
            (0, false) => ExitCode::SUCCESS,
            (0, true) => ExitCode::from(1),
            _ => ExitCode::from(2),
        }
    }
}

/// Prints those that failed again, up to a number.
fn print_failed_again(fates: &Fates) {
    let failed: Vec<_> = fates.iter().filter(|(_, fate)| !is_done(fate)).collect();
    for (id, fate) in failed.iter().take(SHOWN) {
        output::line(format_args!("  {id} is {fate}"));
    }
    output::more(failed.len(), SHOWN).iter().for_each(output::line);
}

/// Notifications that failed again and are shown one by one.
const SHOWN: usize = 5;

/// About how long it takes to decide on so many.
pub(crate) fn seconds(count: usize, rate: u32) -> usize {
    let (mut left, mut second) = (count, 0);
    while left > 0 {
        left = left.saturating_sub(ramp(second, rate));
        second += 1;
    }
    second as usize
}

/// Looks at those that run. A look that fails is made again, and meanwhile no more run than may be pending. Returns how many are
/// settled now.
async fn look(running: &mut Running, stack: &Stack) -> usize {
    running.look(stack).await.unwrap_or_else(|error| {
        output::note(&format!("{error}; it is tried again"));
        0
    })
}

/// How long to wait for the next look: longer while nothing moves, because each look reads whatever is pending.
const fn pause(moved: usize) -> Duration {
    if moved > 0 { limits::REDRIVE_LOOK_EVERY } else { limits::REDRIVE_LOOK_SELDOM }
}

impl Tally {
    /// Whether so many calls failed in a row that the next ones would fail as well.
    fn must_stop(&self) -> Option<Stop> {
        let in_a_row = self.errors_in_a_row;
        (in_a_row >= limits::REDRIVE_JUDGED_AFTER).then_some(Stop::CallsFail { in_a_row })
    }

    fn note(&mut self, id: &NotificationId, result: &Result<Decided, Failure>, running: &mut Running) {
        self.errors_in_a_row = if result.is_err() { self.errors_in_a_row + 1 } else { 0 };
        match result {
            Ok(decided @ Decided::Changed { .. }) => {
                self.changed += 1;
                if runs_again(*decided) {
                    running.add(id.clone());
                }
            }
            Ok(decided) => {
                self.not_as_expected += 1;
                output::note(&format!("{id}: {}", described(*decided)));
            }
            Err(failure) => {
                self.errors += 1;
                output::error(&format!("{id}: {failure}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decide, testing};

    fn set(ids: &[&str]) -> SetArgs {
        SetArgs {
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            group: None,
            yes: true,
            rate: 50,
            stop_at: 50,
            wait: false,
            plan: None,
            resume: None,
        }
    }

    #[tokio::test]
    async fn only_what_the_decision_is_for_is_planned() {
        let stack = testing::stack().await;
        let settled = |number| [Some(Status::Done), Some(Status::Failed), None][number];
        testing::put(&stack, 0..3, settled).await;
        let (table, set) = (decide::table(&stack), set(&["n0000000", "n0000001", "n0000002", "n0000003"]));
        let order = Order { stack: &stack, table: &table, decision: Decision::Redrive, set: &set };
        let Selected { set, left_alone } = order.select().await.unwrap();
        assert_eq!(set, [Planned { id: testing::notification(1).id().clone(), seen: Timestamp::UNIX_EPOCH }]);
        let left_alone: Vec<_> = left_alone.iter().map(|LeftAlone { id, reason }| format!("{id}: {reason}")).collect();
        assert_eq!(
            left_alone,
            [
                "n0000000: not FAILED: it is DONE; nothing was changed",
                "n0000002: not FAILED: it is INIT; nothing was changed",
                "n0000003: not in the table",
            ]
        );
    }

    #[test]
    fn calls_that_fail_in_a_row_end_the_command() {
        let (id, mut running) = (NotificationId::parse("a").unwrap(), Running::default());
        let (mut tally, failed) = (Tally::default(), Err(Failure::retryable("expired token")));
        for _ in 1..limits::REDRIVE_JUDGED_AFTER {
            tally.note(&id, &failed, &mut running);
        }
        assert_eq!(tally.must_stop(), None);
        tally.note(&id, &Ok(Decided::Absent), &mut running);
        tally.note(&id, &failed, &mut running);
        assert_eq!(tally.must_stop(), None, "one went well in between");
        for _ in 1..limits::REDRIVE_JUDGED_AFTER {
            tally.note(&id, &failed, &mut running);
        }
        assert_eq!(tally.must_stop(), Some(Stop::CallsFail { in_a_row: limits::REDRIVE_JUDGED_AFTER }));
    }

    #[test]
    fn the_rate_doubles_each_second_from_one_up_to_the_limit() {
        let rates: Vec<_> = (0..8).map(|second| ramp(second, 50)).collect();
        assert_eq!(rates, [1, 2, 4, 8, 16, 32, 50, 50]);
        assert_eq!(ramp(400, 50), 50);
        assert_eq!((seconds(0, 50), seconds(1, 50), seconds(64, 50), seconds(1_000, 50)), (0, 1, 7, 25));
    }
}
