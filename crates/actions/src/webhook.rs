//! `webhook`: delivers the CloudEvent over HTTPS to a URL, signed. Idempotent, or at most once.
//!
//! - Content: the event as it came, in the structured mode of the
//!   [CloudEvents HTTP binding](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md).
//! - Idempotency: the header `Idempotency-Key` is the notification id.
//! - Signature: as [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md)
//!   says; `webhook-id` is the notification id, too.

use aws::SystemClock;
use aws::config::{self, ConfigError, Environment};
use notification::ports::Clock;
use notification::{Action, ActionError, Deadline, Effect, Guarantee, Notification, NotificationId, Outcome, limits};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::{Value, json};
use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

/// The content type of one event in the structured mode.
const CLOUDEVENTS_JSON: &str = "application/cloudevents+json; charset=utf-8";

/// Delivers notifications to one receiver.
#[derive(Debug)]
pub struct Webhook {
    client: Client,
    url: Url,
    signer: Signer,
    guarantee: Guarantee,
}

/// The signing secret. It is never shown.
struct Signer(standardwebhooks::Webhook);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

/// Where to deliver, and how often, without the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    url: Url,
    guarantee: Guarantee,
    /// The name or ARN of the signing secret in Secrets Manager.
    pub secret_id: String,
}

const URL: &str = "WEBHOOK_URL";
const GUARANTEE: &str = "WEBHOOK_GUARANTEE";
const SECRET_ID: &str = "WEBHOOK_SECRET_ID";

impl Settings {
    /// Reads `WEBHOOK_URL`, `WEBHOOK_GUARANTEE` (`idempotent` if not set, or `at-most-once`) and `WEBHOOK_SECRET_ID`.
    ///
    /// # Errors
    /// [`ConfigError`] where one is missing or wrong, e.g. a URL that is not https (http is for a loopback address).
    pub fn from_environment(environment: &impl Environment) -> Result<Self, ConfigError> {
        let wrong = |name, problem: &str| ConfigError::Wrong { name, problem: problem.to_owned() };
        let text = config::required(environment, URL, "the URL that notifications are delivered to")?;
        let url = Url::parse(&text).map_err(|error| wrong(URL, &error.to_string()))?;
        let is_loopback = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        match url.scheme() {
            "https" => {}
            "http" if is_loopback => {}
            _ => return Err(wrong(URL, "it is not https")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(URL, "it holds credentials: secrets belong into Secrets Manager"));
        }
        let guarantee = match environment.get(GUARANTEE).as_deref() {
            None | Some("" | "idempotent") => Guarantee::Idempotent,
            Some("at-most-once") => Guarantee::AtMostOnce { timeout: limits::WEBHOOK_TIMEOUT },
            Some(_) => return Err(wrong(GUARANTEE, "it is neither \"idempotent\" nor \"at-most-once\"")),
        };
        let secret_id =
            config::required(environment, SECRET_ID, "the signing secret's name or ARN in Secrets Manager")?;
        Ok(Self { url, guarantee, secret_id })
    }
}

impl Webhook {
    /// The action with these settings and this secret (`whsec_` and base64).
    ///
    /// # Errors
    /// [`ConfigError`] where the secret is none, or no client can be made.
    pub fn new(settings: Settings, secret: &str) -> Result<Self, ConfigError> {
        let wrong = |problem: &str| ConfigError::Wrong { name: SECRET_ID, problem: problem.to_owned() };
        let signer = standardwebhooks::Webhook::new(secret.trim())
            .map_err(|_| wrong("the secret is not a Standard Webhooks secret: whsec_ and base64"))?;
        let client = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(limits::CONNECT_TIMEOUT)
            .timeout(limits::WEBHOOK_TIMEOUT)
            .pool_max_idle_per_host(limits::ACTIONS_IN_FLIGHT)
            .user_agent(concat!("atomic-notification-service/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ConfigError::Wrong { name: URL, problem: error.to_string() })?;
        Ok(Self { client, url: settings.url, signer: Signer(signer), guarantee: settings.guarantee })
    }

    async fn deliver(&self, notification: &Notification) -> Result<Response, ActionError> {
        let id = header_text(notification.id());
        let timestamp = SystemClock.now().as_second();
        let body = notification.event().to_owned();
        let signature = self
            .signer
            .0
            .sign(&id, timestamp, body.as_bytes())
            .map_err(|_| ActionError::Rejected("the delivery could not be signed".to_owned()))?;
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, CLOUDEVENTS_JSON)
            .header("idempotency-key", &id)
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body);
        request.send().await.map_err(|error| {
            // The error's own text holds the URL, which may hold a token.
            if error.is_connect() {
                ActionError::Retry("the receiver could not be connected to".to_owned())
            } else if error.is_timeout() {
                ActionError::MayHaveHappened("the receiver did not answer in time".to_owned())
            } else {
                ActionError::MayHaveHappened("the connection to the receiver broke".to_owned())
            }
        })
    }
}

impl Action for Webhook {
    fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    async fn run(&self, notification: &Notification, deadline: Deadline) -> Result<Effect, ActionError> {
        loop {
            let response = self.deliver(notification).await?;
            let status = response.status();
            if status.is_success() {
                let outcome = Outcome::new(&answer(response).await);
                return Ok(Effect { outcome: Some(outcome), writes: vec![] });
            }
            let error = refusal(status);
            let may_repeat = match error {
                ActionError::Retry(_) => true,
                ActionError::MayHaveHappened(_) => self.guarantee == Guarantee::Idempotent,
                ActionError::Rejected(_) => false,
            };
            // Waited for only where the receiver asks, and where the deadline leaves time for one more try.
            match retry_after(&response) {
                Some(wait) if may_repeat && deadline.earlier(wait).allows_new_work(SystemClock.now()) => {
                    SystemClock.sleep(wait).await;
                }
                _ => return Err(error),
            }
        }
    }
}

/// What an answer other than 2xx means.
fn refusal(status: StatusCode) -> ActionError {
    let text = format!("the receiver answered {}", status.as_u16());
    match status {
        // It says itself that it did nothing.
        StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => ActionError::Retry(text),
        StatusCode::REQUEST_TIMEOUT => ActionError::MayHaveHappened(text),
        status if status.is_server_error() => ActionError::MayHaveHappened(text),
        status if status.is_redirection() => ActionError::Rejected(format!("{text}; redirects are not followed")),
        _ => ActionError::Rejected(text),
    }
}

/// How long the receiver asks to wait, in seconds. A date, or no time at all, is not waited for: the stream brings the
/// notification again.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok().filter(|&seconds| seconds > 0)?;
    Some(Duration::from_secs(seconds))
}

/// The answer for the audit, bounded: a receiver cannot fill our memory.
async fn answer(mut response: Response) -> Value {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let left = limits::WEBHOOK_ANSWER_MAX_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(left)]);
        if body.len() == limits::WEBHOOK_ANSWER_MAX_BYTES {
            return json!({"status": status, "body": "too large to keep"});
        }
    }
    let body = serde_json::from_slice(&body).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&body)));
    json!({"status": status, "body": body})
}

/// An id as a header's value: as the CloudEvents HTTP binding has it, what is not visible ASCII is percent-encoded, and
/// so are `"` and `%`.
fn header_text(id: &NotificationId) -> String {
    let mut text = String::with_capacity(id.as_str().len());
    for byte in id.as_str().bytes() {
        match byte {
            0x21..=0x7E if !matches!(byte, b'"' | b'%') => text.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Variables;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn settings(url: &str) -> Result<Settings, String> {
        let variables = [("WEBHOOK_URL", url), ("WEBHOOK_SECRET_ID", "s")];
        Settings::from_environment(&Variables(&variables)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_url_must_be_https_but_on_loopback_and_hold_no_credentials() {
        for good in ["https://example.com/hook?x=1", "http://127.0.0.1:8080/", "http://localhost/", "http://[::1]/"] {
            assert!(settings(good).is_ok(), "{good}");
        }
        for bad in
            ["http://example.com", "ftp://example.com", "http://127.0.0.1.example.com", "http://localhost.evil.com"]
        {
            assert!(settings(bad).unwrap_err().contains("WEBHOOK_URL is wrong: it is not https"), "{bad}");
        }
        assert!(settings("https://me:secret@example.com").unwrap_err().contains("credentials"));
        assert!(settings("no URL").unwrap_err().contains("WEBHOOK_URL is wrong"));
        assert!(settings("").unwrap_err().contains("WEBHOOK_URL is missing"));
        let no_secret = Settings::from_environment(&Variables(&[("WEBHOOK_URL", "https://example.com")]));
        assert!(no_secret.unwrap_err().to_string().contains("WEBHOOK_SECRET_ID is missing"));
    }

    #[test]
    fn a_secret_must_be_one_and_is_never_shown() {
        let settings = settings("https://example.com").unwrap();
        assert!(
            Webhook::new(settings.clone(), "not base64!").unwrap_err().to_string().contains("not a Standard Webhooks")
        );
        let webhook = Webhook::new(settings, SECRET).unwrap();
        assert!(!format!("{webhook:?}").contains("MfKQ"));
    }

    #[test]
    fn each_answer_has_its_meaning() {
        let kind = |status: u16| match refusal(StatusCode::from_u16(status).unwrap()) {
            ActionError::Rejected(_) => "rejected",
            ActionError::Retry(_) => "retry",
            ActionError::MayHaveHappened(_) => "may have happened",
        };
        for status in [425, 429] {
            assert_eq!(kind(status), "retry", "{status}");
        }
        for status in [408, 500, 502, 503, 504] {
            assert_eq!(kind(status), "may have happened", "{status}");
        }
        for status in [301, 307, 400, 401, 404, 409, 410, 422] {
            assert_eq!(kind(status), "rejected", "{status}");
        }
    }

    #[test]
    fn an_id_is_percent_encoded_where_a_header_needs_it() {
        for (id, text) in [("rfd-1", "rfd-1"), ("a b", "a%20b"), ("ü%\"", "%C3%BC%25%22")] {
            assert_eq!(header_text(&NotificationId::parse(id).unwrap()), text);
        }
    }
}
