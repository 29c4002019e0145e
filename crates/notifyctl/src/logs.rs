//! What the functions' logs say about one notification.
//!
//! A line names a notification by the `id` of one of its spans or, where it has no span, by a field of its own. CloudWatch
//! Logs searches for these by a JSON filter pattern. The search is bounded: it begins shortly before the notification was
//! received, and ends after a number of pages or seconds.

use crate::error::Error;
use crate::stack::Stack;
use crate::time::after;
use crate::timeline::{Event, Origin};
use crate::{output, signed};
use aws::SystemClock;
use aws_sdk_lambda::types::LoggingConfig;
use notification::{Clock, Timestamp, limits};
use serde_json::{Value, json};

/// The crates whose log lines are known to have no content of an event. Other lines are those of your own action.
const OURS: [&str; 6] = ["actions", "aws", "downstream", "ingest", "notification", "publisher"];

/// The log group of a function.
/// <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html>
pub(crate) fn group(logging: Option<&LoggingConfig>, function_name: &str) -> String {
    let configured = logging.and_then(|logging| logging.log_group());
    configured.map_or_else(|| format!("/aws/lambda/{function_name}"), str::to_owned)
}

/// What a search found, in the order in which it happened.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    events: Vec<Event>,
    /// How many more, older ones there are.
    older: usize,
    end: End,
}

/// Why a search ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Everything was searched.
    Complete,
    /// There are more pages than are read, or reading them takes too long.
    Limit,
    Failed(String),
}

/// The lines since a time that name a notification, and remarks about logs that were not read to their end. `with_content`
/// shows the messages of your own action too, which may have content of the event.
///
/// The functions' logs are searched one after the other, because an account has few such calls per second.
pub(crate) async fn naming(stack: &Stack, id: &str, since: Timestamp, with_content: bool) -> (Vec<Event>, Vec<String>) {
    let functions = [
        (Origin::Ingest, &stack.functions.ingest),
        (Origin::Publisher, &stack.functions.publisher),
        (Origin::Downstream, &stack.functions.downstream),
    ];
    let lambda = aws_sdk_lambda::Client::new(&stack.config);
    let bar = output::spinner("searching the functions' logs");
    let mut searched = Vec::new();
    for (from, function_name) in functions {
        bar.tick();
        let search = Search { id, from, with_content, until: after(SystemClock.now(), limits::LOG_SEARCH_MAX) };
        let found = match log_group(&lambda, function_name).await {
            Ok(log_group) => search.run(async |token| page(stack, &log_group, id, since, token).await).await,
            Err(problem) => Found { events: Vec::new(), older: 0, end: End::Failed(problem) },
        };
        searched.push((from, found));
    }
    bar.finish_and_clear();
    let remarks = remarks(&searched);
    (searched.into_iter().flat_map(|(_, found)| found.events).collect(), remarks)
}

async fn log_group(lambda: &aws_sdk_lambda::Client, function_name: &str) -> Result<String, String> {
    let configuration = lambda.get_function_configuration().function_name(function_name).send().await;
    let configuration = configuration.map_err(Error::aws("GetFunctionConfiguration"));
    let configuration = configuration.map_err(|error| error.to_string())?;
    Ok(group(configuration.logging_config(), function_name))
}

/// A page of a search.
async fn page(
    stack: &Stack,
    log_group: &str,
    id: &str,
    since: Timestamp,
    token: Option<String>,
) -> Result<Value, String> {
    let mut request =
        json!({"logGroupName": log_group, "filterPattern": pattern(id), "startTime": since.as_millisecond()});
    if let Some(token) = token {
        request["nextToken"] = token.into();
    }
    signed::json(&stack.config, &signed::FILTER_LOG_EVENTS, &request).await
}

/// The filter pattern for the lines that name a notification. It may match others as well, because it has only the beginning
/// of a long id or of one with characters that a pattern gives a meaning to, such as `*`.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/matching-terms-json-log-events.html>
fn pattern(id: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/#=@,;+".contains(&byte);
    let plain = id.bytes().take_while(|byte| is_plain(*byte)).take(limits::LOG_PATTERN_ID_BYTES).count();
    let value = if plain == id.len() { id.to_owned() } else { format!("{}*", &id[..plain]) };
    // Lambda's runtime has a span of its own around those of the functions. The item of a quarantined record is in `item`.
    let fields = ["$.id", "$.item", "$.spans[0].id", "$.spans[1].id", "$.spans[2].id"];
    let conditions = fields.map(|field| format!("{field} = \"{value}\""));
    format!("{{ {} }}", conditions.map(|condition| format!("({condition})")).join(" || "))
}

/// A search of one function's log.
struct Search<'a> {
    id: &'a str,
    from: Origin,
    with_content: bool,
    /// No page is asked for after this time, except for the first one.
    until: Timestamp,
}

impl Search<'_> {
    /// Reads page after page, the oldest first.
    async fn run(&self, mut page: impl AsyncFnMut(Option<String>) -> Result<Value, String>) -> Found {
        let mut found = Found { events: Vec::new(), older: 0, end: End::Limit };
        let mut token = None;
        for _ in 0..limits::LOG_PAGES_MAX {
            let answer = match page(token).await {
                Ok(answer) => answer,
                Err(problem) => {
                    found.end = End::Failed(problem);
                    break;
                }
            };
            let lines = answer["events"].as_array().map_or(&[][..], Vec::as_slice);
            found.events.extend(lines.iter().filter_map(|line| self.event(line)));
            let excess = found.events.len().saturating_sub(limits::LOG_LINES_MAX);
            found.older += found.events.drain(..excess).len();
            // A page may be empty although more follow.
            token = answer["nextToken"].as_str().map(str::to_owned);
            if token.is_none() {
                found.end = End::Complete;
                break;
            }
            if SystemClock.now() >= self.until {
                break;
            }
        }
        found
    }

    /// What a line says; `None` if it does not name the notification.
    fn event(&self, line: &Value) -> Option<Event> {
        let fields: Value = serde_json::from_str(line["message"].as_str()?).ok()?;
        if !names(&fields, self.id) {
            return None;
        }
        // CloudWatch's own time of a line may be that of its delivery.
        let written = fields["timestamp"].as_str().and_then(|time| time.parse().ok());
        let at = written.or_else(|| Timestamp::from_millisecond(line["timestamp"].as_i64()?).ok())?;
        Some(Event::new(format!("{at:.3}"), self.from, what(&fields, self.with_content)))
    }
}

/// Whether a line names a notification.
fn names(fields: &Value, id: &str) -> bool {
    let spans = fields["spans"].as_array().map_or(&[][..], Vec::as_slice);
    [&fields["id"], &fields["item"]].into_iter().chain(spans.iter().map(|span| &span["id"])).any(|named| named == id)
}

/// What a line says, in the fields that have no content of an event.
fn what(fields: &Value, with_content: bool) -> String {
    let text = |name: &str| fields[name].as_str().unwrap_or_default();
    let level = text("level");
    let module = text("target").split("::").next().unwrap_or_default();
    if !OURS.contains(&module) && !with_content {
        return format!("{level} a line of `{module}`, which may have content of the event: --event shows it");
    }
    let mut what = format!("{level} {}", text("message"));
    for reason in ["reason", "table"].map(text).into_iter().filter(|reason| !reason.is_empty()) {
        what = format!("{what}: {reason}");
    }
    let details = [
        fields["reason_code"].as_str().map(str::to_owned),
        fields["status"].as_str().map(|status| format!("status {status}")),
        fields["receive_count"].as_u64().map(|count| format!("receive {count}")),
    ];
    let details: Vec<String> = details.into_iter().flatten().collect();
    if details.is_empty() { what } else { format!("{what} ({})", details.join(", ")) }
}

/// What an operator should know about searches that did not show everything.
fn remarks(searched: &[(Origin, Found)]) -> Vec<String> {
    let mut remarks = Vec::new();
    // The names of the functions, and why their logs could not be read: mostly for one reason.
    let mut unread: Vec<(String, &str)> = Vec::new();
    for (from, Found { older, end, .. }) in searched {
        let name = from.as_str();
        if *older > 0 {
            remarks.push(format!("{name}'s log has {} with this id, not shown", output::plural(*older, "older line")));
        }
        match end {
            End::Complete => {}
            End::Limit => remarks.push(format!(
                "{name}'s log was not searched to its end, because it is long; a later start (--since 2h) gets further"
            )),
            End::Failed(problem) => match unread.iter_mut().find(|(_, same)| same == problem) {
                Some((names, _)) => *names = format!("{names}, {name}"),
                None => unread.push((name.to_owned(), problem)),
            },
        }
    }
    remarks.extend(unread.iter().map(|(names, problem)| format!("log of {names}: could not be read: {problem}")));
    remarks
}

#[cfg(test)]
mod tests;
