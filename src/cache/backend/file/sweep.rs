//! What is done to all files of the directory: counting, clearing, culling. Foreign files are left alone.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::directory::{Kind, remove};
use super::entry::{HEADER, may_be_live};
use super::threads::Turn;

/// A temporary file this old has lost its process: a write takes less than a second.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// Returns how many entries there are, and how many bytes they have.
pub(super) fn measure(directory: &Path) -> io::Result<(usize, u64)> {
    let entries = files(directory, Kind::Entry)?;
    let bytes = entries.iter().filter_map(|path| fs::metadata(path).ok()).map(|metadata| metadata.len());
    Ok((entries.len(), bytes.sum()))
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

/// Makes room if there are more entries than `most`: what has expired goes first, then, if that is not enough, whatever
/// chance picks, down to two thirds. Removes abandoned temporary files.
///
/// Needs no lock: an entry that a writer replaces meanwhile may go as well, as any entry may at any time.
pub(super) fn cull(directory: &Path, most: usize) -> io::Result<()> {
    for path in files(directory, Kind::Temporary)?.iter().filter(|path| is_abandoned(path)) {
        remove(path)?;
    }
    let entries = files(directory, Kind::Entry)?;
    if entries.len() <= most {
        return Ok(());
    }
    let (mut live, expired): (Vec<_>, Vec<_>) = entries.into_iter().partition(|path| is_live(path));
    expired.iter().try_for_each(|path| remove(path))?;
    if live.len() > most {
        fastrand::shuffle(&mut live);
        live[most / 3 * 2..].iter().try_for_each(|path| remove(path))?;
    }
    Ok(())
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

fn is_live(path: &Path) -> bool {
    let mut header = [0; HEADER];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && may_be_live(&header)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;

    use super::*;
    use crate::cache::Ttl;
    use crate::cache::backend::file::directory::Name;
    use crate::cache::backend::file::entry::Entry;

    fn store(directory: &Path, key: &str, ttl: Ttl) -> PathBuf {
        let path = directory.join(format!("{}.cache", Name::new(key).hash()));
        fs::write(&path, Entry::new(Bytes::new(), ttl).head(key)).unwrap();
        path
    }

    #[test]
    fn what_has_expired_goes_first() {
        let directory = tempfile::tempdir().unwrap();
        let live: Vec<_> =
            (0..20).map(|i| store(directory.path(), &format!("live {i}"), Ttl::Never)).collect();
        for i in 0..20 {
            store(directory.path(), &format!("expired {i}"), Ttl::After(Duration::ZERO));
        }
        cull(directory.path(), 30).unwrap();
        assert!(live.iter().all(|path| path.exists()));
        assert_eq!(measure(directory.path()).unwrap().0, 20);
    }

    #[test]
    fn if_all_live_chance_picks_a_third() {
        let directory = tempfile::tempdir().unwrap();
        for i in 0..31 {
            store(directory.path(), &i.to_string(), Ttl::Never);
        }
        cull(directory.path(), 31).unwrap();
        assert_eq!(measure(directory.path()).unwrap().0, 31);
        cull(directory.path(), 30).unwrap();
        assert_eq!(measure(directory.path()).unwrap().0, 20);
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
        cull(directory.path(), 30).unwrap();
        assert_eq!([abandoned, fresh, foreign].map(|path| path.exists()), [false, true, true]);
    }
}
