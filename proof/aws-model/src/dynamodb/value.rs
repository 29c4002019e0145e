//! Items and the values of their attributes, in DynamoDB's JSON, for example `{"S": "text"}`.
//! <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html>

use crate::error::Error;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use std::cmp::Ordering;

/// The attributes of an item by name.
pub type Item = Map<String, Value>;

/// The size limit of an item, with its attribute names, in bytes.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html>
const ITEM_MAX_BYTES: usize = 400 * 1024;

/// A value as DynamoDB stores it: numbers have one form.
pub(crate) fn stored(value: &Value) -> Result<Value, Error> {
    let invalid = || Error::validation("an attribute value is invalid");
    let members = value.as_object().filter(|members| members.len() == 1).ok_or_else(invalid)?;
    let (kind, content) = members.iter().next().ok_or_else(invalid)?;
    let content = match (kind.as_str(), content) {
        ("S", Value::String(_)) | ("BOOL", Value::Bool(_)) => content.clone(),
        ("N", Value::String(text)) => {
            let number: i128 = text
                .parse()
                .map_err(|_| Error::validation("a number is not a whole number, the only kind that this model has"))?;
            json!(number.to_string())
        }
        ("B", Value::String(text)) => {
            BASE64_STANDARD.decode(text).map_err(|_| invalid())?;
            content.clone()
        }
        ("M", Value::Object(entries)) => Value::Object(stored_item(entries)?),
        ("L", Value::Array(entries)) => entries.iter().map(stored).collect::<Result<_, _>>()?,
        _ => return Err(Error::validation(format!("this model does not have values of the type {kind}"))),
    };
    Ok(Value::Object([(kind.clone(), content)].into_iter().collect()))
}

/// The attributes of an item as DynamoDB stores them.
pub(crate) fn stored_item(item: &Item) -> Result<Item, Error> {
    item.iter().map(|(name, value)| Ok((name.clone(), stored(value)?))).collect()
}

/// The text of a string.
#[must_use]
pub fn text(value: &Value) -> Option<&str> {
    value.get("S")?.as_str()
}

/// The order of two values of the same type; `None` if they have no order.
pub(crate) fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    if let (Some(a), Some(b)) = (text(a), text(b)) {
        return Some(a.cmp(b));
    }
    let number = |value: &Value| value.get("N")?.as_str()?.parse::<i128>().ok();
    Some(number(a)?.cmp(&number(b)?))
}

/// The size of an item in bytes: its names and its values.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>
pub(crate) fn size(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_size(value)).sum()
}

fn value_size(value: &Value) -> usize {
    let Some((kind, content)) = value.as_object().and_then(|members| members.iter().next()) else { return 0 };
    match (kind.as_str(), content) {
        ("S", Value::String(text)) => text.len(),
        ("N", Value::String(text)) => text.len().div_ceil(2) + 1,
        ("B", Value::String(text)) => BASE64_STANDARD.decode(text).map_or(0, |bytes| bytes.len()),
        ("M", Value::Object(entries)) => 3 + entries.len() + size(entries),
        ("L", Value::Array(entries)) => 3 + entries.len() + entries.iter().map(value_size).sum::<usize>(),
        _ => 1,
    }
}

pub(crate) fn is_too_large(item: &Item) -> bool {
    size(item) > ITEM_MAX_BYTES
}

pub(crate) fn too_large() -> Error {
    Error::validation("Item size has exceeded the maximum allowed size")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_form_and_other_types_are_refused() {
        assert_eq!(stored(&json!({"N": "007"})).unwrap(), json!({"N": "7"}));
        assert_eq!(stored(&json!({"L": [{"N": "007"}]})).unwrap(), json!({"L": [{"N": "7"}]}));
        for refused in [
            json!({"N": "1.5"}),
            json!({"SS": ["a"]}),
            json!({"L": ["a"]}),
            json!({"B": "?"}),
            json!({"S": "a", "N": "1"}),
            json!("a"),
        ] {
            assert!(stored(&refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn strings_are_ordered_by_their_bytes_and_numbers_by_their_value() {
        let (small, large) = (json!({"N": "9"}), json!({"N": "10"}));
        assert_eq!(compare(&small, &large), Some(Ordering::Less));
        assert_eq!(compare(&json!({"S": "9"}), &json!({"S": "10"})), Some(Ordering::Greater));
        assert_eq!(compare(&small, &json!({"S": "9"})), None);
    }

    #[test]
    fn an_item_may_have_400_kilobytes_with_its_names() {
        let item = |length| Item::from_iter([("id".to_owned(), json!({"S": "x".repeat(length)}))]);
        assert!(!is_too_large(&item(ITEM_MAX_BYTES - 2)));
        assert!(is_too_large(&item(ITEM_MAX_BYTES - 1)));
    }
}
