//! What needs an operator's attention: notifications that are FAILED or IN_DOUBT, or pending for long. They are in the table's two
//! sparse indexes, so looking for them costs reads in proportion to them, whatever else the table holds. Indexes lag a
//! little behind the table.

use crate::error::Error;
use crate::stack::Stack;
use crate::stack::items::text;
use crate::time::{after, before};
use aws::SystemClock;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity, Select};
use clap::ValueEnum;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use notification::{Clock, ReasonCode, Status, Timestamp, limits};
use serde::Serialize;
use std::collections::HashMap;
use std::time::Duration;

/// How a notification needs attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
pub(crate) enum State {
    /// INIT or CLAIMED for long.
    #[value(name = "PENDING", alias = "pending")]
    #[serde(rename = "PENDING")]
    Pending,
    #[value(name = "FAILED", alias = "failed")]
    #[serde(rename = "FAILED")]
    Failed,
    #[value(name = "IN_DOUBT", alias = "in-doubt")]
    #[serde(rename = "IN_DOUBT")]
    InDoubt,
}

impl State {
    pub(crate) const ALL: [Self; 3] = [Self::Pending, Self::Failed, Self::InDoubt];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Failed => Status::Failed.as_str(),
            Self::InDoubt => Status::InDoubt.as_str(),
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// The partitions of the index that has the notifications in this state.
    fn partitions(self) -> impl Iterator<Item = Partition> {
        (0..limits::PENDING_SHARDS).map(move |shard| match self {
            Self::Pending => Partition {
                state: self,
                index: "pending",
                key: "pending_shard",
                value: AttributeValue::N(shard.to_string()),
                since: "pending_since",
            },
            Self::Failed | Self::InDoubt => Partition {
                state: self,
                index: "unresolved",
                key: "unresolved_partition",
                value: AttributeValue::S(format!("{}#{shard}", self.as_str())),
                since: "unresolved_since",
            },
        })
    }
}

/// One partition of an index.
#[derive(Debug, Clone)]
struct Partition {
    state: State,
    index: &'static str,
    key: &'static str,
    value: AttributeValue,
    since: &'static str,
}

/// A notification that needs attention, as its index has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Entry {
    /// Since when.
    pub(crate) since: String,
    pub(crate) id: String,
    #[serde(rename = "status")]
    pub(crate) state: State,
    /// The kind of its reason; `None` while no failure is noted, and for an orphan of another version.
    pub(crate) reason_code: Option<String>,
    #[serde(rename = "type")]
    pub(crate) event_type: Option<String>,
    pub(crate) source: Option<String>,
}

impl Entry {
    fn of(partition: &Partition, item: &HashMap<String, AttributeValue>) -> Option<Self> {
        let owned = |name| text(item, name).map(str::to_owned);
        Some(Self {
            since: owned(partition.since)?,
            id: owned("id")?,
            state: partition.state,
            reason_code: owned("reason_code"),
            event_type: owned("type"),
            source: owned("source"),
        })
    }

    /// The step of the pipeline whose failure is noted. Only downstream notes failures in the table.
    pub(crate) fn stage(&self) -> &'static str {
        match (&self.state, &self.reason_code) {
            (State::Pending, None) => "not noted",
            _ => "downstream",
        }
    }
}

/// Which notifications to look for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// In these states; in all of them if it is empty.
    pub(crate) states: Vec<State>,
    /// Pending ones only if they have been for this long.
    pub(crate) pending_for: Duration,
    /// Only those that have been in their state for this long.
    pub(crate) older_than: Duration,
    pub(crate) reason_code: Option<String>,
    pub(crate) event_type: Option<String>,
    pub(crate) source: Option<String>,
}

impl Filter {
    fn partitions(&self) -> Vec<Partition> {
        let is_wanted = |state: &State| self.states.is_empty() || self.states.contains(state);
        State::ALL.into_iter().filter(is_wanted).flat_map(State::partitions).collect()
    }

    /// The latest time since when a notification can be in this state.
    fn until(&self, state: State, now: Timestamp) -> Timestamp {
        let age = if state == State::Pending { self.older_than.max(self.pending_for) } else { self.older_than };
        if age.is_zero() { of_any_age(now) } else { before(now, age) }
    }

    fn matches(&self, entry: &Entry) -> bool {
        let is = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        is(&self.reason_code, &entry.reason_code)
            && is(&self.event_type, &entry.event_type)
            && is(&self.source, &entry.source)
    }
}

/// The latest time since when a notification can be in its state, even if this machine's clock is slow.
fn of_any_age(now: Timestamp) -> Timestamp {
    after(now, limits::OPERATOR_CLOCK_SKEW)
}

/// Calls `note` with each entry that matches, in no order. Returns the read capacity units that it took.
pub(crate) async fn each(stack: &Stack, filter: &Filter, mut note: impl FnMut(Entry)) -> Result<f64, Error> {
    let now = SystemClock.now();
    let mut pages = stream::iter(filter.partitions())
        .map(|partition| {
            let until = filter.until(partition.state, now);
            stream::try_unfold(Page::First, move |page| read_page(stack, partition.clone(), until, page))
        })
        .map(Box::pin)
        .flatten_unordered(limits::CALLS_IN_FLIGHT);
    let mut read_units = 0.0;
    while let Some((entries, units)) = pages.try_next().await? {
        entries.into_iter().filter(|entry| filter.matches(entry)).for_each(&mut note);
        read_units += units;
    }
    Ok(read_units)
}

/// How far the pages of a partition have been read.
enum Page {
    First,
    After(HashMap<String, AttributeValue>),
    None,
}

type Entries = (Vec<Entry>, f64);

async fn read_page(
    stack: &Stack,
    partition: Partition,
    until: Timestamp,
    page: Page,
) -> Result<Option<(Entries, Page)>, Error> {
    let start = match page {
        Page::First => None,
        Page::After(key) => Some(key),
        Page::None => return Ok(None),
    };
    let answer = query(stack, &partition, until).set_exclusive_start_key(start).send().await;
    let answer = answer.map_err(Error::aws("Query"))?;
    let entries = answer.items().iter().filter_map(|item| Entry::of(&partition, item)).collect();
    let units = answer.consumed_capacity.and_then(|consumed| consumed.capacity_units).unwrap_or_default();
    let next = answer.last_evaluated_key.filter(|key| !key.is_empty()).map_or(Page::None, Page::After);
    Ok(Some(((entries, units), next)))
}

fn query(
    stack: &Stack,
    partition: &Partition,
    until: Timestamp,
) -> aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder {
    stack
        .dynamodb
        .query()
        .table_name(&stack.table_name)
        .index_name(partition.index)
        .key_condition_expression(format!("{} = :partition AND {} <= :until", partition.key, partition.since))
        .expression_attribute_values(":partition", partition.value.clone())
        .expression_attribute_values(":until", AttributeValue::S(format!("{until:.3}")))
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
}

/// How many notifications are in each state, pending ones of any age, and the read capacity units that counting took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) pending: usize,
    pub(crate) failed: usize,
    pub(crate) in_doubt: usize,
    pub(crate) read_units: f64,
}

/// Counts the notifications in each state.
pub(crate) async fn count(stack: &Stack) -> Result<Counts, Error> {
    let until = of_any_age(SystemClock.now());
    let partitions = Filter::default().partitions();
    let counts = stream::iter(partitions).map(|partition| count_partition(stack, partition, until));
    let add = async |mut sum: Counts, (state, count, units)| {
        *match state {
            State::Pending => &mut sum.pending,
            State::Failed => &mut sum.failed,
            State::InDoubt => &mut sum.in_doubt,
        } += count;
        sum.read_units += units;
        Ok(sum)
    };
    counts.buffer_unordered(limits::CALLS_IN_FLIGHT).try_fold(Counts::default(), add).await
}

async fn count_partition(stack: &Stack, partition: Partition, until: Timestamp) -> Result<(State, usize, f64), Error> {
    let (mut count, mut units) = (0, 0.0);
    let mut pages = query(stack, &partition, until).select(Select::Count).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(Error::aws("Query"))?;
        count += usize::try_from(page.count()).unwrap_or_default();
        units += page.consumed_capacity().and_then(|consumed| consumed.capacity_units).unwrap_or_default();
    }
    Ok((partition.state, count, units))
}

/// Since when the notification that has been pending for longest has been; `None` if none is pending.
pub(crate) async fn oldest_pending(stack: &Stack) -> Result<Option<String>, Error> {
    let until = of_any_age(SystemClock.now());
    let firsts = stream::iter(State::Pending.partitions()).map(|partition| async move {
        let answer = query(stack, &partition, until).limit(1).send().await.map_err(Error::aws("Query"))?;
        Ok::<_, Error>(answer.items().first().and_then(|item| text(item, partition.since)).map(str::to_owned))
    });
    let firsts: Vec<Option<String>> = firsts.buffer_unordered(limits::CALLS_IN_FLIGHT).try_collect().await?;
    Ok(firsts.into_iter().flatten().min())
}

/// Whether a text is a known reason code.
pub(crate) fn reason_code(text: &str) -> Result<String, String> {
    let codes = || ReasonCode::ALL.map(ReasonCode::as_str).join(", ");
    text.parse::<ReasonCode>().map(|code| code.to_string()).map_err(|_| format!("the codes are {}", codes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output;
    use crate::testing::{put, stack};

    fn entry(code: Option<&str>, event_type: &str) -> Entry {
        Entry {
            since: "2026-11-22T10:00:00.000Z".to_owned(),
            id: "a".to_owned(),
            state: State::Failed,
            reason_code: code.map(str::to_owned),
            event_type: Some(event_type.to_owned()),
            source: Some("s".to_owned()),
        }
    }

    #[test]
    fn a_filter_matches_what_has_all_that_it_names() {
        let rejected = entry(Some("rejected"), "t");
        assert!(Filter::default().matches(&rejected));
        let by_code = |code: &str| Filter { reason_code: Some(code.to_owned()), ..Filter::default() };
        assert!(by_code("rejected").matches(&rejected));
        assert!(!by_code("malformed").matches(&rejected));
        assert!(!by_code("rejected").matches(&entry(None, "t")));
        let by_type = Filter { event_type: Some("u".to_owned()), ..by_code("rejected") };
        assert!(!by_type.matches(&rejected));
    }

    #[test]
    fn each_state_has_its_partitions() {
        let partitions = Filter { states: vec![State::InDoubt], ..Filter::default() }.partitions();
        assert_eq!(partitions.len() as u64, limits::PENDING_SHARDS);
        assert_eq!(partitions[17].value, AttributeValue::S("IN_DOUBT#17".to_owned()));
        assert_eq!(Filter::default().partitions().len() as u64, 3 * limits::PENDING_SHARDS);
    }

    #[test]
    fn only_pending_notifications_must_have_been_so_for_a_while() {
        let now = Timestamp::from_second(1_000).unwrap();
        let filter = Filter { pending_for: Duration::from_mins(5), ..Filter::default() };
        let until = |filter: &Filter, state| filter.until(state, now).as_second();
        let of_any_age = 1_000 + limits::OPERATOR_CLOCK_SKEW.as_secs().cast_signed();
        assert_eq!((until(&filter, State::Pending), until(&filter, State::Failed)), (700, of_any_age));
        let older = Filter { older_than: Duration::from_secs(400), ..filter };
        assert_eq!((until(&older, State::Pending), until(&older, State::Failed)), (600, 600));
    }

    #[test]
    fn an_unknown_reason_code_is_refused_with_the_known_ones() {
        assert_eq!(reason_code("rejected"), Ok("rejected".to_owned()));
        assert!(reason_code("refused").unwrap_err().contains("receiver_unavailable"));
    }

    /// docs/OPERATIONS.md has the figures for a million: `ATTENTION_DONE=1000000`.
    #[tokio::test]
    async fn looking_costs_reads_for_what_needs_attention_and_none_for_what_is_done() {
        let done: usize = std::env::var("ATTENTION_DONE").map_or(1_000, |number| number.parse().unwrap());
        let stack = stack().await;
        put(&stack, 0..200, |number| (number % 2 == 0).then_some(Status::Failed)).await;
        let look = async || {
            let counts = count(&stack).await.unwrap();
            let mut entries = Vec::new();
            let read_units = each(&stack, &Filter::default(), |entry| entries.push(entry)).await.unwrap();
            let rejected = entries.iter().filter(|entry| entry.reason_code.as_deref() == Some("rejected")).count();
            let types = entries.iter().filter(|entry| entry.event_type.as_deref() == Some("t")).count();
            ((counts.pending, counts.failed, counts.in_doubt), counts.read_units, (rejected, types), read_units)
        };
        let before = look().await;
        assert_eq!((before.0, before.2), ((100, 100, 0), (100, 200)));
        put(&stack, 200..200 + done, |_| Some(Status::Done)).await;
        assert_eq!(look().await, before, "whatever is DONE costs nothing");
        output::note(&format!("{done} DONE: counting takes {} read units, listing {}", before.1, before.3));
        assert!(before.1 < 100.0 && before.3 < 100.0, "{before:?}");
    }
}
