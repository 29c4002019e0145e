//! Items as the SDK has them: it has the type of an attribute's value twice, for tables and for their streams.

use super::rules::{Item, Value};
use std::collections::HashMap;

macro_rules! value_of {
    ($sdk:ident) => {
        impl From<&$sdk::types::AttributeValue> for Value {
            fn from(value: &$sdk::types::AttributeValue) -> Self {
                use $sdk::types::AttributeValue;
                match value {
                    AttributeValue::S(text) => Self::Text(text.clone()),
                    AttributeValue::N(number) => Self::Number(number.clone()),
                    AttributeValue::B(_) => Self::Bytes,
                    AttributeValue::L(values) => {
                        let texts: Option<_> = values.iter().map(|value| value.as_s().ok().cloned()).collect();
                        texts.map_or(Self::Other, Self::Texts)
                    }
                    _ => Self::Other,
                }
            }
        }
    };
}

value_of!(aws_sdk_dynamodb);
value_of!(aws_sdk_dynamodbstreams);

/// An item by its attributes in the SDK.
pub(super) fn item<'a, V>(attributes: &'a HashMap<String, V>) -> Item
where
    Value: From<&'a V>,
{
    attributes.iter().map(|(name, value)| (name.clone(), value.into())).collect()
}
