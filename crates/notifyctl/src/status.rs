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

pub(crate) async fn run(stack: &Stack, args: &StatusArgs, json: bool) -> Result<ExitCode, Error> {
    let item = stack
        .dynamodb
        .get_item()
        .table_name(&stack.table_name)
        .key("id", AttributeValue::S(args.id.clone()))
        .consistent_read(true)
        .send()
        .await
        .map_err(Error::aws("GetItem"))?
        .item;
    let Some(item) = item else {
        if json {
            output::json(&Value::Null);
        } else {
            output::line(format_args!(
                "{} is not in the table: still in the queue, refused (see `notifyctl summary`), or never sent",
                args.id
            ));
        }
        return Ok(ExitCode::FAILURE);
    };
    let mut found = Vec::new();
    for name in ATTRIBUTES.into_iter().chain(args.event.then_some("event")) {
        if let Some(AttributeValue::S(text) | AttributeValue::N(text)) = item.get(name) {
            found.push((name, text.clone()));
        }
    }
    let events = timeline::of(&item);
    if json {
        let mut shown: Map<_, _> = found.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
        shown.insert("timeline".to_owned(), serde_json::to_value(events).unwrap_or_default());
        output::json(&shown);
    } else {
        output::pairs(found);
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
