//! Audits the ledger: compares the sum paid with the sum that the distinct notifications ask for.

use crate::error::Error;
use crate::stack::Stack;
use crate::stack::items::{Item, text};
use aws_sdk_dynamodb::types::AttributeValue;
use bigdecimal::BigDecimal;
use notification::{Notification, Status};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};

/// Sums by currency: exact decimals of any length, equal by their value (0.1 is 0.10).
pub(crate) type Amounts = BTreeMap<String, BigDecimal>;

/// The ledger in sums.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Sums {
    /// Entries in the ledger for the sent notifications.
    pub(crate) entries: usize,
    /// Their sums.
    #[serde(serialize_with = "plain")]
    pub(crate) paid: Amounts,
    /// The sums that the distinct DONE notifications ask for.
    #[serde(serialize_with = "plain")]
    pub(crate) asked: Amounts,
}

fn plain<S: Serializer>(sums: &Amounts, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(sums.iter().map(|(currency, sum)| (currency, sum.to_plain_string())))
}

/// A payment: made by an entry, or asked for by a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payment {
    amount: BigDecimal,
    currency: String,
}

/// The entries of the ledger by their ids; `None` for an entry without a currency or a readable amount.
pub(crate) type Entries = HashMap<String, Option<Payment>>;

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
        Some(Self { amount: amount(refund.amount.get().trim_matches('"'))?, currency: refund.currency })
    }

    /// The payment that an entry made.
    fn made_by(entry: &HashMap<String, AttributeValue>) -> Option<Self> {
        Some(Self { amount: amount(text(entry, "amount")?)?, currency: text(entry, "currency")?.to_owned() })
    }

    fn add_to(&self, sums: &mut Amounts) {
        *sums.entry(self.currency.clone()).or_default() += &self.amount;
    }
}

/// An amount of money: digits with at most one point among them, as the action `ledger` accepts them.
fn amount(text: &str) -> Option<BigDecimal> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if are_digits(whole) && are_digits(fraction) { text.parse().ok() } else { None }
}

/// The entries of the notifications that are `wanted`.
pub(crate) async fn entries(stack: &Stack, table: &str, wanted: impl Fn(&str) -> bool) -> Result<Entries, Error> {
    let mut pages = stack.dynamodb.scan().table_name(table).consistent_read(true).into_paginator().send();
    let mut entries = HashMap::new();
    while let Some(page) = pages.next().await {
        for item in page.map_err(Error::aws("Scan"))?.items() {
            let id = text(item, "id").filter(|id| wanted(id));
            entries.extend(id.map(|id| (id.to_owned(), Payment::made_by(item))));
        }
    }
    Ok(entries)
}

/// Compares the entries with what the notifications in the table ask for, one by one and in sum.
pub(crate) fn compare(table: &HashMap<String, Item>, entries: &Entries, problems: &mut Vec<String>) -> Sums {
    let mut sums = Sums::default();
    for (id, item) in table {
        let is_done = item.status == Some(Status::Done);
        let asked = if is_done { Payment::asked_by(&item.event) } else { None };
        if let Some(asked) = &asked {
            asked.add_to(&mut sums.asked);
        }
        let entry = entries.get(id);
        sums.entries += usize::from(entry.is_some());
        if let Some(Some(paid)) = entry {
            paid.add_to(&mut sums.paid);
        }
        let problem = match (entry, asked) {
            (Some(Some(paid)), Some(asked)) if *paid == asked => continue,
            (None, _) if !is_done => continue,
            (Some(_), _) if !is_done => "not DONE, and the ledger has an entry for it",
            (Some(Some(_)), Some(_)) => "DONE, and the ledger has another amount for it",
            (Some(Some(_)), None) => "DONE, and its event has no amount that could be compared with the ledger's",
            (Some(None), _) => "DONE, and the ledger's entry for it has no readable amount",
            (None, _) => "DONE, and the ledger has no entry for it",
        };
        problems.push(format!("{id}: {problem}"));
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

    fn item(status: Status, event: &str) -> Item {
        Item { status: Some(status), event: event.into(), ..Item::default() }
    }

    fn check(status: Status, asked: &str, paid: Option<&str>, problem: Option<&str>) -> Sums {
        let event = event("a", asked);
        let attribute = |name: &str, value: &str| (name.to_owned(), AttributeValue::S(value.to_owned()));
        let entry = |amount: &str| {
            Payment::made_by(&HashMap::from([attribute("amount", amount), attribute("currency", "EUR")]))
        };
        let entries = paid.map(|amount| ("a".to_owned(), entry(amount))).into_iter().collect();
        let mut problems = Vec::new();
        let sums = compare(&[("a".to_owned(), item(status, &event))].into(), &entries, &mut problems);
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
        let payment = |text: &str| Some(Payment { amount: amount(text).unwrap(), currency: "EUR".into() });
        let entries = [("a".to_owned(), payment(&longest)), ("b".to_owned(), payment("0.01"))].into();
        let mut problems = vec![];
        let table = [("a", a), ("b", b)].map(|(id, event)| (id.to_owned(), item(Status::Done, &event)));
        let sums = compare(&table.into(), &entries, &mut problems);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(sums.paid["EUR"].to_plain_string(), format!("{longest}.01"));
        assert_eq!(sums.asked, sums.paid);
    }

    #[test]
    fn an_amount_is_digits_with_at_most_one_point_among_them() {
        for text in ["", ".", "1.", ".5", "1.2.3", "-1", "+1", "1e3", " 1", "1,000", "NaN", "١"] {
            assert_eq!(amount(text), None, "{text}");
        }
    }

    #[test]
    fn amounts_are_equal_by_their_value() {
        for (a, b, expected) in [
            ("0.1", "0.10", true),
            ("007", "7.00", true),
            ("0", "0.000", true),
            ("10", "1", false),
            ("0.1", "0.01", false),
            ("1234567890123456789012345678901234567890", "1234567890123456789012345678901234567891", false),
        ] {
            assert_eq!(amount(a) == amount(b), expected, "{a} and {b}");
            assert_eq!(amount(b) == amount(a), expected, "{b} and {a}");
        }
    }

    #[test]
    fn a_sum_is_exact_however_long_the_amounts_are() {
        let sum_of = |a, b| (amount(a).unwrap() + amount(b).unwrap()).to_plain_string();
        let nines = "9".repeat(40);
        for (a, b, sum) in [
            ("0.10", "0.2", "0.30"),
            ("99.99", "0.01", "100.00"),
            ("0", "0", "0"),
            ("007", "1", "8"),
            (nines.as_str(), "1", &format!("1{}", "0".repeat(40))),
            (nines.as_str(), "0.0000000000000000000000000000000000001", &format!("{nines}.{}1", "0".repeat(36))),
        ] {
            assert_eq!(sum_of(a, b), sum);
            assert_eq!(sum_of(b, a), sum);
        }
    }

    #[test]
    fn an_amount_is_shown_with_its_own_places() {
        for (text, shown) in [("19.90", "19.90"), ("007", "7"), ("0.05", "0.05"), ("00", "0"), ("0.00", "0.00")] {
            assert_eq!(amount(text).unwrap().to_plain_string(), shown);
        }
    }
}
