//! The binaries to measure.

use crate::error::Error;
use std::path::PathBuf;

/// Checks, before anything is measured, that all binaries exist. `builder` is the command that builds them.
pub(crate) fn check(binaries: impl IntoIterator<Item = PathBuf>, builder: &str) -> Result<(), Error> {
    for binary in binaries {
        let found = std::fs::metadata(&binary);
        found.map_err(Error::cannot(format!("find {} (`{builder}` builds it)", binary.display())))?;
    }
    Ok(())
}
