//! What became of the dead letters that an operator chose, and of the others.

use super::chosen::{Act, Choice, Fate};
use super::letter::{Letter, Reason};
use crate::error::Error;
use crate::output;
use crate::stack::dead_letters::Seen;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// What became of one letter.
#[derive(Debug)]
struct Fated {
    message_id: String,
    id: Option<String>,
    reason: Reason,
    fate: Fate,
}

/// What became of all letters.
#[derive(Debug, Default)]
pub(super) struct Results {
    letters: Vec<Fated>,
    /// Letters that were read and not chosen, by reason.
    others: BTreeMap<Reason, usize>,
    /// Letters that this command moved, and that ingest refused again since.
    pub(super) refused_again: usize,
    /// Message ids that were named and not read.
    missing: Vec<String>,
    /// Chosen letters that may be moved or discarded: the maximum applies to these.
    eligible: usize,
    /// The same, but more than the maximum.
    beyond_max: usize,
    /// Letters that were read, and how many SQS counted at the start.
    pub(super) seen: Seen,
    /// Why the command ended early.
    pub(super) error: Option<Error>,
}

impl Results {
    pub(super) fn new(choice: &Choice<'_>) -> Self {
        Self { missing: choice.message_ids.to_vec(), ..Self::default() }
    }

    /// Counts a letter that was read, with what becomes of it if it was chosen. Returns that, unless the maximum is
    /// reached.
    pub(super) fn read(&mut self, choice: &Choice<'_>, letter: &Letter, fate: Option<Fate>) -> Option<Fate> {
        self.seen.read += 1;
        self.missing.retain(|id| id != letter.message_id());
        match fate {
            None => {
                *self.others.entry(letter.reason).or_default() += 1;
                None
            }
            Some(Fate::Possible(_)) if self.eligible >= choice.max => {
                self.beyond_max += 1;
                None
            }
            Some(fate) => {
                self.eligible += usize::from(matches!(fate, Fate::Possible(_)));
                Some(fate)
            }
        }
    }

    pub(super) fn note(&mut self, letter: &Letter, fate: Fate) {
        self.letters.push(Fated {
            message_id: letter.message_id().to_owned(),
            id: letter.id.as_ref().map(ToString::to_string),
            reason: letter.reason,
            fate,
        });
    }

    /// Whether no more letters are to be read.
    pub(super) fn is_over(&self, choice: &Choice<'_>) -> bool {
        self.eligible >= choice.max || self.has_all_named(choice)
    }

    fn has_all_named(&self, choice: &Choice<'_>) -> bool {
        !choice.message_ids.is_empty() && self.missing.is_empty()
    }

    /// How many letters may have been chosen and were not looked at, about.
    fn left(&self, choice: &Choice<'_>) -> usize {
        self.beyond_max + if self.has_all_named(choice) { 0 } else { self.seen.unread() }
    }

    fn has_stopped_at_max(&self, choice: &Choice<'_>) -> bool {
        self.eligible >= choice.max && self.left(choice) > 0
    }

    /// Whether all chosen letters were looked at.
    fn is_complete(&self, choice: &Choice<'_>) -> bool {
        self.error.is_none() && self.left(choice) == 0
    }

    fn count(&self, wanted: impl Fn(&Fate) -> bool) -> usize {
        self.letters.iter().filter(|letter| wanted(&letter.fate)).count()
    }

    fn done(&self) -> usize {
        self.count(|fate| *fate == Fate::Done)
    }

    /// Letters that the command would act on.
    fn possible(&self) -> usize {
        self.count(|fate| matches!(fate, Fate::Possible(_)))
    }

    /// Whether one of the chosen letters has this reason.
    pub(super) fn has(&self, reason: Reason) -> bool {
        self.letters.iter().any(|letter| letter.reason == reason)
    }

    /// Prints them. Returns the exit status: 0 if all went well; 1 if some were refused, not found or not looked at; 2
    /// if some failed. An error that ended the command early is returned after what was done before it is printed.
    pub(super) fn report<A: Act>(
        self,
        choice: &Choice<'_>,
        warning: Option<&str>,
        json: bool,
    ) -> Result<ExitCode, Error> {
        if json {
            output::json(&self.json::<A>(choice, warning));
        } else {
            self.text::<A>(choice, warning).iter().for_each(output::line);
        }
        let exit = self.exit(choice);
        self.error.map_or(Ok(exit), Err)
    }

    pub(super) fn json<A: Act>(&self, choice: &Choice<'_>, warning: Option<&str>) -> Value {
        json!({
            A::DONE: self.done(),
            "possible": self.possible(),
            "messages": self.letters.iter().map(|letter| Line::of(letter, A::DONE)).collect::<Vec<_>>(),
            "missing": self.missing,
            "others": self.others,
            "refused_again": self.refused_again,
            "read": self.seen.read,
            "counted": self.seen.counted,
            "complete": self.is_complete(choice),
            "stopped_at_max": self.has_stopped_at_max(choice),
            "warning": warning,
            "error": self.error.as_ref().map(ToString::to_string),
        })
    }

    /// The lines for people.
    pub(super) fn text<A: Act>(&self, choice: &Choice<'_>, warning: Option<&str>) -> Vec<String> {
        // Nothing may hide what went wrong.
        let went_well = |letter: &&Fated| matches!(letter.fate, Fate::Done | Fate::Possible(_));
        let (well, badly): (Vec<_>, Vec<_>) = self.letters.iter().partition(went_well);
        let mut lines: Vec<String> = well.iter().take(SHOWN).chain(&badly).map(|letter| letter.text(A::DONE)).collect();
        lines.extend(output::more(well.len(), SHOWN));
        let is_complete = self.is_complete(choice);
        let not_there =
            if is_complete { "not in the dead-letter queue" } else { "not among the messages that were read" };
        lines.extend(self.missing.iter().map(|id| output::verdict(false, &format!("{id}: {not_there}"))));
        lines.push(match self.possible() {
            0 => format!("messages {}: {}", A::DONE, output::thousands(self.done())),
            possible => format!("nothing was {}: {} can be; add --yes", A::DONE, output::plural(possible, "message")),
        });
        lines.extend(self.others.iter().map(|(reason, count)| {
            format!("  read and left in the dead-letter queue: {} {reason}", output::thousands(*count))
        }));
        if self.refused_again > 0 {
            let count = output::thousands(self.refused_again);
            lines.push(format!("  {}, refused again, and back in the dead-letter queue: {count}", A::DONE));
        }
        if self.has_stopped_at_max(choice) {
            let (max, left) = (output::plural(choice.max, "message"), output::thousands(self.left(choice)));
            let text =
                format!("stopped after {max} (--max), with about {left} left: run it again, or with a larger --max");
            lines.push(output::undecided(&text));
        } else if !is_complete && self.error.is_none() {
            lines.push(output::undecided(&self.seen.remark()));
        }
        lines.extend(warning.map(output::undecided));
        lines
    }

    fn exit(&self, choice: &Choice<'_>) -> ExitCode {
        let status = self.letters.iter().map(|letter| match letter.fate {
            Fate::Possible(_) | Fate::Done => 0,
            Fate::Refused(_) => 1,
            Fate::Failed(_) => 2,
        });
        let is_all_good = self.missing.is_empty() && self.is_complete(choice) && self.refused_again == 0;
        ExitCode::from(status.max().unwrap_or(0).max(u8::from(!is_all_good)))
    }
}

/// Letters that went well and are shown one by one.
const SHOWN: usize = 20;

impl Fated {
    fn text(&self, done: &str) -> String {
        let Self { message_id, reason, .. } = self;
        let name = self.id.as_ref().map_or_else(|| message_id.clone(), |id| format!("{message_id} ({id})"));
        match &self.fate {
            Fate::Possible(text) => output::undecided(&format!("{name}: {reason}, {text}")),
            Fate::Done => output::verdict(true, &format!("{name}: {reason}, {done}")),
            Fate::Refused(text) | Fate::Failed(text) => {
                output::verdict(false, &format!("{name}: {reason}, not {done}: {text}"))
            }
        }
    }
}

/// What became of a letter, for machines.
#[derive(Serialize)]
struct Line<'a> {
    message_id: &'a str,
    id: Option<&'a str>,
    reason: Reason,
    result: &'a str,
    /// Why it was refused or failed.
    why: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn of(letter: &'a Fated, done: &'static str) -> Self {
        let (result, why) = match &letter.fate {
            Fate::Possible(_) => ("possible", None),
            Fate::Done => (done, None),
            Fate::Refused(why) => ("refused", Some(why.as_str())),
            Fate::Failed(why) => ("failed", Some(why.as_str())),
        };
        Self { message_id: &letter.message_id, id: letter.id.as_deref(), reason: letter.reason, result, why }
    }
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::{letter_of, message};
    use super::*;

    const CHOICE: Choice<'static> = Choice { message_ids: &[], reasons: &[], max: 10 };

    #[test]
    fn the_exit_status_is_that_of_the_worst_message_and_1_if_some_are_missing_or_were_not_read() {
        let code = |fates: &[Fate], missing: &[&str], counted: usize| {
            let missing = missing.iter().map(|&id| id.to_owned()).collect();
            let mut results = Results { missing, seen: Seen { read: 0, counted }, ..Results::default() };
            for fate in fates {
                results.note(&letter_of(message(0, None)), fate.clone());
            }
            format!("{:?}", results.exit(&CHOICE))
        };
        let status = |code: u8| format!("{:?}", ExitCode::from(code));
        let (done, refused, failed) = (Fate::Done, Fate::Refused("r".into()), Fate::Failed("f".into()));
        assert_eq!(code(&[], &[], 0), status(0));
        assert_eq!(code(&[done.clone(), Fate::Possible("p".into())], &[], 0), status(0));
        assert_eq!(code(&[done.clone(), refused.clone()], &[], 0), status(1));
        assert_eq!(code(&[], &["m"], 0), status(1));
        assert_eq!(code(&[], &[], 1), status(1));
        assert_eq!(code(&[done, failed, refused], &[], 1), status(2));
        let refused_again = Results { refused_again: 1, ..Results::default() };
        assert_eq!(format!("{:?}", refused_again.exit(&CHOICE)), status(1));
    }
}
