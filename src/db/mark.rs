//! What the files of a SQLite database show of its state, without asking SQLite.
//!
//! In WAL mode the processes that use a database share the WAL index, which on Unix is the file `-shm`, mapped by all.
//! Whoever commits, in whatever process, ends with writing its header, and whoever reads begins with looking at it: so
//! SQLite itself knows what has been committed. ("WAL-mode File Format" documents it: two copies of 48 bytes, with a
//! count of changes, the last frame, its checksum and the log's salts among them, and a byte that is 0 until it can be
//! used.) Here it is read as a file is, which on Linux shows what others have mapped as it is at that moment.
//!
//! Two things may never happen to these files. SQLite removes `-shm` with the last connection, and others would make a
//! new one: so one connection stays. And locks of a process on a file end when it closes the file, however it came by
//! it, SQLite's locks too: so the files are never closed.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{self, Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Executor, SqliteConnection};

/// The bytes of one copy of the header.
const HEADER: usize = 48;

/// Where in it is whether it can be used.
const IS_INIT: usize = 12;

/// What is seen of the state of a database: as long as it is the same, nothing has been committed, and the file has its
/// name still. (Of a directory above it that is given another name nothing is seen here.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    header: [u8; HEADER],
    /// When something was done to the file, such as giving it another name.
    changed: (i64, i64),
}

/// The files of a database that is in use.
#[derive(Debug)]
pub(super) struct Marks {
    file: ManuallyDrop<File>,
    index: ManuallyDrop<File>,
    _stays: SqliteConnection,
}

impl Marks {
    /// Opens the files, where they can be looked at; not by way of links, which may come to lead elsewhere.
    pub(super) async fn open(options: &SqliteConnectOptions) -> Option<Self> {
        let path = options.get_filename();
        let is_there = path::absolute(path).ok().is_some_and(|path| path.canonicalize().ok() == Some(path));
        if !cfg!(target_os = "linux") || !is_there {
            return None;
        }
        let mut stays = options.connect().await.ok()?;
        // The first read is what makes a connection use the index.
        stays.execute("select count(*) from sqlite_schema").await.ok()?;
        let marks = Self { file: open(path)?, index: open(&index_of(path))?, _stays: stays };
        marks.look().is_some().then_some(marks)
    }

    /// Returns what is seen now; none if there is nothing to go by, such as while it is being written.
    pub(super) fn look(&self) -> Option<Mark> {
        let file = self.file.metadata().ok()?;
        let mut header = [[0; HEADER]; 2];
        self.index.read_exact_at(header.as_flattened_mut(), 0).ok()?;
        let [one, other] = header;
        let can_be_used = file.nlink() > 0 && one == other && one[IS_INIT] != 0;
        can_be_used.then(|| Mark { header: one, changed: (file.ctime(), file.ctime_nsec()) })
    }
}

fn open(path: &Path) -> Option<ManuallyDrop<File>> {
    File::open(path).ok().map(ManuallyDrop::new)
}

fn index_of(path: &Path) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push("-shm");
    path.into()
}
