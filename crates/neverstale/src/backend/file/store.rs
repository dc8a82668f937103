//! What an operation does in the directory, step by step, on a blocking thread; and the deletes that are owed.
//!
//! A change holds its key's lock, which all processes share, from the look at the old value to the new one. A read
//! needs no lock, since a file is replaced in one step.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::directory::{CULL_LOCK, Directory, Name};
use super::entry::Entry;
use super::sweep::{self, Size};
use super::threads::LOCKS;
use super::threads::Turn;
use crate::Ttl;
use crate::backend::MAX_PENDING_DELETES;
use crate::backend::{ErrorKind, OPERATION_TIMEOUT};

/// How much there may be: as many entries as a directory is listed and looked through in a fraction of a second. Those
/// that are written between two looks come on top.
const MOST: Size = Size { entries: 10_000, bytes: 256 * 1024 * 1024 };

/// How many keys a process changes before it looks whether there are too many. Looking costs as much as some ten
/// writes.
const CULL_EVERY: usize = 100;

/// How many owed deletes an operation on other keys tries.
const OWED_AT_ONCE: usize = 16;

/// What becomes of an entry.
pub(super) enum Change {
    Keep,
    Put(Entry),
    Remove,
}

/// What a change that fails leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// Nothing: what was there is old.
    LeavesNothing,
    /// What was there, which may be another's lock or count.
    LeavesOld,
}

impl Change {
    /// Stores a value; one whose lifetime is over leaves nothing.
    pub(super) fn put(value: Bytes, ttl: Ttl) -> Self {
        if ttl.is_over() { Self::Remove } else { Self::Put(Entry::new(value, ttl)) }
    }
}

pub(super) struct Store {
    directory: Directory,
    /// Keys whose files may hold what a failed write should have replaced.
    owed: Mutex<BTreeSet<Name>>,
    changes: AtomicUsize,
}

impl Store {
    pub(super) fn new(directory: PathBuf) -> Self {
        // From anywhere, so that many processes that change one key each cull now and then as well.
        let changes = AtomicUsize::new(fastrand::usize(..CULL_EVERY));
        Self { directory: Directory::new(directory), owed: Mutex::default(), changes }
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Prepares the directory, and pays what it is owed as far as nobody is in the way.
    pub(super) fn prepare(&self) -> Result<(), ErrorKind> {
        self.directory.prepare().map_err(outage)?;
        let owed: Vec<_> = self.owed().iter().take(OWED_AT_ONCE).cloned().collect();
        for name in owed {
            // Whoever reads the key tries again.
            let _ = self.pay(&name);
        }
        Ok(())
    }

    /// Returns the value of a key, once it is owed no delete.
    pub(super) fn read(&self, name: &Name) -> Result<Option<Bytes>, ErrorKind> {
        if self.owed().contains(name) {
            self.pay(name)?;
        }
        Ok(self.directory.read(name).map_err(outage)?.map(|entry| entry.value))
    }

    /// Changes an entry as the closure says that sees the old one. If that fails and shall leave nothing, there is none
    /// afterwards, or it is owed a delete.
    pub(super) fn change<T>(
        &self,
        name: &Name,
        turn: &Turn,
        failed: Failed,
        change: impl FnOnce(Option<Entry>) -> Result<(Change, T), ErrorKind>,
    ) -> Result<T, ErrorKind> {
        let lock = self.directory.lock(name.lock(), turn).map_err(outage);
        let outcome =
            lock.as_ref().map_err(Clone::clone).and_then(|_| self.change_locked(name, turn, change));
        let is_old = failed == Failed::LeavesNothing && outcome.as_ref().is_err_and(ErrorKind::is_outage);
        // Without the lock somebody else's newer value could be hit. A caller who has gone has noted the debt.
        let is_removed = || lock.is_ok() && self.directory.remove(name).is_ok();
        if is_old && !is_removed() && !turn.is_abandoned() {
            self.owe([name.clone()]);
        }
        outcome
    }

    fn change_locked<T>(
        &self,
        name: &Name,
        turn: &Turn,
        change: impl FnOnce(Option<Entry>) -> Result<(Change, T), ErrorKind>,
    ) -> Result<T, ErrorKind> {
        self.settle(name)?;
        let (change, outcome) = change(self.directory.read(name).map_err(outage)?)?;
        match change {
            Change::Keep => Ok(()),
            Change::Put(entry) => self.directory.write(name, &entry, turn),
            Change::Remove => self.directory.remove(name),
        }
        .map_err(outage)?;
        Ok(outcome)
    }

    /// Removes all entries, those that are owed a delete among them.
    pub(super) fn clear(&self, turn: &Turn) -> Result<(), ErrorKind> {
        let locks: io::Result<Vec<File>> = (0..LOCKS).map(|lock| self.directory.lock(lock, turn)).collect();
        let _locks = locks.map_err(outage)?;
        let owed = self.owed().clone();
        sweep::clear(self.path(), turn).map_err(outage)?;
        self.owed().retain(|name| !owed.contains(name));
        Ok(())
    }

    /// Writes, reads and deletes; returns how many entries there are.
    pub(super) fn probe(&self, name: &Name, turn: &Turn) -> Result<usize, ErrorKind> {
        let value = Bytes::from_static(b"probe");
        let entry = Entry::new(value.clone(), Ttl::After(Duration::from_secs(60)));
        self.change(name, turn, Failed::LeavesNothing, |_| Ok((Change::Put(entry), ())))?;
        let found = self.read(name)?;
        self.change(name, turn, Failed::LeavesNothing, |_| Ok((Change::Remove, ())))?;
        if found != Some(value) {
            return Err(ErrorKind::Unreachable("what was written cannot be read".into()));
        }
        Ok(self.measure()?.entries)
    }

    /// Returns how much there is.
    pub(super) fn measure(&self) -> Result<Size, ErrorKind> {
        sweep::measure(self.path()).map_err(outage)
    }

    /// Counts changed keys, and returns whether it is time to cull.
    pub(super) fn is_cull_due(&self, changed: usize) -> bool {
        let before = self.changes.fetch_add(changed, Ordering::Relaxed);
        before / CULL_EVERY != before.wrapping_add(changed) / CULL_EVERY
    }

    /// Makes room if there are too many entries, unless somebody is about it: two would each remove a third.
    pub(super) fn cull(&self) {
        let culled = self.directory.try_lock(CULL_LOCK).and_then(|lock| match lock {
            Some(_lock) => sweep::cull(self.path(), MOST),
            None => Ok(()),
        });
        if let Err(error) = culled {
            tracing::warn!(cache.directory = %self.path().display(), "failed to cull the cache: {error}");
        }
    }

    /// Notes keys that must be deleted before they are read.
    pub(super) fn owe(&self, names: impl IntoIterator<Item = Name>) {
        let mut owed = self.owed();
        for name in names {
            if owed.len() < MAX_PENDING_DELETES || owed.contains(&name) {
                owed.insert(name);
            }
        }
    }

    /// Deletes what a key is owed, if its lock can be had at once.
    fn pay(&self, name: &Name) -> Result<(), ErrorKind> {
        let lock = self.directory.try_lock(name.lock()).map_err(outage)?;
        let _lock = lock.ok_or(ErrorKind::LeftOut)?;
        self.settle(name)
    }

    /// Deletes what a key is owed. Its lock must be held.
    fn settle(&self, name: &Name) -> Result<(), ErrorKind> {
        if self.owed().contains(name) {
            self.directory.remove(name).map_err(outage)?;
            self.owed().remove(name);
        }
        Ok(())
    }

    fn owed(&self) -> MutexGuard<'_, BTreeSet<Name>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn outage(error: io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::TimedOut => ErrorKind::Timeout(OPERATION_TIMEOUT),
        _ => ErrorKind::Unreachable(error.to_string()),
    }
}
