//! `notifyctl dlq show`: one dead letter, or those of one notification.

use super::discard::attribute;
use super::letter::{Letter, judge, message_id};
use crate::error::Error;
use crate::output;
use crate::stack::{Stack, dead_letters};
use aws_sdk_sqs::types::Message;
use clap::Args;
use notification::event::readable_id;
use serde_json::{Map, Value, json};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  notifyctl dlq show 3f6f3c1e-0d7e-4f6b-9f7e-2f6c1a5d8f10
  notifyctl dlq show rfd-000007 --event

Exit status: 1 if it is not in the dead-letter queue.";

/// Show one message, or those of one notification
///
/// Reads the queue until the message is found; for a notification id, the whole queue. SQS shows messages only by receiving
/// them: they are hidden while the command runs, and their receive count rises.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub(crate) struct DlqShowArgs {
    /// An SQS message id, or a notification id
    #[arg(value_name = "ID")]
    id: String,

    /// Show the message's body, too, which may contain personal data
    #[arg(long)]
    event: bool,
}

/// Messages of one notification that are shown, at most.
const SHOWN: usize = 20;

/// Dead letters that were looked for.
pub(crate) struct Found {
    pub(crate) letters: Vec<Letter>,
    /// How many more there are.
    pub(crate) more: usize,
    /// Whether as many messages were read as SQS counts.
    pub(crate) is_complete: bool,
}

/// Looks for the message with this id, or for those of the notification with this id. Every message that is read is hidden
/// until the end.
pub(crate) async fn find(stack: &Stack, id: &str) -> Result<Found, Error> {
    let mut letters: Vec<Letter> = Vec::new();
    let mut more = 0;
    let seen = dead_letters::each(stack, async |messages: Vec<Message>| {
        let mut wanted: Vec<Message> = messages.into_iter().filter(|message| is_wanted(id, message)).collect();
        let is_it = wanted.iter().any(|message| message_id(message) == id);
        more += wanted.split_off(wanted.len().min(SHOWN - letters.len())).len();
        letters.extend(judge(stack, wanted).await?);
        Ok(is_it)
    })
    .await?;
    Ok(Found { letters, more, is_complete: seen.is_complete() })
}

pub(super) async fn run(stack: &Stack, args: &DlqShowArgs, json: bool) -> Result<ExitCode, Error> {
    let Found { letters: found, more, is_complete } = find(stack, &args.id).await?;
    if json {
        output::json(&found.iter().map(|letter| shown(letter, args.event)).collect::<Vec<_>>());
    } else {
        for (place, letter) in found.iter().enumerate() {
            if place > 0 {
                output::line("");
            }
            print(letter, args.event);
        }
        if more > 0 {
            output::line(format_args!("  … and {} more messages with this id", output::thousands(more)));
        }
    }
    if !found.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if !json {
        let all = if is_complete { "" } else { " that were read, but SQS counts more: run it again" };
        output::line(format_args!("{} is not among the dead letters{all}", args.id));
    }
    Ok(ExitCode::FAILURE)
}

fn is_wanted(id: &str, message: &Message) -> bool {
    let is_its_id = || readable_id(message.body().unwrap_or_default()).is_some_and(|its| its.as_str() == id);
    message_id(message) == id || is_its_id()
}

/// What is shown of a letter. Its body only if asked.
fn shown(letter: &Letter, with_body: bool) -> Value {
    let attributes = letter.message.message_attributes().into_iter().flatten();
    let attributes: Map<String, Value> = attributes.map(|(name, value)| (name.clone(), attribute(value))).collect();
    let mut shown = json!({
        "message_id": letter.message_id(),
        "id": letter.id.as_ref().map(ToString::to_string),
        "reason": letter.reason,
        "why": letter.why,
        "what_to_do": letter.reason.what_to_do(),
        "first_sent_at": letter.first_sent_at().map(|time| format!("{time:.3}")),
        "receives": letter.receives(),
        "bytes": letter.body().len(),
        "attributes": attributes,
    });
    if with_body {
        shown["body"] = letter.body().into();
    }
    shown
}

fn print(letter: &Letter, with_body: bool) {
    let Value::Object(shown) = shown(letter, with_body) else { return };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows =
        shown.iter().filter(|(_, value)| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty()));
    output::pairs(rows.map(|(name, value)| (name.clone(), text(value))));
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::{EVENT, letter_of, message};
    use super::*;

    #[test]
    fn a_message_is_found_by_its_own_id_and_by_its_notifications() {
        let message = message(0, None);
        assert_eq!(["m", "a", "b"].map(|id| is_wanted(id, &message)), [true, true, false]);
    }

    #[test]
    fn the_body_is_shown_only_if_asked() {
        let letter = letter_of(message(0, Some("5000")));
        let (without, with) = (shown(&letter, false), shown(&letter, true));
        assert!(!without.to_string().contains("specversion"), "{without}");
        assert_eq!(with["body"], EVENT);
        assert_eq!((&without["reason"], &without["bytes"]), (&json!("good"), &json!(EVENT.len())));
    }
}
