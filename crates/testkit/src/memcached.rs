//! A memcached of a test's own, with SASL or without.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use percent_encoding::percent_decode_str;
use tempfile::TempDir;

use super::port::{on_free_port, on_same_port};
use super::process::{Process, find};
use super::{PATIENCE, wait_until};

pub const USER: &str = "tester";
pub const PASSWORD: &str = "sesame";

/// Where a server writes which ports it listens on, once it does.
const PORT_FILE: &str = "port";

pub struct Memcached {
    process: Process,
    directory: TempDir,
    pub port: u16,
    sasl: bool,
    arguments: Vec<String>,
}

impl Memcached {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Asks for [`USER`] and [`PASSWORD`].
    pub fn start_with_sasl() -> Self {
        Self::launch(true, &[])
    }

    /// With further arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::launch(false, arguments)
    }

    fn launch(sasl: bool, arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().copied().map(String::from).collect();
        let directory = tempfile::tempdir().unwrap();
        if sasl {
            write_sasl_files(&directory);
        }
        let start = |port| run(&directory, sasl, &arguments, port);
        let (process, port) = on_free_port("memcached", start, |_| listens(&directory));
        Self { process, directory, port, sasl, arguments }
    }

    /// Knows another user, with the same password.
    pub fn let_in(&self, user: &str) {
        write_user(&self.directory, user);
    }

    /// What `MEMCACHIER_SERVERS` says.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn stop(&self) {
        self.process.signal("STOP");
        wait_until("memcached stands still", || self.process.is_stopped());
    }

    pub fn go_on(&self) {
        self.process.signal("CONT");
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port, empty.
    pub fn restart(&mut self) {
        self.process.kill();
        let start = || run(&self.directory, self.sasl, &self.arguments, self.port);
        self.process = on_same_port("memcached", start, || listens(&self.directory));
    }

    /// A client that is not the program's own handling of the crate: one connection, used once.
    pub fn client(&self) -> memcache::Client {
        let login = if self.sasl { format!("{USER}:{PASSWORD}@") } else { String::new() };
        memcache::connect(format!("memcache://{login}{}?protocol=binary&timeout=5", self.address())).unwrap()
    }

    /// The keys of what it has once nothing is built any more, without a login only: whoever has built stores it, and
    /// lets go of their lock, in the background.
    pub fn keys(&self) -> Vec<String> {
        wait_until("nobody has a lock", || !self.keys_now().iter().any(|key| key.ends_with("~lock")));
        self.keys_now()
    }

    /// The keys of what it has, locks among them. Without a login only.
    pub fn keys_now(&self) -> Vec<String> {
        self.items().into_iter().map(|(key, _)| key).collect()
    }

    /// When it forgets a key, in Unix seconds; nothing if it has no such key, and -1 if never. Without a login only.
    pub fn end_of(&self, key: &str) -> Option<i64> {
        let end = |rest: &str| rest.split_once("exp=")?.1.split_once(' ')?.0.parse().ok();
        self.items().into_iter().find(|(item, _)| item == key).and_then(|(_, rest)| end(&rest))
    }

    /// The keys of what it has, each with what it says of it.
    fn items(&self) -> Vec<(String, String)> {
        let mut items = None;
        wait_until("memcached lists its keys", || {
            items = self.dump();
            items.is_some()
        });
        items.expect("it has listed them")
    }

    /// The same, unless memcached looks through its keys already, for itself or for another client.
    fn dump(&self) -> Option<Vec<(String, String)>> {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"lru_crawler metadump all\r\n").unwrap();
        let mut items = vec![];
        for line in BufReader::new(stream).lines().map(Result::unwrap) {
            if line == "END" {
                return Some(items);
            }
            if line.starts_with("BUSY") {
                return None;
            }
            let Some((key, rest)) = line.strip_prefix("key=").and_then(|item| item.split_once(' ')) else {
                continue;
            };
            items.push((percent_decode_str(key).decode_utf8().unwrap().into_owned(), rest.to_owned()));
        }
        None
    }

    /// Removes all keys that contain `mark`, as an eviction might, and returns how many.
    pub fn evict(&self, mark: &str) -> usize {
        let keys = self.keys().into_iter().filter(|key| key.contains(mark));
        keys.filter(|key| self.client().delete(key).unwrap()).count()
    }

    /// One of memcached's own counters, such as `get_hits`.
    pub fn stat(&self, name: &str) -> u64 {
        let (_, stats) = self.client().stats().unwrap().remove(0);
        stats[name].parse().unwrap()
    }
}

fn run(directory: &TempDir, sasl: bool, arguments: &[String], port: u16) -> Process {
    let mut command = Command::new(find("memcached"));
    command
        .args(["-u", "root", "-l", "127.0.0.1", "-U", "0", "-p", &port.to_string(), "-m", "64"])
        .args(arguments);
    command.env("MEMCACHED_PORT_FILENAME", directory.path().join(PORT_FILE));
    if sasl {
        command.arg("-S").env("SASL_CONF_PATH", directory.path());
    }
    // A server that was killed has left it behind.
    let _ = fs::remove_file(directory.path().join(PORT_FILE));
    Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()), directory.path())
}

/// Whether the server of this directory, and not another on the same port, says that it listens.
fn listens(directory: &TempDir) -> bool {
    directory.path().join(PORT_FILE).exists()
}

fn write_sasl_files(directory: &TempDir) {
    let settings = format!(
        "mech_list: plain\npwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {}\n",
        user_database(directory).display()
    );
    fs::write(directory.path().join("memcached.conf"), settings).unwrap();
    write_user(directory, USER);
}

fn write_user(directory: &TempDir, user: &str) {
    let mut command = Command::new(find("saslpasswd2"));
    command.args(["-p", "-c", "-a", "memcached", "-f"]).arg(user_database(directory)).arg(user);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn user_database(directory: &TempDir) -> PathBuf {
    directory.path().join("sasldb2")
}

#[cfg(test)]
mod tests {
    use super::*;

    // While it looks through them for one, it has only a word for the others.
    #[test]
    fn several_list_its_keys_at_once() {
        let memcached = Memcached::start();
        let sets: String = (0..20_000).map(|number| format!("set {number} 0 0 1 noreply\r\nx\r\n")).collect();
        let mut stream = TcpStream::connect(memcached.address()).unwrap();
        stream.write_all(sets.as_bytes()).unwrap();
        wait_until("all are stored", || memcached.stat("curr_items") == 20_000);
        std::thread::scope(|scope| {
            let lists: Vec<_> = (0..4).map(|_| scope.spawn(|| memcached.keys_now().len())).collect();
            assert!(lists.into_iter().all(|list| list.join().unwrap() == 20_000));
        });
    }
}
