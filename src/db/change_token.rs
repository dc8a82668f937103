//! A change token of a SQLite database, read from its files without a query.
//!
//! In WAL mode the processes that use a database share the WAL index, which on Unix is the file `-shm`, mapped by all.
//! Each commit, in any process, ends by writing the header of that file, and each read begins by comparing it: so
//! SQLite itself knows what has been committed. ("WAL-mode File Format" documents it: two copies of 48 bytes, with a
//! count of changes, the last frame, its checksum and the log's salts among them, and a byte that is 0 until it can be
//! used.) Here it is read as a file is, which on Linux shows what others have mapped as it is at that moment.
//!
//! Two things may never happen to these files. SQLite removes `-shm` with the last connection, and the next one would
//! make a new one: so one connection stays. And all locks of a process on a file end when it closes the file once,
//! SQLite's locks too: so the files are never closed.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{self, Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Executor, SqliteConnection};

/// The bytes of one copy of the header.
const HEADER: usize = 48;

/// The byte of the header that is 0 until it can be used.
const IS_INIT: usize = 12;

/// A token that stays the same as long as nothing is committed and the file keeps its name.
///
/// It does not see that a directory above the file gets another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeToken {
    header: [u8; HEADER],
    /// When something was done to the file, such as giving it another name.
    changed: (i64, i64),
}

/// The files that change tokens are read from.
pub(super) struct ChangeTokens {
    file: ManuallyDrop<File>,
    index: ManuallyDrop<File>,
    _connection: SqliteConnection,
}

impl ChangeTokens {
    /// Opens the files, if they can be read; not by way of links, which may come to lead elsewhere.
    pub(super) async fn open(options: &SqliteConnectOptions) -> Option<Self> {
        let path = options.get_filename();
        let is_there = path::absolute(path).ok().is_some_and(|path| path.canonicalize().ok() == Some(path));
        if !cfg!(target_os = "linux") || !is_there {
            return None;
        }
        let mut connection = options.connect().await.ok()?;
        // The first read is what makes a connection use the index.
        connection.execute("select count(*) from sqlite_schema").await.ok()?;
        let tokens = Self { file: open(path)?, index: open(&index_of(path))?, _connection: connection };
        tokens.current().is_some().then_some(tokens)
    }

    /// Returns the current token; none if the header cannot be used, such as while it is being written.
    pub(super) fn current(&self) -> Option<ChangeToken> {
        let file = self.file.metadata().ok()?;
        let mut header = [[0; HEADER]; 2];
        self.index.read_exact_at(header.as_flattened_mut(), 0).ok()?;
        let [one, other] = header;
        let can_be_used = file.nlink() > 0 && one == other && one[IS_INIT] != 0;
        can_be_used.then(|| ChangeToken { header: one, changed: (file.ctime(), file.ctime_nsec()) })
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
