//! Errors, and the members that a request may have.

use crate::Response;
use serde_json::{Map, Value, json};

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Error {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// What the error has besides its message, for example the old item.
    pub(crate) details: Map<String, Value>,
}

impl Error {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Map::new() }
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    pub(crate) fn unknown_operation(operation: &str) -> Self {
        Self::validation(format!("this model does not have the operation {operation}"))
    }

    pub(crate) fn response(self) -> Response {
        let mut body = self.details;
        body.insert("__type".to_owned(), json!(self.code));
        body.insert("message".to_owned(), json!(self.message));
        Response { status: 400, body: Value::Object(body).to_string() }
    }
}

/// A JSON object of a request. Members that are not listed are refused: this model would ignore them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Members<'a>(&'a Map<String, Value>);

impl<'a> Members<'a> {
    pub(crate) fn of(value: &'a Value, known: &[&str]) -> Result<Self, Error> {
        let Some(members) = value.as_object() else {
            return Err(Error::new("SerializationException", "a structure is not an object"));
        };
        match members.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(Error::validation(format!("this model does not have the member {name}"))),
            None => Ok(Self(members)),
        }
    }

    pub(crate) fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn required(self, name: &str) -> Result<&'a Value, Error> {
        self.get(name).ok_or_else(|| Error::validation(format!("{name} is missing")))
    }

    pub(crate) fn text(self, name: &str) -> Result<&'a str, Error> {
        self.required(name)?.as_str().ok_or_else(|| Error::validation(format!("{name} is not a string")))
    }

    pub(crate) fn optional_text(self, name: &str) -> Result<Option<&'a str>, Error> {
        if self.get(name).is_some() { self.text(name).map(Some) } else { Ok(None) }
    }

    pub(crate) fn list(self, name: &str) -> Result<&'a [Value], Error> {
        let list = self.required(name)?.as_array();
        list.map(Vec::as_slice).ok_or_else(|| Error::validation(format!("{name} is not a list")))
    }

    pub(crate) fn map(self, name: &str) -> Result<&'a Map<String, Value>, Error> {
        self.required(name)?.as_object().ok_or_else(|| Error::validation(format!("{name} is not a map")))
    }

    /// A map that may be missing.
    pub(crate) fn optional_map(self, name: &str) -> Result<Option<&'a Map<String, Value>>, Error> {
        if self.get(name).is_some() { self.map(name).map(Some) } else { Ok(None) }
    }

    /// A count of at least one; `None` if it is missing.
    pub(crate) fn count(self, name: &str) -> Result<Option<usize>, Error> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
        count.map(Some).ok_or_else(|| Error::validation(format!("{name} is not a number of at least 1")))
    }
}
