//! Run these with `cargo test -p approve`. The tests of an action need neither AWS nor Lambda.

use super::*;
use notification::Timestamp;

/// Runs the action for a refund with this JSON as its data.
async fn approve(limit: &str, data: &str) -> Result<Effect, ActionError> {
    let event = format!(r#"{{"specversion":"1.0","id":"rfd-1","source":"shop","type":"refund","data":{data}}}"#);
    let notification = Notification::parse(event).unwrap();
    let action = Approve { limit: parse_limit(limit).unwrap() };
    action.run(&notification, Deadline::at(Timestamp::MAX)).await
}

async fn rejection(limit: &str, data: &str) -> String {
    match approve(limit, data).await {
        Err(ActionError::Rejected(reason)) => reason,
        other => panic!("{data}: {other:?}"),
    }
}

#[tokio::test]
async fn an_amount_up_to_the_limit_is_approved_as_a_string_or_a_number() {
    for amount in [r#""0.01""#, r#""19.99""#, r#""100""#, r#""100.00""#, "19.99", "100"] {
        let effect = approve("100", &format!(r#"{{"amount":{amount}}}"#)).await.unwrap();
        assert_eq!(effect.outcome.unwrap().as_str(), r#"{"approved":true,"limit":"100"}"#, "{amount}");
    }
}

#[tokio::test]
async fn an_amount_above_the_limit_is_rejected_however_small_the_difference() {
    for amount in [r#""100.01""#, "100.01", r#""100.00000000000000000000000001""#, "100.00000000000000000000000001"] {
        let reason = rejection("100", &format!(r#"{{"amount":{amount}}}"#)).await;
        assert_eq!(reason, "the amount is above the limit", "{amount}");
    }
}

#[tokio::test]
async fn an_amount_that_is_not_a_positive_decimal_number_is_rejected() {
    for amount in [
        r#""NaN""#,
        r#""inf""#,
        r#""-1""#,
        "-1",
        r#""-0.01""#,
        r#""0""#,
        "0",
        r#""0.00""#,
        "1e400",
        r#""1e400""#,
        r#""1e1""#,
        r#""""#,
        r#"" 1""#,
        r#""+1""#,
        r#""1_0""#,
        r#"".5""#,
        r#""1.""#,
        r#""1.2.3""#,
        r#""one""#,
        "null",
        "true",
        "[1]",
        r#"{"value":1}"#,
    ] {
        let reason = rejection("100", &format!(r#"{{"amount":{amount}}}"#)).await;
        assert_eq!(reason, "the amount is not a positive decimal number", "{amount}");
    }
}

#[tokio::test]
async fn data_without_an_amount_is_rejected() {
    for data in ["{}", "null", "[]", "1", r#""amount""#, r#"{"amount":"1","amount":"2"}"#] {
        assert_eq!(rejection("100", data).await, "the data needs one amount", "{data}");
    }
}

#[test]
fn a_limit_must_be_a_positive_decimal_number() {
    for limit in ["0", "-1", "NaN", "inf", "1e400", "", "much"] {
        let error = parse_limit(limit).unwrap_err().to_string();
        assert!(error.contains("REFUND_LIMIT is invalid"), "{limit}: {error}");
    }
}
