//! The texts with which an event is refused. None of them quotes the event.

use notification::Malformed;
use notification::id::InvalidId;
use std::collections::HashSet;
use std::sync::LazyLock;

static NAMES: LazyLock<HashSet<String>> =
    LazyLock::new(|| all().map(|malformed| without_numbers(&malformed.to_string())).collect());

/// Fails unless the text is one of [`Malformed`], with any numbers.
pub(crate) fn check_named(reason: &str) {
    assert!(NAMES.contains(&without_numbers(reason)), "{reason:?}");
}

fn all() -> impl Iterator<Item = Malformed> {
    let of = |attributes: [&'static str; 9], malformed: fn(&'static str) -> Malformed| attributes.map(malformed);
    let attributes =
        ["specversion", "id", "source", "type", "subject", "datacontenttype", "dataschema", "time", "data_base64"];
    let of_attributes = [
        of(attributes, |attribute| Malformed::Missing { attribute }),
        of(attributes, |attribute| Malformed::NotAString { attribute }),
        of(attributes, |attribute| Malformed::Empty { attribute }),
        of(attributes, |attribute| Malformed::ForbiddenCharacter { attribute }),
    ];
    let others = [
        Malformed::NotJson { line: 1, column: 1 },
        Malformed::NotUtf8,
        Malformed::NoBody,
        Malformed::NotARecord,
        Malformed::NotAnObject,
        Malformed::AttributeTwice,
        Malformed::SpecVersion,
        Malformed::Time,
        Malformed::ContentType,
        Malformed::Base64,
        Malformed::TwoPayloads,
        Malformed::Id(InvalidId::Empty),
        Malformed::Id(InvalidId::TooLong { chars: 1 }),
        Malformed::Id(InvalidId::ForbiddenCharacter),
        Malformed::Id(InvalidId::ReservedPrefix),
        Malformed::TooLarge { bytes: 1, max: 1 },
    ];
    of_attributes.into_iter().flatten().chain(others)
}

fn without_numbers(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}
