//! The current signing secrets. They are read at the start, when they are old, and when the receiver refuses them.

use super::signer::Signer;
use crate::secret::SecretSource;
use notification::deadline::within;
use notification::{Clock, Failure, Timestamp, limits};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The current signer, and the source of newer ones.
pub(super) struct Secrets<S> {
    source: S,
    current: Mutex<Arc<Signer>>,
    /// Locked while one delivery reads the secret, so that no other reads it. Nothing is delivered under this lock.
    last_reading: tokio::sync::Mutex<Reading>,
}

#[derive(Debug)]
struct Reading {
    began: Timestamp,
    succeeded: bool,
}

impl<S> fmt::Debug for Secrets<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the source, which may hold the secret.
        f.write_str("Secrets")
    }
}

/// What is known about a secret that the receiver refused.
#[derive(Debug)]
pub(super) enum Checked {
    /// It is outdated. This is the current one.
    Changed(Arc<Signer>),
    /// It was read again after the delivery was signed, and has not changed.
    Unchanged,
    /// It could not be read again.
    Unknown,
}

impl<S: SecretSource> Secrets<S> {
    /// Reads the secret for the first time. The failure says why it cannot be used.
    pub(super) async fn read(source: S, clock: &impl Clock) -> Result<Self, Failure> {
        let began = clock.now();
        let signer = Signer::parse(&source.read().await?)?;
        Ok(Self {
            source,
            current: Mutex::new(Arc::new(signer)),
            last_reading: tokio::sync::Mutex::new(Reading { began, succeeded: true }),
        })
    }

    /// The current signer, however old.
    pub(super) fn known(&self) -> Arc<Signer> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The current signer. It is read again if it is older than [`limits::SECRET_MAX_AGE`], unless another delivery is
    /// reading it.
    pub(super) async fn fresh(&self, clock: &impl Clock) -> Arc<Signer> {
        if let Ok(mut last) = self.last_reading.try_lock()
            && since(last.began, clock) >= limits::SECRET_MAX_AGE
        {
            self.read_again(&mut last, clock).await;
        }
        self.known()
    }

    /// Checks a signer whose signature the receiver refused. The secret is read again, unless that was done after
    /// `signed_at`. Of several deliveries, one reads it and the others wait.
    pub(super) async fn check(&self, refused: &Arc<Signer>, signed_at: Timestamp, clock: &impl Clock) -> Checked {
        let mut last = self.last_reading.lock().await;
        if Arc::ptr_eq(refused, &self.known()) && last.began <= signed_at {
            let wait = limits::SECRET_READ_INTERVAL.saturating_sub(since(last.began, clock));
            if !wait.is_zero() {
                clock.sleep(wait).await;
            }
            self.read_again(&mut last, clock).await;
        }
        let known = self.known();
        if !Arc::ptr_eq(refused, &known) {
            Checked::Changed(known)
        } else if last.succeeded {
            Checked::Unchanged
        } else {
            Checked::Unknown
        }
    }

    /// Reads the secret again. If that fails, the current one stays.
    async fn read_again(&self, last: &mut Reading, clock: &impl Clock) {
        *last = Reading { began: clock.now(), succeeded: false };
        let unanswered = || Err(Failure::retryable("Secrets Manager did not answer in time"));
        let read = within(clock, limits::SECRET_READ_TIMEOUT, self.source.read()).await.unwrap_or_else(unanswered);
        match read.and_then(|text| self.update(&text)) {
            Ok(()) => last.succeeded = true,
            Err(problem) => tracing::warn!(
                %problem,
                "the signing secret could not be read again; deliveries are signed with the previous one"
            ),
        }
    }

    /// Makes this text the current secret, if it differs.
    fn update(&self, text: &str) -> Result<(), Failure> {
        if !self.known().is_from(text) {
            let signer = Arc::new(Signer::parse(text)?);
            *self.current.lock().unwrap_or_else(PoisonError::into_inner) = signer;
            tracing::info!("the signing secret has changed; deliveries are signed with the new one");
        }
        Ok(())
    }
}

fn since(time: Timestamp, clock: &impl Clock) -> Duration {
    Duration::try_from(clock.now().duration_since(time)).unwrap_or_default()
}
