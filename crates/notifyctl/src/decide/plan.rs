//! A decision about many notifications, in a file: the set is fixed when it is written, and the result of each is appended, so an
//! interrupted command continues where it stopped.
//!
//! Each notification is written with the time since which it has had its status. The decision applies to that state only, so
//! deciding twice, after a result that could not be appended, changes nothing.

use crate::decide::described;
use crate::error::Error;
use notification::operator::{Decided, Decision};
use notification::{NotificationId, Status, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// A notification of the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) id: NotificationId,
    /// Its state when the set was fixed.
    pub(crate) seen: Timestamp,
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The first one.
    Plan { table: String, decision: String },
    /// One for each notification.
    Notification { id: String, seen: String },
    /// The set is complete.
    Planned { count: usize },
    /// One for each notification that was decided on.
    Decided { id: String, result: String, runs_again: bool },
}

/// The set, and what is left of it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) path: PathBuf,
    pub(crate) left: Vec<Planned>,
    /// Those that run again, by a decision that was made before the file was opened.
    pub(crate) run_again: Vec<NotificationId>,
    /// How many the set has.
    pub(crate) count: usize,
    file: File,
}

/// A decision in the file.
fn name(decision: Decision) -> &'static str {
    match decision {
        Decision::Redrive => "redrive",
        Decision::ResolveRetry => "resolve --retry",
        Decision::ResolveDone => "resolve --done",
    }
}

/// Whether a decision runs its notification again.
pub(crate) const fn runs_again(decided: Decided) -> bool {
    matches!(decided, Decided::Changed { to: Status::Init, .. })
}

impl Plan {
    /// Writes the set to a new file.
    pub(crate) fn create(path: &Path, table: &str, decision: Decision, set: Vec<Planned>) -> Result<Self, Error> {
        let file = match OpenOptions::new().read(true).append(true).create_new(true).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(Error::Failed(format!(
                    "{path} exists already, and no plan replaces a file: continue it with --resume {path}, or name another file",
                    path = path.display()
                )));
            }
            opened => opened.map_err(Error::file(path))?,
        };
        lock(&file, path)?;
        let first = Line::Plan { table: table.to_owned(), decision: name(decision).to_owned() };
        let each = set
            .iter()
            .map(|Planned { id, seen }| Line::Notification { id: id.to_string(), seen: format!("{seen:.3}") });
        let mut writer = BufWriter::new(&file);
        for line in [first].into_iter().chain(each).chain([Line::Planned { count: set.len() }]) {
            write(&mut writer, &line).map_err(Error::file(path))?;
        }
        writer.flush().and_then(|()| file.sync_all()).map_err(Error::file(path))?;
        drop(writer);
        Ok(Self { path: path.to_owned(), count: set.len(), left: set, run_again: vec![], file })
    }

    /// Reads a file that was written before, for the same table and decision.
    pub(crate) fn open(path: &Path, table: &str, decision: Decision) -> Result<Self, Error> {
        let mut file = OpenOptions::new().read(true).append(true).open(path).map_err(Error::file(path))?;
        lock(&file, path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::file(path))?;
        // A last line that is cut off, perhaps within a character, is ignored: its notification is decided on again.
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let wrong = |problem: String| Error::Failed(format!("{}: {problem}", path.display()));
        let text = str::from_utf8(&bytes[..whole]).map_err(|error| wrong(error.to_string()))?;
        let mut lines = text.lines().enumerate().map(|(number, text)| {
            serde_json::from_str(text)
                .map_err(|error| wrong(format!("line {} is not a line of a plan: {error}", number + 1)))
        });
        match lines.next().transpose()? {
            Some(Line::Plan { table: planned_for, decision: planned }) => {
                if (planned_for.as_str(), planned.as_str()) != (table, name(decision)) {
                    return Err(wrong(format!(
                        "it is a plan to {planned} in the table {planned_for}: use that command, with the --stack of that table"
                    )));
                }
            }
            _ => return Err(wrong("its first line does not say what is planned, and in which table".to_owned())),
        }
        let id = |text: &str| NotificationId::parse(text).map_err(|invalid| wrong(invalid.to_string()));
        let (mut set, mut run_again, mut decided, mut is_complete) = (vec![], vec![], HashSet::new(), false);
        for line in lines {
            match line? {
                Line::Plan { .. } => return Err(wrong("it has two plans".to_owned())),
                Line::Notification { id: text, seen } => {
                    let seen = seen.parse().map_err(|_| wrong(format!("{seen} is not a time")))?;
                    set.push(Planned { id: id(&text)?, seen });
                }
                Line::Planned { count } => is_complete = count == set.len(),
                Line::Decided { id: text, runs_again, .. } => {
                    if runs_again {
                        run_again.push(id(&text)?);
                    }
                    decided.insert(text);
                }
            }
        }
        if !is_complete {
            return Err(wrong("the plan is not complete; nothing was changed yet, so begin again".to_owned()));
        }
        if whole < bytes.len() {
            // Only now is it sure that this is a plan.
            file.set_len(whole as u64).map_err(Error::file(path))?;
        }
        let count = set.len();
        set.retain(|planned| !decided.contains(planned.id.as_str()));
        Ok(Self { path: path.to_owned(), left: set, run_again, count, file })
    }

    /// Appends the result for a notification.
    pub(crate) fn note(&mut self, id: &NotificationId, decided: Decided) -> Result<(), Error> {
        let (result, runs_again) = (described(decided), runs_again(decided));
        let line = Line::Decided { id: id.to_string(), result, runs_again };
        // In one write: a line that is cut off can only be the last one.
        let mut text = Vec::new();
        let written = write(&mut text, &line).and_then(|()| self.file.write_all(&text));
        written.map_err(Error::file(&self.path))
    }
}

/// Keeps other commands from carrying out the same plan, until the file is closed.
fn lock(file: &File, path: &Path) -> Result<(), Error> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(Error::Failed(format!("{}: another command is carrying out this plan", path.display())))
        }
        Err(TryLockError::Error(error)) => Err(Error::file(path)(error)),
    }
}

fn write(file: &mut impl Write, line: &Line) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, line)?;
    file.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> Vec<Planned> {
        ["a", "b", "c"].map(|text| Planned { id: id(text), seen: Timestamp::UNIX_EPOCH }).to_vec()
    }

    const RUNS_AGAIN: Decided = Decided::Changed { from: Status::Failed, to: Status::Init };

    fn id(text: &str) -> NotificationId {
        NotificationId::parse(text).unwrap()
    }

    fn left(plan: &Plan) -> Vec<&str> {
        plan.left.iter().map(|planned| planned.id.as_str()).collect()
    }

    /// A path for a test's file, which the test removes.
    fn path(test: &str) -> PathBuf {
        std::env::temp_dir().join(format!("notifyctl-plan-{}-{test}", std::process::id()))
    }

    #[test]
    fn a_plan_continues_with_what_was_not_decided_on() {
        let path = path("continues");
        let mut plan = Plan::create(&path, "s", Decision::Redrive, set()).unwrap();
        plan.note(&id("b"), RUNS_AGAIN).unwrap();
        // As if the process had died within a line, and within a character of it.
        plan.file.write_all(b"{\"decided\":{\"id\":\"c\",\"result\":\"FAILED \xE2\x86").unwrap();
        drop(plan);
        let mut plan = Plan::open(&path, "s", Decision::Redrive).unwrap();
        assert_eq!((left(&plan), &plan.run_again, plan.count), (vec!["a", "c"], &vec![id("b")], 3));
        let problem = Plan::open(&path, "s", Decision::Redrive).unwrap_err().to_string();
        assert!(problem.ends_with("another command is carrying out this plan"), "{problem}");
        plan.note(&id("c"), Decided::Absent).unwrap();
        drop(plan);
        let plan = Plan::open(&path, "s", Decision::Redrive).unwrap();
        assert_eq!((left(&plan), &plan.run_again), (vec!["a"], &vec![id("b")]), "the torn line is gone");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_plan_is_for_one_table_and_one_decision_and_never_replaces_a_file() {
        let path = path("one");
        drop(Plan::create(&path, "s", Decision::ResolveDone, set()).unwrap());
        let error = Plan::open(&path, "s", Decision::ResolveRetry).unwrap_err().to_string();
        assert!(error.contains("it is a plan to resolve --done in the table s"), "{error}");
        assert!(Plan::open(&path, "another", Decision::ResolveDone).is_err());
        let error = Plan::create(&path, "s", Decision::ResolveDone, set()).unwrap_err().to_string();
        assert!(error.contains("exists already"), "{error}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_is_no_plan_is_not_changed() {
        let path = path("other");
        let plan = Plan::create(&path, "s", Decision::Redrive, set()).unwrap();
        drop(plan);
        let of_another_table = std::fs::read_to_string(&path).unwrap() + "cut off";
        for text in ["{\"id\":\"a\"}", "a\nb", "", &of_another_table] {
            std::fs::write(&path, text).unwrap();
            assert!(Plan::open(&path, "t", Decision::Redrive).is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_plan_that_is_not_complete_is_refused() {
        let path = path("cut");
        drop(Plan::create(&path, "s", Decision::Redrive, set()).unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.find("{\"planned\"").unwrap()]).unwrap();
        let error = Plan::open(&path, "s", Decision::Redrive).unwrap_err().to_string();
        assert!(error.contains("begin again"), "{error}");
        std::fs::write(&path, &text[text.find('\n').unwrap() + 1..]).unwrap();
        let error = Plan::open(&path, "s", Decision::Redrive).unwrap_err().to_string();
        assert!(error.contains("in which table"), "{error}");
        std::fs::remove_file(path).unwrap();
    }
}
