//! A clock of a program's own, which a test sets while it runs: Debian's faketime.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::app::Settings;
use testkit::process::leave_out;

pub struct Clock {
    file: NamedTempFile,
}

impl Clock {
    /// Goes as the real one does, until it is set.
    pub fn start() -> Self {
        let clock = Self { file: NamedTempFile::new().unwrap() };
        clock.set("+0");
        clock
    }

    /// Gives it to programs. Only what tells the date; what measures time goes on as it is.
    pub fn with(&self, settings: Settings) -> Settings {
        self.with_measures(settings).with("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }

    /// Gives it to programs, and with it what measures time, which goes forwards only.
    pub fn with_measures(&self, settings: Settings) -> Settings {
        let settings =
            settings.with("LD_PRELOAD", library().to_str().unwrap()).with("FAKETIME_NO_CACHE", "1");
        settings.with("FAKETIME_TIMESTAMP_FILE", self.file.path().to_str().unwrap())
    }

    /// Sets it so far from the real one, such as `+1d` or `-10y`.
    pub fn set(&self, offset: &str) {
        // In one step, since it is read at any time.
        let next = self.file.path().with_extension("next");
        fs::write(&next, format!("{offset}\n")).unwrap();
        fs::rename(next, self.file.path()).unwrap();
    }
}

fn library() -> PathBuf {
    let below = |parent| fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
    let directories = below("/usr/lib").chain(["/usr/lib64".into()]);
    let mut libraries = directories.map(|directory| directory.join("faketime/libfaketimeMT.so.1"));
    let library = libraries.find(|library| Path::is_file(library));
    library.unwrap_or_else(|| leave_out("`faketime`"))
}
