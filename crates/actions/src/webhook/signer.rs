//! The signatures of [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#signature-scheme):
//! HMAC-SHA256 over `id.timestamp.payload`, one for each secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use notification::{Failure, limits};
use sha2::Sha256;
use std::fmt;

/// The current signing secrets: one, or several during a rotation. They are never shown.
pub(super) struct Signer {
    text: Box<str>,
    macs: Vec<Hmac<Sha256>>,
}

impl Signer {
    /// Parses secrets that are separated by white space. Each is base64, usually after the prefix `whsec_`. The failure quotes
    /// none of the text.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let secrets: Vec<&str> = text.split_whitespace().collect();
        let (count, max) = (secrets.len(), limits::WEBHOOK_SECRETS_MAX);
        if secrets.is_empty() {
            return Err(Failure::permanent(
                "the secret is empty; it must contain a Standard Webhooks secret, whsec_ and base64",
            ));
        }
        if count > max {
            let problem = format!("the secret contains {count} signing secrets; at most {max} are allowed");
            return Err(Failure::permanent(problem));
        }
        let secrets = (1..).zip(secrets);
        let macs = secrets.map(|(place, secret)| {
            mac(secret).map_err(|problem| Failure::permanent(format!("signing secret {place} of {count} {problem}")))
        });
        Ok(Self { text: text.into(), macs: macs.collect::<Result<_, _>>()? })
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

/// Prepares one secret, or says what is wrong with it.
fn mac(secret: &str) -> Result<Hmac<Sha256>, String> {
    let base64 = secret.strip_prefix("whsec_").unwrap_or(secret);
    let key = STANDARD.decode(base64).map_err(|_| "is not a Standard Webhooks secret, whsec_ and base64")?;
    let (bytes, allowed) = (key.len(), limits::WEBHOOK_SECRET_BYTES);
    match Hmac::new_from_slice(&key) {
        Ok(mac) if allowed.contains(&bytes) => Ok(mac),
        _ => Err(format!("has {bytes} bytes; Standard Webhooks requires {} to {}", allowed.start(), allowed.end())),
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
            let problem = format!("signing secret 2 of 2 has {bytes} bytes; Standard Webhooks requires 24 to 64");
            assert_eq!(error.reason, problem);
        }
        assert!(Signer::parse(&secret(24)).is_ok() && Signer::parse(&secret(64)).is_ok());
    }

    #[test]
    fn anything_but_one_to_four_secrets_is_refused() {
        let problem = |text: &str| Signer::parse(text).unwrap_err().reason;
        assert!(problem(" \n").starts_with("the secret is empty"));
        assert!(problem("not%base64").starts_with("signing secret 1 of 1 is not a Standard Webhooks secret"));
        assert!(Signer::parse(&[secret(24).as_str(); 4].join(" ")).is_ok());
        let five = [secret(24).as_str(); 5].join(" ");
        assert_eq!(problem(&five), "the secret contains 5 signing secrets; at most 4 are allowed");
    }

    #[test]
    fn secrets_are_never_shown() {
        assert_eq!(format!("{:?}", Signer::parse(&secret(24)).unwrap()), "Signer");
    }
}
