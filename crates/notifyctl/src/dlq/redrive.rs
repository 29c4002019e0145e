//! `notifyctl dlq redrive`: moves dead letters back to the queue.
//!
//! A message is sent to the queue, and then deleted from the dead-letter queue. If the command ends in between, both queues
//! have it, and ingest recognises the second one as a duplicate.

use super::chosen::{Act, Choice, Fate, carry_out};
use super::letter::{FIRST_SENT_AT, Letter, Reason};
use super::max;
use super::results::Results;
use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use crate::time::{after, since};
use aws::SystemClock;
use aws_sdk_sqs::types::MessageAttributeValue;
use clap::Args;
use futures_util::stream::{self, StreamExt};
use notification::{Clock, Timestamp, limits};
use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

const HOURS_OF_A_DAY: i64 = 24;

const EXAMPLES: &str = "\
Examples:
  notifyctl dlq redrive                                    list the messages that would be moved
  notifyctl dlq redrive --yes --rate 20                    twenty a second
  notifyctl dlq redrive 3f6f3c1e-0d7e-4f6b-9f7e-2f6c1a5d8f10    one, by its message id
  notifyctl dlq redrive --reason malformed --yes           they are refused again, unless another ingest is deployed

Exit status: 0 all were moved or listed; 1 some were refused, not found, beyond --max, or hidden by another reader; 2 some
could not be moved.";

/// Move messages back to the queue (without --yes, list them, unless you name one and no other)
///
/// Moves messages that would be accepted now: the table could not be written when they were refused. Others are moved only if
/// you name their reason or their message ids; ingest refuses malformed messages and conflicts again.
///
/// A message is sent to the queue, then deleted from the dead-letter queue. If the command ends in between, both queues
/// have it, and the second is a duplicate. A message that is refused again while the command runs is not moved again.
/// All messages are hidden while the command runs, and for up to 5 minutes if it is interrupted.
///
/// For SQS, a redriven message is a new one, which it keeps for 14 more days. So the attribute first_sent_at records when it was
/// first sent. A message that SQS could keep for longer than the table remembers its id (the stack's DoneRetentionDays, less 22
/// days) is refused, because its effect could happen twice. The DLQ redrive of the SQS console does not check this.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub(crate) struct DlqRedriveArgs {
    /// SQS message ids, as in `notifyctl dlq list` and ingest's log [default: all messages]
    #[arg(value_name = "MESSAGE_ID")]
    message_ids: Vec<String>,

    /// Move messages with this reason [default: good, or any if message ids are named]
    #[arg(long, value_name = "REASON")]
    reason: Vec<Reason>,

    /// Move this many messages a second
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,

    /// Move at most this many messages
    #[arg(long, value_name = "N", default_value_t = limits::DEAD_LETTERS_MAX, value_parser = max())]
    max: u32,

    /// Move the messages, instead of listing them
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(stack: &Stack, args: &DlqRedriveArgs, json: bool) -> Result<ExitCode, Error> {
    let default = if args.message_ids.is_empty() { &[Reason::Good][..] } else { &[] };
    let reasons = if args.reason.is_empty() { default } else { &args.reason };
    let choice = Choice { message_ids: &args.message_ids, reasons, max: args.max as usize };
    let mut redrive = Redrive { done_retention_days: stack.done_retention_days, rate: args.rate, sent: HashSet::new() };
    let results = carry_out(stack, &choice, args.yes, &mut redrive).await;
    let warning = warning(&results);
    results.report::<Redrive>(&choice, warning, json)
}

fn warning(results: &Results) -> Option<&'static str> {
    (results.has(Reason::Malformed) || results.has(Reason::Conflict)).then_some(
        "ingest refuses malformed messages and conflicts again: they are back in the dead-letter queue within three minutes",
    )
}

struct Redrive {
    done_retention_days: u32,
    /// Messages to move in a second.
    rate: u32,
    /// The message ids that SendMessage returned. A message that is refused again keeps its id in the dead-letter
    /// queue.
    sent: HashSet<String>,
}

impl Redrive {
    /// A message may be moved unless the table may forget its id while SQS still has the message.
    fn judge_at(&self, letter: &Letter, now: Timestamp) -> Fate {
        let days = limits::redrive_days(self.done_retention_days);
        match letter.first_sent_at() {
            None => Fate::Refused(format!(
                "SQS does not say when it was sent, or its attribute {FIRST_SENT_AT} is not a time; find out whether its effect \
                 has happened; if not, have upstream send it under a new id; then discard it"
            )),
            Some(sent) if now.duration_since(sent).as_hours() >= i64::from(days) * HOURS_OF_A_DAY => {
                let age = now.duration_since(sent).as_hours() / HOURS_OF_A_DAY;
                Fate::Refused(format!(
                    "first sent {sent:.0}, {age} days ago ({days} days are allowed); the table may forget its id, and its effect \
                     may happen twice: find out whether its effect has happened; if not, have upstream send it under a new id; \
                     then discard it"
                ))
            }
            Some(_) if !has_room(letter) => Fate::Refused(format!(
                "it has {} message attributes, the most that SQS allows, and {FIRST_SENT_AT} would be one more: have \
                 upstream send the event again, under the same id and with fewer message attributes; then discard this \
                 message",
                limits::SQS_ATTRIBUTES_MAX
            )),
            Some(sent) => Fate::Possible(format!("first sent {sent:.0}, would be moved")),
        }
    }
}

impl Act for Redrive {
    const DONE: &'static str = "moved";

    // At its own time: a redrive may take days.
    fn judge(&self, letter: &Letter) -> Fate {
        self.judge_at(letter, SystemClock.now())
    }

    fn is_back(&self, letter: &Letter) -> bool {
        self.sent.contains(letter.message_id())
    }

    async fn act(&mut self, stack: &Stack, letters: &[Letter]) -> Result<Vec<Fate>, Error> {
        let started = SystemClock.now();
        let bar = output::progress(letters.len(), "moving");
        let moves = (0..).zip(letters).map(|(place, letter)| {
            let due = after(started, Duration::from_secs(1) * place / self.rate);
            let bar = &bar;
            async move {
                SystemClock.sleep(since(SystemClock.now(), due)).await;
                let moved = send_and_delete(stack, letter).await;
                bar.inc(1);
                moved
            }
        });
        let moved: Vec<(Option<String>, Fate)> = stream::iter(moves).buffered(limits::CALLS_IN_FLIGHT).collect().await;
        bar.finish_and_clear();
        let (sent, fates): (Vec<_>, Vec<_>) = moved.into_iter().unzip();
        self.sent.extend(sent.into_iter().flatten());
        Ok(fates)
    }
}

/// Whether a letter has its attribute already, or may get it.
fn has_room(letter: &Letter) -> bool {
    let attributes = letter.message.message_attributes();
    attributes.is_none_or(|attributes| {
        attributes.contains_key(FIRST_SENT_AT) || attributes.len() < limits::SQS_ATTRIBUTES_MAX
    })
}

/// Moves a letter. Returns its new message id, if it was sent, and its fate.
async fn send_and_delete(stack: &Stack, letter: &Letter) -> (Option<String>, Fate) {
    let new_id = match send(stack, letter).await {
        Ok(new_id) => new_id,
        Err(error) => return (None, Fate::Failed(error.to_string())),
    };
    let delete = stack.sqs.delete_message().queue_url(&stack.dead_letter_queue_url);
    let deleted = delete.set_receipt_handle(letter.message.receipt_handle.clone()).send().await;
    let fate = deleted.map_err(Error::aws("DeleteMessage")).map_or_else(
        |error| {
            Fate::Failed(format!(
                "it was sent to the queue, but is still a dead letter, too: {error}; when it is a duplicate, discard it"
            ))
        },
        |_| Fate::Done,
    );
    (new_id, fate)
}

/// Sends a letter to the queue. Returns its new message id.
async fn send(stack: &Stack, letter: &Letter) -> Result<Option<String>, Error> {
    let first_sent = letter.first_sent_at().map(Timestamp::as_millisecond).unwrap_or_default();
    let carried = MessageAttributeValue::builder()
        .data_type("Number")
        .string_value(first_sent.to_string())
        .build()
        .map_err(Error::failed("SendMessage"))?;
    let mut attributes = letter.message.message_attributes().cloned().unwrap_or_default();
    attributes.insert(FIRST_SENT_AT.to_owned(), carried);
    let call = stack.sqs.send_message().queue_url(&stack.queue_url);
    let call = call.set_message_body(letter.message.body.clone()).set_message_attributes(Some(attributes));
    Ok(call.send().await.map_err(Error::aws("SendMessage"))?.message_id)
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::{letter_of, message};
    use super::super::testing::{Sqs, malformed, stack};
    use super::*;
    use aws_sdk_sqs::types::Message;

    const DAY: i64 = 24 * 60 * 60;

    fn redrive(done_retention_days: u32) -> Redrive {
        Redrive { done_retention_days, rate: 1_000, sent: HashSet::new() }
    }

    fn fate(message: Message, done_retention_days: u32, now: i64) -> Fate {
        redrive(done_retention_days).judge_at(&letter_of(message), Timestamp::from_second(now).unwrap())
    }

    #[tokio::test]
    async fn a_message_that_ingest_refuses_again_is_moved_once() {
        let sqs = Sqs::with(malformed(0..150));
        sqs.lock().ingest_refuses = true;
        let choice = Choice { message_ids: &[], reasons: &[Reason::Malformed], max: 1_000 };
        let results = carry_out(&stack(&sqs).await, &choice, true, &mut redrive(90)).await;
        assert_eq!((results.refused_again, results.seen.read, sqs.visible()), (150, 150, 150));
        let text = results.text::<Redrive>(&choice, None);
        assert_eq!(text.last().unwrap(), "  moved, refused again, and back in the dead-letter queue: 150");
    }

    #[test]
    fn a_message_that_has_no_room_for_its_first_sending_is_refused() {
        let with = |attributes: usize, carried| {
            let mut message = message(0, carried);
            let value = MessageAttributeValue::builder().data_type("String").string_value("v").build().unwrap();
            let all = message.message_attributes.get_or_insert_default();
            all.extend((all.len()..attributes).map(|n| (format!("a{n}"), value.clone())));
            fate(message, 90, 0)
        };
        assert!(matches!(with(9, None), Fate::Possible(_)));
        assert!(matches!(with(10, Some("0")), Fate::Possible(_)));
        let Fate::Refused(why) = with(10, None) else { panic!("it would be the eleventh") };
        assert!(why.contains("has 10 message attributes") && why.contains("under the same id"), "{why}");
    }

    #[test]
    fn a_dead_letter_may_be_redriven_until_it_could_outlive_the_memory_of_its_id() {
        // 90 days, less 14 in SQS, one of the table's stream and 7 of Kinesis.
        let movable = Fate::Possible("first sent 1970-01-01T00:00:00Z, would be moved".to_owned());
        assert_eq!(fate(message(0, None), 90, 68 * DAY - 1), movable);
        let Fate::Refused(reason) = fate(message(0, None), 90, 68 * DAY) else { panic!("moved") };
        assert!(reason.contains("first sent 1970-01-01T00:00:00Z, 68 days ago"), "{reason}");
        assert!(reason.contains("(68 days are allowed)") && reason.contains("under a new id"), "{reason}");
        // The shortest retention allows one redrive: SQS keeps a message that was never redriven for 14 days.
        assert_eq!(fate(message(0, None), 36, 14 * DAY - 1), movable);
    }

    #[test]
    fn a_message_that_was_redriven_before_is_judged_by_its_first_sending() {
        let again = message(60 * DAY, Some("5000"));
        assert!(matches!(fate(again.clone(), 90, 67 * DAY), Fate::Possible(_)));
        assert!(matches!(fate(again, 90, 69 * DAY), Fate::Refused(_)));
        let later = message(0, Some(&(60 * DAY * 1000).to_string()));
        assert!(matches!(fate(later, 90, 69 * DAY), Fate::Refused(_)));
    }

    #[test]
    fn a_message_of_unknown_age_is_refused() {
        assert!(matches!(fate(message(0, Some("yesterday")), 90, 0), Fate::Refused(_)));
        assert!(matches!(fate(Message::builder().message_id("m").build(), 90, 0), Fate::Refused(_)));
    }
}
