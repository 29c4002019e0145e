//! The dead letters that an operator chose, and what becomes of them.
//!
//! SQS shows messages only by receiving them, in no order. So the queue is read some messages at a time: those that were chosen
//! are acted on, and everything else stays hidden until the end, so that it is not received again and again.

use super::letter::{Letter, Reason, judge, message_id};
use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use crate::stack::dead_letters::{self, Receipts, show_again};
use aws_sdk_sqs::types::Message;
use notification::limits;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Which dead letters an operator chose.
pub(super) struct Choice<'a> {
    /// Only these messages; if empty, all.
    pub(super) message_ids: &'a [String],
    /// Only messages with one of these reasons; if empty, all.
    pub(super) reasons: &'a [Reason],
    /// At most this many messages.
    pub(super) max: usize,
}

impl Choice<'_> {
    fn has(&self, letter: &Letter) -> bool {
        (self.message_ids.is_empty() || self.message_ids.iter().any(|id| id == letter.message_id()))
            && (self.reasons.is_empty() || self.reasons.contains(&letter.reason))
    }

    /// Whether these letters are all that there can be.
    fn is_complete(&self, letters: usize) -> bool {
        letters >= self.max || (!self.message_ids.is_empty() && letters >= self.message_ids.len())
    }
}

/// What becomes of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It can be moved or discarded; the text says what is to be known about it.
    Possible(String),
    /// It was moved or discarded.
    Done,
    /// It may not be moved or discarded, for this reason.
    Refused(String),
    /// It could not be moved or discarded, for this reason.
    Failed(String),
}

/// What a command does with the chosen dead letters.
pub(super) trait Act {
    /// What it has done with a letter, in one word.
    const DONE: &'static str;

    /// Whether it may do so.
    fn judge(&self, letter: &Letter) -> Fate;

    /// Does so with all of these letters, and returns the fate of each in order.
    async fn act(&mut self, stack: &Stack, letters: &[Letter]) -> Result<Vec<Fate>, Error>;
}

/// What became of one letter.
#[derive(Debug)]
pub(super) struct Fated {
    message_id: String,
    name: String,
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
    /// Receipts of the letters that stay in the queue.
    hidden: Receipts,
}

/// Acts on the chosen letters if `yes`, or if they are one that is named by its message id. Otherwise, returns what would become of
/// them.
pub(super) async fn carry_out<A: Act>(
    stack: &Stack,
    choice: &Choice<'_>,
    yes: bool,
    act: &mut A,
) -> Result<Results, Error> {
    let mut results = Results::default();
    let carried_out = some_at_a_time(stack, choice, yes, act, &mut results).await;
    show_again(stack, results.hidden.values()).await;
    carried_out.map(|()| results)
}

async fn some_at_a_time<A: Act>(
    stack: &Stack,
    choice: &Choice<'_>,
    yes: bool,
    act: &mut A,
    results: &mut Results,
) -> Result<(), Error> {
    let at_once = if yes { limits::DEAD_LETTERS_AT_ONCE } else { choice.max };
    loop {
        let letters = take(stack, choice, at_once, results).await?;
        let is_last = letters.is_empty() || !yes;
        let mut fates: Vec<Fate> = letters.iter().map(|letter| act.judge(letter)).collect();
        let possible = |fate: &Fate| matches!(fate, Fate::Possible(_));
        let is_one_named = !choice.message_ids.is_empty() && fates.iter().filter(|fate| possible(fate)).count() == 1;
        if yes || is_one_named {
            let places: Vec<usize> = (0..letters.len()).filter(|&place| possible(&fates[place])).collect();
            let wanted: Vec<Letter> = places.iter().map(|&place| letters[place].clone()).collect();
            for (place, fate) in places.into_iter().zip(act.act(stack, &wanted).await?) {
                fates[place] = fate;
            }
        }
        for (letter, fate) in letters.into_iter().zip(fates) {
            results.note(&letter, fate);
        }
        if is_last || choice.is_complete(results.letters.len()) {
            return Ok(());
        }
    }
}

/// Receives chosen letters: about `at_once`, or all that are left. They and all others are hidden.
async fn take(stack: &Stack, choice: &Choice<'_>, at_once: usize, results: &mut Results) -> Result<Vec<Letter>, Error> {
    let before = results.letters.len();
    let (mut taken, mut bytes): (Vec<Letter>, usize) = (Vec::new(), 0);
    let Results { others, hidden, .. } = results;
    let receipts = dead_letters::hide(stack, async |messages: Vec<Message>| {
        // A letter that was hidden for too long is received again.
        let new = messages.into_iter().filter(|message| !hidden.contains_key(message_id(message))).collect();
        for letter in judge(stack, new).await? {
            if choice.has(&letter) && before + taken.len() < choice.max {
                bytes += letter.body().len();
                taken.push(letter);
            } else {
                *others.entry(letter.reason).or_default() += 1;
            }
        }
        let is_enough = taken.len() >= at_once || bytes >= limits::DEAD_LETTERS_HELD_MAX_BYTES;
        Ok(is_enough || choice.is_complete(before + taken.len()))
    })
    .await?;
    hidden.extend(receipts);
    for letter in &mut taken {
        letter.message.receipt_handle = hidden.get(letter.message_id()).cloned();
    }
    Ok(taken)
}

impl Results {
    fn note(&mut self, letter: &Letter, fate: Fate) {
        if fate == Fate::Done {
            self.hidden.remove(letter.message_id());
        }
        self.letters.push(Fated {
            message_id: letter.message_id().to_owned(),
            name: letter.name(),
            id: letter.id.as_ref().map(ToString::to_string),
            reason: letter.reason,
            fate,
        });
    }

    pub(super) fn count(&self, wanted: impl Fn(&Fate) -> bool) -> usize {
        self.letters.iter().filter(|letter| wanted(&letter.fate)).count()
    }

    /// Reasons of the chosen letters.
    pub(super) fn has(&self, reason: Reason) -> bool {
        self.letters.iter().any(|letter| letter.reason == reason)
    }

    /// Requested message ids that were not found, or are there with a reason that was not asked for.
    fn missing<'a>(&self, choice: &'a Choice<'_>) -> Vec<&'a str> {
        let is_there = |wanted: &str| self.letters.iter().any(|letter| letter.message_id == wanted);
        choice.message_ids.iter().map(String::as_str).filter(|wanted| !is_there(wanted)).collect()
    }

    /// Prints them. Returns the exit status: 0 if all went well, 1 if some were refused or not found, 2 if some failed.
    pub(super) fn report<A: Act>(&self, choice: &Choice<'_>, warning: Option<&str>, json: bool) -> ExitCode {
        let missing = self.missing(choice);
        let done = self.count(|fate| *fate == Fate::Done);
        let possible = self.count(|fate| matches!(fate, Fate::Possible(_)));
        if json {
            let result = json!({
                A::DONE: done,
                "possible": possible,
                "messages": self.letters.iter().map(|letter| Line::of(letter, A::DONE)).collect::<Vec<_>>(),
                "missing": missing,
                "others": self.others,
                "warning": warning,
            });
            output::json(&result);
        } else {
            self.print(A::DONE, &missing, done, possible);
            if let Some(warning) = warning {
                output::line(output::undecided(warning));
            }
        }
        self.exit(missing.len())
    }

    fn print(&self, word: &str, missing: &[&str], done: usize, possible: usize) {
        // Nothing may hide what went wrong.
        let went_well = |letter: &&Fated| matches!(letter.fate, Fate::Done | Fate::Possible(_));
        let (well, badly): (Vec<_>, Vec<_>) = self.letters.iter().partition(went_well);
        for letter in well.iter().take(SHOWN).chain(&badly) {
            output::line(letter.text(word));
        }
        if well.len() > SHOWN {
            output::line(format_args!("  … and {} more; --json has all", output::thousands(well.len() - SHOWN)));
        }
        for id in missing {
            output::line(output::verdict(false, &format!("{id}: not among the dead letters that were asked for")));
        }
        if possible > 0 {
            let possible = output::thousands(possible);
            output::line(format_args!("nothing was {word}: {possible} messages can be; add --yes"));
        } else {
            output::line(format_args!("messages {word}: {}", output::thousands(done)));
        }
        for (reason, count) in &self.others {
            let count = output::thousands(*count);
            output::line(format_args!("  read and left in the dead-letter queue: {count} {reason}"));
        }
    }

    fn exit(&self, missing: usize) -> ExitCode {
        let status = self.letters.iter().map(|letter| match letter.fate {
            Fate::Possible(_) | Fate::Done => 0,
            Fate::Refused(_) => 1,
            Fate::Failed(_) => 2,
        });
        ExitCode::from(status.max().unwrap_or(0).max(u8::from(missing > 0)))
    }
}

/// Letters that went well and are shown one by one.
const SHOWN: usize = 20;

impl Fated {
    fn text(&self, done: &str) -> String {
        let Self { name, reason, .. } = self;
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

    #[test]
    fn the_exit_status_is_that_of_the_worst_message() {
        let code = |fates: &[Fate], missing: usize| {
            let mut results = Results::default();
            for fate in fates {
                results.note(&letter_of(message(0, None)), fate.clone());
            }
            format!("{:?}", results.exit(missing))
        };
        let status = |code: u8| format!("{:?}", ExitCode::from(code));
        let (done, refused, failed) = (Fate::Done, Fate::Refused("r".into()), Fate::Failed("f".into()));
        assert_eq!(code(&[], 0), status(0));
        assert_eq!(code(&[done.clone(), Fate::Possible("p".into())], 0), status(0));
        assert_eq!(code(&[done.clone(), refused.clone()], 0), status(1));
        assert_eq!(code(&[], 1), status(1));
        assert_eq!(code(&[done, failed, refused], 0), status(2));
    }

    #[test]
    fn a_choice_is_by_message_id_and_by_reason() {
        let letter = letter_of(message(0, None));
        let has = |message_ids: &[&str], reasons: &[Reason]| {
            let message_ids: Vec<String> = message_ids.iter().map(|id| (*id).to_owned()).collect();
            Choice { message_ids: &message_ids, reasons, max: 1 }.has(&letter)
        };
        assert!(has(&[], &[]) && has(&["m"], &[]) && has(&[], &[Reason::Good]) && has(&["n", "m"], &[Reason::Good]));
        assert!(!has(&["n"], &[]) && !has(&[], &[Reason::Conflict]) && !has(&["m"], &[Reason::Conflict]));
    }

    #[test]
    fn what_is_done_is_not_made_visible_again() {
        let mut results = Results { hidden: Receipts::from([("m".into(), "r".into())]), ..Results::default() };
        let letter = letter_of(message(0, None));
        results.note(&letter, Fate::Failed("f".into()));
        assert_eq!(results.hidden.len(), 1);
        results.note(&letter, Fate::Done);
        assert!(results.hidden.is_empty());
    }
}
