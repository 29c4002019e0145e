//! `webhook`: delivers the event to a URL over HTTPS, signed. Idempotent, or at most once.
//!
//! - Content: the unchanged event, in the structured mode of the
//!   [CloudEvents HTTP binding](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md).
//! - Idempotency: the header `Idempotency-Key` is the notification id.
//! - Signature: [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md),
//!   with the notification id as `webhook-id`.
//! - Trace: the event's `traceparent` and `tracestate`, as the headers of [Trace Context](https://www.w3.org/TR/trace-context/).
//!
//! | file | concern |
//! |---|---|
//! | `settings` | the environment |
//! | `http` | one request to the receiver |
//! | `key` | the notification id as a header |
//! | `signer`, `secrets` | signatures, and secrets that change |
//! | `answer` | the meaning of the receiver's answer |

mod answer;
mod http;
mod key;
mod secrets;
mod settings;
mod signer;

use crate::secret::SecretSource;
use answer::{Next, Refusal};
use aws::ConfigError;
pub use http::{Http, NoAnswer, Post, Request};
use notification::deadline::within;
use notification::{
    Action, ActionError, Clock, Deadline, Effect, Failure, Guarantee, Notification, Outcome, Timestamp, Trace, limits,
};
use reqwest::Response;
use secrets::{Checked, Secrets};
pub use settings::Settings;
use signer::Signer;
use std::sync::Arc;
use std::time::Duration;

/// The content type of one event in the structured mode.
const CLOUDEVENTS_JSON: &str = "application/cloudevents+json; charset=utf-8";

/// Delivers notifications to one receiver. `P` sends the requests, `S` provides the signing secret, and `C` the time.
#[derive(Debug)]
pub struct Webhook<P, S, C> {
    receiver: P,
    secrets: Secrets<S>,
    clock: C,
    guarantee: Guarantee,
}

/// What all attempts to deliver one notification have in common.
struct Delivery<'a> {
    event: &'a str,
    idempotency_key: String,
    webhook_id: String,
    trace: Option<Trace>,
}

impl<S: SecretSource, C: Clock> Webhook<Http, S, C> {
    /// Creates the action and reads the signing secret: one or more Standard Webhooks secrets (`whsec_` and base64),
    /// separated by white space, the newest first.
    ///
    /// # Errors
    /// [`ConfigError`] if the secret cannot be read or is invalid, or no client can be created.
    pub async fn new(settings: Settings, source: S, clock: C) -> Result<Self, ConfigError> {
        let Settings { url, guarantee, .. } = settings;
        let receiver =
            Http::new(url, guarantee).map_err(|error| ConfigError::wrong(settings::URL, error.to_string()))?;
        let webhook = Self::to(receiver, guarantee, source, clock).await;
        webhook.map_err(|failure| ConfigError::wrong(settings::SECRET_ID, failure.reason))
    }
}

impl<P: Post, S: SecretSource, C: Clock> Webhook<P, S, C> {
    /// Creates the action for this receiver and reads the signing secret.
    ///
    /// # Errors
    /// The secret cannot be read or is invalid.
    pub async fn to(receiver: P, guarantee: Guarantee, source: S, clock: C) -> Result<Self, Failure> {
        let secrets = Secrets::read(source, &clock).await?;
        Ok(Self { receiver, secrets, clock, guarantee })
    }

    /// Makes one attempt. Returns the answer if it is 2xx, and otherwise what went wrong.
    async fn deliver(
        &self,
        delivery: &Delivery<'_>,
        signer: &Signer,
        signed_at: Timestamp,
    ) -> Result<Response, Refusal> {
        let timestamp = signed_at.as_second();
        let mut headers = vec![
            ("content-type", CLOUDEVENTS_JSON.to_owned()),
            ("idempotency-key", delivery.idempotency_key.clone()),
            ("webhook-id", delivery.webhook_id.clone()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signer.sign(&delivery.webhook_id, timestamp, delivery.event)),
        ];
        if let Some(trace) = &delivery.trace {
            headers.push(("traceparent", trace.traceparent().to_owned()));
            headers.extend(trace.tracestate().map(|tracestate| ("tracestate", tracestate.to_owned())));
        }
        let request = self.receiver.post(Request { headers, body: delivery.event });
        // A timeout of the client itself would include the body of the answer.
        let error = match within(&self.clock, limits::WEBHOOK_TIMEOUT, request).await {
            Some(Ok(response)) if response.status().is_success() => return Ok(response),
            Some(Ok(response)) => return Err(answer::refusal(&response, self.guarantee, self.clock.now())),
            Some(Err(NoAnswer::NotConnected)) => {
                ActionError::Unavailable("could not connect to the receiver".to_owned())
            }
            Some(Err(NoAnswer::Broken)) => {
                ActionError::MayHaveHappened("the connection to the receiver broke".to_owned())
            }
            None => ActionError::MayHaveHappened("the receiver did not answer in time".to_owned()),
        };
        Err(Refusal { error, next: Next::Nothing })
    }

    /// The signer for a new delivery. The secret is read again only if there is time for both.
    async fn signer(&self, deadline: Deadline) -> Arc<Signer> {
        if self.fits(deadline, limits::SECRET_READ_TIMEOUT) {
            self.secrets.fresh(&self.clock).await
        } else {
            self.secrets.known()
        }
    }

    /// A newer signer than the one that the receiver refused, or the error that ends the delivery.
    async fn other_signer(
        &self,
        refused: &Arc<Signer>,
        signed_at: Timestamp,
        error: ActionError,
        deadline: Deadline,
    ) -> Result<Arc<Signer>, ActionError> {
        let check = self.secrets.check(refused, signed_at, &self.clock);
        // That the receiver did nothing must be reported before the deadline.
        let checked = deadline.earlier(limits::REPORT_BEFORE_DEADLINE).bound(&self.clock, check).await;
        let problem = match checked {
            Ok(Checked::Changed(signer)) if self.fits(deadline, Duration::ZERO) => return Ok(signer),
            Ok(Checked::Changed(_)) => {
                "the signing secret has changed, but the deadline is too near for another attempt"
            }
            Ok(Checked::Unchanged) => return Err(error),
            Ok(Checked::Unknown) | Err(_) => "the signing secret could not be read again, and may have changed",
        };
        Err(ActionError::Retry(format!("{}; {problem}", reason(error))))
    }

    fn may_repeat(&self, error: &ActionError) -> bool {
        match error {
            ActionError::Throttled(_) | ActionError::Unavailable(_) | ActionError::Retry(_) => true,
            ActionError::MayHaveHappened(_) => matches!(self.guarantee, Guarantee::Idempotent { .. }),
            ActionError::Rejected(_) => false,
        }
    }

    /// Whether an attempt can start after a wait. It needs its whole time, because the outcome of an aborted one is unknown.
    fn fits(&self, deadline: Deadline, wait: Duration) -> bool {
        deadline.allows(self.clock.now(), wait.saturating_add(self.guarantee.timeout()))
    }
}

impl<P: Post, S: SecretSource, C: Clock> Action for Webhook<P, S, C> {
    fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    async fn run(&self, notification: &Notification, deadline: Deadline) -> Result<Effect, ActionError> {
        let delivery = Delivery {
            event: notification.event(),
            idempotency_key: key::idempotency_key(notification.id()),
            webhook_id: key::webhook_id(notification.id()),
            trace: Trace::of(notification.event()),
        };
        let mut signer = self.signer(deadline).await;
        let mut signed_again = false;
        let mut earlier_unknown = false;
        let error = loop {
            let signed_at = self.clock.now();
            let refusal = match self.deliver(&delivery, &signer, signed_at).await {
                Ok(response) => {
                    let outcome = Outcome::new(&answer::outcome(response, &self.clock, deadline).await);
                    return Ok(Effect { outcome: Some(outcome), writes: vec![] });
                }
                Err(refusal) => refusal,
            };
            match refusal.next {
                Next::Wait(wait) if self.may_repeat(&refusal.error) && self.fits(deadline, wait) => {
                    earlier_unknown |= matches!(refusal.error, ActionError::MayHaveHappened(_));
                    self.clock.sleep(wait).await;
                }
                Next::CheckSecret if !signed_again => {
                    match self.other_signer(&signer, signed_at, refusal.error, deadline).await {
                        Ok(other) => signer = other,
                        Err(error) => break error,
                    }
                    signed_again = true;
                }
                // The secret has just changed. The next run finds out whether it has changed again.
                Next::CheckSecret => {
                    break ActionError::Retry(format!("{}, also with the new secret", reason(refusal.error)));
                }
                _ => break refusal.error,
            }
        };
        // The error describes only the last attempt.
        Err(if earlier_unknown {
            ActionError::MayHaveHappened(format!("{}, after an attempt whose outcome is unknown", reason(error)))
        } else {
            error
        })
    }
}

fn reason(error: ActionError) -> String {
    match error {
        ActionError::Rejected(reason)
        | ActionError::Throttled(reason)
        | ActionError::Unavailable(reason)
        | ActionError::Retry(reason)
        | ActionError::MayHaveHappened(reason) => reason,
    }
}
