//! `notifyctl dlq redrive`: moves dead letters back to the queue.
//!
//! A message is sent to the queue, and then deleted from the dead-letter queue. If the command ends in between, both queues
//! have it, and ingest recognises the second one as a duplicate.

use crate::cli::DlqRedriveArgs;
use crate::dead_letters::{self, show_again};
use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use aws::SystemClock;
use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName};
use futures_util::stream::{self, StreamExt};
use notification::event::readable_id;
use notification::{Clock, NotificationId, Timestamp, limits};
use serde_json::json;
use std::process::ExitCode;

/// The message attribute with the time when a redriven message was first sent, in milliseconds since the Unix epoch. For SQS,
/// it is a new message.
const FIRST_SENT_AT: &str = "first_sent_at";

const HOURS_OF_A_DAY: i64 = 24;

/// A dead letter, and whether it is moved.
struct Letter {
    message: Message,
    fate: Fate,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// It may be moved. It was first sent at this time.
    Movable(Timestamp),
    Moved,
    /// It may not be moved, for this reason.
    Refused(String),
    /// It could not be moved, for this reason.
    Failed(String),
}

pub(crate) async fn redrive(stack: &Stack, args: &DlqRedriveArgs, json: bool) -> Result<ExitCode, Error> {
    let taken = dead_letters::take(stack, |taken| is_enough(args, taken)).await?;
    let (mut chosen, mut left): (Vec<_>, Vec<_>) = taken.into_iter().partition(|message| is_wanted(args, message));
    left.extend(chosen.split_off(chosen.len().min(usize::from(args.max))));
    let now = SystemClock.now();
    let judged = chosen.into_iter().map(|message| judge(message, stack.done_retention_days, now));
    let mut letters: Vec<Letter> = judged.collect();
    if args.yes || letters.iter().filter(|letter| letter.is_movable()).count() <= 1 {
        let moves = stream::iter(letters).map(|letter| move_it(stack, letter));
        letters = moves.buffered(limits::CALLS_IN_FLIGHT).collect().await;
    }
    let kept = letters.iter().filter(|letter| letter.fate != Fate::Moved).map(|letter| &letter.message);
    show_again(stack, kept.chain(&left).filter_map(|message| message.receipt_handle.as_ref())).await;
    let missing = missing(args, &letters);
    report(&letters, &missing, json);
    Ok(exit(&letters, &missing))
}

fn id(message: &Message) -> &str {
    message.message_id.as_deref().unwrap_or_default()
}

fn is_wanted(args: &DlqRedriveArgs, message: &Message) -> bool {
    args.message_ids.is_empty() || args.message_ids.iter().any(|wanted| wanted == id(message))
}

fn is_enough(args: &DlqRedriveArgs, taken: &[Message]) -> bool {
    let wanted = if args.message_ids.is_empty() { usize::from(args.max) } else { args.message_ids.len() };
    taken.iter().filter(|message| is_wanted(args, message)).count() >= wanted
}

/// Requested message ids that are not in the dead-letter queue.
fn missing<'a>(args: &'a DlqRedriveArgs, letters: &[Letter]) -> Vec<&'a str> {
    let is_there = |wanted: &str| letters.iter().any(|letter| id(&letter.message) == wanted);
    args.message_ids.iter().map(String::as_str).filter(|wanted| !is_there(wanted)).collect()
}

/// Decides whether a message may be moved: not if the table may forget its id while SQS still has the message.
fn judge(message: Message, done_retention_days: u32, now: Timestamp) -> Letter {
    let days = limits::redrive_days(done_retention_days);
    let fate = match first_sent_at(&message) {
        None => Fate::Refused(format!(
            "SQS does not say when it was sent, or its attribute {FIRST_SENT_AT} is not a time; find out whether its effect \
                 has happened; if not, have upstream send it under a new id; then delete it"
        )),
        Some(sent) if now.duration_since(sent).as_hours() >= i64::from(days) * HOURS_OF_A_DAY => {
            let age = now.duration_since(sent).as_hours() / HOURS_OF_A_DAY;
            Fate::Refused(format!(
                "first sent {sent:.0}, {age} days ago ({days} days are allowed); the table may forget its id, and its effect \
                 may happen twice: find out whether its effect has happened; if not, have upstream send it under a new id; then \
                 delete it"
            ))
        }
        Some(sent) => Fate::Movable(sent),
    };
    Letter { message, fate }
}

/// When a message was first sent, by its attribute or by SQS, whichever is earlier.
fn first_sent_at(message: &Message) -> Option<Timestamp> {
    let time = |millis: &str| Timestamp::from_millisecond(millis.parse().ok()?).ok();
    let sent = time(message.attributes()?.get(&MessageSystemAttributeName::SentTimestamp)?)?;
    match message.message_attributes().and_then(|attributes| attributes.get(FIRST_SENT_AT)) {
        None => Some(sent),
        Some(carried) => Some(time(carried.string_value()?)?.min(sent)),
    }
}

/// Moves a message, if it may be moved.
async fn move_it(stack: &Stack, mut letter: Letter) -> Letter {
    if let Fate::Movable(first_sent) = letter.fate {
        let moved = send_and_delete(stack, &letter.message, first_sent).await;
        letter.fate = moved.map_or_else(|error| Fate::Failed(error.to_string()), |()| Fate::Moved);
    }
    letter
}

async fn send_and_delete(stack: &Stack, message: &Message, first_sent: Timestamp) -> Result<(), Error> {
    let carried = MessageAttributeValue::builder()
        .data_type("Number")
        .string_value(first_sent.as_millisecond().to_string())
        .build()
        .map_err(Error::failed("SendMessage"))?;
    let mut attributes = message.message_attributes().cloned().unwrap_or_default();
    attributes.insert(FIRST_SENT_AT.to_owned(), carried);
    stack
        .sqs
        .send_message()
        .queue_url(&stack.queue_url)
        .set_message_body(message.body.clone())
        .set_message_attributes(Some(attributes))
        .send()
        .await
        .map_err(Error::aws("SendMessage"))?;
    stack
        .sqs
        .delete_message()
        .queue_url(&stack.dead_letter_queue_url)
        .set_receipt_handle(message.receipt_handle.clone())
        .send()
        .await
        .map_err(Error::aws("DeleteMessage"))?;
    Ok(())
}

fn report(letters: &[Letter], missing: &[&str], json: bool) {
    let moved = letters.iter().filter(|letter| letter.fate == Fate::Moved).count();
    let movable = letters.iter().filter(|letter| letter.is_movable()).count();
    if json {
        let messages: Vec<_> = letters.iter().map(Letter::json).collect();
        let result = json!({"moved": moved, "movable": movable, "messages": messages, "missing": missing});
        return output::json(&result);
    }
    for letter in letters {
        output::line(letter.text());
    }
    for id in missing {
        output::line(output::verdict(false, &format!("{id}: not in the dead-letter queue")));
    }
    if movable > 0 {
        output::line(format!("nothing was moved; --yes moves {} messages", output::thousands(movable)));
    } else {
        output::line(format!("messages moved to the queue: {}", output::thousands(moved)));
    }
}

fn exit(letters: &[Letter], missing: &[&str]) -> ExitCode {
    let status = letters.iter().map(|letter| match letter.fate {
        Fate::Movable(_) | Fate::Moved => 0,
        Fate::Refused(_) => 1,
        Fate::Failed(_) => 2,
    });
    ExitCode::from(status.chain(missing.iter().map(|_| 1)).max().unwrap_or(0))
}

impl Letter {
    fn is_movable(&self) -> bool {
        matches!(self.fate, Fate::Movable(_))
    }

    fn notification_id(&self) -> Option<NotificationId> {
        readable_id(self.message.body()?)
    }

    fn text(&self) -> String {
        let name = match self.notification_id() {
            Some(notification) => format!("{} ({notification})", id(&self.message)),
            None => id(&self.message).to_owned(),
        };
        match &self.fate {
            Fate::Movable(sent) => output::undecided(&format!("{name}: first sent {sent:.0}, would be moved")),
            Fate::Moved => output::verdict(true, &format!("{name}: moved")),
            Fate::Refused(reason) => output::verdict(false, &format!("{name}: not moved: {reason}")),
            Fate::Failed(reason) => output::verdict(false, &format!("{name}: {reason}")),
        }
    }

    fn json(&self) -> serde_json::Value {
        let (fate, reason) = match &self.fate {
            Fate::Movable(_) => ("movable", None),
            Fate::Moved => ("moved", None),
            Fate::Refused(reason) => ("refused", Some(reason)),
            Fate::Failed(reason) => ("failed", Some(reason)),
        };
        let notification = self.notification_id().map(|notification| notification.to_string());
        json!({"message_id": id(&self.message), "id": notification, "result": fate, "reason": reason})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60;

    fn message(sent: i64, carried: Option<&str>) -> Message {
        let message = Message::builder()
            .message_id("m")
            .attributes(MessageSystemAttributeName::SentTimestamp, (sent * 1000).to_string());
        let carried = carried
            .map(|millis| MessageAttributeValue::builder().data_type("Number").string_value(millis).build().unwrap());
        match carried {
            Some(carried) => message.message_attributes(FIRST_SENT_AT, carried).build(),
            None => message.build(),
        }
    }

    fn fate(message: Message, done_retention_days: u32, now: i64) -> Fate {
        judge(message, done_retention_days, Timestamp::from_second(now).unwrap()).fate
    }

    #[test]
    fn a_dead_letter_may_be_redriven_until_it_could_outlive_the_memory_of_its_id() {
        // 90 days, less 14 in SQS, one of the table's stream and 7 of Kinesis.
        let sent = Timestamp::UNIX_EPOCH;
        assert_eq!(fate(message(0, None), 90, 68 * DAY - 1), Fate::Movable(sent));
        let Fate::Refused(reason) = fate(message(0, None), 90, 68 * DAY) else { panic!("moved") };
        assert!(reason.contains("first sent 1970-01-01T00:00:00Z, 68 days ago"), "{reason}");
        assert!(reason.contains("(68 days are allowed)") && reason.contains("under a new id"), "{reason}");
        // The shortest retention allows one redrive: SQS keeps a message that was never redriven for 14 days.
        assert_eq!(fate(message(0, None), 36, 14 * DAY - 1), Fate::Movable(sent));
    }

    #[test]
    fn a_message_that_was_redriven_before_counts_from_its_first_sending() {
        let again = message(60 * DAY, Some("5000"));
        assert_eq!(fate(again.clone(), 90, 67 * DAY), Fate::Movable(Timestamp::from_second(5).unwrap()));
        assert!(matches!(fate(again, 90, 69 * DAY), Fate::Refused(_)));
        // If upstream sets the attribute, it cannot make a message younger.
        let later = message(0, Some(&(60 * DAY * 1000).to_string()));
        assert!(matches!(fate(later, 90, 69 * DAY), Fate::Refused(_)));
    }

    #[test]
    fn a_message_of_unknown_age_is_refused() {
        for carried in ["", "yesterday", "99999999999999999999"] {
            assert!(matches!(fate(message(0, Some(carried)), 90, 0), Fate::Refused(_)), "{carried}");
        }
        assert!(matches!(fate(Message::builder().message_id("m").build(), 90, 0), Fate::Refused(_)));
    }

    #[test]
    fn the_exit_status_is_that_of_the_worst_message() {
        let letter = |fate| Letter { message: message(0, None), fate };
        let code = |fates: &[Fate], missing: &[&str]| {
            let letters: Vec<_> = fates.iter().cloned().map(letter).collect();
            format!("{:?}", exit(&letters, missing))
        };
        let status = |code: u8| format!("{:?}", ExitCode::from(code));
        let (moved, refused, failed) = (Fate::Moved, Fate::Refused("r".into()), Fate::Failed("f".into()));
        assert_eq!(code(&[], &[]), status(0));
        assert_eq!(code(&[moved.clone(), Fate::Movable(Timestamp::UNIX_EPOCH)], &[]), status(0));
        assert_eq!(code(&[moved.clone(), refused.clone()], &[]), status(1));
        assert_eq!(code(&[], &["m2"]), status(1));
        assert_eq!(code(&[moved, failed, refused], &[]), status(2));
    }
}
