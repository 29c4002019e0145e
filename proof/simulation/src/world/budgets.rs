//! The budgets of an invocation: how much a call may hold, how many calls the work of its records may take, how often an entry
//! may be tried, and how much may run at once. A design that is right but makes a call for each record, or repeats its repeats,
//! is found here.

use super::state::World;
use crate::aws::lambda::Task;
use crate::aws::source::Source;
use crate::mutants;
use jiff::Timestamp;
use notification::testing::{Call, OwnedCommit};
use notification::{Status, limits};
use std::collections::{BTreeMap, HashMap};

/// What a `PutRecords` may hold, in bytes of data and partition keys.
/// <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html>
const PUT_BYTES: usize = 10 * 1024 * 1024;

/// What a `TransactWriteItems` may hold, in bytes of its items.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html>
const COMMIT_BYTES: usize = 4 * 1024 * 1024;

/// How often a function may try an entry that fails in an answer.
const ATTEMPTS: u32 = 8;

/// A record is read once, and once more after each of at most three writes whose answers may lack its item.
const READS: u32 = 4;

/// Attempts in each second to write an outcome that only this invocation knows, which goes on until its deadline.
const OUTCOMES_PER_SECOND: u32 = 4;

/// A notification of the largest size in `PutRecords`: so many fit.
const LARGEST_IN_PUT: usize = 25;

/// What may be in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flight {
    /// A call to AWS, or to the receiver.
    Call,
    /// An action.
    Action,
}

/// What an invocation has used.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    calls_in_flight: usize,
    actions_in_flight: usize,
    work: BTreeMap<Purpose, Work>,
    /// How often each entry was in a call, by the status that it should get, if any.
    attempts: HashMap<(Purpose, Option<Status>, String), u32>,
    /// Whether it has exceeded a budget, which is reported once.
    has_exceeded: bool,
}

/// What calls are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Purpose {
    Read,
    Query,
    Insert,
    Claim,
    /// FAILED or IN_DOUBT for notifications that are not claimed.
    Poison,
    /// What became of calls.
    Outcome,
    Commit,
    Put,
    Hide,
    Effect,
    Other,
}

/// The calls of one purpose.
#[derive(Debug, Default)]
struct Work {
    calls: usize,
    /// Entries, each counted once.
    entries: usize,
    /// When the last call for other entries was made, and how many it had.
    last_chunk: Option<(Timestamp, usize)>,
}

impl Purpose {
    fn of(call: &Call) -> Self {
        let all = |is: fn(&(Option<Status>, Status)) -> bool| !call.changes.is_empty() && call.changes.iter().all(is);
        let is_poison = |(_, to): &(Option<Status>, Status)| matches!(to, Status::Failed | Status::InDoubt);
        match call.method {
            "read" => Self::Read,
            "pending" => Self::Query,
            "commit" => Self::Commit,
            "put" => Self::Put,
            "hide" => Self::Hide,
            super::EFFECT => Self::Effect,
            "write" if all(|(from, _)| from.is_none()) => Self::Insert,
            "write" if all(|(_, to)| *to == Status::Claimed) => Self::Claim,
            "write" if all(is_poison) && call.changes.iter().any(|(from, _)| *from == Some(Status::Init)) => {
                Self::Poison
            }
            "write" => Self::Outcome,
            _ => Self::Other,
        }
    }

    /// How many entries a call may have, as AWS documents it: `BatchGetItem`, `BatchExecuteStatement`, `TransactWriteItems` with
    /// two actions for each notification, `PutRecords` and `ChangeMessageVisibilityBatch`.
    const fn entries_in_a_call(self) -> usize {
        match self {
            Self::Read => 100,
            Self::Insert | Self::Claim | Self::Poison | Self::Outcome => 25,
            Self::Commit => 50,
            Self::Put => 500,
            Self::Hide => 10,
            Self::Query | Self::Effect | Self::Other => 1,
        }
    }

    /// What a second call for other entries is called.
    const fn second_call(self, is_full: bool) -> Option<&'static str> {
        match self {
            Self::Insert => Some("a second batch of statements is sent"),
            Self::Claim => Some("a second chunk is claimed"),
            Self::Commit if is_full => Some("a second transaction is needed by its actions"),
            Self::Commit => Some("a second transaction is needed by its bytes"),
            Self::Put if is_full => Some("a second PutRecords is needed by its entries"),
            Self::Put => Some("a second PutRecords is needed by its bytes"),
            _ => None,
        }
    }
}

impl World {
    /// Counts a call. Returns whether it follows another call for other entries of the same work.
    pub(super) fn spend(&mut self, task: Task, call: &Call) -> bool {
        let purpose = Purpose::of(call);
        let (now, seconds) = (self.now, self.deployed.stream_function_timeout.as_secs());
        let Some(running) = self.running.get_mut(&task).filter(|_| self.wiring.hands_over) else { return false };
        let is_sweep = running.from == Source::Schedule;
        let spent = &mut running.spent;
        let mut most = 0;
        let mut fresh = Vec::new();
        for (place, id) in call.ids.iter().enumerate() {
            let to = call.changes.get(place).map(|(_, to)| *to);
            let attempts = spent.attempts.entry((purpose, to, id.clone())).or_default();
            *attempts += 1;
            most = most.max(*attempts);
            if *attempts == 1 {
                fresh.push(id.clone());
            }
        }
        let work = spent.work.entry(purpose).or_default();
        work.calls += mutants::calls_of(self.mutant, call);
        work.entries += fresh.len();
        let (calls, entries) = (work.calls, work.entries);
        let before = if fresh.is_empty() { None } else { work.last_chunk.replace((now, call.ids.len())) };
        let pages = spent.work.get(&Purpose::Query).map_or(0, |queries| queries.calls);
        let exceeded = too_many_entries(purpose, call.ids.len())
            .or_else(|| too_many_attempts(purpose, most, seconds))
            .or_else(|| too_many_calls(purpose, calls, entries, is_sweep.then_some(pages)));
        if let Some(exceeded) = exceeded
            && !std::mem::replace(&mut spent.has_exceeded, true)
        {
            let name = running.name.clone();
            self.violated(format!("{name} {exceeded}"));
        }
        if purpose == Purpose::Put {
            self.check_sweep(task, &fresh);
        }
        if purpose == Purpose::Poison && call.ids.len() == purpose.entries_in_a_call() {
            self.note("many rejections are written in one call");
        }
        let Some((at, length)) = before else { return false };
        // A sweep makes its calls one after the other, for each page. Calls of the same time are for one page.
        if at == now || !is_sweep {
            let is_full = length == purpose.entries_in_a_call();
            if let Some(what) = purpose.second_call(is_full) {
                self.note(what);
            }
        }
        true
    }

    /// Counts a call or an action that begins.
    pub(crate) fn begins(&mut self, task: Task, flight: Flight) {
        let Some(running) = self.running.get_mut(&task).filter(|_| self.wiring.hands_over) else { return };
        let spent = &mut running.spent;
        let (count, most, what) = match flight {
            Flight::Call => (&mut spent.calls_in_flight, limits::CALLS_IN_FLIGHT + spent.actions_in_flight, "calls"),
            Flight::Action => (&mut spent.actions_in_flight, limits::ACTIONS_IN_FLIGHT, "actions"),
        };
        *count += 1;
        if *count > most && !std::mem::replace(&mut spent.has_exceeded, true) {
            let (name, count) = (running.name.clone(), *count);
            self.violated(format!("{name} has {count} {what} in flight"));
        }
    }

    /// Counts a call or an action that has ended, or whose caller has given up.
    pub(crate) fn has_ended(&mut self, task: Task, flight: Flight) {
        let Some(running) = self.running.get_mut(&task) else { return };
        let count = match flight {
            Flight::Call => &mut running.spent.calls_in_flight,
            Flight::Action => &mut running.spent.actions_in_flight,
        };
        *count = count.saturating_sub(1);
    }

    /// Checks the size of a `PutRecords`.
    pub(super) fn check_size_of_put(&mut self, records: &[(String, String)]) {
        let bytes: usize = records.iter().map(|(id, event)| id.len() + event.len()).sum();
        if bytes > PUT_BYTES {
            self.violated(format!("a PutRecords has {bytes} bytes"));
        }
    }

    /// Checks the size of a `TransactWriteItems`: the items that it puts, and those that it updates.
    pub(super) fn check_size_of_commit(&mut self, group: &[OwnedCommit]) {
        let puts = group.iter().flat_map(|commit| &commit.puts).flat_map(|put| &put.attributes);
        let put: usize = puts.map(|(name, value)| name.len() + value.len()).sum();
        let updated = group.iter().filter_map(|commit| self.item(&commit.change.id));
        let bytes = put + updated.map(|item| item.event.len()).sum::<usize>();
        if bytes > COMMIT_BYTES {
            self.violated(format!("a transaction has {bytes} bytes"));
        }
    }
}

fn too_many_entries(purpose: Purpose, entries: usize) -> Option<String> {
    (entries > purpose.entries_in_a_call()).then(|| format!("makes a call with {entries} entries ({purpose:?})"))
}

fn too_many_attempts(purpose: Purpose, attempts: u32, seconds: u64) -> Option<String> {
    let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
    let allowed = match purpose {
        Purpose::Insert | Purpose::Claim | Purpose::Poison | Purpose::Put | Purpose::Hide => ATTEMPTS,
        Purpose::Read => ATTEMPTS * READS,
        Purpose::Outcome => ATTEMPTS + OUTCOMES_PER_SECOND * seconds,
        // A partition has many pages. A transaction is repeated without those that it was refused for.
        Purpose::Query | Purpose::Commit | Purpose::Effect | Purpose::Other => return None,
    };
    (attempts > allowed).then(|| format!("tries an entry {attempts} times ({purpose:?})"))
}

/// `pages` is how many queries a sweep has made; `None` for a batch.
fn too_many_calls(purpose: Purpose, calls: usize, entries: usize, pages: Option<usize>) -> Option<String> {
    let chunks = entries.div_ceil(purpose.entries_in_a_call());
    let chunks = match (purpose, pages) {
        (Purpose::Insert | Purpose::Claim | Purpose::Hide, _) | (Purpose::Put, None) => chunks,
        // A notification that turns out to be in doubt when it is refused is written once more.
        (Purpose::Poison, _) => chunks + 1,
        (Purpose::Put, Some(pages)) => pages + entries / LARGEST_IN_PUT,
        (Purpose::Commit, _) => entries,
        _ => return None,
    };
    let allowed = chunks * ATTEMPTS as usize;
    (calls > allowed).then(|| format!("makes {calls} calls for {entries} entries ({purpose:?})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_rejections_may_take_forty_calls_eight_times_and_not_a_thousand() {
        assert_eq!(too_many_calls(Purpose::Poison, 328, 1_000, None), None);
        assert!(too_many_calls(Purpose::Poison, 1_000, 1_000, None).is_some());
    }

    #[test]
    fn an_entry_may_be_tried_eight_times_and_an_outcome_until_the_deadline() {
        assert_eq!(too_many_attempts(Purpose::Insert, 8, 60), None);
        assert!(too_many_attempts(Purpose::Insert, 9, 60).is_some());
        assert_eq!(too_many_attempts(Purpose::Outcome, 200, 60), None);
    }
}
