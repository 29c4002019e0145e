//! `notifyctl groups`: what needs attention, grouped by its reason.

use crate::attention::{self, Entry, Filter, State};
use crate::error::Error;
use crate::output;
use crate::stack::Stack;
use crate::time::duration;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  notifyctl groups
  notifyctl groups --status FAILED --json | jq -r '.groups[].group'

Exit status: 0, whether or not anything needs attention.";

/// Show what needs attention, grouped by status, reason code and type
///
/// These are the notifications that are FAILED or IN_DOUBT, and those that have been INIT or CLAIMED for long (PENDING). The
/// first column after the count is the value of --group for `list`, `redrive` and `resolve`. The cost is in proportion to what
/// needs attention, whatever else the table holds.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GroupsArgs {
    /// Only this status; can be repeated
    #[arg(long, value_enum, value_name = "STATUS")]
    pub(crate) status: Vec<State>,

    /// Show INIT and CLAIMED notifications only once they are this old, e.g. 90s, 5m, 2h or 1d
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(crate) pending_for: Duration,
}

/// What the notifications of a group have in common. As text, for example, `FAILED/rejected/com.example.refund.requested`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) state: State,
    /// `None` if no reason is noted.
    pub(crate) reason_code: Option<String>,
    /// `None` if the item has none, as an orphan.
    pub(crate) event_type: Option<String>,
}

/// In the text of a group, what it does not have.
const NONE: &str = "-";

impl Key {
    pub(crate) fn of(entry: &Entry) -> Self {
        Self { state: entry.state, reason_code: entry.reason_code.clone(), event_type: entry.event_type.clone() }
    }

    /// Looks for the group's notifications.
    pub(crate) fn filter(&self) -> Filter {
        Filter { states: vec![self.state], ..Filter::default() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: &Option<String>| part.clone().unwrap_or_else(|| NONE.to_owned());
        write!(formatter, "{}/{}/{}", self.state.as_str(), part(&self.reason_code), part(&self.event_type))
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '/');
        let (state, code, event_type) = (parts.next(), parts.next(), parts.next());
        let part = |part: &str| Some(part.to_owned()).filter(|part| part != NONE);
        match (state.and_then(State::named), code, event_type) {
            (Some(state), Some(code), Some(event_type)) => {
                Ok(Self { state, reason_code: part(code), event_type: part(event_type) })
            }
            _ => Err("a group is STATUS/REASON_CODE/TYPE, as `notifyctl groups` prints it".to_owned()),
        }
    }
}

/// A group: how many notifications it has, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Group {
    /// The text for `--group`.
    #[serde(rename = "group")]
    pub(crate) key: String,
    #[serde(rename = "status")]
    pub(crate) state: State,
    pub(crate) reason_code: Option<String>,
    pub(crate) stage: &'static str,
    #[serde(rename = "type")]
    pub(crate) event_type: Option<String>,
    pub(crate) count: usize,
    pub(crate) first_seen: String,
    pub(crate) last_seen: String,
    /// The id of the oldest one.
    pub(crate) example: String,
}

/// Groups of entries, which are not kept.
#[derive(Debug, Default)]
pub(crate) struct Groups(BTreeMap<Key, Group>);

impl Groups {
    pub(crate) fn add(&mut self, entry: Entry) {
        let key = Key::of(&entry);
        let group = self.0.entry(key).or_insert_with_key(|key| Group {
            key: key.to_string(),
            state: entry.state,
            stage: entry.stage(),
            reason_code: entry.reason_code.clone(),
            event_type: entry.event_type.clone(),
            count: 0,
            first_seen: entry.since.clone(),
            last_seen: entry.since.clone(),
            example: entry.id.clone(),
        });
        group.count += 1;
        if entry.since < group.first_seen {
            (group.first_seen, group.example) = (entry.since.clone(), entry.id);
        }
        group.last_seen = std::mem::take(&mut group.last_seen).max(entry.since);
    }

    /// The groups, the largest first.
    pub(crate) fn largest_first(self) -> Vec<Group> {
        let mut groups: Vec<_> = self.0.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        groups
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Answer {
    groups: Vec<Group>,
    read_units: f64,
}

pub(crate) async fn run(stack: &Stack, args: &GroupsArgs, json: bool) -> Result<ExitCode, Error> {
    let filter = Filter { states: args.status.clone(), pending_for: args.pending_for, ..Filter::default() };
    let mut groups = Groups::default();
    let read_units = attention::each(stack, &filter, |entry| groups.add(entry)).await?;
    let groups = groups.largest_first();
    if json {
        output::json(&Answer { groups, read_units });
    } else if groups.is_empty() {
        output::line(output::verdict(true, "nothing needs attention"));
    } else {
        output::table_with_heads(
            ["count", "group", "stage", "first seen", "last seen", "example"],
            groups.into_iter().map(|group| {
                let count = output::thousands(group.count);
                [count, group.key, group.stage.to_owned(), group.first_seen, group.last_seen, group.example]
            }),
        );
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, second: u32, code: &str) -> Entry {
        Entry {
            since: format!("2026-11-22T10:00:{second:02}.000Z"),
            id: id.to_owned(),
            state: State::Failed,
            reason_code: Some(code.to_owned()),
            event_type: Some("t/u".to_owned()),
            source: None,
        }
    }

    #[test]
    fn a_group_is_read_as_it_is_printed() {
        let key = Key::of(&entry("a", 0, "rejected"));
        assert_eq!(key.to_string(), "FAILED/rejected/t/u");
        assert_eq!("FAILED/rejected/t/u".parse(), Ok(key.clone()));
        let without = Key { state: State::Pending, reason_code: None, event_type: None };
        assert_eq!(without.to_string().parse(), Ok(without));
        for wrong in ["", "FAILED", "FAILED/rejected", "DONE/rejected/t"] {
            assert!(wrong.parse::<Key>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_group_has_its_count_its_times_and_its_oldest_notification() {
        let mut groups = Groups::default();
        for entry in [
            entry("b", 5, "rejected"),
            entry("a", 3, "rejected"),
            entry("c", 4, "malformed"),
            entry("d", 9, "rejected"),
        ] {
            groups.add(entry);
        }
        let groups = groups.largest_first();
        let seen = |group: &Group| (group.first_seen[17..19].to_owned(), group.last_seen[17..19].to_owned());
        assert_eq!((groups[0].count, &*groups[0].example), (3, "a"));
        assert_eq!(seen(&groups[0]), ("03".to_owned(), "09".to_owned()));
        assert_eq!((groups[1].count, &*groups[1].example), (1, "c"));
    }
}
