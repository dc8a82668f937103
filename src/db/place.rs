//! Whether the file of a SQLite database is still the one that was opened.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::Error;

/// The place of a database. Cheap to clone.
///
/// SQLite goes on with a file that was removed or replaced, and what it writes there is gone with the process; a new
/// connection would meanwhile have the other file, or an empty one. So nothing is asked of either.
#[derive(Clone, Debug)]
pub(super) struct Place(Option<Arc<File>>);

#[derive(Debug)]
struct File {
    path: PathBuf,
    /// Device and inode, once it has been used.
    opened: OnceLock<(u64, u64)>,
}

impl Place {
    pub(super) fn of_file(path: &Path) -> Self {
        Self(Some(Arc::new(File { path: path.to_owned(), opened: OnceLock::new() })))
    }

    /// On a server, which looks after its own files.
    pub(super) fn elsewhere() -> Self {
        Self(None)
    }

    /// Returns [`Error::Moved`] if there is another file now, or none.
    pub(super) fn check(&self) -> Result<(), Error> {
        let Some(file) = &self.0 else { return Ok(()) };
        let is_same = |opened| file.identity() == Some(opened);
        let is_there = file.opened.get().copied().is_none_or(is_same);
        if is_there { Ok(()) } else { Err(Error::Moved(file.path.display().to_string())) }
    }

    /// Notes which file it is, after it was used.
    pub(super) fn note(&self) {
        let Some(file) = &self.0 else { return };
        if file.opened.get().is_none()
            && let Some(identity) = file.identity()
        {
            // Another may have been quicker.
            let _ = file.opened.set(identity);
        }
    }
}

impl File {
    fn identity(&self) -> Option<(u64, u64)> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    }
}
