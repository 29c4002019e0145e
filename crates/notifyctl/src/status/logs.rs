//! What the functions' logs say about one notification.
//!
//! A line names a notification by the `id` of one of its spans or, where it has no span, by a field of its own. CloudWatch
//! Logs searches for these by a JSON filter pattern. The search is bounded by a number of pages and seconds. It finds the oldest
//! lines first, so the times at which lines are most likely are searched before the rest.

use crate::error::Error;
use crate::output;
use crate::stack::signed::{FILTER_LOG_EVENTS, Problem};
use crate::stack::{self, Stack};
use crate::status::timeline::{Event, Origin};
use crate::time::{after, before, since};
use aws::SystemClock;
use futures_util::future::join_all;
use notification::{Clock, Timestamp, backoff, limits};
use serde_json::{Value, json};

/// The crates whose log lines are known to have no content of an event. Other lines are those of your own action.
const OURS: [&str; 6] = ["actions", "aws", "downstream", "ingest", "notification", "publisher"];

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

/// A part of the time that is searched, in milliseconds since 1970. Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    from: i64,
    to: i64,
}

/// What to search, and for what.
pub(crate) struct Wanted<'a> {
    pub(crate) id: &'a str,
    pub(crate) since: Timestamp,
    /// The last time that the table has; `None` if the table does not have the notification.
    pub(crate) last: Option<Timestamp>,
    /// Show the messages of your own action too, which may have content of the event.
    pub(crate) with_content: bool,
}

/// The lines that name a notification, and remarks about logs that were not read to their end.
pub(crate) async fn naming(stack: &Stack, wanted: &Wanted<'_>) -> (Vec<Event>, Vec<String>) {
    let functions = [
        (Origin::Ingest, &stack.functions.ingest),
        (Origin::Publisher, &stack.functions.publisher),
        (Origin::Downstream, &stack.functions.downstream),
    ];
    let lambda = aws_sdk_lambda::Client::new(&stack.config);
    let now = SystemClock.now();
    let windows = windows(wanted.since, now, wanted.last);
    let bar = output::spinner("searching the functions' logs");
    let searches = functions.map(|(from, function_name)| {
        let until = after(now, limits::LOG_SEARCH_MAX);
        let search = Search { id: wanted.id, from, with_content: wanted.with_content, until };
        let (lambda, windows, bar) = (&lambda, &windows, &bar);
        async move {
            let Some(log_group) = search.in_time(log_group(lambda, function_name)).await else {
                return (from, Found::nothing(End::Failed("GetFunctionConfiguration: timed out".to_owned())));
            };
            let log_group = match log_group {
                Ok(log_group) => log_group,
                Err(problem) => return (from, Found::nothing(End::Failed(problem))),
            };
            let page = async |window, token| {
                bar.tick();
                page(stack, &log_group, wanted.id, window, token).await
            };
            (from, search.run(windows, page).await)
        }
    });
    let searched = join_all(searches).await;
    bar.finish_and_clear();
    let remarks = remarks(&searched);
    (searched.into_iter().flat_map(|(_, found)| found.events).collect(), remarks)
}

/// What is searched, in this order: around the last known time, the newest part, and the rest.
fn windows(since: Timestamp, now: Timestamp, last: Option<Timestamp>) -> Vec<Window> {
    let from = since.as_millisecond();
    // The clock of this machine may be slow.
    let to = after(now, limits::LOGS_AROUND).as_millisecond();
    let newest = Window { from: before(now, limits::LOGS_AROUND).as_millisecond().max(from), to };
    // A claim's end is in the future.
    let around = last.map(|last| last.min(now)).map(|last| Window {
        from: before(last, limits::LOGS_AROUND).as_millisecond().max(from),
        to: after(last, limits::LOGS_AROUND).as_millisecond().min(newest.from - 1),
    });
    let windows = match around.filter(|around| !around.is_empty()) {
        Some(around) => {
            let between = Window { from: around.to + 1, to: newest.from - 1 };
            vec![around, newest, between, Window { from, to: around.from - 1 }]
        }
        None => vec![newest, Window { from, to: newest.from - 1 }],
    };
    windows.into_iter().filter(|window| !window.is_empty()).collect()
}

impl Window {
    const fn is_empty(&self) -> bool {
        self.from > self.to
    }
}

async fn log_group(lambda: &aws_sdk_lambda::Client, function_name: &str) -> Result<String, String> {
    let configuration = lambda.get_function_configuration().function_name(function_name).send().await;
    let configuration = configuration.map_err(Error::aws("GetFunctionConfiguration"));
    let configuration = configuration.map_err(|error| error.to_string())?;
    Ok(stack::log_group(configuration.logging_config(), function_name))
}

/// A page of a search.
async fn page(
    stack: &Stack,
    log_group: &str,
    id: &str,
    window: Window,
    token: Option<String>,
) -> Result<Value, Problem> {
    let mut request = json!({
        "logGroupName": log_group, "filterPattern": pattern(id), "startTime": window.from, "endTime": window.to,
    });
    if let Some(token) = token {
        request["nextToken"] = token.into();
    }
    stack.calls.json(&FILTER_LOG_EVENTS, &request).await
}

/// The filter pattern for the lines that name a notification. It may match others as well, because it has only the longest part
/// of a long id, or of one with characters that a pattern gives a meaning to, such as `*`.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/matching-terms-json-log-events.html>
fn pattern(id: &str) -> String {
    let is_special = |character: char| !character.is_ascii_alphanumeric() && !"-_.:/#=@,;+".contains(character);
    let plain = id.split(is_special).max_by_key(|part| part.len()).unwrap_or_default();
    let plain = &plain[..plain.len().min(limits::LOG_PATTERN_ID_BYTES)];
    let value = match (id.starts_with(plain), id.ends_with(plain)) {
        _ if plain.is_empty() => "*".to_owned(),
        _ if plain == id => plain.to_owned(),
        (true, _) => format!("{plain}*"),
        (false, true) => format!("*{plain}"),
        (false, false) => format!("*{plain}*"),
    };
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
    /// When it ends, whether or not everything was searched.
    until: Timestamp,
}

impl Found {
    const fn nothing(end: End) -> Self {
        Self { events: Vec::new(), older: 0, end }
    }

    /// Puts the lines in order, and keeps the last ones.
    fn last_lines(mut self) -> Self {
        self.events.sort_by(|one, other| one.at.cmp(&other.at));
        let excess = self.events.len().saturating_sub(limits::LOG_LINES_MAX);
        self.older = self.events.drain(..excess).len();
        self
    }
}

impl Search<'_> {
    /// Reads the pages of one window after the other. Each window may have an equal share of the pages that are left.
    async fn run(
        &self,
        windows: &[Window],
        mut page: impl AsyncFnMut(Window, Option<String>) -> Result<Value, Problem>,
    ) -> Found {
        let mut found = Found::nothing(End::Complete);
        let mut pages_left = limits::LOG_PAGES_MAX;
        for (window, windows_left) in windows.iter().zip((1..=windows.len()).rev()) {
            let share = pages_left.div_ceil(windows_left);
            let mut token = None;
            let mut read = 0;
            while read == 0 || token.is_some() {
                if read == share {
                    found.end = End::Limit;
                    break;
                }
                let answer = match self.in_time(retried(&mut page, *window, token, self.until)).await {
                    Some(Ok(answer)) => answer,
                    Some(Err(problem)) => return Found { end: End::Failed(problem.text), ..found.last_lines() },
                    None => return Found { end: End::Limit, ..found.last_lines() },
                };
                read += 1;
                let lines = answer["events"].as_array().map_or(&[][..], Vec::as_slice);
                found.events.extend(lines.iter().filter_map(|line| self.event(line)));
                // A page may be empty although more follow.
                token = answer["nextToken"].as_str().map(str::to_owned);
            }
            pages_left -= read;
        }
        found.last_lines()
    }

    /// What a call answers; `None` if the time for the search is over before it does.
    async fn in_time<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        let left = since(SystemClock.now(), self.until);
        if left.is_zero() {
            return None;
        }
        tokio::time::timeout(left, call).await.ok()
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
        Some(Event::new(format!("{at:.3}"), self.from, describe(&fields, self.with_content)))
    }
}

/// Reads a page. A call that was throttled, or failed in the service, is repeated as long as there is time.
async fn retried(
    page: &mut impl AsyncFnMut(Window, Option<String>) -> Result<Value, Problem>,
    window: Window,
    token: Option<String>,
    until: Timestamp,
) -> Result<Value, Problem> {
    let mut attempt = 1;
    loop {
        let answer = page(window, token.clone()).await;
        let now = SystemClock.now();
        let wait = backoff::delay(attempt, now);
        let is_final = !answer.as_ref().is_err_and(|problem| problem.is_retryable);
        if is_final || after(now, wait) >= until {
            return answer;
        }
        SystemClock.sleep(wait).await;
        attempt += 1;
    }
}

/// Whether a line names a notification.
fn names(fields: &Value, id: &str) -> bool {
    let spans = fields["spans"].as_array().map_or(&[][..], Vec::as_slice);
    [&fields["id"], &fields["item"]].into_iter().chain(spans.iter().map(|span| &span["id"])).any(|named| named == id)
}

/// What a line says, in the fields that have no content of an event.
fn describe(fields: &Value, with_content: bool) -> String {
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
    // Why logs could not be read, mostly for one reason, and the functions' names.
    let mut unread: Vec<(&str, Vec<&str>)> = Vec::new();
    for (from, Found { older, end, .. }) in searched {
        let name = from.as_str();
        if *older > 0 {
            remarks.push(format!("{name}'s log has {} with this id, not shown", output::plural(*older, "older line")));
        }
        match end {
            End::Complete => {}
            End::Limit => remarks.push(format!(
                "the search of {name}'s log stopped at its limit; lines may be missing; narrow it with --since 2h"
            )),
            End::Failed(problem) => match unread.iter_mut().find(|(same, _)| same == problem) {
                Some((_, names)) => names.push(name),
                None => unread.push((problem, vec![name])),
            },
        }
    }
    remarks.extend(unread.iter().map(|(problem, names)| match names.as_slice() {
        [first @ .., last] if !first.is_empty() => {
            format!("could not read the logs of {} and {last}: {problem}", first.join(", "))
        }
        _ => format!("could not read the log of {}: {problem}", names.concat()),
    }));
    remarks
}

#[cfg(test)]
mod tests;
