//! A small disk of a test's own, seen by those alone who are run on it: a tmpfs in a mount namespace.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::app::Settings;
use testkit::process::{self, Process, find, leave_out};

/// Keeps the namespace there is.
const HOLD: &str = r#"mount -t tmpfs -o "size=$1" tmpfs "$0" && echo mounted && exec sleep infinity"#;

pub struct Disk {
    holder: Process,
    path: PathBuf,
    is_root: bool,
    nsenter: PathBuf,
}

impl Disk {
    /// Mounts one of so many bytes below the settings' directory.
    pub fn mount(settings: &Settings, bytes: usize) -> Self {
        let path = settings.directory().join("disk");
        fs::create_dir(&path).unwrap();
        let is_root = process::is_root();
        let mut command = Command::new(find("unshare"));
        command.args(if is_root { &["-m"][..] } else { &["-m", "-r"] });
        command.args(["sh", "-c", HOLD]).arg(&path).arg(bytes.to_string());
        let mut holder = Process::start(command.stdout(Stdio::piped()), settings.directory());
        let mut said = String::new();
        BufReader::new(holder.child().stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said != "mounted\n" {
            leave_out("a mount namespace");
        }
        Self { holder, path, is_root, nsenter: find("nsenter") }
    }

    /// Where it is, for those who are run on it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same, for the test.
    pub fn inside(&self, file: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.holder.id());
        Path::new(&root).join(self.path.strip_prefix("/").unwrap()).join(file)
    }

    /// Runs the program where the disk is.
    pub fn with(&self, settings: Settings) -> Settings {
        let (nsenter, holder) = (self.nsenter.to_str().unwrap(), self.holder.id().to_string());
        settings.run_by(&[&[nsenter, "-t", &holder, "-m"], self.as_user()].concat())
    }

    /// Leaves not one byte.
    pub fn fill(&self) {
        let mut filler = OpenOptions::new().append(true).create(true).open(self.inside("filler")).unwrap();
        while filler.write(&[b'x'; 4096]).is_ok_and(|written| written > 0) {}
    }

    /// Gives back what was filled.
    pub fn free(&self) {
        fs::remove_file(self.inside("filler")).unwrap();
    }

    /// Lets nobody write any more. Nobody may have a file open to write.
    pub fn make_read_only(&self) {
        let mut command = Command::new(&self.nsenter);
        command.args(["-t", &self.holder.id().to_string(), "-m"]).args(self.as_user());
        command.args(["mount", "-o", "remount,bind,ro"]).arg(&self.path);
        assert!(command.status().unwrap().success());
    }

    fn as_user(&self) -> &'static [&'static str] {
        if self.is_root { &[] } else { &["-U", "--preserve-credentials"] }
    }
}
