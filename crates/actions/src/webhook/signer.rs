//! The signatures of [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme):
//! HMAC-SHA256 over `id.timestamp.payload`, one for each secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use notification::limits;
use sha2::Sha256;
use std::fmt;

/// The current signing secrets: one, or several during a rotation. They are never shown.
pub(super) struct Signer {
    text: Box<str>,
    macs: Vec<Hmac<Sha256>>,
}

/// What is wrong with the text of the signing secrets. It quotes none of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidSecrets {
    #[error("the secret is empty; it must contain a Standard Webhooks secret, whsec_ and base64")]
    None,
    #[error("the secret contains {count} signing secrets; at most {max} are allowed", max = limits::WEBHOOK_SECRETS_MAX)]
    TooMany { count: usize },
    #[error("signing secret {place} of {count} is not a Standard Webhooks secret, whsec_ and base64")]
    NotBase64 { place: usize, count: usize },
    #[error(
        "signing secret {place} of {count} has {bytes} bytes; Standard Webhooks requires {min} to {max}",
        min = limits::WEBHOOK_SECRET_BYTES.start(), max = limits::WEBHOOK_SECRET_BYTES.end()
    )]
    Length { place: usize, count: usize, bytes: usize },
}

impl Signer {
    /// Parses secrets that are separated by white space. Each is base64, usually after the prefix `whsec_`.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidSecrets> {
        let secrets: Vec<&str> = text.split_whitespace().collect();
        let count = secrets.len();
        if secrets.is_empty() {
            return Err(InvalidSecrets::None);
        }
        if count > limits::WEBHOOK_SECRETS_MAX {
            return Err(InvalidSecrets::TooMany { count });
        }
        let mut macs = Vec::with_capacity(count);
        for (place, secret) in (1..).zip(secrets) {
            let base64 = secret.strip_prefix("whsec_").unwrap_or(secret);
            let key = STANDARD.decode(base64).map_err(|_| InvalidSecrets::NotBase64 { place, count })?;
            let length = InvalidSecrets::Length { place, count, bytes: key.len() };
            if !limits::WEBHOOK_SECRET_BYTES.contains(&key.len()) {
                return Err(length);
            }
            macs.push(Hmac::new_from_slice(&key).map_err(|_| length)?);
        }
        Ok(Self { text: text.into(), macs })
    }

    /// Whether this text was parsed.
    pub(super) fn is_from(&self, text: &str) -> bool {
        *self.text == *text
    }

    /// The header `webhook-signature`: one signature for each secret, in the same order.
    pub(super) fn sign(&self, id: &str, timestamp: i64, payload: &str) -> String {
        let prefix = format!("{id}.{timestamp}.");
        let signatures: Vec<String> = self.macs.iter().map(|mac| signature(mac, &prefix, payload)).collect();
        signatures.join(" ")
    }
}

fn signature(mac: &Hmac<Sha256>, prefix: &str, payload: &str) -> String {
    let signed = mac.clone().chain_update(prefix).chain_update(payload).finalize();
    format!("v1,{}", STANDARD.encode(signed.into_bytes()))
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(bytes: usize) -> String {
        format!("whsec_{}", STANDARD.encode(vec![7; bytes]))
    }

    /// The signature by the library of the specification.
    fn expected(secret: &str) -> String {
        standardwebhooks::Webhook::new(secret).unwrap().sign("rfd-1", 1_795_000_000, b"{}").unwrap()
    }

    #[test]
    fn a_delivery_has_one_signature_for_each_secret_in_their_order() {
        let (new, old) = (secret(24), secret(64));
        for text in [format!("{new} {old}"), format!("\n{new}\r\n\t{old} \n")] {
            let signature = Signer::parse(&text).unwrap().sign("rfd-1", 1_795_000_000, "{}");
            assert_eq!(signature, format!("{} {}", expected(&new), expected(&old)));
        }
        assert_eq!(Signer::parse(&new).unwrap().sign("rfd-1", 1_795_000_000, "{}"), expected(&new));
        let without_prefix = STANDARD.encode([7; 24]);
        assert_eq!(Signer::parse(&without_prefix).unwrap().sign("rfd-1", 1_795_000_000, "{}"), expected(&new));
    }

    #[test]
    fn a_secret_has_24_to_64_bytes_as_standard_webhooks_says() {
        for bytes in [0, 1, 23, 65, 100] {
            let text = format!("{} {}", secret(24), secret(bytes));
            let error = Signer::parse(&text).unwrap_err();
            assert_eq!(error, InvalidSecrets::Length { place: 2, count: 2, bytes });
            assert!(error.to_string().ends_with("bytes; Standard Webhooks requires 24 to 64"), "{error}");
        }
        assert!(Signer::parse(&secret(24)).is_ok() && Signer::parse(&secret(64)).is_ok());
    }

    #[test]
    fn anything_but_one_to_four_secrets_is_refused() {
        assert_eq!(Signer::parse(" \n").unwrap_err(), InvalidSecrets::None);
        assert_eq!(Signer::parse("not%base64").unwrap_err(), InvalidSecrets::NotBase64 { place: 1, count: 1 });
        assert!(Signer::parse(&[secret(24).as_str(); 4].join(" ")).is_ok());
        let five = [secret(24).as_str(); 5].join(" ");
        assert_eq!(Signer::parse(&five).unwrap_err(), InvalidSecrets::TooMany { count: 5 });
    }

    #[test]
    fn secrets_are_never_shown() {
        assert_eq!(format!("{:?}", Signer::parse(&secret(24)).unwrap()), "Signer");
    }
}
