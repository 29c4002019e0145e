//! Amounts of money: exact decimals of any length.

use bigdecimal::BigDecimal;
use serde::{Serialize, Serializer};
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// A decimal number that is not negative. Sums are exact, and amounts are equal by their value: 0.1 is 0.10.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Amount(BigDecimal);

/// The text is not an amount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoAmount;

impl FromStr for Amount {
    type Err = NoAmount;

    /// Digits with at most one point among them, as the action `ledger` accepts them.
    fn from_str(text: &str) -> Result<Self, NoAmount> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let has_only_digits = [whole, fraction].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        if whole.is_empty() || fraction.is_empty() || !has_only_digits {
            return Err(NoAmount);
        }
        text.parse().map(Self).map_err(|_| NoAmount)
    }
}

impl Amount {
    /// The sum, with as many decimal places as the longer of the two has.
    pub(crate) fn add(&self, other: &Self) -> Self {
        Self(&self.0 + &other.0)
    }
}

impl Display for Amount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_plain_string())
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        text.parse().unwrap()
    }

    #[test]
    fn an_amount_is_digits_with_at_most_one_point_among_them() {
        for text in ["", ".", "1.", ".5", "1.2.3", "-1", "+1", "1e3", " 1", "1,000", "NaN", "١"] {
            assert_eq!(text.parse::<Amount>().err(), Some(NoAmount), "{text}");
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
        let nines = "9".repeat(40);
        for (a, b, sum) in [
            ("0.10", "0.2", "0.30"),
            ("99.99", "0.01", "100.00"),
            ("0", "0", "0"),
            ("007", "1", "8"),
            (nines.as_str(), "1", &format!("1{}", "0".repeat(40))),
            (nines.as_str(), "0.0000000000000000000000000000000000001", &format!("{nines}.{}1", "0".repeat(36))),
        ] {
            assert_eq!(amount(a).add(&amount(b)).to_string(), sum);
            assert_eq!(amount(b).add(&amount(a)).to_string(), sum);
        }
    }

    #[test]
    fn an_amount_is_shown_with_its_own_places() {
        for (text, shown) in [("19.90", "19.90"), ("007", "7"), ("0.05", "0.05"), ("00", "0"), ("0.00", "0.00")] {
            assert_eq!(amount(text).to_string(), shown);
        }
    }
}
