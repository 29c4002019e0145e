//! No notification and no environment makes an action panic, and refusals name what is wrong without quoting it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../../aws/tests/bad_input/check.rs"]
mod check;
#[path = "../../notification/tests/bad_input/generate.rs"]
mod generate;
#[path = "webhook/ports.rs"]
mod ports;

use actions::Chosen;
use actions::ledger::Ledger;
use actions::webhook::{Settings, Webhook};
use aws::{Environment, SdkConfig};
use check::named;
use generate::{MARKER, config, json, marked, spoiled};
use notification::{Action, ActionError, Deadline, Effect, Notification, Timestamp};
use ports::{Secret, Time};
use proptest::prelude::*;
use serde_json::json;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Runs the ledger for a refund with any JSON as its data.
fn run_ledger(data: &str) -> Result<Effect, ActionError> {
    let event = format!(r#"{{"specversion":"1.0","id":"a","source":"s","type":"t","data":{data}}}"#);
    let ledger = Ledger::from_environment(&Environment::from_iter([("LEDGER_TABLE_NAME", "entries")])).unwrap();
    block_on(ledger.run(&Notification::parse(event).unwrap(), Deadline::at(Timestamp::MAX)))
}

fn data() -> impl Strategy<Value = String> {
    let refund = json!({"orderId": "42", "amount": "19.99", "currency": "EUR", "more": [MARKER]});
    prop_oneof![json().prop_map(|json| json.to_string()), spoiled(&refund), spoiled(&refund)]
}

fn url() -> impl Strategy<Value = String> {
    let known =
        prop::sample::select(vec!["https://", "http://localhost", "https://me@", "https://[::1]", "ftp://", ""]);
    (known, any::<String>()).prop_map(|(known, rest)| format!("{known}{rest}"))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_ledger_accepts_an_amount_or_rejects_the_data_without_quoting_it(data in data()) {
        match run_ledger(&data) {
            Ok(effect) => {
                let (_, amount) = &effect.writes[0].attributes[2];
                prop_assert!(amount.parse::<f64>().unwrap() > 0.0 && data.contains(amount.as_str()), "{}", amount);
                prop_assert!(effect.writes[0].attributes.iter().all(|(_, value)| !value.trim().is_empty()));
            }
            Err(ActionError::Rejected(reason)) => prop_assert!(!reason.contains(MARKER), "{}", reason),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn no_refusal_of_a_url_quotes_it_because_it_may_contain_a_token(url in marked(url())) {
        let environment = Environment::from_iter([("WEBHOOK_URL", url.as_str()), ("WEBHOOK_SECRET_ID", "s")]);
        if let Err(error) = Settings::from_environment(&environment) {
            prop_assert!(!error.to_string().contains(MARKER), "{}", error);
            named::<()>("WEBHOOK_URL", Err(error));
        }
    }

    #[test]
    fn no_refusal_of_a_guarantee_or_a_secret_quotes_it(guarantee in marked(any::<String>()), secret in marked(any::<String>())) {
        let of = |guarantee| Environment::from_iter([
            ("WEBHOOK_URL", "https://example.com"), ("WEBHOOK_SECRET_ID", "s"), ("WEBHOOK_GUARANTEE", guarantee),
        ]);
        let error = Settings::from_environment(&of(&guarantee)).unwrap_err();
        prop_assert!(!error.to_string().contains(MARKER), "{}", error);
        named::<()>("WEBHOOK_GUARANTEE", Err(error));
        let settings = Settings::from_environment(&of("idempotent")).unwrap();
        if let Err(error) = block_on(Webhook::new(settings, Secret::new(&secret), Time::stands())) {
            prop_assert!(!error.to_string().contains(MARKER), "{}", error);
            named::<()>("WEBHOOK_SECRET_ID", Err(error));
        }
    }

    #[test]
    fn an_unknown_action_is_refused_by_name(action in any::<String>()) {
        let sdk = SdkConfig::builder().build();
        prop_assume!(!["mark-done", "ledger", "webhook", ""].contains(&action.as_str()));
        let chosen = block_on(Chosen::from_environment(&Environment::from_iter([("ACTION", action.as_str())]), &sdk));
        prop_assert!(named("ACTION", chosen).is_none());
    }
}
