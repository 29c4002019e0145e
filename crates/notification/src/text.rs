//! Text in JSON.

use serde::Deserialize;
use std::borrow::Cow;
use std::ops::Deref;

/// A JSON string, borrowed from the JSON where it has no escapes. (By itself, serde copies an optional one.)
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_copied_only_where_it_has_escapes() {
        let read = |json| serde_json::from_str::<Option<Text<'_>>>(json).unwrap().unwrap().0;
        assert!(matches!(read(r#""plain""#), Cow::Borrowed("plain")));
        assert_eq!(read(r#""a\n""#), Cow::<str>::Owned("a\n".to_owned()));
    }
}
