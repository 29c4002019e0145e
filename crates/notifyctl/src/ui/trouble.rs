//! Trouble for a local stack: messages as a careless or unlucky upstream sends them.

use super::Server;
use super::answer::Answer;
use super::{fault, kept};
use crate::{events, send};
use aws::SystemClock;
use hyper::StatusCode;
use notification::batch::{Size, by_count_and_bytes};
use notification::{Clock, Notification, limits};
use serde::Deserialize;
use serde_json::json;

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// Good ones, each once.
    Good,
    /// Each of them twice.
    Duplicates,
    /// Two events with one id.
    Conflict,
    /// What is no event.
    Malformed,
    /// Events that the action `ledger` rejects, with a type, and so a group, of their own.
    Rejected,
}

/// What the page asks for.
#[derive(Debug, Deserialize)]
pub(crate) struct Wish {
    kind: Kind,
}

/// How many notifications are sent of those kinds that have several.
const THOUSAND: u32 = 1_000;
const MANY: u32 = 100;
const SOME: u32 = 10;

impl Kind {
    /// The messages, with ids that no others have.
    fn messages(self, seed: u64, time: &str) -> Vec<String> {
        let made =
            |count, duplicates, seed| events::made(count, duplicates, &format!("trouble-{seed:016x}"), seed, time);
        match self {
            Self::Good => made(THOUSAND, 0, seed),
            Self::Duplicates => made(MANY, 100, seed),
            Self::Conflict => {
                let event = made(1, 0, seed).concat();
                let other = event.replace("EUR", "USD");
                vec![event, other]
            }
            Self::Malformed => vec![r#"{"specversion":"1.0","id":"#.to_owned()],
            Self::Rejected => {
                let spoil = |event: String| {
                    event.replace(r#""amount":""#, r#""amount":"no "#).replace(".requested", ".invalid")
                };
                made(SOME, 0, seed).into_iter().map(spoil).collect()
            }
        }
    }
}

/// What became of what was sent, and the faults of the local AWS (null if it makes none).
pub(crate) async fn look(server: &Server) -> Result<Answer, Answer> {
    let (kept, faults) = (kept::look(server).await?, fault::report(&server.stack).await);
    Ok(Answer::json(&json!({"kept": kept, "faults": faults})))
}

/// Sends the messages to the queue of a local stack.
pub(crate) async fn send(server: &Server, wish: &Wish) -> Result<Answer, Answer> {
    if !server.stack.is_local {
        return Err(Answer::problem(StatusCode::FORBIDDEN, "trouble is for local stacks only"));
    }
    if server.kept.borrow().is_full() {
        return Err(Answer::problem(StatusCode::CONFLICT, "wait until more of what was sent is DONE"));
    }
    let now = SystemClock.now();
    let messages = wish.kind.messages(fastrand::u64(..), &format!("{now:.0}"));
    let sizes = messages.iter().map(|message| Size { count: 1, bytes: message.len() });
    let ranges = by_count_and_bytes(sizes, Size { count: limits::SQS_BATCH_MAX, bytes: limits::SQS_BATCH_MAX_BYTES });
    send::all(&server.stack, &messages, ranges, |_| now, "send them again").await?;
    let ids = messages.iter().filter_map(|message| Some(Notification::parse(message.as_str()).ok()?.id().clone()));
    server.kept.borrow_mut().add(ids);
    Ok(Answer::json(&json!({"sent": messages.len()})))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn messages(kind: Kind) -> Vec<String> {
        kind.messages(7, "2026-11-22T10:00:00Z")
    }

    #[test]
    fn each_kind_of_trouble_is_what_its_name_says() {
        let ids = |kind| {
            let parsed = messages(kind).into_iter().map(|event| Notification::parse(event).unwrap().id().to_string());
            parsed.collect::<HashSet<_>>().len()
        };
        assert_eq!((messages(Kind::Good).len(), ids(Kind::Good)), (1_000, 1_000));
        assert_eq!((messages(Kind::Duplicates).len(), ids(Kind::Duplicates)), (200, 100));
        let conflict = messages(Kind::Conflict);
        assert!(conflict.len() == 2 && conflict[0] != conflict[1] && ids(Kind::Conflict) == 1);
        assert!(messages(Kind::Malformed).into_iter().all(|event| Notification::parse(event).is_err()));
        assert_eq!((messages(Kind::Rejected).len(), ids(Kind::Rejected)), (10, 10));
        assert!(messages(Kind::Rejected).iter().all(|event| event.contains(r#""amount":"no "#)));
        assert!(messages(Kind::Rejected).iter().all(|event| event.contains("com.example.refund.invalid")));
    }
}
