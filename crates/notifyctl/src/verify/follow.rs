//! `notifyctl verify --follow`: checks each change of the table, as its stream has it, against the transitions and the content rule.

use super::item::{Attributes, Removal, wrong_change, wrong_removal};
use super::{Violation, id_of};
use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use crate::time::since;
use aws::SystemClock;
use aws_sdk_dynamodbstreams::types::{AttributeValue, OperationType, Record};
use futures_util::stream::{self, StreamExt};
use notification::{Clock, Timestamp, limits};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::time::Duration;
use stream_reader::{CallError, ReadFrom};

/// What was checked. `--json` prints it at the end.
#[derive(Debug, Default, Serialize)]
struct Followed {
    checked: usize,
    violations: usize,
    /// How often the command lost its place in a shard, because it was too far behind: some changes may not be checked, and
    /// others twice.
    gaps: usize,
}

/// The shards that are followed, with the iterator of each; `None` at the end of a shard.
#[derive(Debug, Default)]
struct Shards {
    iterators: BTreeMap<String, Option<String>>,
    listed_at: Option<Timestamp>,
}

/// Follows the stream for this long, or until it is interrupted.
pub(super) async fn run(stack: &Stack, for_: Option<Duration>, json: bool) -> Result<ExitCode, Error> {
    let (began, mut followed, mut shards) = (SystemClock.now(), Followed::default(), Shards::default());
    let bar = output::spinner("following the table's stream");
    while for_.is_none_or(|time| since(began, SystemClock.now()) < time) {
        shards.list(stack, &mut followed).await?;
        let mut found_any = false;
        for (shard, iterator) in shards.open() {
            match stack.table_stream.records(iterator).await {
                Ok(page) => {
                    found_any |= !page.records.is_empty();
                    page.records.iter().for_each(|record| followed.check(record, json));
                    shards.iterators.insert(shard, page.next);
                }
                Err(error) if error.is_throttled() => SystemClock.sleep(limits::BACKOFF_CAP).await,
                Err(error) if error.is_trimmed() || error.is_expired_iterator() => {
                    followed.gaps += 1;
                    shards.restart(stack, shard).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        bar.set_message(format!(
            "following the table's stream: {}, {}",
            output::plural(followed.checked, "change"),
            output::plural(followed.violations, "violation")
        ));
        bar.tick();
        if !found_any {
            SystemClock.sleep(limits::STREAM_POLL).await;
        }
    }
    bar.finish_and_clear();
    Ok(followed.report(json))
}

impl Shards {
    /// Lists the shards again from time to time. The first time, open shards are followed from now on; later, new shards
    /// continue those that are followed, from their beginning.
    async fn list(&mut self, stack: &Stack, followed: &mut Followed) -> Result<(), Error> {
        let now = SystemClock.now();
        let is_due = |at| since(at, now) >= limits::FOLLOW_LIST_EVERY;
        if !self.listed_at.is_none_or(is_due) {
            return Ok(());
        }
        let listed = match stack.table_stream.shards().await {
            Err(error) if error.is_throttled() && self.listed_at.is_some() => return Ok(()),
            listed => listed?,
        };
        let from = if self.listed_at.is_none() { ReadFrom::Latest } else { ReadFrom::TrimHorizon };
        let is_new = |shard: &&stream_reader::Shard| !self.iterators.contains_key(&shard.id);
        let new: Vec<_> = listed.iter().filter(is_new).map(|shard| (shard.id.clone(), shard.is_closed)).collect();
        let iterators = stream::iter(new).map(|shard| begin(stack, shard, &from));
        let mut iterators = iterators.buffer_unordered(limits::CALLS_IN_FLIGHT);
        let mut found = Vec::new();
        while let Some((id, iterator)) = iterators.next().await {
            match iterator {
                Ok(iterator) => found.push((id, iterator)),
                Err(error) if error.is_not_found() => followed.gaps += 1,
                Err(error) => return Err(error.into()),
            }
        }
        drop(iterators);
        self.iterators.extend(found);
        // A shard that the stream no longer lists has ended long ago.
        let ids: Vec<_> = listed.iter().map(|shard| shard.id.as_str()).collect();
        self.iterators.retain(|id, iterator| iterator.is_some() || ids.contains(&id.as_str()));
        self.listed_at = Some(now);
        Ok(())
    }

    fn open(&self) -> Vec<(String, String)> {
        let open = self.iterators.iter().filter_map(|(id, iterator)| Some((id.clone(), iterator.clone()?)));
        open.collect()
    }

    /// Continues a shard at its oldest record.
    async fn restart(&mut self, stack: &Stack, shard: String) -> Result<(), Error> {
        let iterator = stack.table_stream.iterator(&shard, &ReadFrom::TrimHorizon).await?;
        self.iterators.insert(shard, iterator);
        Ok(())
    }
}

/// The iterator of a new shard. What a closed shard had before this command began is not followed.
async fn begin(
    stack: &Stack,
    (id, is_closed): (String, bool),
    from: &ReadFrom,
) -> (String, Result<Option<String>, CallError>) {
    let is_skipped = is_closed && *from == ReadFrom::Latest;
    let iterator = if is_skipped { Ok(None) } else { stack.table_stream.iterator(&id, from).await };
    (id, iterator)
}

impl Followed {
    fn check(&mut self, record: &Record, json: bool) {
        self.checked += 1;
        let Some((id, problem)) = problem(record) else { return };
        self.violations += 1;
        Violation { id, problem }.print(json);
    }

    fn report(&self, json: bool) -> ExitCode {
        if json {
            output::line(output::compact(self));
        } else {
            let (checked, violations) =
                (output::plural(self.checked, "change"), output::plural(self.violations, "violation"));
            output::line(output::verdict(self.violations == 0, &format!("{checked} checked, {violations}")));
            if self.gaps > 0 {
                output::line(output::undecided("the command was too far behind: some changes may not be checked"));
            }
        }
        ExitCode::from(match (self.violations, self.gaps) {
            (0, 0) => 0,
            (0, _) => 3,
            _ => 1,
        })
    }
}

/// What is wrong with a change, and the item that it is about.
fn problem(record: &Record) -> Option<(String, String)> {
    let change = record.dynamodb()?;
    let (old, new) = (change.old_image().map(attributes), change.new_image().map(attributes));
    let item = new.as_ref().or(old.as_ref())?;
    let is_expiry = record.user_identity().is_some_and(|identity| identity.principal_id() == Some(TIME_TO_LIVE));
    let problem = match (record.event_name(), &old, &new) {
        (Some(OperationType::Remove), Some(old), _) => {
            wrong_removal(old, if is_expiry { Removal::Expiry } else { Removal::Deletion })
        }
        (_, old, Some(new)) => wrong_change(old.as_ref(), new),
        _ => Some("its record has no image".to_owned()),
    }?;
    Some((id_of(item), problem))
}

/// Who removes expired items, by their stream records.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/time-to-live-ttl-streams.html>
const TIME_TO_LIVE: &str = "dynamodb.amazonaws.com";

fn attributes(image: &HashMap<String, AttributeValue>) -> Attributes {
    let text = |value: &AttributeValue| match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.clone(),
        _ => String::new(),
    };
    image.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}
