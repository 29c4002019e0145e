//! A second JSON reader to compare the parsers with: it sees every member of an object, including duplicate names.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;

/// The string at a path of names, if each object on the way has the name exactly once.
pub(crate) fn text_at(json: &str, path: &[&str]) -> Option<String> {
    let [name, rest @ ..] = path else { return serde_json::from_str(json).ok() };
    let Members(members) = serde_json::from_str(json).ok()?;
    let mut values = members.iter().filter_map(|(found, value)| (found == name).then_some(value));
    match (values.next(), values.next()) {
        (Some(value), None) => text_at(value.get(), rest),
        _ => None,
    }
}

struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}
