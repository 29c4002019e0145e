//! A decision about many notifications: at a rate that grows from one per second, with a limit on how many are pending, until
//! too many of those that run again fail again.

use crate::attention::{self, Entry};
use crate::cli::SetArgs;
use crate::error::Error;
use crate::groups::Key;
use crate::items::{self, Item};
use crate::output;
use crate::plan::{Plan, Planned, runs_again};
use crate::settle::described;
use crate::stack::Stack;
use crate::time::since;
use aws::{DynamoTable, SystemClock};
use futures_util::stream::{self, StreamExt};
use notification::operator::{Decided, Decision, seen};
use notification::write::read_all;
use notification::{Clock, Deadline, Failure, NotificationId, Status, Timestamp, limits, operator};
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::io::BufRead;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// As an id: read the ids from standard input, one per line.
pub(crate) const STANDARD_INPUT: &str = "-";

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
    pub(crate) left_alone: Vec<(String, String)>,
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
}

/// What became of the notifications that run again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Became {
    done: usize,
    /// FAILED or IN_DOUBT.
    failed_again: usize,
    pending: usize,
    /// Of the pending ones, those whose action has failed since.
    failing: usize,
}

/// Why a command stopped by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stop {
    /// So many of the last ones failed again, or are failing, that the cause is not fixed.
    FailAgain { failed: usize, of: usize },
    /// As many as are allowed are pending, and none is settled.
    NoneSettled,
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

/// What became of the notifications that ran again and are settled, by their ids.
type Fates = BTreeMap<String, &'static str>;

/// The last step of the progress, and what became of each notification.
pub(crate) type Ended = (Progress, Fates);

/// The notifications that run again, and what is known of them.
#[derive(Debug, Default)]
struct Running {
    /// Those that this command put back.
    pending: Vec<NotificationId>,
    /// Those that were put back before the command was resumed. What became of them says nothing about the cause now.
    earlier: Vec<NotificationId>,
    /// How many of the pending ones are failing: those that this command put back, and the earlier ones.
    failing: (usize, usize),
    fates: Fates,
    /// Whether the last ones failed again, in the order in which they were found settled.
    last: VecDeque<bool>,
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
            return Err(Error::Failed(format!("the group is {state}, and this changes only what is {expected}")));
        }
        let mut selected = Selected { set: vec![], left_alone: vec![] };
        let note = |entry: Entry| {
            if Key::of(&entry) != *group {
                return;
            }
            match (NotificationId::parse(&entry.id), entry.since.parse()) {
                (Ok(id), Ok(seen)) => selected.set.push(Planned { id, seen }),
                _ => selected.left_alone.push((entry.id, "not a notification".to_owned())),
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
            let lines: Result<Vec<_>, _> = std::io::stdin().lock().lines().collect();
            texts = lines.map_err(Error::failed("reading standard input"))?;
            texts.retain(|line| !line.is_empty());
        }
        let mut selected = Selected { set: vec![], left_alone: vec![] };
        let mut ids = Vec::new();
        for text in texts {
            match NotificationId::parse(&text) {
                Ok(id) => ids.push(id),
                Err(invalid) => selected.left_alone.push((text, invalid.to_string())),
            }
        }
        ids.sort();
        ids.dedup();
        let keys: Vec<_> = ids.iter().collect();
        let no_deadline = Deadline::at(Timestamp::MAX);
        let read = read_all(self.table, &SystemClock, &keys, no_deadline).await;
        for (id, stored) in ids.into_iter().zip(read) {
            let stored = stored.map_err(|failure| Error::Failed(failure.to_string()))?;
            match stored.as_ref().and_then(seen) {
                Some(seen) => selected.set.push(Planned { id, seen }),
                None => selected.left_alone.push((id.to_string(), described(Decided::Absent))),
            }
        }
        Ok(selected)
    }

    /// Prints what would be changed.
    pub(crate) fn preview(&self, set: &[Planned], left_alone: &[(String, String)], json: bool) -> ExitCode {
        let count = set.len();
        if json {
            let ids: Vec<_> = set.iter().map(|planned| planned.id.as_str()).collect();
            output::json(&json!({"would_change": count, "ids": ids, "left_alone": left_alone}));
            return ExitCode::SUCCESS;
        }
        for (id, reason) in left_alone {
            output::line(output::verdict(false, &format!("{id}: {reason}")));
        }
        let seconds = seconds(count, self.set.rate);
        output::line(format_args!(
            "{} would be changed, in about {seconds} s at {} per second; --yes changes them",
            output::plural(count, "notification"),
            self.set.rate
        ));
        ExitCode::SUCCESS
    }

    /// Writes the plan's file.
    pub(crate) fn write(&self, set: Vec<Planned>) -> Result<Plan, Error> {
        let path = self.set.plan.clone().unwrap_or_else(|| {
            PathBuf::from(format!("notifyctl-{}.plan.jsonl", SystemClock.now().strftime("%Y%m%dT%H%M%SZ")))
        });
        Plan::create(&path, &self.stack.name, self.decision, set)
    }

    /// Decides on what is left of the plan. What cannot be decided on at all was left alone.
    pub(crate) async fn carry_out(
        &self,
        mut plan: Plan,
        left_alone: &[(String, String)],
        json: bool,
    ) -> Result<ExitCode, Error> {
        let all = plan.left.len();
        output::note(&format!(
            "{} of {} left; if this is interrupted, --resume {} continues",
            output::thousands(all),
            output::plural(plan.count, "notification"),
            plan.path.display()
        ));
        for (id, reason) in left_alone {
            output::error(&format!("{id}: {reason}"));
        }
        let bar = output::progress(all, "deciding");
        let show = |Progress { left, became, .. }: Progress| {
            if left > 0 {
                bar.set_position((all - left) as u64);
            } else {
                bar.set_message("waiting");
                bar.set_position((all - became.pending) as u64);
            }
        };
        let (mut progress, fates) = self.decide_on_all(&mut plan, show).await?;
        bar.finish_and_clear();
        progress.decided.not_as_expected += left_alone.len();
        Ok(self.report(&plan, progress, &fates, json))
    }

    /// Decides on what is left of the plan, and waits for the results if that is wanted. Calls `show` with each step of the
    /// progress. Returns the last of them, and what became of each notification that ran again and is settled.
    pub(crate) async fn decide_on_all(&self, plan: &mut Plan, mut show: impl FnMut(Progress)) -> Result<Ended, Error> {
        let left = std::mem::take(&mut plan.left);
        let mut progress = Progress { left: left.len(), ..Progress::default() };
        let mut running = Running { earlier: std::mem::take(&mut plan.run_again), ..Running::default() };
        running.look(self.stack).await?;
        let (mut waiting, mut second) = (&left[..], 0);
        let mut moved = SystemClock.now();
        while !waiting.is_empty() && progress.stopped.is_none() {
            let began = SystemClock.now();
            let count = waiting.len().min(ramp(second, self.set.rate)).min(running.room());
            let (now, later) = waiting.split_at(count);
            let decisions = stream::iter(now).map(|planned| self.decide(planned));
            let mut decided = decisions.buffer_unordered(limits::CALLS_IN_FLIGHT);
            while let Some((planned, result)) = decided.next().await {
                progress.decided.note(&planned.id, &result, &mut running);
                // An error may pass, and a claim expires: the notification is decided on again.
                match result {
                    Err(_) | Ok(Decided::Held { .. }) => {}
                    Ok(decided) => plan.note(&planned.id, decided)?,
                }
                progress.left -= 1;
                show(progress);
            }
            (waiting, second) = (later, second + 1);
            let settled = running.look(self.stack).await?;
            if count + settled > 0 {
                moved = SystemClock.now();
            }
            progress.became = running.became();
            progress.stopped = running.must_stop(usize::from(self.set.stop_at), since(moved, SystemClock.now()));
            show(progress);
            let rest = Duration::from_secs(1).saturating_sub(since(began, SystemClock.now()));
            if !waiting.is_empty() {
                SystemClock.sleep(rest).await;
            }
        }
        let began = SystemClock.now();
        let is_in_time = || since(began, SystemClock.now()) < limits::REDRIVE_WAIT;
        progress.became = running.became();
        while self.set.wait && progress.stopped.is_none() && progress.became.pending > 0 && is_in_time() {
            SystemClock.sleep(Duration::from_secs(1)).await;
            running.look(self.stack).await?;
            progress.became = running.became();
            show(progress);
        }
        Ok((progress, running.fates))
    }

    async fn decide<'p>(&self, planned: &'p Planned) -> (&'p Planned, Result<Decided, Failure>) {
        let Planned { id, seen } = planned;
        (planned, operator::decide(self.table, &SystemClock, id, self.decision, Some(*seen)).await)
    }

    /// Prints what became of the set. 0: all changed, and none failed again. 1: not all. 2: a call failed.
    fn report(&self, plan: &Plan, progress: Progress, fates: &Fates, json: bool) -> ExitCode {
        let Progress { decided: tally, became, stopped, .. } = progress;
        let file = plan.path.display().to_string();
        if json {
            output::json(&json!({
                "plan": file, "decided": tally, "became": became, "stopped": stopped, "notifications": fates,
            }));
        } else {
            let Tally { changed, not_as_expected, errors } = tally;
            let is_good = not_as_expected == 0 && errors == 0;
            let text = format!("changed {changed}, not as expected {not_as_expected}, errors {errors}");
            output::line(output::verdict(is_good, &text));
            if self.decision != Decision::ResolveDone {
                let Became { done, failed_again, pending, failing } = became;
                let of_these = if failing > 0 { format!(", of which {failing} are failing") } else { String::new() };
                let text = format!("DONE {done}, failed again {failed_again}, still pending {pending}{of_these}");
                output::line(output::verdict(failed_again + failing == 0, &text));
            }
        }
        match stopped {
            Some(Stop::FailAgain { failed, of }) => output::error(&format!(
                "stopped: {failed} of the last {of} fail again; fix the cause (`notifyctl groups`), then continue with \
                 --resume {file}"
            )),
            Some(Stop::NoneSettled) => output::error(&format!(
                "stopped: {} are pending, and none was settled for {} minutes; find out what holds them up (`notifyctl \
                 doctor`), then continue with --resume {file}",
                became.pending,
                limits::REDRIVE_WAIT.as_secs() / 60
            )),
            None if tally.errors > 0 => {
                output::error(&format!("{} could not be decided on; --resume {file} tries again", tally.errors));
            }
            None => {}
        }
        let is_negative = tally.not_as_expected > 0 || became.failed_again > 0 || (self.set.wait && became.pending > 0);
        match (tally.errors, is_negative) {
            (0, false) => ExitCode::SUCCESS,
            (0, true) => ExitCode::from(1),
            _ => ExitCode::from(2),
        }
    }
}

/// About how long it takes to decide on so many.
pub(crate) fn seconds(count: usize, rate: u32) -> usize {
    let (mut left, mut second) = (count, 0);
    while left > 0 {
        left = left.saturating_sub(ramp(second, rate));
        second += 1;
    }
    second as usize
}

impl Tally {
    fn note(&mut self, id: &NotificationId, result: &Result<Decided, Failure>, running: &mut Running) {
        match result {
            Ok(decided @ Decided::Changed { .. }) => {
                self.changed += 1;
                if runs_again(*decided) {
                    running.pending.push(id.clone());
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

impl Running {
    /// How many more may run.
    fn room(&self) -> usize {
        limits::REDRIVE_PENDING_MAX.saturating_sub(self.pending.len() + self.earlier.len())
    }

    /// Looks at those that were pending. Returns how many are settled now.
    async fn look(&mut self, stack: &Stack) -> Result<usize, Error> {
        let ids: Vec<_> = self.pending.iter().chain(&self.earlier).cloned().collect();
        let found = items::read(stack, &ids).await?;
        for id in &self.pending {
            if let Some(status) = found.get(id.as_str()).and_then(fate) {
                self.last.push_back(status != Status::Done);
            }
        }
        let skipped = self.last.len().saturating_sub(limits::REDRIVE_JUDGED);
        self.last.drain(..skipped);
        let fates = ids.iter().filter_map(|id| Some((id.to_string(), fate(found.get(id.as_str())?)?.as_str())));
        self.fates.extend(fates);
        self.pending.retain(|id| !self.fates.contains_key(id.as_str()));
        self.earlier.retain(|id| !self.fates.contains_key(id.as_str()));
        let is_failing = |id: &&NotificationId| found.get(id.as_str()).is_some_and(|item| item.has_noted_failure);
        self.failing = (self.pending.iter().filter(is_failing).count(), self.earlier.iter().filter(is_failing).count());
        Ok(ids.len() - self.pending.len() - self.earlier.len())
    }

    fn became(&self) -> Became {
        let done = self.fates.values().filter(|&&fate| fate == Status::Done.as_str()).count();
        Became {
            done,
            failed_again: self.fates.len() - done,
            pending: self.pending.len() + self.earlier.len(),
            failing: self.failing.0 + self.failing.1,
        }
    }

    /// Whether to stop: so many fail again that the cause is not fixed, or nothing has moved for this long.
    fn must_stop(&self, stop_at_percent: usize, unmoved: Duration) -> Option<Stop> {
        let failed = self.failing.0 + self.last.iter().filter(|&&failed| failed).count();
        let of = self.failing.0 + self.last.len();
        if of >= limits::REDRIVE_JUDGED_AFTER && failed * 100 >= of * stop_at_percent {
            return Some(Stop::FailAgain { failed, of });
        }
        (unmoved >= limits::REDRIVE_WAIT).then_some(Stop::NoneSettled)
    }
}

/// The status of a notification that is settled.
fn fate(item: &Item) -> Option<Status> {
    item.status.filter(|status| matches!(status, Status::Done | Status::Failed | Status::InDoubt))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{settle, testing};
    use notification::Change;
    use notification::change::Run;
    use notification::ports::Table;
    use notification::testing::NOTE;

    #[test]
    fn the_rate_doubles_each_second_from_one_up_to_the_limit() {
        let rates: Vec<_> = (0..8).map(|second| ramp(second, 50)).collect();
        assert_eq!(rates, [1, 2, 4, 8, 16, 32, 50, 50]);
        assert_eq!(ramp(400, 50), 50);
        assert_eq!((seconds(0, 50), seconds(1, 50), seconds(64, 50), seconds(1_000, 50)), (0, 1, 7, 25));
    }

    fn stops(done: usize, failed: usize, failing: usize, stop_at: usize) -> bool {
        let last = std::iter::repeat_n(false, done).chain(std::iter::repeat_n(true, failed)).collect();
        let running = Running { last, failing: (failing, 1_000), ..Running::default() };
        running.must_stop(stop_at, Duration::ZERO).is_some()
    }

    #[test]
    fn it_stops_when_too_many_of_the_last_ones_fail_again_and_enough_are_known_to_judge() {
        assert!(!stops(0, 19, 0, 50), "too few to judge");
        assert!(stops(10, 10, 0, 50));
        assert!(!stops(11, 10, 0, 50));
        assert!(!stops(1, 99, 0, 100) && stops(0, 100, 0, 100));
        assert!(stops(10, 0, 10, 50), "pending ones that fail are no better");
        assert!(!stops(11, 0, 10, 50));
    }

    #[test]
    fn it_stops_when_nothing_moves() {
        let running = Running::default();
        assert_eq!(running.must_stop(50, limits::REDRIVE_WAIT.mul_f32(0.9)), None);
        assert_eq!(running.must_stop(50, limits::REDRIVE_WAIT), Some(Stop::NoneSettled));
    }

    #[test]
    fn only_so_many_run_at_once() {
        let id = || NotificationId::parse("a").unwrap();
        let mut running = Running { pending: vec![id(); 600], earlier: vec![id(); 300], ..Running::default() };
        assert_eq!(running.room(), 100);
        running.pending.resize(800, id());
        assert_eq!(running.room(), 0);
    }

    #[tokio::test]
    async fn what_ran_before_is_reported_and_only_what_runs_now_is_judged() {
        let stack = testing::stack().await;
        testing::put(&stack, 0..70, |number| match number {
            0..10 => Some(Status::Done),
            10..50 => Some(Status::Failed),
            _ => None,
        })
        .await;
        let all: Vec<_> = (0..70).map(testing::notification).collect();
        let failing = all[50..60].iter().map(|one| Change::note_failure(one.id(), one.event(), Run::Any, NOTE));
        settle::table(&stack).write(&failing.collect::<Vec<_>>(), SystemClock.now()).await.unwrap();
        let range = |range: std::ops::Range<usize>| all[range].iter().map(|one| one.id().clone()).collect::<Vec<_>>();

        let mut now = Running { pending: range(0..70), ..Running::default() };
        assert_eq!(now.look(&stack).await.unwrap(), 50);
        let became = Became { done: 10, failed_again: 40, pending: 20, failing: 10 };
        assert_eq!((now.became(), now.pending.clone()), (became, range(50..70)));
        assert_eq!(now.must_stop(50, Duration::ZERO), Some(Stop::FailAgain { failed: 50, of: 60 }));
        assert_eq!(now.look(&stack).await.unwrap(), 0);
        assert_eq!(now.became(), became, "nothing is counted twice");

        let mut before = Running { earlier: range(0..70), ..Running::default() };
        before.look(&stack).await.unwrap();
        assert_eq!((before.became(), before.earlier.clone()), (became, range(50..70)));
        assert_eq!(before.must_stop(50, Duration::ZERO), None);
    }

    #[tokio::test]
    async fn only_the_last_ones_are_judged() {
        let stack = testing::stack().await;
        let done = 2 * limits::REDRIVE_JUDGED;
        testing::put(&stack, 0..done + 60, |number| Some(if number < done { Status::Done } else { Status::Failed }))
            .await;
        let pending = (0..done + 60).map(|number| testing::notification(number).id().clone()).collect();
        let mut running = Running { pending, ..Running::default() };
        running.look(&stack).await.unwrap();
        let of = limits::REDRIVE_JUDGED;
        assert_eq!(running.must_stop(60, Duration::ZERO), Some(Stop::FailAgain { failed: 60, of }));
    }
}
