//! The formats that CloudEvents requires of attributes. These functions only check a text; they do not decode or copy it.

use jiff::civil::Date;

/// Whether `text` is an [RFC 3339](https://www.rfc-editor.org/rfc/rfc3339#section-5.6) date and time. As the RFC's notes
/// allow, `T` and `Z` may be lower case, and a space may stand for `T`.
///
/// It accepts more than [`jiff::Timestamp`] does (any number of fraction digits, all of the years 0000 and 9999), and also less
/// (the RFC requires minutes and seconds, and has no bracketed time zones).
pub(crate) fn is_date_time(text: &str) -> bool {
    let [date @ .., b'T' | b't' | b' ', h1, h2, b':', m1, m2, b':', s1, s2] =
        text.as_bytes().get(..19).unwrap_or_default()
    else {
        return false;
    };
    let (Some(date), Some(hour), Some(minute), Some(second)) =
        (self::date(date), number([*h1, *h2]), number([*m1, *m2]), number([*s1, *s2]))
    else {
        return false;
    };
    let Some(offset) = offset_minutes(without_fraction(&text.as_bytes()[19..])) else { return false };
    hour <= 23 && minute <= 59 && (second <= 59 || second == 60 && has_leap_second(date, 60 * hour + minute - offset))
}

fn date(text: &[u8]) -> Option<Date> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return None };
    let (month, day) = (number([*m1, *m2])?, number([*d1, *d2])?);
    Date::new(number([*y1, *y2, *y3, *y4])?, month.try_into().ok()?, day.try_into().ok()?).ok()
}

/// Whether the minute may end with a leap second: it must be the last one of a month, in UTC. (Which months have one is
/// decided half a year ahead.) `minute` counts from the start of this day in UTC; a negative one is in the day before.
fn has_leap_second(date: Date, minute: i16) -> bool {
    match minute {
        1439 => date == date.last_of_month(),
        -1 => date.day() == 1,
        _ => false,
    }
}

/// The text after the fraction of a second, or the whole text if there is none. A fraction has at least one digit.
fn without_fraction(text: &[u8]) -> &[u8] {
    match text {
        [b'.', b'0'..=b'9', rest @ ..] => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            &rest[digits..]
        }
        _ => text,
    }
}

fn offset_minutes(offset: &[u8]) -> Option<i16> {
    match offset {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number([*h1, *h2])?, number([*m1, *m2])?);
            let offset = 60 * hours + minutes;
            (hours <= 23 && minutes <= 59).then_some(if *sign == b'-' { -offset } else { offset })
        }
        _ => None,
    }
}

fn number<const DIGITS: usize>(digits: [u8; DIGITS]) -> Option<i16> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| 10 * number + i16::from(digit - b'0')))
}

/// Whether `text` begins as an [RFC 2046](https://www.rfc-editor.org/rfc/rfc2045#section-5.1) content type does: with a type
/// and a subtype. Its parameters are not read.
pub(crate) fn is_content_type(text: &str) -> bool {
    let media_type = text.split(';').next().unwrap_or_default().trim_end_matches(' ');
    media_type.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

fn is_token(text: &str) -> bool {
    let is_allowed = |byte| matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'^'..=b'~');
    !text.is_empty() && text.bytes().all(is_allowed)
}

/// Whether `text` is [base64](https://www.rfc-editor.org/rfc/rfc4648#section-4) with its padding.
pub(crate) fn is_base64(text: &str) -> bool {
    let unpadded = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    text.len().is_multiple_of(4)
        && unpadded.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use jiff::tz::Offset;
    use proptest::prelude::*;

    fn check(text: &str, expected: bool) {
        assert_eq!(is_date_time(text), expected, "{text:?}");
    }

    #[test]
    fn the_examples_of_rfc_3339_are_dates_and_times() {
        check("1985-04-12T23:20:50.52Z", true);
        check("1996-12-19T16:39:57-08:00", true);
        check("1990-12-31T23:59:60Z", true);
        check("1990-12-31T15:59:60-08:00", true);
        check("1937-01-01T12:00:27.87+00:20", true);
    }

    #[test]
    fn a_date_and_time_is_written_in_full() {
        check("2026-11-22t10:00:00z", true);
        check("2026-11-22 10:00:00Z", true);
        for text in [
            "",
            "2026-11-22",
            "10:00:00Z",
            "2026-11-22T10Z",
            "2026-11-22T10:00Z",
            "2026-11-22T10:00:00",
            "2026-11-22_10:00:00Z",
            "2026-11-22T10:00:00ZZ",
            "2026-11-22T10:00:00Z[UTC]",
            "2026-11-22T10:00:00+01:00[Europe/Berlin]",
            "2026-11-22T10:00:00+01:00Z",
            "2026-11-22T10:00:00+01",
            "2026-11-22T10:00:00+0100",
            "2026-11-22T10:00:00 Z",
            " 2026-11-22T10:00:00Z",
            "2026-11-22T10:00:00Z ",
            "20261122T100000Z",
            "2026-326T10:00:00Z",
            "2026-W47-7T10:00:00Z",
            "26-11-22T10:00:00Z",
            "+002026-11-22T10:00:00Z",
            "-0001-11-22T10:00:00Z",
            "10000-01-01T00:00:00Z",
            "2026-1-22T10:00:00Z",
            "2026-11-2T10:00:00Z",
            "2026-11-22T1:00:00Z",
            "২০২৬-11-22T10:00:00Z",
            "2026-11-22T10:00:00é",
            "06/19/1963 08:30:06 PST",
        ] {
            check(text, false);
        }
    }

    #[test]
    fn each_part_of_a_date_and_time_has_its_range() {
        check("0000-01-01T00:00:00Z", true);
        check("9999-12-31T23:59:59.999Z", true);
        for (from, to) in
            [("-11-", "-00-"), ("-11-", "-13-"), ("-22T", "-00T"), ("T10", "T24"), (":20:", ":60:"), (":30Z", ":60Z")]
        {
            check(&"2026-11-22T10:20:30Z".replace(from, to), false);
        }
        for (month, last) in (1..=12).zip([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
            check(&format!("2026-{month:02}-{last}T10:00:00Z"), true);
            check(&format!("2026-{month:02}-{}T10:00:00Z", last + 1), false);
        }
        for (year, leap) in [("2024", true), ("2026", false), ("1900", false), ("2000", true), ("0000", true)] {
            check(&format!("{year}-02-29T10:00:00Z"), leap);
        }
    }

    #[test]
    fn a_fraction_of_a_second_has_any_number_of_digits_but_at_least_one() {
        check("2026-11-22T10:00:00.0Z", true);
        check("2026-11-22T10:00:00.1234567890123456789012345678901234567890+01:00", true);
        check("2026-11-22T10:00:00.Z", false);
        check("2026-11-22T10:00:00,5Z", false);
        check("2026-11-22T10:00:00.5.5Z", false);
        check("2026-11-22T10:00:00.5", false);
    }

    #[test]
    fn an_offset_is_below_a_day() {
        for offset in ["+00:00", "-00:00", "+05:45", "+23:59", "-23:59"] {
            check(&format!("2026-11-22T10:00:00{offset}"), true);
        }
        for offset in ["+24:00", "-24:00", "+25:30", "+10:60", "~01:00", "+1:00", "+01:0", "+01-00"] {
            check(&format!("2026-11-22T10:00:00{offset}"), false);
        }
    }

    #[test]
    fn a_leap_second_ends_a_month_in_utc() {
        check("1998-12-31T23:59:60Z", true);
        check("1998-12-31T15:59:60.123-08:00", true);
        check("1999-01-01T08:59:60+09:00", true);
        check("1998-12-31T00:00:60-23:59", true);
        check("1998-06-30T23:59:60Z", true);
        check("1998-12-31T23:59:61Z", false);
        check("1998-12-31T23:58:60Z", false);
        check("1998-12-31T22:59:60Z", false);
        check("1998-12-30T23:59:60Z", false);
        check("1999-01-02T08:59:60+09:00", false);
        check("1998-12-31T23:59:60+09:00", false);
    }

    #[test]
    fn a_token_has_any_ascii_character_but_spaces_controls_and_specials() {
        for character in '\0'..='\u{ff}' {
            let allowed = character.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(character);
            assert_eq!(is_token(&format!("a{character}")), allowed, "{character:?}");
        }
        assert!(!is_token(""));
    }

    proptest! {
        #[test]
        fn a_text_that_jiff_writes_is_a_date_and_time(
            second in -62_135_596_800..=253_402_207_200_i64, nanosecond in 0..1_000_000_000_i32, hours in -23..=23_i8,
        ) {
            let time = Timestamp::new(second, nanosecond).unwrap();
            let shown = time.display_with_offset(Offset::constant(hours)).to_string();
            prop_assert!(is_date_time(&time.to_string()) && is_date_time(&shown), "{}", shown);
        }

        #[test]
        fn a_text_that_jiff_cannot_read_is_not_a_date_and_time(faults in prop::collection::vec((0..27_usize, "[-+:.TZ0-9]"), 1..4)) {
            let mut time = "2026-11-22T10:59:59.5+01:00".to_owned();
            for (place, byte) in faults {
                time.replace_range(place..=place, &byte);
            }
            prop_assert!(!is_date_time(&time) || time.parse::<Timestamp>().is_ok(), "{}", time);
        }
    }
}
