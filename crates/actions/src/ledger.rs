//! `ledger`: writes one entry per refund to a second table, in the same transaction as DONE. Exactly once.

use aws::{ConfigError, Environment};
use notification::{Action, ActionError, Deadline, Effect, Guarantee, Notification, Outcome, Put};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

/// Writes ledger entries into a table whose partition key is `id`.
#[derive(Debug, Clone)]
pub struct Ledger {
    table: String,
}

/// The data of a refund. Other members are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refund<'a> {
    order_id: String,
    #[serde(borrow)]
    amount: &'a RawValue,
    currency: String,
}

impl Ledger {
    /// Reads `LEDGER_TABLE_NAME`.
    ///
    /// # Errors
    /// [`ConfigError`] if it is missing.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        let table = environment.required("LEDGER_TABLE_NAME", "the name of the table of ledger entries")?;
        Ok(Self { table })
    }
}

impl Action for Ledger {
    fn guarantee(&self) -> Guarantee {
        Guarantee::Transactional
    }

    async fn run(&self, notification: &Notification, _: Deadline) -> Result<Effect, ActionError> {
        let data = notification.data().ok_or_else(|| rejected("the notification has no data"))?;
        // The text of serde_json's error could quote the data.
        let refund: Refund<'_> = serde_json::from_str(data)
            .map_err(|_| rejected("the data needs orderId and currency as strings, and an amount"))?;
        for (name, value) in [("orderId", &refund.order_id), ("currency", &refund.currency)] {
            if value.trim().is_empty() {
                return Err(rejected(&format!("{name} is empty")));
            }
        }
        // Both "19.99" and 19.99, without converting either to a float.
        let amount = refund.amount.get().trim_matches('"');
        if !is_positive_decimal(amount) {
            return Err(rejected("the amount is not a positive decimal number"));
        }
        let id = notification.id().as_str();
        let entry = Put {
            table: self.table.clone(),
            key: "id",
            attributes: vec![
                ("id", id.to_owned()),
                ("order_id", refund.order_id),
                ("amount", amount.to_owned()),
                ("currency", refund.currency.clone()),
                ("source", notification.source().to_owned()),
            ],
        };
        let outcome = Outcome::new(&json!({"entry": id, "amount": amount, "currency": refund.currency}));
        Ok(Effect { outcome: Some(outcome), writes: vec![entry] })
    }
}

fn rejected(reason: &str) -> ActionError {
    ActionError::Rejected(reason.to_owned())
}

/// Whether the text is a number greater than zero: digits, with at most one point between them.
fn is_positive_decimal(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_positive = text.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    are_digits(whole) && are_digits(fraction) && is_positive && text.len() <= 40
}

fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(data: &str) -> Result<Effect, ActionError> {
        let event = format!(r#"{{"specversion":"1.0","id":"a","source":"s","type":"t","data":{data}}}"#);
        let ledger = Ledger { table: "entries".into() };
        ledger.run(&Notification::parse(event).unwrap(), Deadline::at(notification::Timestamp::MAX)).await
    }

    #[tokio::test]
    async fn an_entry_keeps_the_amount_as_exact_decimal_text() {
        for amount in ["\"19.990\"", "19.990", "12345678901234567890.01", "0.10"] {
            let data = format!(r#"{{"orderId":"42","amount":{amount},"currency":"EUR","more":1}}"#);
            let effect = run(&data).await.unwrap();
            let entry = &effect.writes[0];
            assert_eq!((entry.table.as_str(), entry.key), ("entries", "id"));
            assert_eq!(entry.attributes[0], ("id", "a".to_owned()));
            assert_eq!(entry.attributes[2], ("amount", amount.trim_matches('"').to_owned()));
        }
    }

    #[tokio::test]
    async fn data_that_is_not_a_refund_is_rejected_with_a_reason_that_quotes_nothing() {
        for data in [
            "null",
            "[]",
            r#"{"orderId":"42","currency":"EUR"}"#,
            r#"{"orderId":"secret","amount":"secret","currency":"EUR"}"#,
            r#"{"orderId":"42","amount":-1,"currency":"EUR"}"#,
            r#"{"orderId":"42","amount":0.00,"currency":"EUR"}"#,
            r#"{"orderId":"42","amount":1e3,"currency":"EUR"}"#,
            r#"{"orderId":"42","amount":{"secret":1},"currency":"EUR"}"#,
            r#"{"orderId":"42","amount":"\u0031","currency":"EUR"}"#,
        ] {
            let ActionError::Rejected(reason) = run(data).await.unwrap_err() else { panic!("{data}") };
            assert!(!reason.contains("secret"), "{reason}");
        }
    }

    #[tokio::test]
    async fn a_blank_order_id_or_currency_is_rejected_and_named() {
        for blank in ["", " ", r"\t\n", r"\u00a0"] {
            let data = format!(r#"{{"orderId":"{blank}","amount":"1","currency":"EUR"}}"#);
            assert_eq!(run(&data).await, Err(ActionError::Rejected("orderId is empty".into())), "{blank:?}");
            let data = format!(r#"{{"orderId":"42","amount":"1","currency":"{blank}"}}"#);
            assert_eq!(run(&data).await, Err(ActionError::Rejected("currency is empty".into())), "{blank:?}");
        }
    }
}
