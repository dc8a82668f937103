//! The directory: one file per key, replaced in one step, and the lock that processes share. All of it blocks.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::thread;
use std::time::Duration;

use base16ct::lower::encode_string;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::entry::{Entry, HEADER, live_expiry};

/// Values may be anybody's: only the user the app runs as sees them.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A symbolic link is not followed: it leads to a file that the cache has not made.
const NO_LINK: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

/// The bit of a directory like `/tmp`, which is everybody's and must not be made ours.
const STICKY: u32 = 0o1000;

/// The lock that a change holds from the look at the old value to the new one. A read needs none.
const LOCK: &str = "changes.lock";

/// The lock of the process that culls: two would remove twice as much.
const CULL_LOCK: &str = "cull.lock";

/// How often a lock that another process holds is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(1);

/// The next value of the key that is changed at present. It is no entry before it is renamed.
const TEMPORARY: &str = "next.tmp";

/// A number of entries, and how many bytes their files have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) entries: usize,
    pub(super) bytes: u64,
}

impl Size {
    fn fits(self, limit: Self) -> bool {
        self.entries <= limit.entries && self.bytes <= limit.bytes
    }
}

pub(super) struct Directory {
    path: PathBuf,
}

/// The lock for changes. It is released when it is dropped, also by the end of the process.
pub(super) struct Locked<'a> {
    pub(super) directory: &'a Directory,
    turn: Turn,
    _lock: File,
}

/// How long a change may go on: for a time, and while its caller waits.
pub(super) struct Turn {
    pub(super) until: Instant,
    pub(super) caller: Weak<()>,
}

impl Turn {
    /// Returns an error once it is over: what has been given up must not undo a later change.
    fn check(&self) -> io::Result<()> {
        let goes_on = Instant::now() < self.until && self.caller.strong_count() > 0;
        if goes_on { Ok(()) } else { Err(ErrorKind::TimedOut.into()) }
    }
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Makes the directory if it is missing, and takes it from other users.
    pub(super) fn make(&self) -> io::Result<()> {
        let refused = |cause| Err(io::Error::new(ErrorKind::PermissionDenied, cause));
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&self.path)?;
        let found = fs::symlink_metadata(&self.path)?;
        let mode = found.mode() & 0o7777;
        if !found.is_dir() {
            return refused("a symbolic link, which may come to lead elsewhere; name the directory itself");
        }
        if found.uid() != rustix::process::geteuid().as_raw() {
            return refused(
                "a directory of another user, who can read and replace its files; name one of the app's own",
            );
        }
        if mode & STICKY != 0 {
            return refused("a directory that all users share; name one below it");
        }
        if mode != DIRECTORY_MODE {
            if self.holds_foreign_files()? {
                return refused("a directory with files of others in it; name one of the cache's own");
            }
            fs::set_permissions(&self.path, Permissions::from_mode(DIRECTORY_MODE))?;
        }
        Ok(())
    }

    /// Returns whether there is a file that no cache has put there: it would be taken from its readers.
    fn holds_foreign_files(&self) -> io::Result<bool> {
        let is_ours = |name: &str| [LOCK, CULL_LOCK, TEMPORARY].contains(&name) || is_entry(name);
        for file in fs::read_dir(&self.path)? {
            if !file?.file_name().to_str().is_some_and(is_ours) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the entry of a key, if there is a file that holds one and it has not expired.
    pub(super) fn read(&self, key: &str) -> io::Result<Option<Entry>> {
        let mut file = vec![];
        match open_to_read(&self.path_of(key)).and_then(|mut open| open.read_to_end(&mut file)) {
            Ok(_) => Ok(Entry::decode(&Bytes::from(file), key).filter(Entry::is_live)),
            Err(error) if is_no_file(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for the lock for changes, which another process may hold.
    pub(super) fn lock(&self, turn: Turn) -> io::Result<Locked<'_>> {
        loop {
            turn.check()?;
            if let Some(lock) = self.try_lock(LOCK)? {
                return Ok(Locked { directory: self, turn, _lock: lock });
            }
            thread::park_timeout(LOCK_RETRY);
        }
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<File>> {
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(FILE_MODE).custom_flags(NO_LINK);
        let lock = options.open(self.path.join(name))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Returns how much there is.
    pub(super) fn measure(&self) -> io::Result<Size> {
        Ok(total(&self.entries()?))
    }

    /// Makes room if there is more than `most`, down to two thirds. Expired entries go first, then those without a
    /// lifetime, picked by chance, then those that would expire next: a session outlives the pages.
    ///
    /// Needs no lock: an entry that a writer replaces meanwhile may go as well, as any entry may at any time.
    pub(super) fn cull(&self, most: Size) -> io::Result<()> {
        let Some(_lock) = self.try_lock(CULL_LOCK)? else { return Ok(()) };
        let mut entries = self.entries()?;
        let mut left = total(&entries);
        if left.fits(most) {
            return Ok(());
        }
        let kept = Size { entries: most.entries / 3 * 2, bytes: most.bytes / 3 * 2 };
        fastrand::shuffle(&mut entries);
        entries.sort_by_cached_key(|(path, _)| live_until(path));
        for (path, bytes) in entries {
            if left.fits(kept) {
                break;
            }
            remove(&path)?;
            left = Size { entries: left.entries - 1, bytes: left.bytes - bytes };
        }
        Ok(())
    }

    /// Returns the entries' files, with their bytes. Foreign files are left alone.
    fn entries(&self) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut found = vec![];
        for file in fs::read_dir(&self.path)? {
            let file = file?;
            let is_ours = file.file_name().to_str().is_some_and(is_entry);
            if let Ok(metadata) = file.metadata()
                && is_ours
                && metadata.is_file()
            {
                found.push((file.path(), metadata.len()));
            }
        }
        Ok(found)
    }

    fn path_of(&self, key: &str) -> PathBuf {
        self.path.join(format!("{}.cache", encode_string(&Sha256::digest(key))))
    }
}

impl Locked<'_> {
    /// Replaces the file of a key in one step; an entry that has expired leaves none.
    ///
    /// Nothing is synced to the disk: after a crash of the machine the file may be empty or torn, and so a miss.
    pub(super) fn write(&self, key: &str, entry: &Entry) -> io::Result<()> {
        if !entry.is_live() {
            return self.remove(key);
        }
        let temporary = self.directory.path.join(TEMPORARY);
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(true).mode(FILE_MODE).custom_flags(NO_LINK);
        let written = options.open(&temporary).and_then(|mut file| {
            file.write_all(&entry.header(key))?;
            file.write_all(&entry.value)?;
            self.turn.check()?;
            fs::rename(&temporary, self.directory.path_of(key))
        });
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes the file of a key, if there is one.
    pub(super) fn remove(&self, key: &str) -> io::Result<()> {
        self.turn.check()?;
        remove(&self.directory.path_of(key))
    }

    /// Removes all entries.
    pub(super) fn clear(&self) -> io::Result<()> {
        for (path, _) in self.directory.entries()? {
            self.turn.check()?;
            remove(&path)?;
        }
        Ok(())
    }
}

/// Returns whether a file is an entry, by its name.
fn is_entry(file_name: &str) -> bool {
    let is_hex = |hash: &str| hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    file_name.strip_suffix(".cache").is_some_and(|hash| hash.len() == 64 && is_hex(hash))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(NO_LINK).open(path)
}

fn is_no_file(error: &io::Error) -> bool {
    let is_link = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    is_link || matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory)
}

fn total(entries: &[(PathBuf, u64)]) -> Size {
    Size { entries: entries.len(), bytes: entries.iter().map(|(_, bytes)| bytes).sum() }
}

/// Returns when an entry expires, 0 if never; none, which is less, if it has expired.
fn live_until(path: &Path) -> Option<u64> {
    let mut header = [0; HEADER];
    let read = open_to_read(path).and_then(|mut file| file.read_exact(&mut header));
    read.ok().and_then(|()| live_expiry(&header))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ttl;

    /// A directory, and the files of entries in it that live for so long.
    fn filled(lifetimes: impl IntoIterator<Item = Ttl>) -> (tempfile::TempDir, Directory, Vec<PathBuf>) {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::new(temporary.path().into());
        let store = |(number, ttl): (usize, Ttl)| {
            let key = number.to_string();
            let path = directory.path_of(&key);
            fs::write(&path, Entry::new(Bytes::new(), ttl).header(&key)).unwrap();
            path
        };
        let paths = lifetimes.into_iter().enumerate().map(store).collect();
        (temporary, directory, paths)
    }

    fn left(paths: &[PathBuf]) -> usize {
        paths.iter().filter(|path| path.exists()).count()
    }

    fn seconds(seconds: u64) -> Ttl {
        Ttl::After(Duration::from_secs(seconds))
    }

    #[test]
    fn expired_entries_go_first() {
        let lifetimes = [[Ttl::Never; 20], [Ttl::After(Duration::ZERO); 20]].concat();
        let (_temporary, directory, paths) = filled(lifetimes);
        directory.cull(Size { entries: 30, bytes: u64::MAX }).unwrap();
        assert_eq!([left(&paths[..20]), left(&paths[20..])], [20, 0]);
    }

    #[test]
    fn entries_that_live_longest_stay() {
        let sessions = [seconds(1_000_000); 10];
        let pages: [_; 10] = std::array::from_fn(|number| seconds(300 + number as u64));
        let fragments = [Ttl::Never; 11];
        let (_temporary, directory, paths) = filled([&sessions[..], &pages, &fragments].concat());
        let (sessions, rest) = paths.split_at(10);
        let (pages, fragments) = rest.split_at(10);
        let cull = |entries, bytes| directory.cull(Size { entries, bytes }).unwrap();
        cull(31, u64::MAX);
        assert_eq!(left(&paths), 31, "there is room for all");
        cull(30, u64::MAX);
        assert_eq!([sessions, pages, fragments].map(left), [10, 10, 0]);
        cull(18, u64::MAX);
        assert_eq!([sessions, pages, fragments].map(left), [10, 2, 0]);
        assert!(pages[8].exists() && pages[9].exists(), "they would have expired last");
        let each = directory.measure().unwrap().bytes / 12;
        cull(100, each * 9);
        assert!((5..=6).contains(&left(sessions)) && left(pages) == 0, "two thirds of nine");
    }
}
