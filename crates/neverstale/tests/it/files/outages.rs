//! A cache in files that cannot be used, or not in time.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use neverstale::Ttl;
use neverstale::backend::file::Files;
use neverstale::backend::{Backend, ErrorKind};
use tempfile::{TempDir, tempdir};
use tokio::runtime::Runtime;

use super::{bytes, entries, entry, path, set};
use testkit::eventually;
use testkit::process::find;

fn start() -> (TempDir, Files) {
    let directory = tempdir().unwrap();
    let files = open(&directory);
    (directory, files)
}

/// With a limit on an operation's time that is meant to be met, and by nothing that is only slow.
fn open(directory: &TempDir) -> Files {
    Files::with_timeout(path(directory), Duration::from_secs(3))
}

/// Holds the lock, as another process in the middle of a change does, until it is dropped.
fn hold_lock(directory: &TempDir) -> File {
    let file = path(directory).join("changes.lock");
    let file = OpenOptions::new().create(true).append(true).open(file).unwrap();
    file.lock().unwrap();
    file
}

/// Makes a file hang: opening a pipe waits for its other end.
fn make_pipe(file: PathBuf) -> PathBuf {
    let _ = fs::remove_file(&file);
    assert!(Command::new(find("mkfifo")).arg(&file).status().unwrap().success());
    file
}

/// Makes an old value, and the file of a new one that is written while a `set` of a third waits for its lock. Then the
/// waiting thread goes on to its end.
fn write_late(wait: &impl AsyncFn(&Files)) {
    let directory = tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let newer = runtime.block_on(async {
        set(&open(&directory), "k", "newer").await.unwrap();
        let newer = fs::read(entry(&directory)).unwrap();
        set(&open(&directory), "k", "old").await.unwrap();
        newer
    });
    let lock = hold_lock(&directory);
    runtime.block_on(wait(&open(&directory)));
    fs::write(entry(&directory), newer).unwrap();
    drop(lock);
    // Waits for its blocking threads.
    drop(runtime);
    let found = Runtime::new().unwrap().block_on(open(&directory).get("k"));
    assert_eq!(found.unwrap(), Some(bytes("newer")));
}

#[test]
fn a_write_that_timed_out_does_not_undo_a_later_one() {
    write_late(&async |files| {
        assert_eq!(set(files, "k", "late").await.unwrap_err().kind, ErrorKind::Busy);
    });
}

#[test]
fn a_write_that_was_dropped_does_not_undo_a_later_one() {
    write_late(&async |files| {
        let started = set(files, "k", "late");
        tokio::time::timeout(Duration::from_millis(100), started).await.unwrap_err();
    });
}

#[test]
fn a_thread_that_hung_in_the_middle_of_a_write_gives_it_up() {
    let directory = tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let pipe = runtime.block_on(async {
        set(&open(&directory), "k", "old").await.unwrap();
        let pipe = make_pipe(path(&directory).join("next.tmp"));
        let error = set(&open(&directory), "k", "late").await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Timeout(_)), "{error}");
        pipe
    });
    let _reader = File::open(pipe).unwrap();
    drop(runtime);
    assert!(fs::symlink_metadata(entry(&directory)).unwrap().is_file(), "the pipe has not taken its place");
}

#[tokio::test]
async fn what_could_not_be_written_is_not_read_afterwards() {
    let (directory, files) = start();
    for key in ["set", "deleted", "touched", "untouched"] {
        set(&files, key, "1").await.unwrap();
    }
    let lock = hold_lock(&directory);
    set(&files, "set", "2").await.unwrap_err();
    files.delete("deleted").await.unwrap_err();
    files.touch("touched", Ttl::After(Duration::ZERO)).await.unwrap_err();
    assert_eq!(files.get("untouched").await.unwrap(), Some(bytes("1")), "a read needs no lock");
    assert_eq!(files.get("set").await.unwrap_err().kind, ErrorKind::Busy, "its delete is pending");
    drop(lock);
    assert_eq!(files.get("untouched").await.unwrap(), Some(bytes("1")));
    let is_deleted = async || entries(&path(&directory)).len() == 1;
    eventually("other processes do not read them either", is_deleted).await;
    files.close(Duration::from_secs(10)).await;
    for key in ["set", "deleted", "touched"] {
        assert_eq!(files.get(key).await.unwrap(), None, "{key}");
    }
    set(&files, "set", "3").await.unwrap();
    assert_eq!(files.get("set").await.unwrap(), Some(bytes("3")), "a delete is done once");
}

#[tokio::test]
async fn a_lock_or_a_count_that_could_not_be_asked_for_stays() {
    let (directory, files) = start();
    set(&files, "lock", "another's").await.unwrap();
    set(&files, "count", "7").await.unwrap();
    let lock = hold_lock(&directory);
    files.add("lock", bytes("mine"), Ttl::Never).await.unwrap_err();
    files.incr("count", 1).await.unwrap_err();
    drop(lock);
    assert_eq!(files.get("lock").await.unwrap(), Some(bytes("another's")));
    assert_eq!(files.incr("count", 1).await.unwrap(), Some(8));
}

#[tokio::test]
async fn a_value_that_cannot_be_replaced_goes() {
    let (directory, files) = start();
    set(&files, "k", "old").await.unwrap();
    let file = entry(&directory);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(files.get("k").await.unwrap(), None, "a directory is no value");
    assert!(set(&files, "k", "new").await.unwrap_err().kind.is_outage());
    fs::remove_dir(&file).unwrap();
    files.close(Duration::from_secs(10)).await;
    assert_eq!(files.get("k").await.unwrap(), None, "its delete was waited for");
    set(&files, "k", "new").await.unwrap();
    let mut left = fs::read_dir(path(&directory)).unwrap().map(|file| file.unwrap().path());
    assert!(left.all(|path| path.extension().is_some_and(|extension| extension != "tmp")), "nothing torn");
}

#[tokio::test]
async fn a_place_that_cannot_be_used_is_an_outage() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for place in [file.join("below"), file, "/proc/nowhere".into()] {
        let files = Files::new(place.clone());
        let errors = [
            files.get("got").await.map(drop),
            set(&files, "set", "v").await,
            files.add("added", bytes("v"), Ttl::Never).await.map(drop),
            files.delete("deleted").await.map(drop),
            files.incr("counted", 1).await.map(drop),
            files.clear().await,
            files.get_many(&["one of many".to_owned()]).await.remove(0).map(drop),
            files.stats().await.remove(0).stats.map(drop),
            files.check().await.remove(0).outcome.map(drop),
        ];
        for error in errors.map(Result::unwrap_err) {
            assert!(matches!(error.kind, ErrorKind::Unreachable(_)) && error.kind.is_outage(), "{error}");
            assert!(error.to_string().starts_with(place.to_str().unwrap()), "{error}");
        }
    }
}

#[tokio::test]
async fn a_file_system_that_hangs_costs_one_timeout() {
    let (directory, files) = start();
    set(&files, "hangs", "v").await.unwrap();
    let file = make_pipe(entry(&directory));
    let error = files.get("hangs").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Timeout(_)), "{error}");
    for _ in 0..50 {
        let error = files.get("other").await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Down(_)), "{error}");
    }
    drop(OpenOptions::new().write(true).open(&file).unwrap());
    eventually("it answers again", async || files.get("other").await.is_ok()).await;
}
