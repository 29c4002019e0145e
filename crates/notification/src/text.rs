//! Text in JSON.

use serde::Deserialize;
use std::borrow::Cow;
use std::ops::Deref;

/// A JSON string, borrowed from the JSON if it has no escapes. (Without this type, serde copies an optional string.)
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The value of a valid JSON string; `None` for any other JSON, and for a string with half a surrogate pair.
pub(crate) fn decoded(json: &str) -> Option<Cow<'_, str>> {
    match json.strip_prefix('"')?.strip_suffix('"') {
        Some(plain) if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        _ => serde_json::from_str::<Text<'_>>(json).ok().map(|text| text.0),
    }
}

/// Whether a text has a character that CloudEvents forbids in attributes: a control character (which could manipulate an
/// operator's terminal) or a Unicode noncharacter.
/// <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#type-system>
pub(crate) fn has_forbidden(text: &str) -> bool {
    // Most texts are plain ASCII, and checking bytes is faster than decoding characters.
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    !is_plain && text.chars().any(is_forbidden)
}

fn is_forbidden(character: char) -> bool {
    character.is_control() || matches!(character, '\u{fdd0}'..='\u{fdef}') || u32::from(character) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoded_string_is_copied_only_if_it_has_escapes() {
        assert!(matches!(decoded(r#""plain""#), Some(Cow::Borrowed("plain"))));
        assert!(matches!(decoded(r#""""#), Some(Cow::Borrowed(""))));
        assert_eq!(decoded(r#""a\"\u00e9""#).unwrap(), "a\"é");
        for json in ["1", "null", r#"["a"]"#, r#"{"a":"b"}"#, r#""\ud800""#] {
            assert_eq!(decoded(json), None, "{json}");
        }
    }

    #[test]
    fn text_is_copied_only_if_it_has_escapes() {
        let read = |json| serde_json::from_str::<Option<Text<'_>>>(json).unwrap().unwrap().0;
        assert!(matches!(read(r#""plain""#), Cow::Borrowed("plain")));
        assert_eq!(read(r#""a\n""#), Cow::<str>::Owned("a\n".to_owned()));
        assert_eq!(&*Text("a".into()), "a");
    }
}
