//! The headers that identify a notification.
//!
//! `Idempotency-Key` is the id itself, without quotes. (The
//! [IETF draft](https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/) quotes it, but today's APIs, such
//! as Stripe's, treat the text of the header as an opaque key.) Everything but visible ASCII is percent-encoded, as in the
//! [CloudEvents HTTP binding](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md#3132-http-header-values),
//! and so are `"` and `%`. In `webhook-id`, `.` becomes `%2E` as well: Standard Webhooks signs `id.timestamp.payload`, and a
//! dot in the id could shift the boundaries between the three.
//!
//! A key that would be longer than [`limits::IDEMPOTENCY_KEY_MAX_BYTES`] is replaced by `sha256:` and the SHA-256 of the id.
//! So is an id that itself begins with `sha256:`, so that no two ids have the same key.

use notification::{NotificationId, limits};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

const HASHED: &str = "sha256:";

/// What is encoded in `Idempotency-Key`, besides everything that is not ASCII.
const KEY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// What is encoded in `webhook-id`.
const WEBHOOK_ID: &AsciiSet = &KEY.add(b'.');

/// The id as `Idempotency-Key`.
pub(super) fn idempotency_key(id: &NotificationId) -> String {
    encoded_or_hashed(id, KEY)
}

/// The id as `webhook-id`.
pub(super) fn webhook_id(id: &NotificationId) -> String {
    encoded_or_hashed(id, WEBHOOK_ID)
}

fn encoded_or_hashed(id: &NotificationId, reserved: &'static AsciiSet) -> String {
    let id = id.as_str();
    let encoded = utf8_percent_encode(id, reserved).to_string();
    if encoded.len() <= limits::IDEMPOTENCY_KEY_MAX_BYTES && !id.starts_with(HASHED) {
        return encoded;
    }
    let mut hashed = HASHED.to_owned();
    for byte in Sha256::digest(id) {
        // Writing to a string cannot fail.
        let _ = write!(hashed, "{byte:02x}");
    }
    hashed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &str, key: &str, webhook: &str) {
        let id = NotificationId::parse(id).unwrap();
        assert_eq!((idempotency_key(&id).as_str(), webhook_id(&id).as_str()), (key, webhook), "{id}");
    }

    #[test]
    fn an_id_is_percent_encoded_where_a_header_needs_it_and_webhook_id_has_no_dot() {
        check("rfd-1", "rfd-1", "rfd-1");
        check("shop.rfd.1", "shop.rfd.1", "shop%2Erfd%2E1");
        check("a b", "a%20b", "a%20b");
        check("ü%\"", "%C3%BC%25%22", "%C3%BC%25%22");
        check("a%2Eb", "a%252Eb", "a%252Eb");
    }

    #[test]
    fn a_key_longer_than_255_bytes_is_the_hash_of_the_id() {
        let check_hashed = |id: &str, sha256: &str| check(id, &format!("sha256:{sha256}"), &format!("sha256:{sha256}"));
        check(&"x".repeat(255), &"x".repeat(255), &"x".repeat(255));
        check_hashed(&"x".repeat(256), "85e62acd750c4eb56b7b6a1d66dca5bfaac5f062608a1a893410d0288936c09a");
        check_hashed(&"😀".repeat(128), "fe398dab7db39ba250a21ff3e7f8099108b655511e183e3edde4fc55f0975d62");
        // With dots, webhook-id is the longer of the two.
        let dots = ".".repeat(86);
        check(&dots, &dots, "sha256:6d2e1b262a9aee883cc33f0fbbbacc8748df3ed680ed7b9156f17f8b42aacb12");
        check(&dots[1..], &dots[1..], &"%2E".repeat(85));
    }

    #[test]
    fn an_id_that_looks_like_a_hash_never_has_the_key_of_another_id() {
        let long = NotificationId::parse(&"x".repeat(256)).unwrap();
        let posing = NotificationId::parse(&idempotency_key(&long)).unwrap();
        assert_ne!(idempotency_key(&posing), idempotency_key(&long));
        assert_ne!(webhook_id(&posing), webhook_id(&long));
        check("sha256", "sha256", "sha256");
    }
}
