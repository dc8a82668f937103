//! The directory: one file per key, replaced in one step, and the locks that processes share. All of it blocks.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use base16ct::lower::encode_string;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::entry::{Entry, LONGEST_FILE};
use super::threads::{LOCKS, Turn};

/// Values may be anybody's: only the user the app runs as sees them.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A symbolic link is not followed: it leads to a file that the cache has not made.
const NO_LINK: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

/// The bit of a directory like `/tmp`, which is everybody's and must not be made ours.
const STICKY: u32 = 0o1000;

/// The lock that who culls holds, beyond those of the keys.
pub(super) const CULL_LOCK: usize = LOCKS;

/// How often a lock that another process holds is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(1);

/// A key, and the hash that names its file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    key: String,
    hash: String,
    lock: usize,
}

impl Name {
    pub(super) fn new(key: impl Into<String>) -> Self {
        let key = key.into();
        let digest = Sha256::digest(&key);
        Self { lock: usize::from(digest[0]) % LOCKS, hash: encode_string(&digest), key }
    }

    /// Returns the hash in hexadecimal digits.
    #[cfg(test)]
    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    /// Returns the number of the lock that changes of this key hold.
    pub(super) fn lock(&self) -> usize {
        self.lock
    }
}

/// What a file of ours in the directory is, locks aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Entry,
    /// Not an entry yet, and never one if its process has died.
    Temporary,
}

impl Kind {
    /// Tells ours from foreign files by their names.
    pub(super) fn of(file_name: &str) -> Option<Self> {
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut parts = file_name.split('.');
        parts.next().filter(|hash| hash.len() == 64 && is_hex(hash))?;
        match (parts.next()?, parts.next(), parts.next()) {
            ("cache", None, None) => Some(Self::Entry),
            (random, Some("tmp"), None) if random.len() == 16 && is_hex(random) => Some(Self::Temporary),
            _ => None,
        }
    }
}

pub(super) struct Directory {
    path: PathBuf,
    is_prepared: AtomicBool,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, is_prepared: AtomicBool::new(false) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory if it is missing, and takes it from other users; once.
    pub(super) fn prepare(&self) -> io::Result<()> {
        if !self.is_prepared.load(Ordering::Relaxed) {
            self.make()?;
            self.is_prepared.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&self.path)?;
        let found = fs::symlink_metadata(&self.path)?;
        if !found.is_dir() {
            let cause = "a symbolic link, which may come to lead elsewhere; name the directory itself";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, cause));
        }
        if found.uid() != rustix::process::geteuid().as_raw() {
            let cause =
                "a directory of another user, who can read and replace its files; name one of the app's own";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, cause));
        }
        let mode = found.mode() & 0o7777;
        if mode & STICKY != 0 {
            let cause = "a directory that all users share; name one below it";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, cause));
        }
        if mode != DIRECTORY_MODE {
            if self.holds_foreign_files()? {
                let cause = "a directory with files of others in it; name one of the cache's own";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, cause));
            }
            fs::set_permissions(&self.path, Permissions::from_mode(DIRECTORY_MODE))?;
        }
        Ok(())
    }

    /// Returns whether there is anything that no cache has put there: it would be taken from whoever reads it.
    fn holds_foreign_files(&self) -> io::Result<bool> {
        for file in fs::read_dir(&self.path)? {
            let name = file?.file_name();
            let is_lock = |name: &str| name.ends_with(".lock");
            if !name.to_str().is_some_and(|name| is_lock(name) || Kind::of(name).is_some()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the entry of a key, if there is a file that holds one and it has not expired.
    pub(super) fn read(&self, name: &Name) -> io::Result<Option<Entry>> {
        let mut file = vec![];
        let read = open_to_read(&self.path_of(name))
            .and_then(|open| open.take(LONGEST_FILE as u64 + 1).read_to_end(&mut file));
        match read {
            Ok(_) => Ok(Entry::decode(&Bytes::from(file), &name.key).filter(Entry::is_live)),
            Err(error) if is_no_file(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file of a key in one step, unless the turn is over. The key's lock must be held.
    ///
    /// Nothing is synced to the disk: after a crash of the machine the file may be empty or torn, and so a miss.
    pub(super) fn write(&self, name: &Name, entry: &Entry, turn: &Turn) -> io::Result<()> {
        let (temporary, file) = self.create_temporary(name)?;
        let written = write_entry(file, name, entry)
            // A thread that hung in the file system must not change what its caller has given up on.
            .and_then(|()| turn.check())
            .and_then(|()| fs::rename(&temporary, self.path_of(name)));
        if written.is_err() {
            // What stays is removed when it is old enough.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes the file of a key, if there is one. The key's lock must be held.
    pub(super) fn remove(&self, name: &Name) -> io::Result<()> {
        remove(&self.path_of(name))
    }

    /// Waits for a lock, no longer than the turn lasts.
    pub(super) fn lock(&self, number: usize, turn: &Turn) -> io::Result<File> {
        loop {
            turn.check_wait()?;
            match self.try_lock(number)? {
                Some(lock) => return Ok(lock),
                None => thread::park_timeout(LOCK_RETRY),
            }
        }
    }

    /// Takes a lock if nobody holds it. It lasts until the file is closed, also by the end of the process.
    pub(super) fn try_lock(&self, number: usize) -> io::Result<Option<File>> {
        let path = self.path.join(format!("{number:02}.lock"));
        let lock = self.open_lock(&path)?;
        match lock.try_lock() {
            // A file that somebody removed meanwhile keeps nobody out.
            Ok(()) => Ok(fs::metadata(&path).is_ok_and(|at| is_same(&at, &lock)).then_some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn open_lock(&self, path: &Path) -> io::Result<File> {
        let open = || {
            let mut options = OpenOptions::new();
            options.create(true).append(true).mode(FILE_MODE).custom_flags(NO_LINK).open(path)
        };
        match open() {
            // The directory was removed under us.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make().and_then(|()| open()),
            opened => opened,
        }
    }

    fn create_temporary(&self, name: &Name) -> io::Result<(PathBuf, File)> {
        let path = self.path.join(format!("{}.{:016x}.tmp", name.hash, fastrand::u64(..)));
        let file = OpenOptions::new().create_new(true).write(true).mode(FILE_MODE).open(&path)?;
        Ok((path, file))
    }

    fn path_of(&self, name: &Name) -> PathBuf {
        self.path.join(format!("{}.cache", name.hash))
    }
}

/// Removes a file, if there is one.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn write_entry(mut file: File, name: &Name, entry: &Entry) -> io::Result<()> {
    file.write_all(&entry.head(&name.key))?;
    file.write_all(&entry.value)
}

/// Opens a file, unless it is a symbolic link: then it is none of ours.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(NO_LINK).open(path)
}

fn is_no_file(error: &io::Error) -> bool {
    let is_link = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    is_link || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory)
}

fn is_same(found: &fs::Metadata, open: &File) -> bool {
    open.metadata().is_ok_and(|open| (open.dev(), open.ino()) == (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_ours_are_told_by_their_names() {
        let hash = Name::new("key").hash;
        assert_eq!(Kind::of(&format!("{hash}.cache")), Some(Kind::Entry));
        assert_eq!(Kind::of(&format!("{hash}.{:016x}.tmp", 7)), Some(Kind::Temporary));
        let foreign = ["", "x", "README", "00.lock", "a.cache", "a.tmp", ".cache"].map(str::to_owned);
        let alike = [format!("{hash}.cache.bak"), format!("{hash}x.cache"), format!("{hash}.7.tmp"), hash];
        for name in foreign.iter().chain(&alike) {
            assert_eq!(Kind::of(name), None, "{name}");
        }
    }
}
