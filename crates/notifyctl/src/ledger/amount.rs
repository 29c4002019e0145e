//! Amounts of money: exact decimals of any length.

use serde::{Serialize, Serializer};
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// A decimal number that is not negative. It is never rounded and never overflows.
#[derive(Debug, Clone)]
pub(crate) struct Amount {
    /// The digits, starting with the last.
    digits: Vec<u8>,
    /// Number of decimal places.
    scale: usize,
}

/// The text is not an amount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoAmount;

impl FromStr for Amount {
    type Err = NoAmount;

    /// Digits with at most one point among them, as the action `ledger` accepts them.
    fn from_str(text: &str) -> Result<Self, NoAmount> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(NoAmount),
            None => (text, ""),
        };
        let digits = whole.bytes().chain(fraction.bytes()).rev();
        let digits: Option<Vec<u8>> = digits.map(|digit| digit.is_ascii_digit().then(|| digit - b'0')).collect();
        if whole.is_empty() {
            return Err(NoAmount);
        }
        Ok(Self { digits: digits.ok_or(NoAmount)?, scale: fraction.len() })
    }
}

impl Amount {
    pub(crate) fn zero() -> Self {
        Self { digits: vec![0], scale: 0 }
    }

    /// The sum, with as many decimal places as the longer of the two has.
    pub(crate) fn add(&self, other: &Self) -> Self {
        let scale = self.scale.max(other.scale);
        let length = |amount: &Self| amount.digits.len() + scale - amount.scale;
        let mut digits = Vec::with_capacity(length(self).max(length(other)) + 1);
        let mut carry = 0;
        for place in 0..length(self).max(length(other)) {
            let sum = self.digit(place, scale) + other.digit(place, scale) + carry;
            digits.push(sum % 10);
            carry = sum / 10;
        }
        if carry > 0 {
            digits.push(carry);
        }
        Self { digits, scale }
    }

    /// The digit at a place, counted from the last of `scale` decimal places.
    fn digit(&self, place: usize, scale: usize) -> u8 {
        place.checked_sub(scale - self.scale).and_then(|index| self.digits.get(index)).copied().unwrap_or_default()
    }
}

impl PartialEq for Amount {
    /// By value: 0.1 is 0.10.
    fn eq(&self, other: &Self) -> bool {
        let scale = self.scale.max(other.scale);
        let places = self.digits.len().max(other.digits.len()) + scale;
        (0..places).all(|place| self.digit(place, scale) == other.digit(place, scale))
    }
}

impl Eq for Amount {}

impl Display for Amount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let zeros = self.digits.iter().rev().take_while(|digit| **digit == 0).count();
        // One digit before the point, at least.
        let shown = (self.digits.len() - zeros).max(self.scale + 1);
        for place in (0..shown).rev() {
            write!(f, "{}", self.digit(place, self.scale))?;
            if place == self.scale && self.scale > 0 {
                f.write_str(".")?;
            }
        }
        Ok(())
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
