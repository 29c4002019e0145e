//! Environment variables, and the errors of missing or invalid ones.

use std::collections::BTreeMap;
use std::fmt;

/// A missing or invalid setting. The process ends at start.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A required environment variable is not set, or empty.
    #[error("the environment variable {name} is missing: {meaning}")]
    Missing {
        /// Its name.
        name: &'static str,
        /// What it should hold.
        meaning: &'static str,
    },
    /// An environment variable has an invalid value.
    #[error("the environment variable {name} is invalid: {problem}")]
    Wrong {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl ConfigError {
    /// The error of a variable with this problem.
    pub fn wrong(name: &'static str, problem: impl Into<String>) -> Self {
        Self::Wrong { name, problem: problem.into() }
    }
}

/// The message itself: `main` prints it when the process ends.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Environment variables by name. An empty variable counts as not set.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        // Values that are not UTF-8 count as not set.
        let texts =
            std::env::vars_os().map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self(texts.flatten().collect())
    }

    /// The value of a variable, if that is set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value of a variable that must be set.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] if it is not set.
    pub fn required(&self, name: &'static str, meaning: &'static str) -> Result<String, ConfigError> {
        self.get(name).map(str::to_owned).ok_or(ConfigError::Missing { name, meaning })
    }

    /// Whether a switch is on.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Only the names: values may be secrets.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_missing_or_empty_is_named_and_a_secret_is_not_shown() {
        let environment = Environment::from_iter([("EMPTY", ""), ("SECRET", "hush")]);
        for name in ["EMPTY", "NONE"] {
            let error = environment.required(name, "what it is for").unwrap_err();
            let message = format!("the environment variable {name} is missing: what it is for");
            assert_eq!((error.to_string(), format!("{error:?}")), (message.clone(), message), "as `main` prints it");
        }
        assert_eq!(environment.required("SECRET", ""), Ok("hush".to_owned()));
        assert_eq!(format!("{environment:?}"), r#"{"EMPTY", "SECRET"}"#);
    }
}
