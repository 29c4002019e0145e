//! How far the table has been read. It can be saved, so that an interrupted command continues.

use crate::error::Error;
use notification::limits;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Where a segment of the table is read next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Position {
    Start,
    /// After the item with this id.
    After(String),
    End,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    table: String,
    segments: Vec<Position>,
    /// The segment that was read last.
    last: usize,
    pub(super) checked: usize,
    pub(super) violations: usize,
    pub(super) read_units: f64,
}

impl Progress {
    pub(super) fn new(table: &str) -> Self {
        let segments = vec![Position::Start; limits::VERIFY_SEGMENTS];
        Self { table: table.to_owned(), segments, last: 0, checked: 0, violations: 0, read_units: 0.0 }
    }

    /// The progress in a file, or a new one if there is no such file.
    pub(super) fn open_or_new(path: &Path, table: &str) -> Result<Self, Error> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::new(table)),
            Err(error) => return Err(Error::file(path)(error)),
        };
        let wrong = |problem: String| Error::Failed(format!("{}: {problem}", path.display()));
        let progress: Self = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if progress.table != table {
            return Err(wrong(format!("it belongs to the table {}", progress.table)));
        }
        if progress.segments.len() != limits::VERIFY_SEGMENTS {
            return Err(wrong("another version wrote it; delete it".to_owned()));
        }
        Ok(progress)
    }

    /// Replaces the file.
    pub(super) fn save(&self, path: &Path) -> Result<(), Error> {
        let unfinished = path.with_added_extension("new");
        let text = serde_json::to_string(self).map_err(Error::failed("saving the progress"))?;
        std::fs::write(&unfinished, text).and_then(|()| std::fs::rename(&unfinished, path)).map_err(Error::file(path))
    }

    /// The segment to read next, in turns; `None` at the end.
    pub(super) fn next(&self) -> Option<usize> {
        let count = self.segments.len();
        let in_turns = (1..=count).map(|step| (self.last + step) % count);
        in_turns.into_iter().find(|&segment| self.segments[segment] != Position::End)
    }

    pub(super) fn position(&self, segment: usize) -> Position {
        self.segments[segment].clone()
    }

    /// Takes a page of a segment.
    pub(super) fn take(&mut self, segment: usize, items: usize, read_units: f64, next: Position) {
        self.segments[segment] = next;
        self.last = segment;
        self.checked += items;
        self.read_units += read_units;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_segment_is_read_to_its_end_and_what_was_saved_continues() {
        let mut progress = Progress::new("t");
        let mut read = vec![0; limits::VERIFY_SEGMENTS];
        while let Some(segment) = progress.next() {
            read[segment] += 1;
            let next = if read[segment] == 3 { Position::End } else { Position::After("a".to_owned()) };
            progress.take(segment, 2, 0.5, next);
        }
        assert_eq!(read, vec![3; limits::VERIFY_SEGMENTS]);
        assert_eq!(progress.checked, 6 * limits::VERIFY_SEGMENTS);

        let path = std::env::temp_dir().join(format!("notifyctl-verify-{}", std::process::id()));
        assert_eq!(Progress::open_or_new(&path, "t").unwrap(), Progress::new("t"));
        progress.save(&path).unwrap();
        assert_eq!(Progress::open_or_new(&path, "t").unwrap(), progress);
        assert!(Progress::open_or_new(&path, "another").is_err());
        std::fs::remove_file(path).unwrap();
    }
}
