//! The rules for any configuration. The property tests and the fuzz target share them.

#![allow(dead_code, reason = "the tests of the actions use a part of it")]

use aws::{ConfigError, Environment, config};
use notification::limits;
use std::fmt::Debug;

/// The variables that the functions read.
pub(crate) const NAMES: [&str; 5] =
    ["TABLE_NAME", "QUEUE_URL", "STREAM_NAME", "DONE_RETENTION_DAYS", "SWEEP_AGE_SECONDS"];

/// Any environment: each setting is valid, or refused in one line that begins with its name.
pub(crate) fn environment(environment: &Environment) {
    assert!(named("TABLE_NAME", config::table_name(environment)).is_none_or(|name| !name.is_empty()));
    assert!(named("QUEUE_URL", config::queue_url(environment)).is_none_or(|url| !url.is_empty()));
    assert!(named("STREAM_NAME", config::stream_name(environment)).is_none_or(|name| !name.is_empty()));
    assert!(
        named("DONE_RETENTION_DAYS", config::done_retention_days(environment))
            .is_none_or(|days| days >= limits::DONE_RETENTION_MIN_DAYS)
    );
    named("SWEEP_AGE_SECONDS", config::sweep_age(environment));
}

/// The value that was read, or `None` if it was refused as expected.
pub(crate) fn named<T: Debug>(name: &str, setting: Result<T, ConfigError>) -> Option<T> {
    let error = match setting {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    assert!(matches!(error, ConfigError::Missing { name: of, .. } | ConfigError::Wrong { name: of, .. } if of == name));
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(text.starts_with(&format!("the environment variable {name} is ")), "{text}");
        assert!(!text.chars().any(char::is_control), "{text}");
    }
    None
}
