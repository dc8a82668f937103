//! What is done to all files of the directory: counting, clearing, culling. Foreign files are left alone.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::directory::{Kind, open_to_read, remove};
use super::entry::{HEADER, live_expiry};
use super::threads::Turn;

/// A temporary file this old has lost its process: a write takes less than a second.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// A number of entries, and how many bytes their files have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) entries: usize,
    pub(super) bytes: u64,
}

/// Returns how much there is.
pub(super) fn measure(directory: &Path) -> io::Result<Size> {
    Ok(total(&sizes(files(directory, Kind::Entry)?)))
}

/// Removes all entries, and what was to become one. All locks must be held.
pub(super) fn clear(directory: &Path, turn: &Turn) -> io::Result<()> {
    for kind in [Kind::Entry, Kind::Temporary] {
        for path in files(directory, kind)? {
            turn.check()?;
            remove(&path)?;
        }
    }
    Ok(())
}

/// Makes room if there are more entries, or more bytes, than `most`, down to two thirds. Expired entries go first, then
/// those without a lifetime, picked by chance, then those that would expire next: a session outlives the pages. Removes
/// abandoned temporary files.
///
/// Needs no lock: an entry that a writer replaces meanwhile may go as well, as any entry may at any time.
pub(super) fn cull(directory: &Path, most: Size) -> io::Result<()> {
    for path in files(directory, Kind::Temporary)?.iter().filter(|path| is_abandoned(path)) {
        remove(path)?;
    }
    let mut entries = sizes(files(directory, Kind::Entry)?);
    let is_over = |total: Size| total.entries > most.entries || total.bytes > most.bytes;
    if !is_over(total(&entries)) {
        return Ok(());
    }
    let mut live = vec![];
    fastrand::shuffle(&mut entries);
    for (path, bytes) in entries {
        match live_until(&path) {
            Some(expires) => live.push((expires, path, bytes)),
            None => remove(&path)?,
        }
    }
    live.sort_by_key(|(expires, ..)| *expires);
    let mut left = Size { entries: live.len(), bytes: live.iter().map(|(.., bytes)| bytes).sum() };
    if is_over(left) {
        let kept = Size { entries: most.entries / 3 * 2, bytes: most.bytes / 3 * 2 };
        let (by_entries, by_bytes) = (left.entries > most.entries, left.bytes > most.bytes);
        for (_, path, bytes) in live {
            let is_enough =
                (!by_entries || left.entries <= kept.entries) && (!by_bytes || left.bytes <= kept.bytes);
            if is_enough {
                break;
            }
            remove(&path)?;
            left = Size { entries: left.entries - 1, bytes: left.bytes - bytes };
        }
    }
    Ok(())
}

/// Returns the files that are there, with their bytes.
fn sizes(files: Vec<PathBuf>) -> Vec<(PathBuf, u64)> {
    let size = |path: PathBuf| fs::metadata(&path).ok().map(|metadata| (path, metadata.len()));
    files.into_iter().filter_map(size).collect()
}

fn total(entries: &[(PathBuf, u64)]) -> Size {
    Size { entries: entries.len(), bytes: entries.iter().map(|(_, bytes)| bytes).sum() }
}

fn files(directory: &Path, kind: Kind) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![];
    for file in fs::read_dir(directory)? {
        let file = file?;
        let is_ours = file.file_name().to_str().and_then(Kind::of) == Some(kind);
        if is_ours && file.file_type().is_ok_and(|kind| kind.is_file()) {
            found.push(file.path());
        }
    }
    Ok(found)
}

fn is_abandoned(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    // A time in the future has no age.
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > ABANDONED))
}

/// Returns when an entry expires, 0 if never; none if it has expired.
fn live_until(path: &Path) -> Option<u64> {
    let mut header = [0; HEADER];
    let read = open_to_read(path).and_then(|mut file| file.read_exact(&mut header));
    read.ok().and_then(|()| live_expiry(&header))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use bytes::Bytes;

    use super::*;
    use crate::Ttl;
    use crate::backend::file::directory::Name;
    use crate::backend::file::entry::Entry;

    fn store(directory: &Path, key: &str, ttl: Ttl) -> PathBuf {
        let path = directory.join(format!("{}.cache", Name::new(key).hash()));
        fs::write(&path, Entry::new(Bytes::new(), ttl).head(key)).unwrap();
        path
    }

    fn entries(entries: usize) -> Size {
        Size { entries, bytes: u64::MAX }
    }

    #[test]
    fn what_has_expired_goes_first() {
        let directory = tempfile::tempdir().unwrap();
        let live: Vec<_> =
            (0..20).map(|i| store(directory.path(), &format!("live {i}"), Ttl::Never)).collect();
        for i in 0..20 {
            store(directory.path(), &format!("expired {i}"), Ttl::After(Duration::ZERO));
        }
        cull(directory.path(), entries(30)).unwrap();
        assert!(live.iter().all(|path| path.exists()));
        assert_eq!(measure(directory.path()).unwrap().entries, 20);
    }

    #[test]
    fn if_all_live_chance_picks_a_third() {
        let directory = tempfile::tempdir().unwrap();
        for i in 0..31 {
            store(directory.path(), &i.to_string(), Ttl::Never);
        }
        cull(directory.path(), entries(31)).unwrap();
        assert_eq!(measure(directory.path()).unwrap().entries, 31);
        cull(directory.path(), entries(30)).unwrap();
        assert_eq!(measure(directory.path()).unwrap().entries, 20);
    }

    #[test]
    fn what_lives_longest_stays() {
        let directory = tempfile::tempdir().unwrap();
        let after = |seconds| Ttl::After(Duration::from_secs(seconds));
        let name = |kind: &str, i: u64| format!("{kind} {i}");
        let sessions: Vec<_> =
            (0..10).map(|i| store(directory.path(), &name("session", i), after(1_000_000))).collect();
        let pages: Vec<_> =
            (0..10).map(|i| store(directory.path(), &name("page", i), after(300 + i))).collect();
        let pieces: Vec<_> =
            (0..11).map(|i| store(directory.path(), &name("piece", i), Ttl::Never)).collect();
        let left = |paths: &[PathBuf]| paths.iter().filter(|path| path.exists()).count();
        cull(directory.path(), entries(30)).unwrap();
        assert_eq!([&sessions, &pages, &pieces].map(|paths| left(paths)), [10, 10, 0]);
        cull(directory.path(), entries(18)).unwrap();
        assert_eq!([&sessions, &pages, &pieces].map(|paths| left(paths)), [10, 2, 0]);
        assert!(pages[8].exists() && pages[9].exists(), "they would have expired last");
        let each = measure(directory.path()).unwrap().bytes / 12;
        cull(directory.path(), Size { entries: 100, bytes: each * 9 }).unwrap();
        assert!((5..=6).contains(&left(&sessions)) && left(&pages) == 0, "two thirds of nine");
    }

    #[test]
    fn only_abandoned_temporary_files_of_ours_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, age: u64| {
            let path = directory.path().join(name);
            let modified = SystemTime::now() - Duration::from_secs(age);
            File::create(&path).unwrap().set_modified(modified).unwrap();
            path
        };
        let hash = Name::new("key").hash().to_owned();
        let abandoned = file(&format!("{hash}.{:016x}.tmp", 1), 3_700);
        let fresh = file(&format!("{hash}.{:016x}.tmp", 2), 3_500);
        let foreign = file("foreign.tmp", 10_000);
        cull(directory.path(), entries(30)).unwrap();
        assert_eq!([abandoned, fresh, foreign].map(|path| path.exists()), [false, true, true]);
    }
}
