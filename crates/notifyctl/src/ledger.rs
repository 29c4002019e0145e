//! Audits the ledger: compares the sum paid with the sum that the distinct notifications ask for.

mod amount;

use crate::error::Error;
use crate::stack::Stack;
pub(crate) use amount::Amount;
use aws_sdk_dynamodb::types::AttributeValue;
use notification::{Notification, Status};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};

/// Sums by currency.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Sums {
    /// Entries in the ledger for the sent notifications.
    pub(crate) entries: usize,
    /// Their sums.
    pub(crate) paid: BTreeMap<String, Amount>,
    /// The sums that the distinct DONE notifications ask for.
    pub(crate) asked: BTreeMap<String, Amount>,
}

/// A payment: made by an entry, or asked for by a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payment {
    amount: Amount,
    currency: String,
}

/// One entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Payment(Payment),
    /// It has no amount or currency, or its amount is not a decimal number.
    Unreadable,
}

impl Payment {
    /// The payment that a notification asks for. "19.99" and 19.99 are the same, and neither becomes a float.
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

    fn add_to(&self, sums: &mut BTreeMap<String, Amount>) {
        let sum = sums.entry(self.currency.clone()).or_insert_with(Amount::zero);
        *sum = sum.add(&self.amount);
    }
}

impl Entry {
    fn of(item: &HashMap<String, AttributeValue>) -> Self {
        let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
        let payment = || Some(Payment { amount: text("amount")?.parse().ok()?, currency: text("currency")?.clone() });
        payment().map_or(Self::Unreadable, Self::Payment)
    }
}

/// The entries of the notifications that are `wanted`, by their ids.
pub(crate) async fn entries(
    stack: &Stack,
    table: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<HashMap<String, Entry>, Error> {
    let mut pages = stack.dynamodb.scan().table_name(table).consistent_read(true).into_paginator().send();
    let mut entries = HashMap::new();
    while let Some(page) = pages.next().await {
        for item in page.map_err(Error::aws("Scan"))?.items() {
            let id = item.get("id").and_then(|id| id.as_s().ok()).filter(|id| wanted(id));
            entries.extend(id.map(|id| (id.clone(), Entry::of(item))));
        }
    }
    Ok(entries)
}

/// Compares the entries with what the notifications in the table ask for, one by one and in sum.
pub(crate) fn compare<'a>(
    notifications: impl IntoIterator<Item = (&'a str, Option<Status>, &'a str)>,
    entries: &HashMap<String, Entry>,
    problems: &mut Vec<String>,
) -> Sums {
    let mut sums = Sums::default();
    for (id, status, event) in notifications {
        let entry = entries.get(id);
        sums.entries += usize::from(entry.is_some());
        if let Some(Entry::Payment(payment)) = entry {
            payment.add_to(&mut sums.paid);
        }
        if status != Some(Status::Done) {
            if entry.is_some() {
                problems.push(format!("{id}: not DONE, and the ledger has an entry for it"));
            }
            continue;
        }
        let asked = Payment::asked_by(event);
        if let Some(asked) = &asked {
            asked.add_to(&mut sums.asked);
        }
        let problem = match (entry, asked) {
            (Some(Entry::Payment(paid)), Some(asked)) if *paid == asked => continue,
            (Some(Entry::Payment(_)), Some(_)) => "the ledger has another amount for it",
            (Some(Entry::Payment(_)), None) => "its event has no amount that could be compared with the ledger's",
            (Some(Entry::Unreadable), _) => "the ledger's entry for it has no readable amount",
            (None, _) => "the ledger has no entry for it",
        };
        problems.push(format!("{id}: DONE, and {problem}"));
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
        let attribute = |name: &str, value: &str| (name.to_owned(), AttributeValue::S(value.to_owned()));
        let entry =
            |amount: &str| Entry::of(&HashMap::from([attribute("amount", amount), attribute("currency", "EUR")]));
        let entries = paid.map(|amount| ("a".to_owned(), entry(amount))).into_iter().collect();
        let mut problems = Vec::new();
        let sums = compare([("a", Some(status), event.as_str())], &entries, &mut problems);
        assert_eq!(problems.len(), usize::from(problem.is_some()), "{problems:?}");
        assert!(problem.is_none_or(|problem| problems[0].contains(problem)), "{problems:?}");
        sums
    }

    #[test]
    fn paid_and_requested_amounts_are_compared_exactly() {
        let sums = check(Status::Done, "\"0.10\"", Some("0.1"), None);
        assert_eq!((sums.entries, sums.paid == sums.asked), (1, true));
        check(Status::Done, "\"0.10\"", Some("0.11"), Some("another amount"));
        check(Status::Done, "\"0.10\"", None, Some("no entry"));
        check(Status::Init, "\"0.10\"", Some("0.10"), Some("not DONE"));
        check(Status::Failed, "\"x\"", None, None);
    }

    #[test]
    fn an_amount_that_cannot_be_read_is_a_problem_with_its_id() {
        check(
            Status::Done,
            "\"0.10\"",
            Some("ten"),
            Some("a: DONE, and the ledger's entry for it has no readable amount"),
        );
        check(Status::Done, "\"ten\"", Some("0.10"), Some("a: DONE, and its event has no amount"));
        check(Status::Init, "\"0.10\"", Some("ten"), Some("a: not DONE, and the ledger has an entry"));
    }

    #[test]
    fn amounts_of_any_length_are_compared_and_summed_exactly() {
        let longest = "9".repeat(40);
        check(Status::Done, &longest, Some(&longest), None);
        check(Status::Done, &longest, Some(&format!("{}8", &longest[1..])), Some("another amount"));

        let (a, b) = (event("a", &longest), event("b", "0.01"));
        let payment =
            |amount: &str| Entry::Payment(Payment { amount: amount.parse().unwrap(), currency: "EUR".into() });
        let entries = [("a".to_owned(), payment(&longest)), ("b".to_owned(), payment("0.01"))].into();
        let mut problems = vec![];
        let done = Some(Status::Done);
        let sums = compare([("a", done, a.as_str()), ("b", done, b.as_str())], &entries, &mut problems);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(sums.paid["EUR"].to_string(), format!("{longest}.01"));
        assert_eq!(sums.asked, sums.paid);
    }
}
