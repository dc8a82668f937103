//! The identity of a SQLite file, which shows that the file was removed or replaced.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::Error;

/// The identity of a database's file.
///
/// SQLite goes on with a file that was removed or replaced, and what it writes there is gone with the process; a new
/// connection would meanwhile have the other file, or an empty one. So no statement is sent to either.
pub(super) struct FileIdentity {
    path: PathBuf,
    /// Device and inode, once it has been used.
    opened: OnceLock<(u64, u64)>,
}

impl FileIdentity {
    pub(super) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), opened: OnceLock::new() }
    }

    /// Returns [`Error::Moved`] if there is another file now, or none.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.opened.get() {
            Some(opened) if self.current() != Some(*opened) => {
                Err(Error::Moved(self.path.display().to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Notes which file it is, after it was used for the first time.
    pub(super) fn note(&self) {
        if self.opened.get().is_none()
            && let Some(identity) = self.current()
        {
            // Another may have been quicker.
            let _ = self.opened.set(identity);
        }
    }

    fn current(&self) -> Option<(u64, u64)> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    }
}
