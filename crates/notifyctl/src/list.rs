//! `notifyctl list`: the notifications that need attention, the oldest first, a page at a time.

use crate::attention::{self, Entry, Filter, State, reason_code};
use crate::error::Error;
use crate::groups::Key;
use crate::output;
use crate::stack::Stack;
use crate::time::duration;
use clap::Args;
use serde::Serialize;
use std::collections::BinaryHeap;
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  notifyctl list --status FAILED --older-than 1h
  notifyctl list --group FAILED/rejected/com.example.refund.requested --limit 10
  notifyctl list --status IN_DOUBT --ids --limit 10000                 ask the receiver about each

Exit status: 0, whether or not a notification matches.";

/// List the notifications that need attention, the oldest first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListArgs {
    /// Only this status; can be repeated
    #[arg(long, value_enum, value_name = "STATUS", conflicts_with = "group")]
    pub(crate) status: Vec<State>,

    /// Only this group, as `notifyctl groups` prints it
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<Key>,

    /// Only this reason code
    #[arg(long, value_name = "CODE", value_parser = reason_code)]
    pub(crate) reason_code: Option<String>,

    /// Only this CloudEvents type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,

    /// Only this CloudEvents source
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Option<String>,

    /// Only those that have had their status for this long, e.g. 90s, 5m, 2h or 1d
    #[arg(long, value_name = "DURATION", default_value = "0s", hide_default_value = true, value_parser = duration)]
    pub(crate) older_than: Duration,

    /// Show INIT and CLAIMED notifications only once they are this old
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(crate) pending_for: Duration,

    /// Print at most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) limit: u16,

    /// Continue after this entry: the value that the page before printed
    #[arg(long, value_name = "TIME,ID")]
    pub(crate) after: Option<String>,

    /// Print only the ids, one per line, for a pipe
    #[arg(long, conflicts_with = "json")]
    pub(crate) ids: bool,
}

/// The oldest entries after a position. It holds no more than a page.
#[derive(Debug)]
struct Page {
    limit: usize,
    /// The since and the id of the last entry of the page before.
    after: Option<(String, String)>,
    oldest: BinaryHeap<Entry>,
    /// Whether more entries follow.
    more: bool,
}

impl Page {
    fn add(&mut self, entry: Entry) {
        if self.after.as_ref().is_some_and(|after| (&entry.since, &entry.id) <= (&after.0, &after.1)) {
            return;
        }
        self.oldest.push(entry);
        if self.oldest.len() > self.limit {
            self.oldest.pop();
            self.more = true;
        }
    }

    /// The entries, the oldest first, and the position for the next page, if there is one.
    fn finish(self) -> (Vec<Entry>, Option<String>) {
        let entries = self.oldest.into_sorted_vec();
        let next = entries.last().filter(|_| self.more).map(|last| format!("{},{}", last.since, last.id));
        (entries, next)
    }
}

/// A page, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    pub(crate) notifications: Vec<Entry>,
    /// The value of `--after` for the next page; null on the last one.
    pub(crate) next: Option<String>,
    read_units: f64,
}

/// The entries that a command's options ask for.
fn filter_of(args: &ListArgs) -> Filter {
    let group = args.group.as_ref();
    Filter {
        states: group.map_or_else(|| args.status.clone(), |group| vec![group.state]),
        pending_for: args.pending_for,
        older_than: args.older_than,
        reason_code: args.reason_code.clone(),
        event_type: args.event_type.clone(),
        source: args.source.clone(),
    }
}

/// Reads a page of the entries that match a filter and, if one is given, are in a group. `after` is the `next` of the page before.
pub(crate) async fn page(
    stack: &Stack,
    filter: &Filter,
    group: Option<&Key>,
    limit: usize,
    after: Option<&str>,
) -> Result<Listed, Error> {
    let after = after.map(position).transpose()?;
    let mut page = Page { limit, after, oldest: BinaryHeap::new(), more: false };
    let note = |entry| {
        if group.is_none_or(|group| Key::of(&entry) == *group) {
            page.add(entry);
        }
    };
    let read_units = attention::each(stack, filter, note).await?;
    let (notifications, next) = page.finish();
    Ok(Listed { notifications, next, read_units })
}

pub(crate) async fn run(stack: &Stack, args: &ListArgs, json: bool) -> Result<ExitCode, Error> {
    let (group, limit) = (args.group.as_ref(), usize::from(args.limit));
    let listed = page(stack, &filter_of(args), group, limit, args.after.as_deref()).await?;
    if json && !args.ids {
        output::json(&listed);
        return Ok(ExitCode::SUCCESS);
    }
    let Listed { notifications, next, .. } = listed;
    if args.ids {
        for entry in &notifications {
            output::line(&entry.id);
        }
    } else if notifications.is_empty() {
        output::line("no notification matches");
    } else {
        let none = || "-".to_owned();
        output::table_with_heads(
            ["id", "status", "since", "reason code", "type", "source"],
            notifications.into_iter().map(|Entry { since, id, state, reason_code, event_type, source }| {
                let state = state.as_str().to_owned();
                let [code, event_type, source] =
                    [reason_code, event_type, source].map(|text| text.unwrap_or_else(none));
                [id, state, since, code, event_type, source]
            }),
        );
    }
    if let Some(next) = next {
        output::note(&format!("there are more: --after '{next}'"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The position that `--after` names.
fn position(text: &str) -> Result<(String, String), Error> {
    let wrong = || Error::Failed(format!("--after is what the page before printed, TIME,ID, and not {text:?}"));
    let (since, id) = text.split_once(',').ok_or_else(wrong)?;
    Ok((since.to_owned(), id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::State;

    fn entry(id: u32) -> Entry {
        let since = format!("2026-11-22T10:00:{:02}.000Z", id / 2);
        let id = format!("n{id:02}");
        Entry { since, id, state: State::Failed, reason_code: None, event_type: None, source: None }
    }

    #[test]
    fn pages_have_each_entry_once_the_oldest_first() {
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let mut page = Page { limit: 3, after, oldest: BinaryHeap::new(), more: false };
            [5, 0, 7, 3, 1, 6, 2, 4].map(entry).into_iter().for_each(|entry| page.add(entry));
            let (entries, next) = page.finish();
            seen.extend(entries.into_iter().map(|entry| entry.id));
            match next {
                Some(next) => after = Some(position(&next).unwrap()),
                None => break,
            }
        }
        assert_eq!(seen, ["n00", "n01", "n02", "n03", "n04", "n05", "n06", "n07"]);
    }

    #[test]
    fn a_position_is_a_time_and_an_id_that_may_have_commas() {
        assert_eq!(position("t,a,b").unwrap(), ("t".to_owned(), "a,b".to_owned()));
        assert!(position("t").is_err());
    }
}
