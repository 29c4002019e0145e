//! How a notification id goes into headers.
//!
//! `Idempotency-Key` is the id as it is, where that is visible ASCII: receivers take the header's text for an opaque key (the
//! [IETF draft](https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/) would quote it, but the APIs that
//! take the header today, such as Stripe's, do not). All else is percent-encoded, as in the
//! [CloudEvents HTTP binding](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md#3132-http-header-values),
//! and so are `"` and `%`. `webhook-id` is the same, with `.` as `%2E`: Standard Webhooks signs `id.timestamp.payload`, so an
//! id with a dot could move the borders between the three.
//!
//! What would be longer than [`limits::IDEMPOTENCY_KEY_MAX_BYTES`] is `sha256:` and the SHA-256 of the id. So is an id that
//! begins with `sha256:` itself, so that no two ids have the same key.

use notification::{NotificationId, limits};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

const HASHED: &str = "sha256:";

/// The id as `Idempotency-Key`.
pub(super) fn idempotency_key(id: &NotificationId) -> String {
    encoded_or_hashed(id, |byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%'))
}

/// The id as `webhook-id`.
pub(super) fn webhook_id(id: &NotificationId) -> String {
    encoded_or_hashed(id, |byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%' | b'.'))
}

fn encoded_or_hashed(id: &NotificationId, stays: fn(u8) -> bool) -> String {
    let id = id.as_str();
    let encoded = percent_encoded(id, stays);
    if encoded.len() > limits::IDEMPOTENCY_KEY_MAX_BYTES || id.starts_with(HASHED) {
        return Sha256::digest(id).iter().fold(HASHED.to_owned(), |text, byte| push(text, format_args!("{byte:02x}")));
    }
    encoded
}

fn percent_encoded(text: &str, stays: fn(u8) -> bool) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if stays(byte) {
            encoded.push(char::from(byte));
            return encoded;
        }
        push(encoded, format_args!("%{byte:02X}"))
    })
}

fn push(mut text: String, more: std::fmt::Arguments<'_>) -> String {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(more);
    text
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
    fn an_id_that_looks_like_a_hash_cannot_have_the_key_of_another() {
        let long = NotificationId::parse(&"x".repeat(256)).unwrap();
        let posing = NotificationId::parse(&idempotency_key(&long)).unwrap();
        assert_ne!(idempotency_key(&posing), idempotency_key(&long));
        assert_ne!(webhook_id(&posing), webhook_id(&long));
        check("sha256", "sha256", "sha256");
    }
}
