//! The program, run as a user runs it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tempfile::TempDir;

use super::mistaken;
use testkit::http;
use testkit::memcached::{Memcached, PASSWORD, USER};
use testkit::page::Page;
use testkit::process::{Process, find};
use testkit::terminal::Terminal;
use testkit::wait_until;

pub const BINARY: &str = env!("CARGO_BIN_EXE_tasklist");

/// One server. Its environment is what the test gives it and nothing else.
pub struct App {
    process: Process,
    output: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
    pub url: String,
    http: reqwest::Client,
    _directory: Arc<TempDir>,
}

/// Variables for one or more servers, which share a directory and so a SQLite file.
#[derive(Clone)]
pub struct Settings {
    program: &'static Path,
    /// A command that runs the program which follows it, if there is one.
    by: Vec<String>,
    variables: Vec<(String, String)>,
    directory: Arc<TempDir>,
}

impl Settings {
    pub fn new() -> Self {
        Self {
            program: Path::new(BINARY),
            by: vec![],
            variables: vec![("PORT".into(), "0".into())],
            directory: Arc::new(tempfile::tempdir().unwrap()),
        }
        .with("HOST", "127.0.0.1")
    }

    /// Without the variables that keep servers of tests apart: for what a platform sets and nothing else.
    pub fn empty() -> Self {
        Self { variables: vec![], ..Self::new() }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// With all that production demands but a database.
    pub fn in_production(self) -> Self {
        self.with("DEVELOPMENT_MODE", "False")
            .with("SECRET_KEY", "a secret key of the tests, which is long enough")
    }

    pub fn with_memcached(self, server: &Memcached) -> Self {
        self.with("MEMCACHIER_SERVERS", &server.address())
    }

    pub fn with_login(self, server: &Memcached) -> Self {
        self.with_memcached(server).with("MEMCACHIER_USERNAME", USER).with("MEMCACHIER_PASSWORD", PASSWORD)
    }

    /// Lets the program make a mistake, of those in `src/mistake.rs` and `crates/neverstale/src/mistake.rs`.
    pub fn with_mistake(self, mistake: &str) -> Self {
        Self { program: mistaken::program(), ..self }.with("TASKLIST_MISTAKE", mistake)
    }

    /// Has the program run by another command, such as `nsenter`.
    pub fn run_by(self, command: &[&str]) -> Self {
        Self { by: command.iter().copied().map(String::from).collect(), ..self }
    }

    /// Lets the program have so many files open.
    pub fn with_files(self, files: u32) -> Self {
        self.run_by(&["/bin/sh", "-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")])
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let program = self.program.to_str().unwrap();
        let mut words = self.by.iter().map(String::as_str).chain([program]).chain(arguments.iter().copied());
        let mut command = Command::new(words.next().unwrap());
        command.args(words).current_dir(self.directory()).env_clear();
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that gets lines to read, to its end.
    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(arguments);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        // A command that has ended reads no more, as is its right.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// Opens a command on a terminal.
    pub fn on_terminal(&self, arguments: &[&str]) -> Terminal {
        Terminal::open(&self.command(arguments), self.directory())
    }

    /// Runs a command whose standard output nobody reads.
    pub fn run_into_closed_pipe(&self, arguments: &[&str]) -> Output {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        self.run_into(writer, arguments)
    }

    /// Runs a command whose standard output goes elsewhere.
    pub fn run_into(&self, output: impl Into<Stdio>, arguments: &[&str]) -> Output {
        self.command(arguments).stdout(output).output().unwrap()
    }

    /// A line as a platform runs it: by a shell that becomes the program, and so gets its signals.
    pub fn shell(&self, line: &str) -> Command {
        let mut command = Command::new(find("bash"));
        command.args(["-c", line]).current_dir(self.directory()).env_clear();
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the server, and waits for nothing.
    pub fn start(&self) -> Process {
        Process::start(self.command(&["serve"]).stdout(Stdio::null()), self.directory())
    }

    /// Starts the server and waits until it serves.
    pub fn serve(&self) -> App {
        self.serve_by(self.command(&["serve"]))
    }

    /// As [`serve`](Self::serve), by a command of another form.
    pub fn serve_by(&self, mut command: Command) -> App {
        let mut process =
            Process::start(command.stdout(Stdio::piped()).stderr(Stdio::inherit()), self.directory());
        let output = Arc::new(Mutex::new(String::new()));
        let (lines, sink) =
            (BufReader::new(process.child().stdout.take().unwrap()).lines(), Arc::clone(&output));
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *sink.lock().unwrap() += &(line + "\n");
            }
        });
        wait_until("the app says what it runs on", || url_in(&output.lock().unwrap()).is_some());
        let url = url_in(&output.lock().unwrap()).unwrap();
        App { process, output, reader, url, http: http(), _directory: Arc::clone(&self.directory) }
    }
}

/// Where an app serves that has said all that it says at its start, in lines or in JSON.
fn url_in(output: &str) -> Option<String> {
    let said = output.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    if let Some(serving) = said.into_iter().find(|line| line["message"] == "serving") {
        return Some(serving["url"].as_str().unwrap().to_owned());
    }
    let address = output.lines().find_map(|line| line.strip_prefix("  address   "))?;
    output.contains("\n  sessions").then(|| address.to_owned())
}

impl App {
    /// SQLite in a directory of its own and the cache in the process: what `cargo run` gives.
    pub fn start() -> Self {
        Settings::new().serve()
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches('/')
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().unwrap();
        self.http.request(method, format!("{}{}", self.url, path.trim_start_matches('/')))
    }

    pub async fn get(&self, path: &str) -> Page {
        Page::read(self.request("GET", path)).await
    }

    /// As [`get`](Self::get), under the name that the router in front of all processes has.
    pub async fn get_from(&self, host: &str, path: &str) -> Page {
        Page::read(self.request("GET", path).header("host", host)).await
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Page {
        Page::read(self.request("POST", path).form(form)).await
    }

    /// One of the numbers in `/metrics`, by its series as it is written there.
    pub async fn metric(&self, series: &str) -> u64 {
        let page = self.get("/metrics").await;
        let number = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        page.body.lines().find_map(number).unwrap_or_else(|| panic!("no {series} in {}", page.body))
    }

    /// Adds a task and returns the page the browser is led to.
    pub async fn add(&self, name: &str) -> Page {
        self.follow(self.post("/add", &[("name", name)]).await).await
    }

    /// Removes the task of this name from the page, by the form beside it.
    pub async fn remove(&self, page: &Page, name: &str) -> Page {
        self.follow(self.post("/remove", &[("id", &page.id_of(name))]).await).await
    }

    async fn follow(&self, page: Page) -> Page {
        assert_eq!(page.status, 303, "{}", page.body);
        self.get(page.header("location").unwrap()).await
    }

    /// Asks it to stop as a platform does, and waits. It goes on serving for a second.
    pub fn terminate(self) -> (ExitStatus, String) {
        self.signal("TERM");
        self.ended()
    }

    /// Asks it to stop as Ctrl-C does, and waits.
    pub fn interrupt(self) -> (ExitStatus, String) {
        self.signal("INT");
        self.ended()
    }

    /// Waits for its end, and returns all that it has printed.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let status = self.process.wait();
        // What it said last is read when all of it is.
        self.reader.join().unwrap();
        let output = self.output.lock().unwrap().clone();
        (status, output)
    }

    /// The most memory that it has had at once, in bytes.
    pub fn peak_memory(&self) -> usize {
        self.process.peak_memory()
    }

    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// How much memory it holds, in bytes.
    pub fn memory(&self) -> usize {
        self.process.memory()
    }

    /// Ends it in the middle of what it does.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// The number of the user that it runs as.
    pub fn owner(&self) -> u32 {
        self.process.owner()
    }
}
