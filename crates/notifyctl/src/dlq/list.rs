//! `notifyctl dlq list`: which messages were refused, and why.

use super::letter::{Letter, Reason, judge};
use crate::error::Error;
use crate::output;
use crate::stack::{Stack, dead_letters};
use clap::Args;
use notification::Timestamp;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  notifyctl dlq list
  notifyctl dlq list --reason conflict --limit 100
  notifyctl dlq list --reason malformed --json | jq -r '.messages[].message_id'

Exit status: 0 even if there are no messages; 2 if the queue or the table could not be read.";

/// Group the messages by why they were refused, and list the oldest
///
/// The reason is what the message and the table show now: ingest's own parser says whether it is malformed, and the comparison
/// with the table whether it is a conflict or a duplicate. A message that is none of these is good: it was refused because the
/// table could not be written, or because ingest died or was throttled, and would be accepted now.
///
/// SQS shows messages only by receiving them: they are hidden until all are read (for up to 5 minutes if the command is
/// interrupted), and their receive count rises. The table is read for each message.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub(crate) struct DlqListArgs {
    /// Only messages with this reason
    #[arg(long, value_name = "REASON")]
    reason: Vec<Reason>,

    /// List this many messages, the oldest first
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    limit: u16,
}

/// A message, for the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Listed {
    message_id: String,
    id: Option<String>,
    reason: Reason,
    why: String,
    /// When it was first sent; `None` if that is unknown.
    #[serde(serialize_with = "in_seconds")]
    first_sent_at: Option<Timestamp>,
}

#[allow(clippy::ref_option, reason = "serde hands over a reference to the field")]
fn in_seconds<S: serde::Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| format!("{time:.0}")).serialize(serializer)
}

impl Listed {
    fn of(letter: &Letter) -> Self {
        Self {
            message_id: letter.message_id().to_owned(),
            id: letter.id.as_ref().map(ToString::to_string),
            reason: letter.reason,
            why: letter.why.clone(),
            first_sent_at: letter.first_sent_at(),
        }
    }

    /// The order of the list: the oldest first, those of unknown age before them.
    fn order(&self) -> (Option<Timestamp>, String) {
        (self.first_sent_at, self.message_id.clone())
    }
}

/// The messages with one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Group {
    messages: usize,
    #[serde(serialize_with = "in_seconds")]
    first_sent_at: Option<Timestamp>,
    #[serde(serialize_with = "in_seconds")]
    last_sent_at: Option<Timestamp>,
    /// The oldest.
    example: Listed,
    what_to_do: &'static str,
}

/// What was read. It never has more than this many messages, and those that are being added.
#[derive(Debug)]
struct List {
    limit: usize,
    groups: BTreeMap<Reason, Group>,
    oldest: Vec<Listed>,
}

impl List {
    fn add(&mut self, letters: impl Iterator<Item = Listed>) {
        for listed in letters {
            self.count(&listed);
            self.oldest.push(listed);
        }
        self.oldest.sort_by_cached_key(Listed::order);
        self.oldest.truncate(self.limit);
    }

    fn count(&mut self, listed: &Listed) {
        let group = self.groups.entry(listed.reason).or_insert_with(|| Group {
            messages: 0,
            first_sent_at: listed.first_sent_at,
            last_sent_at: listed.first_sent_at,
            example: listed.clone(),
            what_to_do: listed.reason.what_to_do(),
        });
        group.messages += 1;
        group.last_sent_at = group.last_sent_at.max(listed.first_sent_at);
        if listed.first_sent_at < group.first_sent_at {
            group.first_sent_at = listed.first_sent_at;
            group.example = listed.clone();
        }
    }
}

pub(super) async fn run(stack: &Stack, args: &DlqListArgs, json: bool) -> Result<ExitCode, Error> {
    let mut list = List { limit: usize::from(args.limit), groups: BTreeMap::new(), oldest: Vec::new() };
    let is_wanted = |letter: &&Letter| args.reason.is_empty() || args.reason.contains(&letter.reason);
    let seen = dead_letters::each(stack, async |messages| {
        let letters = judge(stack, messages).await?;
        list.add(letters.iter().filter(is_wanted).map(Listed::of));
        Ok(false)
    })
    .await?;
    if json {
        output::json(&json!({
            "read": seen.read,
            "counted": seen.counted,
            "complete": seen.is_complete(),
            "groups": list.groups,
            "messages": list.oldest,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    print(&list);
    if list.groups.is_empty() {
        output::line(if seen.read == 0 { "no dead letters" } else { "no dead letters with this reason" });
    }
    if !seen.is_complete() {
        output::line(output::undecided(&seen.remark()));
    }
    Ok(ExitCode::SUCCESS)
}

fn print(list: &List) {
    if list.groups.is_empty() {
        return;
    }
    let heading = ["reason", "messages", "first sent", "last sent", "what to do"].map(str::to_owned);
    let rows = list.groups.iter().map(|(reason, group)| {
        [
            reason.to_string(),
            output::thousands(group.messages),
            time(group.first_sent_at),
            time(group.last_sent_at),
            group.what_to_do.to_owned(),
        ]
    });
    output::table(std::iter::once(heading).chain(rows), 1);
    if list.oldest.is_empty() {
        return;
    }
    output::line("");
    let heading = ["message id", "reason", "first sent", "id", "why"].map(str::to_owned);
    let rows = list.oldest.iter().map(|listed| {
        let id = listed.id.clone().unwrap_or_else(|| "–".to_owned());
        let Listed { message_id, reason, why, first_sent_at, .. } = listed;
        [message_id.clone(), reason.to_string(), time(*first_sent_at), id, why.clone()]
    });
    output::table(std::iter::once(heading).chain(rows), 0);
    let all: usize = list.groups.values().map(|group| group.messages).sum();
    if all > list.oldest.len() {
        let more = output::thousands(all - list.oldest.len());
        output::line(format_args!("  … and {more} more; --limit lists more"));
    }
}

fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "unknown".to_owned(), |time| format!("{time:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(message_id: &str, reason: Reason, second: i64) -> Listed {
        let first_sent_at = Timestamp::from_second(second).ok();
        Listed { message_id: message_id.to_owned(), id: None, reason, why: String::new(), first_sent_at }
    }

    #[test]
    fn groups_have_counts_times_and_the_oldest_message_and_the_list_is_bounded() {
        let mut list = List { limit: 2, groups: BTreeMap::new(), oldest: Vec::new() };
        list.add([listed("b", Reason::Good, 5), listed("c", Reason::Malformed, 9)].into_iter());
        list.add([listed("a", Reason::Good, 3), listed("d", Reason::Good, 7)].into_iter());
        let good = &list.groups[&Reason::Good];
        let second = |second| Timestamp::from_second(second).ok();
        assert_eq!((good.messages, good.first_sent_at, good.last_sent_at), (3, second(3), second(7)));
        assert_eq!(good.example.message_id, "a");
        assert_eq!(list.groups[&Reason::Malformed].messages, 1);
        let ids: Vec<_> = list.oldest.iter().map(|listed| listed.message_id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
    }
}
