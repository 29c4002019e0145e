//! `notifyctl status`: shows one notification, and what happened to it.

use crate::cli::StatusArgs;
use crate::error::Error;
use crate::stack::Stack;
use crate::{output, timeline};
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Map, Value};
use std::process::ExitCode;

/// The attributes, the most interesting ones first.
const ATTRIBUTES: [&str; 20] = [
    "id",
    "status",
    "source",
    "type",
    "received_at",
    "pending_since",
    "unknown_call_at",
    "put_back_at",
    "owner",
    "lease_until",
    "done_at",
    "failed_at",
    "in_doubt_at",
    "reason",
    "reason_code",
    "last_failure_at",
    "failures",
    "outcome",
    "expires_at",
    "raw_bytes",
];

/// A notification as it is shown.
pub(crate) struct Shown {
    pub(crate) attributes: Vec<(&'static str, String)>,
    pub(crate) timeline: Vec<timeline::Event>,
}

/// Reads a notification, with its event only if that is asked for. `None` if it is not in the table.
pub(crate) async fn read(stack: &Stack, id: &str, event: bool) -> Result<Option<Shown>, Error> {
    let call = stack.dynamodb.get_item().table_name(&stack.table_name).key("id", AttributeValue::S(id.to_owned()));
    let answer = call.consistent_read(true).send().await.map_err(Error::aws("GetItem"))?;
    let shown = answer.item.map(|item| {
        let attribute = |name| match item.get(name)? {
            AttributeValue::S(text) | AttributeValue::N(text) => Some((name, text.clone())),
            _ => None,
        };
        let attributes = ATTRIBUTES.into_iter().chain(event.then_some("event")).filter_map(attribute).collect();
        Shown { attributes, timeline: timeline::of(&item) }
    });
    Ok(shown)
}

/// What to make of a notification that is not in the table.
pub(crate) const ABSENT: &str = "is not in the table: still in the queue, refused (see `notifyctl dlq list`), never sent, or DONE longer ago than the table keeps it";

pub(crate) async fn run(stack: &Stack, args: &StatusArgs, json: bool) -> Result<ExitCode, Error> {
    let Some(Shown { attributes, timeline: events }) = read(stack, &args.id, args.event).await? else {
        if json {
            output::json(&Value::Null);
        } else {
            output::line(format_args!("{} {ABSENT}", args.id));
        }
        return Ok(ExitCode::FAILURE);
    };
    if json {
        let mut shown: Map<_, _> = attributes.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
        shown.insert("timeline".to_owned(), serde_json::to_value(events).unwrap_or_default());
        output::json(&shown);
    } else {
        output::pairs(attributes);
        output::line("");
        output::table(
            events
                .into_iter()
                .map(|event| [event.at, event.after_ms.map(timeline::span).unwrap_or_default(), event.what]),
            1,
        );
    }
    Ok(ExitCode::SUCCESS)
}
