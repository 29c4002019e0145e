//! `notifyctl status`: shows one notification.

use crate::cli::StatusArgs;
use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Map, Value};
use std::process::ExitCode;

/// The attributes, the most interesting ones first.
const ATTRIBUTES: [&str; 17] = [
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
    if json {
        output::json(&found.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect::<Map<_, _>>());
    } else {
        output::pairs(found);
    }
    Ok(ExitCode::SUCCESS)
}
