//! Copies of the binaries to measure, so that a build in the meantime does not affect the run.

use crate::error::Error;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// The copies, in a directory for temporary files that is removed when this is dropped.
pub(crate) struct Binaries {
    pub(crate) dir: PathBuf,
    copies: BTreeMap<PathBuf, PathBuf>,
}

impl Binaries {
    /// Copies binaries before anything is measured. `builder` is the command that builds them.
    pub(crate) fn copied(originals: impl IntoIterator<Item = PathBuf>, builder: &str) -> Result<Self, Error> {
        let dir = std::env::temp_dir().join(format!("bench-{}", std::process::id()));
        let mut binaries = Self { dir, copies: BTreeMap::new() };
        for original in originals {
            if binaries.copies.contains_key(&original) {
                continue;
            }
            let found = std::fs::metadata(&original);
            found.map_err(Error::cannot(format!("find {} (`{builder}` builds it)", original.display())))?;
            // The number makes it unique; the path is for errors.
            let path: PathBuf = original.components().filter(|part| matches!(part, Component::Normal(_))).collect();
            let copy = binaries.dir.join(binaries.copies.len().to_string()).join(path);
            let copied = std::fs::create_dir_all(copy.parent().unwrap_or(&binaries.dir))
                .and_then(|()| std::fs::copy(&original, &copy));
            copied.map_err(Error::cannot(format!("copy {} to {}", original.display(), copy.display())))?;
            binaries.copies.insert(original, copy);
        }
        Ok(binaries)
    }

    /// The copy of a binary.
    pub(crate) fn copy<'a>(&'a self, original: &'a Path) -> &'a Path {
        self.copies.get(original).map_or(original, PathBuf::as_path)
    }
}

impl Drop for Binaries {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
