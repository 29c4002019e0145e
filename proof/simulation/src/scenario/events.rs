//! The events of a scenario: every attribute that is content varies, and so does the spelling.

use super::pick;
use crate::rng;
use fastrand::Rng;

/// Text in the data of every event. It must never be in a log line.
pub const PAYLOAD: &str = "PAYLOAD";

/// Which event of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// The first.
    Original,
    /// The same content in another spelling, with another `time` and another extension attribute.
    Respelled(u32),
    /// Other content.
    Conflict(u32),
}

/// The members of an event, as JSON.
type Members = Vec<(&'static str, String)>;

/// The JSON of an event with this id.
pub(crate) fn event(seed: u64, id: &str, version: Version) -> String {
    let original = original(&mut rng::of(seed, &format!("event {id}")), id);
    match version {
        Version::Original => object(&original),
        Version::Respelled(number) => {
            respelled(&mut rng::of(seed, &format!("event {id} respelled {number}")), &original)
        }
        Version::Conflict(number) => {
            let mut rng = rng::of(seed, &format!("event {id} conflict {number}"));
            object(&conflicting(&mut rng, original))
        }
    }
}

fn original(rng: &mut Rng, id: &str) -> Members {
    let mut members = vec![
        ("specversion", text("1.0")),
        ("id", text(id)),
        ("source", text("urn:orders")),
        ("type", text("refund.requested")),
    ];
    let mut optional = |name, value: String| {
        if rng.bool() {
            members.push((name, value));
        }
    };
    optional("subject", text("order/1"));
    optional("datacontenttype", text("application/json"));
    optional("dataschema", text("urn:schema:1"));
    optional("time", text("2026-11-22T10:00:00Z"));
    optional("traceparent", text("00-1"));
    let data = format!(
        r#"{{"orderId":"o-{id}","amount":"1.50","currency":"EUR","memo":"{PAYLOAD} \u00e9","quantity":1.0,"number":12345678901234567890123,"tags":["a",null,true]}}"#
    );
    members.push(("data", data));
    members
}

/// The same content: the order of the members, white space, escapes and numbers differ, and so do `time` and extensions, which
/// are not content.
fn respelled(rng: &mut Rng, original: &Members) -> String {
    let mut members = original.clone();
    members.retain(|(name, _)| *name != "time" && *name != "traceparent");
    members.push(("time", text("2026-11-22T11:00:00+01:00")));
    if rng.bool() {
        members.push(("traceparent", text("00-2")));
    }
    if !members.iter().any(|(name, _)| *name == "datacontenttype") && rng.bool() {
        members.push(("datacontenttype", text("application/json")));
    }
    rng.shuffle(&mut members);
    let spaced = members.iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect::<Vec<_>>().join(" , ");
    let one = pick(rng, ["1.0", "1", "1.00", "10e-1", "0.1E1"]);
    let escaped = spaced.replace("\"quantity\":1.0", &format!("\"quantity\" : {one}")).replace("\\u00e9", "é");
    format!("{{ {} }}", escaped.replace("urn:orders", "urn\\u003aorders").replace("\"EUR\"", "\"\\u0045UR\""))
}

/// Other content: one attribute differs, is missing, or is new.
fn conflicting(rng: &mut Rng, mut members: Members) -> Members {
    let names = ["source", "type", "subject", "datacontenttype", "dataschema", "data"];
    let name = pick(rng, names);
    let known = members.iter().position(|(known, _)| *known == name);
    let other = match name {
        "data" => {
            let (from, to) = pick(
                rng,
                [
                    ("\"1.50\"", "\"2.50\""),
                    ("\"1.50\"", "1.50"),
                    ("\"quantity\":1.0", "\"quantity\":1.01"),
                    ("4567890123,", "4567890124,"),
                    ("[\"a\",null", "[null,\"a\""),
                    ("\"currency\":\"EUR\",", ""),
                ],
            );
            known.map_or_else(String::new, |place| members[place].1.replace(from, to))
        }
        // Without it, `data` would be JSON as well.
        "datacontenttype" => text("application/vnd.order+json"),
        _ => text("urn:other"),
    };
    match known {
        Some(place) if matches!(name, "subject" | "dataschema") && rng.bool() => drop(members.remove(place)),
        Some(place) => members[place].1 = other,
        None => members.push((name, other)),
    }
    members
}

fn text(value: &str) -> String {
    format!("\"{value}\"")
}

fn object(members: &Members) -> String {
    let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge;
    use notification::{Notification, content};

    #[test]
    fn every_event_is_valid_and_the_judge_and_the_code_tell_its_versions_apart() {
        for seed in 0..2_000 {
            let original = event(seed, "n1", Version::Original);
            let (respelled, conflict) =
                (event(seed, "n1", Version::Respelled(0)), event(seed, "n1", Version::Conflict(0)));
            for event in [&original, &respelled, &conflict] {
                assert!(Notification::parse(event.as_str()).is_ok() && event.contains(PAYLOAD), "{event}");
            }
            for (a, b, expected) in
                [(&original, &respelled, true), (&original, &conflict, false), (&respelled, &conflict, false)]
            {
                assert_eq!(judge::same(a, b), expected, "the judge: {a}\n{b}");
                assert_eq!(content::same(a, b), expected, "the code: {a}\n{b}");
            }
        }
    }
}
