//! What only the cache in files has: what the directory looks like, what damage does, and how it is culled.

mod outages;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use neverstale::Ttl;
use neverstale::backend::file::Files;
use neverstale::backend::{Backend, Error};
use tempfile::{TempDir, tempdir};

use testkit::{PATIENCE, eventually};

fn start() -> (TempDir, Files) {
    let directory = tempdir().unwrap();
    let files = open(&directory);
    (directory, files)
}

/// What another process on the same directory has.
fn open(directory: &TempDir) -> Files {
    Files::with_timeout(path(directory), PATIENCE)
}

/// Not there yet.
fn path(directory: &TempDir) -> PathBuf {
    directory.path().join("made/here")
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn set(backend: &Files, key: &str, value: &'static str) -> Result<(), Error> {
    backend.set(key, bytes(value), Ttl::Never).await
}

#[track_caller]
fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "cache")).collect()
}

/// The one entry's file.
fn entry(directory: &TempDir) -> PathBuf {
    let entries = entries(&path(directory));
    assert_eq!(entries.len(), 1);
    entries.into_iter().next().unwrap()
}

#[tokio::test]
async fn nobody_else_may_look_into_the_directory() {
    let (directory, files) = start();
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path(&directory)).unwrap();
    fs::set_permissions(path(&directory), fs::Permissions::from_mode(0o755)).unwrap();
    set(&files, "k", "v").await.unwrap();
    assert_eq!(mode(&path(&directory)), 0o700);
    assert_eq!(mode(&entry(&directory)), 0o600);
}

#[tokio::test]
async fn a_directory_that_is_everybodys_is_left_so() {
    let directory = tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let error = set(&Files::new(directory.path().into()), "k", "v").await.unwrap_err();
    assert!(error.to_string().contains("a directory that all users share"), "{error}");
    assert_eq!(mode(directory.path()), 0o1777);
}

#[tokio::test]
async fn a_directory_of_another_user_or_behind_a_link_is_not_used() {
    let directory = tempdir().unwrap();
    let is_root = fs::metadata(directory.path()).unwrap().uid() == 0;
    let theirs = if is_root { directory.path().join("theirs") } else { "/usr".into() };
    if is_root {
        fs::DirBuilder::new().mode(0o700).create(&theirs).unwrap();
        chown(&theirs, Some(12_345), None).unwrap();
    }
    let error = set(&Files::new(theirs), "k", "v").await.unwrap_err();
    assert!(error.to_string().contains("a directory of another user"), "{error}");
    let (ours, link) = (directory.path().join("ours"), directory.path().join("link"));
    fs::DirBuilder::new().mode(0o700).create(&ours).unwrap();
    symlink(&ours, &link).unwrap();
    let error = set(&Files::new(link), "k", "v").await.unwrap_err();
    assert!(error.to_string().contains("a symbolic link"), "{error}");
    assert_eq!(fs::read_dir(&ours).unwrap().count(), 0);
}

#[tokio::test]
async fn a_link_in_the_directory_is_not_followed() {
    let (directory, files) = start();
    set(&files, "k", "v").await.unwrap();
    let file = entry(&directory);
    let elsewhere = directory.path().join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    assert_eq!(files.get("k").await.unwrap(), None, "though it leads to an entry");
    set(&files, "k", "new").await.unwrap();
    assert_eq!(files.get("k").await.unwrap(), Some(bytes("new")));
    let (lock, target) = (path(&directory).join("changes.lock"), directory.path().join("made by a lock"));
    fs::remove_file(&lock).unwrap();
    symlink(&target, lock).unwrap();
    assert!(set(&files, "k", "newer").await.unwrap_err().kind.is_outage());
    assert!(!target.exists());
}

#[tokio::test]
async fn a_directory_with_files_of_others_is_not_taken_from_them() {
    let directory = tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(directory.path().join("theirs"), "").unwrap();
    let error = set(&Files::new(directory.path().into()), "k", "v").await.unwrap_err();
    assert!(error.to_string().contains("with files of others in it"), "{error}");
    assert_eq!(mode(directory.path()), 0o755);
}

#[tokio::test]
async fn a_file_that_is_damaged_is_a_miss_and_is_written_over() {
    let (directory, files) = start();
    set(&files, "k", "value").await.unwrap();
    let file = entry(&directory);
    let whole = fs::read(&file).unwrap();
    let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
    let flipped = (0..whole.len()).map(|index| {
        let mut damaged = whole.clone();
        damaged[index] ^= 0x10;
        damaged
    });
    let foreign = [b"foreign".to_vec(), vec![b'x'; 3_000_000], [&whole[..], b"more"].concat()];
    for damaged in cut.chain(flipped).chain(foreign) {
        fs::write(&file, &damaged).unwrap();
        assert_eq!(files.get("k").await.unwrap(), None, "{:?}", damaged.get(..50));
        assert!(!files.delete("k").await.unwrap());
        fs::write(&file, &damaged).unwrap();
        assert!(files.add("k", bytes("value"), Ttl::Never).await.unwrap());
        assert_eq!(files.get("k").await.unwrap(), Some(bytes("value")));
    }
}

#[tokio::test]
async fn another_keys_file_is_a_miss() {
    let (directory, files) = start();
    set(&files, "mine", "value").await.unwrap();
    let mine = entry(&directory);
    set(&files, "other", "value").await.unwrap();
    let other = entries(&path(&directory)).into_iter().find(|path| *path != mine).unwrap();
    fs::rename(mine, other).unwrap();
    assert_eq!(files.get("other").await.unwrap(), None);
}

#[tokio::test]
async fn clearing_leaves_the_directory_and_what_is_not_ours() {
    let (directory, files) = start();
    set(&files, "k", "v").await.unwrap();
    let ours = entry(&directory);
    let like_ours = ours.display();
    let mut foreign =
        ["README", "a.cache", ".cache", "b.tmp"].map(|name| path(&directory).join(name)).to_vec();
    foreign.extend([
        format!("{like_ours}.bak").into(),
        ours.with_extension("x.cache"),
        ours.with_extension(""),
    ]);
    for path in &foreign {
        fs::write(path, "foreign").unwrap();
    }
    files.clear().await.unwrap();
    assert!(!ours.exists());
    assert!(foreign.iter().all(|path| fs::read(path).unwrap() == b"foreign"));
    assert_eq!(files.get("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_directory_that_is_removed_under_it_is_made_again() {
    let (directory, files) = start();
    set(&files, "k", "v").await.unwrap();
    // The first value is followed by a cull, which may make its lock there just when the rest is gone.
    eventually("it is gone", async || fs::remove_dir_all(path(&directory)).is_ok()).await;
    assert_eq!(files.get("k").await.unwrap(), None);
    set(&files, "k", "v").await.unwrap();
    assert_eq!(files.get("k").await.unwrap(), Some(bytes("v")));
    assert_eq!(mode(&path(&directory)), 0o700);
}

#[tokio::test]
async fn the_number_of_files_is_bounded() {
    let (directory, files) = start();
    let files = files.max_entries(1_000);
    set(&files, "k", "v").await.unwrap();
    let live = fs::read(entry(&directory)).unwrap();
    for number in 0..1_100 {
        fs::write(path(&directory).join(format!("{number:064x}.cache")), &live).unwrap();
    }
    let foreign = path(&directory).join("foreign.cache");
    fs::write(&foreign, "foreign").unwrap();
    let count = async || files.stats().await.remove(0).stats.unwrap()["curr_items"].parse::<usize>().unwrap();
    // Of about a hundred changes one looks whether there are too many.
    eventually("there is room again", async || {
        set(&files, "k", "v").await.unwrap();
        count().await <= 1_000
    })
    .await;
    assert!(count().await > 600 && foreign.exists());
}

#[tokio::test]
async fn it_says_where_it_is_and_how_much_it_holds() {
    let (directory, files) = start();
    let name = path(&directory).display().to_string();
    set(&files, "k", "v").await.unwrap();
    assert_eq!(files.describe(), format!("in files below {name}"));
    assert_eq!(files.server_of("k"), name);
    let check = files.check().await.remove(0);
    assert_eq!(check.server, name);
    assert_eq!(check.outcome.unwrap(), "writes, reads and deletes, 1 entries");
    let stats = files.stats().await.remove(0).stats.unwrap();
    assert_eq!(stats["curr_items"], "1");
    assert_eq!(stats["bytes"], fs::metadata(entry(&directory)).unwrap().len().to_string());
}
