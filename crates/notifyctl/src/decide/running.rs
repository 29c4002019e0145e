//! The notifications that a decision runs again: what becomes of them, and whether so many fail again that it stops.

use crate::error::Error;
use crate::stack::Stack;
use crate::stack::items::{self, State};
use notification::{NotificationId, Status, limits};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// What became of the notifications that run again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Became {
    pub(crate) done: usize,
    /// FAILED or IN_DOUBT.
    pub(crate) failed_again: usize,
    pub(crate) pending: usize,
    /// Of the pending ones, those whose action has failed since.
    pub(crate) failing: usize,
}

/// Why a command stopped by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stop {
    /// So many of the last ones failed again, or are failing, that the cause is not fixed.
    FailAgain { failed: usize, of: usize },
    /// As many as are allowed are pending, and none is settled.
    NoneSettled,
    /// So many calls failed one after the other.
    CallsFail { in_a_row: usize },
}

/// The statuses of the notifications that ran again and are settled, by their ids.
pub(crate) type Fates = BTreeMap<String, &'static str>;

/// The notifications that run again, and what is known of them.
#[derive(Debug, Default)]
pub(crate) struct Running {
    /// Those that this command put back, in this order.
    put_back: Vec<NotificationId>,
    /// Those that are pending, as far as is known. They may have been put back before the command was resumed.
    pending: Vec<NotificationId>,
    /// Those of them whose action fails.
    failing: HashSet<String>,
    fates: Fates,
}

impl Running {
    /// With those that were put back before the command was resumed. What became of them says nothing about the cause now.
    pub(crate) fn resumed(earlier: Vec<NotificationId>) -> Self {
        Self { pending: earlier, ..Self::default() }
    }

    /// One more runs again.
    pub(crate) fn add(&mut self, id: NotificationId) {
        self.put_back.push(id.clone());
        self.pending.push(id);
    }

    /// How many more may run.
    pub(crate) fn room(&self) -> usize {
        limits::REDRIVE_PENDING_MAX.saturating_sub(self.pending.len())
    }

    /// Looks at those that were pending. Returns how many are settled now.
    pub(crate) async fn look(&mut self, stack: &Stack) -> Result<usize, Error> {
        let before = self.fates.len();
        let ids = self.pending.clone();
        for ids in ids.chunks(limits::REDRIVE_PENDING_MAX) {
            let states = items::states(stack, ids).await?;
            for id in ids {
                self.note(id, states.get(id.as_str()));
            }
        }
        self.pending.retain(|id| !self.fates.contains_key(id.as_str()));
        Ok(self.fates.len() - before)
    }

    fn note(&mut self, id: &NotificationId, state: Option<&State>) {
        self.failing.remove(id.as_str());
        let Some(state) = state else {
            self.fates.insert(id.to_string(), EXPIRED);
            return;
        };
        match state.status {
            Some(status @ (Status::Done | Status::Failed | Status::InDoubt)) => {
                self.fates.insert(id.to_string(), status.as_str());
            }
            Some(Status::Init | Status::Claimed) | None => {
                if state.has_noted_failure {
                    self.failing.insert(id.to_string());
                }
            }
        }
    }

    pub(crate) fn became(&self) -> Became {
        let done = self.fates.values().filter(|fate| is_done(fate)).count();
        Became { done, failed_again: self.fates.len() - done, pending: self.pending.len(), failing: self.failing.len() }
    }

    /// Whether to stop: so many of the last ones fail again that the cause is not fixed, or nothing has moved for this long.
    pub(crate) fn must_stop(&self, stop_at_percent: usize, unmoved: Duration) -> Option<Stop> {
        let last = self.put_back.iter().rev().filter_map(|id| self.fails_again(id)).take(limits::REDRIVE_JUDGED);
        let (failed, of) = last.fold((0, 0), |(failed, of), fails| (failed + usize::from(fails), of + 1));
        if of >= limits::REDRIVE_JUDGED_AFTER && failed * 100 >= of * stop_at_percent {
            return Some(Stop::FailAgain { failed, of });
        }
        (unmoved >= limits::REDRIVE_WAIT).then_some(Stop::NoneSettled)
    }

    /// Whether a notification fails again; `None` if that is not known yet.
    fn fails_again(&self, id: &NotificationId) -> Option<bool> {
        match self.fates.get(id.as_str()) {
            Some(fate) => Some(!is_done(fate)),
            None => self.failing.contains(id.as_str()).then_some(true),
        }
    }

    pub(crate) fn into_fates(self) -> Fates {
        self.fates
    }
}

/// The fate of a notification that is no longer in the table: only what is DONE expires.
const EXPIRED: &str = "expired";

/// Whether a notification is DONE, by what became of it.
pub(crate) fn is_done(fate: &str) -> bool {
    fate == Status::Done.as_str() || fate == EXPIRED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decide, testing};
    use aws::SystemClock;
    use notification::change::Run;
    use notification::ports::Table;
    use notification::reason::{Note, Reason, ReasonCode};
    use notification::testing::NOTE;
    use notification::{Change, Clock};

    fn id(number: usize) -> NotificationId {
        testing::notification(number).id().clone()
    }

    /// After `done` that are DONE, `failed` that are FAILED and then `failing` that are pending.
    fn stops(done: usize, failed: usize, failing: usize, stop_at: usize) -> bool {
        let mut running = Running::default();
        for number in 0..done + failed + failing {
            running.add(id(number));
            let status = match number {
                _ if number < done => Status::Done,
                _ if number < done + failed => Status::Failed,
                _ => Status::Init,
            };
            let state = State { status: Some(status), has_noted_failure: status == Status::Init };
            running.note(&id(number), Some(&state));
        }
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
        assert!(stops(200, 60, 0, 60) && stops(200, 0, 60, 60), "only the last 100 count");
    }

    #[test]
    fn a_few_that_fail_among_many_do_not_add_up() {
        let mut running = Running::default();
        for number in 0..1_000 {
            running.add(id(number));
            let state = match number % 10 {
                0 => State { status: Some(Status::Init), has_noted_failure: true },
                _ => State { status: Some(Status::Done), has_noted_failure: false },
            };
            running.note(&id(number), Some(&state));
        }
        assert_eq!((running.became().done, running.became().failing), (900, 100));
        assert_eq!(running.must_stop(50, Duration::ZERO), None);
    }

    #[test]
    fn it_stops_when_nothing_moves() {
        let running = Running::default();
        assert_eq!(running.must_stop(50, limits::REDRIVE_WAIT.mul_f32(0.9)), None);
        assert_eq!(running.must_stop(50, limits::REDRIVE_WAIT), Some(Stop::NoneSettled));
    }

    #[test]
    fn only_so_many_run_at_once() {
        let mut running = Running::resumed((0..300).map(id).collect());
        (300..900).for_each(|number| running.add(id(number)));
        assert_eq!(running.room(), 100);
        (900..1_100).for_each(|number| running.add(id(number)));
        assert_eq!(running.room(), 0);
    }

    #[tokio::test]
    async fn what_ran_before_is_reported_and_only_what_runs_now_is_judged() {
        let stack = testing::stack().await;
        let status = |number| match number {
            0..10 => Some(Status::Done),
            10..50 => Some(Status::Failed),
            _ => None,
        };
        testing::put(&stack, 0..70, status).await;
        let all: Vec<_> = (0..70).map(testing::notification).collect();
        let failing = all[50..60].iter().map(|one| Change::note_failure(one.id(), one.event(), Run::Any, NOTE));
        let reason = Reason { code: ReasonCode::NoTime, text: "not started" };
        let waited = Note { reason, ..NOTE };
        let waiting = all[60..65].iter().map(|one| Change::note_failure(one.id(), one.event(), Run::Any, waited));
        let notes: Vec<_> = failing.chain(waiting).collect();
        decide::table(&stack).write(&notes, SystemClock.now()).await.unwrap();

        let mut now = Running::default();
        (0..70).for_each(|number| now.add(id(number)));
        assert_eq!(now.look(&stack).await.unwrap(), 50);
        let became = Became { done: 10, failed_again: 40, pending: 20, failing: 10 };
        assert_eq!((now.became(), now.pending.clone()), (became, (50..70).map(id).collect()));
        assert_eq!(now.must_stop(50, Duration::ZERO), Some(Stop::FailAgain { failed: 50, of: 60 }));
        assert_eq!(now.look(&stack).await.unwrap(), 0);
        assert_eq!(now.became(), became, "nothing is counted twice");
        now.add(id(999));
        now.look(&stack).await.unwrap();
        assert_eq!(now.became(), Became { done: 11, ..became }, "what has expired was DONE");

        let mut before = Running::resumed((0..70).map(id).collect());
        before.look(&stack).await.unwrap();
        assert_eq!((before.became(), before.pending.clone()), (became, (50..70).map(id).collect()));
        assert_eq!(before.must_stop(50, Duration::ZERO), None);
    }
}
