//! The built-in actions. The environment variable `ACTION` chooses one. Your own action needs none of them (see
//! `examples/`).

pub mod ledger;
pub mod secret;
pub mod webhook;

use aws::{ConfigError, Environment};
use aws::{SdkConfig, SystemClock};
use ledger::Ledger;
use notification::{Action, ActionError, Deadline, Effect, Guarantee, MarkDone, Notification};
use secret::SecretsManager;
use webhook::{Http, Settings, Webhook};

/// The configured action.
#[derive(Debug)]
pub enum Chosen {
    /// Writes DONE and nothing else.
    MarkDone(MarkDone),
    /// Adds an entry to a second table.
    Ledger(Ledger),
    /// Delivers the event over HTTPS.
    Webhook(Box<Webhook<Http, SecretsManager, SystemClock>>),
}

impl Chosen {
    /// Reads `ACTION` (default `mark-done`), the settings of that action, and its secret if it has one.
    ///
    /// # Errors
    /// [`ConfigError`] if `ACTION` is unknown, one of its settings is missing or invalid, or its secret cannot be read.
    pub async fn from_environment(environment: &Environment, sdk: &SdkConfig) -> Result<Self, ConfigError> {
        const NAME: &str = "ACTION";
        match environment.get(NAME) {
            None | Some("mark-done") => Ok(Self::MarkDone(MarkDone)),
            Some("ledger") => Ok(Self::Ledger(Ledger::from_environment(environment)?)),
            Some("webhook") => {
                let settings = Settings::from_environment(environment)?;
                let secret = SecretsManager::new(sdk, settings.secret_id.clone());
                Ok(Self::Webhook(Box::new(Webhook::new(settings, secret, SystemClock).await?)))
            }
            Some(other) => {
                Err(ConfigError::wrong(NAME, format!("{other:?} is not one of mark-done, ledger and webhook")))
            }
        }
    }
}

impl Action for Chosen {
    fn guarantee(&self) -> Guarantee {
        match self {
            Self::MarkDone(action) => action.guarantee(),
            Self::Ledger(action) => action.guarantee(),
            Self::Webhook(action) => action.guarantee(),
        }
    }

    async fn run(&self, notification: &Notification, deadline: Deadline) -> Result<Effect, ActionError> {
        match self {
            Self::MarkDone(action) => action.run(notification, deadline).await,
            Self::Ledger(action) => action.run(notification, deadline).await,
            // On the heap, because it is much larger than the others, which would otherwise be moved at its size.
            Self::Webhook(action) => Box::pin(action.run(notification, deadline)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_action_is_chosen_by_its_name_and_a_wrong_choice_or_setting_is_named() {
        let sdk = SdkConfig::builder().build();
        let chosen = async |variables: &[(&'static str, &'static str)]| {
            Chosen::from_environment(&variables.iter().copied().collect(), &sdk).await
        };
        assert!(matches!(chosen(&[]).await, Ok(Chosen::MarkDone(_))));
        assert!(matches!(chosen(&[("ACTION", "ledger"), ("LEDGER_TABLE_NAME", "l")]).await, Ok(Chosen::Ledger(_))));
        let error = async |variables| chosen(variables).await.unwrap_err().to_string();
        assert!(error(&[("ACTION", "ledgr")]).await.contains("ACTION is invalid"));
        assert!(error(&[("ACTION", "ledger")]).await.contains("LEDGER_TABLE_NAME is missing"));
        assert!(error(&[("ACTION", "webhook")]).await.contains("WEBHOOK_URL is missing"));
    }
}
