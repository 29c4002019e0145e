//! The ledger's side of an audit: the sum paid against the sum that the distinct notifications ask for.

use crate::error::Error;
use crate::stack::Stack;
use aws_sdk_dynamodb::types::AttributeValue;
use notification::{Notification, Status};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};

/// Sums by currency.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Sums {
    /// Entries in the ledger for what was sent.
    pub(crate) entries: usize,
    /// What they pay.
    pub(crate) paid: BTreeMap<String, Decimal>,
    /// What the distinct DONE notifications ask for.
    pub(crate) asked: BTreeMap<String, Decimal>,
}

/// One entry, or what a notification asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payment {
    amount: Decimal,
    currency: String,
}

impl Payment {
    /// What a notification asks for: "19.99" and 19.99 alike, and never by way of a float.
    fn asked_by(event: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Refund<'a> {
            #[serde(borrow)]
            amount: &'a RawValue,
            currency: String,
        }
        let notification = Notification::parse(event).ok()?;
        let refund: Refund<'_> = serde_json::from_str(notification.data()?).ok()?;
        Some(Self { amount: refund.amount.get().trim_matches('"').parse().ok()?, currency: refund.currency })
    }
}

/// All entries by notification id.
pub(crate) async fn entries(stack: &Stack, table: &str) -> Result<HashMap<String, Payment>, Error> {
    let mut pages = stack.dynamodb.scan().table_name(table).consistent_read(true).into_paginator().send();
    let mut entries = HashMap::new();
    while let Some(page) = pages.next().await {
        for item in page.map_err(Error::aws("Scan"))?.items() {
            let text = |name: &str| item.get(name).and_then(|value: &AttributeValue| value.as_s().ok()).cloned();
            if let (Some(id), Some(amount), Some(currency)) = (text("id"), text("amount"), text("currency")) {
                entries.extend(amount.parse().ok().map(|amount| (id, Payment { amount, currency })));
            }
        }
    }
    Ok(entries)
}

/// Compares the entries with what the notifications of the table ask for, one by one and in sum.
pub(crate) fn compare<'a>(
    notifications: impl IntoIterator<Item = (&'a str, Option<Status>, &'a str)>,
    entries: &HashMap<String, Payment>,
    problems: &mut Vec<String>,
) -> Sums {
    let mut sums = Sums::default();
    for (id, status, event) in notifications {
        let entry = entries.get(id);
        if let Some(entry) = entry {
            sums.entries += 1;
            *sums.paid.entry(entry.currency.clone()).or_default() += entry.amount;
        }
        match (status, entry, Payment::asked_by(event)) {
            (Some(Status::Done), Some(entry), Some(asked)) if *entry == asked => {
                *sums.asked.entry(asked.currency).or_default() += asked.amount;
            }
            (Some(Status::Done), entry, _) => {
                let what = if entry.is_some() { "another amount" } else { "no entry" };
                problems.push(format!("{id}: DONE, and the ledger has {what} for it"));
            }
            (_, Some(_), _) => problems.push(format!("{id}: not DONE, and the ledger has an entry for it")),
            _ => {}
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, amount: &str) -> String {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"t","data":{{"amount":{amount},"currency":"EUR"}}}}"#
        )
    }

    fn check(status: Status, asked: &str, paid: Option<&str>, problem: Option<&str>) -> Sums {
        let event = event("a", asked);
        let payment = |amount: &str| Payment { amount: amount.parse().unwrap(), currency: "EUR".into() };
        let entries = paid.map(|amount| ("a".to_owned(), payment(amount))).into_iter().collect();
        let mut problems = Vec::new();
        let sums = compare([("a", Some(status), event.as_str())], &entries, &mut problems);
        assert_eq!(problems.len(), usize::from(problem.is_some()), "{problems:?}");
        assert!(problem.is_none_or(|problem| problems[0].contains(problem)), "{problems:?}");
        sums
    }

    #[test]
    fn what_is_paid_is_compared_with_what_is_asked_for_exactly() {
        let sums = check(Status::Done, "\"0.10\"", Some("0.1"), None);
        assert_eq!((sums.entries, sums.paid == sums.asked), (1, true));
        check(Status::Done, "\"0.10\"", Some("0.11"), Some("another amount"));
        check(Status::Done, "\"0.10\"", None, Some("no entry"));
        check(Status::Init, "\"0.10\"", Some("0.10"), Some("not DONE"));
        check(Status::Failed, "\"x\"", None, None);
    }
}
