//! Copies of the binaries to measure, so that a build in the meantime does not affect the run.

use crate::error::Error;
use crate::host::Program;
use crate::subject::{Function, Subject, Variant};
use std::path::{Path, PathBuf};

/// The copies.
#[derive(Debug)]
pub(crate) struct Binaries {
    dir: PathBuf,
    /// The variant that the deployed one is compared with.
    pub(crate) baseline: Variant,
}

impl Binaries {
    /// Copies the deployed binaries from `built`, the output directory of `cargo lambda build`, and their baseline: from
    /// `against`, the directory of another build, or the straightforward functions.
    pub(crate) fn kept(built: &Path, against: Option<&Path>, functions: &[Function]) -> Result<Self, Error> {
        let baseline = if against.is_some() { Variant::Other } else { Variant::Straightforward };
        let binaries = Self { dir: built.join("measured"), baseline };
        for &function in functions {
            for variant in [Variant::Deployed, baseline] {
                let subject = Subject { function, variant, batch: 0 };
                let from = if variant == Variant::Other { against.unwrap_or(built) } else { built };
                let (from, to) = (from.join(subject.binary()).join("bootstrap"), binaries.path(subject));
                let dir = to.parent().unwrap_or(&binaries.dir);
                std::fs::create_dir_all(dir).map_err(|cause| Error::File { path: dir.to_owned(), cause })?;
                std::fs::copy(&from, &to).map_err(|cause| Error::Binary { path: from, cause })?;
            }
        }
        Ok(binaries)
    }

    pub(crate) fn program(&self, subject: Subject) -> Program {
        self.path(subject).into()
    }

    /// Size of a binary in bytes.
    pub(crate) fn size(&self, subject: Subject) -> u64 {
        std::fs::metadata(self.path(subject)).map(|file| file.len()).unwrap_or_default()
    }

    fn path(&self, subject: Subject) -> PathBuf {
        self.dir.join(subject.variant.words()).join(subject.binary())
    }
}
