//! Reads the dead letters that an operator chose, and acts on them.
//!
//! SQS shows messages only by receiving them, in no order. So the queue is read some messages at a time: those that were chosen
//! are acted on, and everything else stays hidden until the end, so that it is not received again and again.

use super::letter::{Letter, Reason, judge};
use super::results::Results;
use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use crate::stack::dead_letters::{self, Receipts, show_again};
use aws_sdk_sqs::types::Message;
use notification::limits;

/// Which dead letters an operator chose.
pub(super) struct Choice<'a> {
    /// Only these messages; if empty, all.
    pub(super) message_ids: &'a [String],
    /// Only messages with one of these reasons; if empty, all.
    pub(super) reasons: &'a [Reason],
    /// At most this many of those that may be moved or discarded.
    pub(super) max: usize,
}

impl Choice<'_> {
    /// What becomes of a letter; `None` if it was not chosen.
    fn fate(&self, letter: &Letter, act: &impl Act) -> Option<Fate> {
        let is_named = self.message_ids.iter().any(|id| id == letter.message_id());
        if !self.message_ids.is_empty() && !is_named {
            return None;
        }
        if self.reasons.is_empty() || self.reasons.contains(&letter.reason) {
            return Some(act.judge(letter));
        }
        is_named.then(|| Fate::Refused("--reason does not name this reason".to_owned()))
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

    /// Whether this command has sent the message to the queue itself, and ingest has refused it since.
    fn is_back(&self, letter: &Letter) -> bool;

    /// Does so with all of these letters, and returns the fate of each in order. After an error, none of them was
    /// touched.
    async fn act(&mut self, stack: &Stack, letters: &[Letter]) -> Result<Vec<Fate>, Error>;
}

/// Acts on the chosen letters if `yes`, or if one is named by its message id and no other. Otherwise, finds what would
/// become of them. The results have the error that ended this early.
pub(super) async fn carry_out<A: Act>(stack: &Stack, choice: &Choice<'_>, yes: bool, act: &mut A) -> Results {
    let acts = yes || choice.message_ids.len() == 1;
    let mut results = Results::new(choice);
    let mut hidden = Receipts::new();
    results.error = some_at_a_time(stack, choice, acts, act, &mut results, &mut hidden).await.err();
    show_again(stack, hidden.values()).await;
    results
}

async fn some_at_a_time<A: Act>(
    stack: &Stack,
    choice: &Choice<'_>,
    acts: bool,
    act: &mut A,
    results: &mut Results,
    hidden: &mut Receipts,
) -> Result<(), Error> {
    results.seen.counted = dead_letters::count(stack).await?;
    loop {
        let letters = take(stack, choice, acts, act, results, hidden).await?;
        if letters.is_empty() {
            return Ok(());
        }
        let fates = act.act(stack, &letters).await?;
        let have_all_failed = fates.iter().all(|fate| matches!(fate, Fate::Failed(_)));
        for (letter, fate) in letters.iter().zip(fates) {
            if fate == Fate::Done {
                hidden.remove(letter.message_id());
            }
            results.note(letter, fate);
        }
        if results.is_over(choice) {
            return Ok(());
        }
        if have_all_failed {
            let last = output::plural(letters.len(), "message");
            let text = format!("stopped: none of the last {last} could be {}; fix the cause and run it again", A::DONE);
            return Err(Error::Failed(text));
        }
    }
}

/// Receives letters until there are some to act on, or no more. They and all others are hidden. Unless the command
/// acts, it notes what would become of each, and holds none of them.
async fn take<A: Act>(
    stack: &Stack,
    choice: &Choice<'_>,
    acts: bool,
    act: &A,
    results: &mut Results,
    hidden: &mut Receipts,
) -> Result<Vec<Letter>, Error> {
    let (mut taken, mut bytes): (Vec<Letter>, usize) = (Vec::new(), 0);
    dead_letters::hide(stack, hidden, async |messages: Vec<Message>| {
        for letter in judge(stack, messages).await? {
            if act.is_back(&letter) {
                results.refused_again += 1;
                continue;
            }
            match results.read(choice, &letter, choice.fate(&letter, act)) {
                Some(Fate::Possible(_)) if acts => {
                    bytes += letter.body().len();
                    taken.push(letter);
                }
                Some(fate) => results.note(&letter, fate),
                None => {}
            }
        }
        let is_enough = taken.len() >= limits::DEAD_LETTERS_AT_ONCE || bytes >= limits::DEAD_LETTERS_HELD_MAX_BYTES;
        Ok(is_enough || results.is_over(choice))
    })
    .await?;
    for letter in &mut taken {
        letter.message.receipt_handle = hidden.get(letter.message_id()).cloned();
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::{letter_of, message};
    use super::super::testing::{Sqs, good, stack};
    use super::*;
    use serde_json::{Value, json};

    /// Deletes letters, as far as it is told.
    #[derive(Default)]
    struct Delete {
        /// The batch that is an error.
        broken: Option<usize>,
        /// Whether each letter fails.
        fails: bool,
        batches: usize,
    }

    impl Act for Delete {
        const DONE: &'static str = "deleted";

        fn judge(&self, letter: &Letter) -> Fate {
            if letter.message_id().starts_with("old") {
                return Fate::Refused("it is old".to_owned());
            }
            Fate::Possible("would be deleted".to_owned())
        }

        fn is_back(&self, _: &Letter) -> bool {
            false
        }

        async fn act(&mut self, stack: &Stack, letters: &[Letter]) -> Result<Vec<Fate>, Error> {
            self.batches += 1;
            if self.broken == Some(self.batches) {
                return Err(Error::Failed("broken".to_owned()));
            }
            if self.fails {
                return Ok(vec![Fate::Failed("no".to_owned()); letters.len()]);
            }
            for letter in letters {
                let delete = stack.sqs.delete_message().queue_url("dead");
                delete.set_receipt_handle(letter.message.receipt_handle.clone()).send().await.unwrap();
            }
            Ok(vec![Fate::Done; letters.len()])
        }
    }

    async fn run(sqs: &Sqs, message_ids: &[&str], max: usize, yes: bool, act: &mut Delete) -> (Value, String) {
        let message_ids: Vec<String> = message_ids.iter().map(|&id| id.to_owned()).collect();
        let choice = Choice { message_ids: &message_ids, reasons: &[], max };
        let results = carry_out(&stack(sqs).await, &choice, yes, act).await;
        (results.json::<Delete>(&choice, None), results.text::<Delete>(&choice, None).join("\n"))
    }

    /// The figures of a result, without its messages.
    fn figures(result: &Value) -> Value {
        let names = ["deleted", "possible", "read", "counted", "complete", "stopped_at_max", "missing"];
        names.iter().map(|&name| result[name].clone()).collect()
    }

    #[test]
    fn a_choice_is_by_message_id_and_by_reason() {
        let letter = letter_of(message(0, None));
        let fate = |message_ids: &[&str], reasons: &[Reason]| {
            let message_ids: Vec<String> = message_ids.iter().map(|&id| id.to_owned()).collect();
            Choice { message_ids: &message_ids, reasons, max: 1 }.fate(&letter, &Delete::default())
        };
        for (message_ids, reasons) in [(&[][..], &[][..]), (&["m"], &[]), (&[], &[Reason::Good]), (&["n", "m"], &[])] {
            assert_eq!(fate(message_ids, reasons), Some(Fate::Possible("would be deleted".to_owned())));
        }
        assert_eq!((fate(&["n"], &[]), fate(&[], &[Reason::Conflict])), (None, None));
        assert!(
            matches!(fate(&["m"], &[Reason::Conflict]), Some(Fate::Refused(_))),
            "one that is named is not passed over"
        );
    }

    #[tokio::test]
    async fn messages_that_another_reader_has_are_counted_and_the_result_is_not_complete() {
        let sqs = Sqs::with(good(0..3));
        sqs.lock().another_reader_has = 4_000;
        let (result, text) = run(&sqs, &[], 10, true, &mut Delete::default()).await;
        assert_eq!(figures(&result), json!([3, 0, 3, 4_003, false, false, []]));
        assert!(text.contains("? 3 of about 4,003 messages were read; another reader may have the others"), "{text}");
        let (result, text) = run(&sqs, &["m00000"], 10, true, &mut Delete::default()).await;
        assert_eq!(figures(&result), json!([0, 0, 0, 4_000, false, false, ["m00000"]]));
        assert!(text.contains("m00000: not among the messages that were read"), "{text}");
    }

    #[tokio::test]
    async fn below_the_maximum_everything_is_acted_on_and_the_result_is_complete() {
        let sqs = Sqs::with(good(0..2_345));
        let (result, text) = run(&sqs, &[], 1_000_000, true, &mut Delete::default()).await;
        assert_eq!(figures(&result), json!([2_345, 0, 2_345, 2_345, true, false, []]));
        assert!(text.ends_with("messages deleted: 2,345"), "{text}");
        let (result, text) = run(&sqs, &["m00000"], 1_000_000, true, &mut Delete::default()).await;
        assert_eq!(figures(&result), json!([0, 0, 0, 0, true, false, ["m00000"]]));
        assert!(text.contains("m00000: not in the dead-letter queue"), "{text}");
    }

    #[tokio::test]
    async fn the_maximum_is_named_when_messages_are_left() {
        let sqs = Sqs::with(good(0..1_000));
        let (result, text) = run(&sqs, &[], 300, true, &mut Delete::default()).await;
        assert_eq!(
            (&result["deleted"], &result["stopped_at_max"], &result["complete"]),
            (&json!(300), &json!(true), &json!(false))
        );
        assert!(text.contains("? stopped after 300 messages (--max), with about 700 left"), "{text}");
        assert_eq!(sqs.visible(), 700, "they can be received again");
        let (result, _) = run(&sqs, &[], 700, true, &mut Delete::default()).await;
        assert_eq!(figures(&result), json!([700, 0, 700, 700, true, false, []]), "none is left");
    }

    #[tokio::test]
    async fn the_maximum_does_not_count_what_is_refused() {
        let mut messages = good(0..5);
        messages.extend((0..50).map(|n| (format!("old{n}"), "no JSON".to_owned())));
        let sqs = Sqs::with(messages);
        let (result, _) = run(&sqs, &[], 5, true, &mut Delete::default()).await;
        assert_eq!(result["deleted"], 5);
    }

    #[tokio::test]
    async fn without_yes_everything_is_listed_however_much_it_is_and_stays() {
        let sqs = Sqs::with(good(0..1_234));
        // 68 MB of bodies.
        sqs.lock().padding = 55_000;
        let (result, text) = run(&sqs, &[], 1_000_000, false, &mut Delete::default()).await;
        assert_eq!(figures(&result), json!([0, 1_234, 1_234, 1_234, true, false, []]));
        assert!(text.ends_with("nothing was deleted: 1,234 messages can be; add --yes"), "{text}");
        assert_eq!(sqs.visible(), 1_234);
    }

    #[tokio::test]
    async fn one_message_is_acted_on_without_yes_only_if_no_other_was_named() {
        let sqs = Sqs::with(vec![("old".to_owned(), "no JSON".to_owned()), ("young".to_owned(), "no JSON".to_owned())]);
        let (result, _) = run(&sqs, &["old", "young"], 10, false, &mut Delete::default()).await;
        assert_eq!(figures(&result), json!([0, 1, 2, 2, true, false, []]), "one of two is possible");
        let (result, _) = run(&sqs, &["young"], 10, false, &mut Delete::default()).await;
        assert_eq!(result["deleted"], 1);
    }

    #[tokio::test]
    async fn an_error_in_a_later_batch_does_not_hide_what_was_done_before() {
        let sqs = Sqs::with(good(0..1_000));
        let (result, text) =
            run(&sqs, &[], 1_000_000, true, &mut Delete { broken: Some(3), ..Delete::default() }).await;
        let done = result["deleted"].as_u64().unwrap();
        assert!(done >= 200 && done + sqs.visible() as u64 == 1_000, "{done}");
        assert_eq!((&result["error"], &result["complete"]), (&json!("broken"), &json!(false)));
        assert!(text.contains(&format!("messages deleted: {done}")), "{text}");
    }

    #[tokio::test]
    async fn a_command_whose_messages_all_fail_stops() {
        let sqs = Sqs::with(good(0..1_000));
        let mut act = Delete { fails: true, ..Delete::default() };
        let (result, _) = run(&sqs, &[], 1_000_000, true, &mut act).await;
        assert_eq!((act.batches, sqs.visible()), (1, 1_000));
        assert!(result["error"].as_str().unwrap().contains("none of the last"), "{result}");
    }
}
