//! `notifyctl redrive` and `notifyctl resolve`: what only a person may decide. Each is one conditional write; where it
//! makes a notification INIT, the table's stream does the rest.

use crate::cli::{RedriveArgs, ResolveArgs};
use crate::error::{Error, exit};
use crate::output;
use crate::stack::Stack;
use aws::config::TableWrites;
use aws::{DynamoTable, SystemClock};
use notification::ports::{After, Before, Change, Changed, Clock, StatusTable, TableReader};
use notification::{NotificationId, Status};
use serde_json::json;
use std::process::ExitCode;

pub(crate) async fn redrive(stack: &Stack, args: &RedriveArgs, json: bool) -> Result<ExitCode, Error> {
    let mut all = true;
    for id in &args.ids {
        all &= change(stack, id, Status::Failed, After::Init, json).await?;
    }
    Ok(exit(all))
}

pub(crate) async fn resolve(stack: &Stack, args: &ResolveArgs, json: bool) -> Result<ExitCode, Error> {
    let to = if args.done { After::Done(None) } else { After::Init };
    Ok(exit(change(stack, &args.id, Status::InDoubt, to, json).await?))
}

/// Makes one change, and tells what became of it.
async fn change(stack: &Stack, id: &str, from: Status, to: After<'_>, json: bool) -> Result<bool, Error> {
    let parsed =
        NotificationId::parse(id).map_err(|invalid| Error::NoId { id: id.to_owned(), reason: invalid.to_string() })?;
    let table = DynamoTable::new(stack.dynamodb.clone(), stack.table_name.clone()).with_writes(TableWrites::Single);
    let change = Change { id: &parsed, from: Before::Status(from), to };
    let failed = |call| move |failure: notification::Failure| Error::Aws { call, cause: failure.to_string() };
    let mut answers = table.change(&[change], SystemClock.now()).await.map_err(failed("UpdateItem"))?;
    let changed = answers.pop().unwrap_or(Ok(Changed::No(None))).map_err(failed("UpdateItem"))?;
    let found = match changed {
        Changed::Yes => None,
        Changed::No(Some(stored)) => Some(Some(stored)),
        Changed::No(None) => {
            let mut read = table.read(&[&parsed]).await.map_err(failed("BatchGetItem"))?;
            Some(read.pop().unwrap_or(Ok(None)).map_err(failed("BatchGetItem"))?)
        }
    };
    let status = to.status();
    if json {
        let found = found.as_ref().map(|stored| stored.as_ref().and_then(|stored| stored.status).map(Status::as_str));
        output::json(&json!({"id": id, "changed": found.is_none(), "status": found.unwrap_or(Some(status.as_str()))}));
        return Ok(found.is_none());
    }
    match &found {
        None => output::line(output::verdict(true, &format!("{id}: {from} → {status}"))),
        Some(None) => output::line(output::verdict(false, &format!("{id}: not in the table"))),
        Some(Some(stored)) => {
            let is = stored.status.map_or("of no known status", Status::as_str);
            output::line(output::verdict(false, &format!("{id}: not {from}, it is {is}; nothing was changed")));
        }
    }
    Ok(found.is_none())
}
