//! The actions that come with the service. The environment variable `ACTION` chooses one; an action of your own needs
//! none of them (see `examples/`).

pub mod ledger;

use aws::config::{ConfigError, Environment};
use ledger::Ledger;
use notification::{Action, ActionError, Deadline, Effect, Guarantee, Notification, Record};

/// The action that is configured.
#[derive(Debug)]
pub enum Chosen {
    /// Nothing but DONE.
    Record(Record),
    /// An entry in a second table.
    Ledger(Ledger),
}

impl Chosen {
    /// Reads `ACTION` (`record` if it is not set) and the settings of that action.
    ///
    /// # Errors
    /// [`ConfigError`] where `ACTION` is unknown, or a setting of it is missing or wrong.
    pub fn from_environment(environment: &impl Environment) -> Result<Self, ConfigError> {
        const NAME: &str = "ACTION";
        match environment.get(NAME).as_deref() {
            None | Some("" | "record") => Ok(Self::Record(Record)),
            Some("ledger") => Ok(Self::Ledger(Ledger::from_environment(environment)?)),
            Some(other) => Err(ConfigError::Wrong {
                name: NAME,
                problem: format!("{other:?} is neither \"record\" nor \"ledger\""),
            }),
        }
    }
}

impl Action for Chosen {
    fn guarantee(&self) -> Guarantee {
        match self {
            Self::Record(action) => action.guarantee(),
            Self::Ledger(action) => action.guarantee(),
        }
    }

    async fn run(&self, notification: &Notification, deadline: Deadline) -> Result<Effect, ActionError> {
        match self {
            Self::Record(action) => action.run(notification, deadline).await,
            Self::Ledger(action) => action.run(notification, deadline).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Variables<'a>(&'a [(&'a str, &'a str)]);

    impl Environment for Variables<'_> {
        fn get(&self, name: &str) -> Option<String> {
            self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn the_action_is_chosen_by_its_name_and_a_wrong_choice_or_setting_is_named() {
        let chosen = |variables| Chosen::from_environment(&Variables(variables));
        assert!(matches!(chosen(&[]), Ok(Chosen::Record(_))));
        assert!(matches!(chosen(&[("ACTION", "ledger"), ("LEDGER_TABLE_NAME", "l")]), Ok(Chosen::Ledger(_))));
        let error = |variables| chosen(variables).unwrap_err().to_string();
        assert!(error(&[("ACTION", "ledgr")]).contains("ACTION is wrong"));
        assert!(error(&[("ACTION", "ledger")]).contains("LEDGER_TABLE_NAME is missing"));
    }
}
