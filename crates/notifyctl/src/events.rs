//! Events to send: generated, or read from a file.

use crate::error::Error;
use crate::send::SendArgs;
use notification::{Notification, NotificationId};
use serde_json::json;
use std::path::Path;

/// Generates refund events. Some are repeated at random places.
pub(crate) fn made(count: u32, duplicates_percent: u32, prefix: &str, seed: u64, time: &str) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut events = Vec::new();
    for n in 1..=count {
        let amount = format!("{}.{:02}", random.u32(1..500), random.u32(0..100));
        let event = json!({
            "specversion": "1.0",
            "id": format!("{prefix}-{n:06}"),
            "source": "urn:notifyctl:made",
            "type": "com.example.refund.requested",
            "time": time,
            "data": {"orderId": n.to_string(), "amount": amount, "currency": "EUR"},
        });
        events.push(event.to_string());
    }
    let repeats = u64::from(count) * u64::from(duplicates_percent) / 100;
    let mut originals: Vec<usize> = (0..events.len()).collect();
    random.shuffle(&mut originals);
    for original in originals.into_iter().take(usize::try_from(repeats).unwrap_or(usize::MAX)) {
        events.push(events[original].clone());
    }
    // Mixes in the repeats, which are at the end.
    random.shuffle(&mut events);
    events
}

/// Reads events from a file or, for `-`, from standard input: one per line, or one over several lines.
pub(crate) fn read(path: &Path) -> Result<Vec<String>, Error> {
    let is_stdin = path == Path::new("-");
    let text = if is_stdin { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let events = split(&text.map_err(Error::file(path))?);
    if events.is_empty() {
        return Err(Error::Failed(format!("{} holds no events", path.display())));
    }
    Ok(events)
}

fn split(text: &str) -> Vec<String> {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        return vec![text.trim().to_owned()];
    }
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// An event on one line, as in a file of events. (In JSON, a line break is white space.)
pub(crate) fn one_line(event: &str) -> String {
    event.replace(['\n', '\r'], " ")
}

/// The events to send. Malformed events are an error unless the user allows them.
pub(crate) fn to_send(args: &SendArgs, seed: u64, prefix: &str, time: &str) -> Result<Vec<String>, Error> {
    let Some(path) = &args.file else {
        let count = args.count.unwrap_or_default();
        // Checks the longest id before it generates a million.
        NotificationId::parse(&format!("{prefix}-{count:06}")).map_err(|invalid| {
            Error::Failed(format!("notifications generated with the prefix {prefix:?} would be malformed: {invalid}"))
        })?;
        return Ok(made(count, args.duplicates, prefix, seed, time));
    };
    let events = read(path)?;
    if args.unchecked {
        return Ok(events);
    }
    let mut malformed = Vec::new();
    for (n, event) in (1..).zip(&events) {
        if let Err(error) = Notification::parse(event.as_str()) {
            malformed.push(format!("  event {n}: {error}"));
        }
    }
    if malformed.is_empty() {
        return Ok(events);
    }
    Err(Error::Failed(format!(
        "{}: {} of its notifications are malformed, so nothing was sent; --unchecked sends them anyway\n{}",
        path.display(),
        malformed.len(),
        malformed[..malformed.len().min(5)].join("\n")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn generated_events_are_notifications_and_the_requested_share_of_them_is_repeated() {
        let events = made(1000, 10, "p", 7, "2026-11-22T10:00:00Z");
        assert_eq!(events.len(), 1100);
        let mut times: HashMap<String, usize> = HashMap::new();
        for event in &events {
            let id = Notification::parse(event.as_str()).unwrap().id().to_string();
            *times.entry(id).or_default() += 1;
        }
        assert_eq!(times.len(), 1000);
        assert_eq!(times.values().filter(|&&times| times == 2).count(), 100);
    }

    #[test]
    fn the_same_seed_generates_the_same_events() {
        let make = |seed| made(50, 50, "p", seed, "2026-11-22T10:00:00Z");
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }

    #[test]
    fn a_file_has_one_event_per_line_or_one_over_several_lines() {
        assert_eq!(split("{\"a\":1}\n\n {\"b\":2} \nnot json\n"), ["{\"a\":1}", "{\"b\":2}", "not json"]);
        assert_eq!(split("{\n \"a\": 1\n}\n"), ["{\n \"a\": 1\n}"]);
        assert!(split("").is_empty());
    }
}
