//! Three processes, two memcached and a database, with a line from each process to each server.

use std::sync::{Mutex, MutexGuard};

use super::UNCACHED;
use super::stored::Stored;
use crate::support::app::{App, Settings};
use testkit::free_port;
use testkit::line::Line;
use testkit::memcached::{Memcached, PASSWORD};

/// The processes, by the names with which they log in to memcached: that is how a server's lines know them apart.
const PROCESSES: [&str; 3] = ["process-a", "process-b", "process-c"];
const SERVERS: usize = 2;

pub struct Cluster {
    pub instances: Vec<Instance>,
    pub servers: Vec<Mutex<Memcached>>,
    pub database: Stored,
}

/// A process that can be killed and comes back at the same address.
pub struct Instance {
    settings: Settings,
    app: Mutex<Option<App>>,
    pub url: String,
    pub to_database: Line,
    /// Whether anything passes on that line.
    pub has_line: bool,
    /// By server.
    pub to_memcached: Vec<Line>,
}

impl Cluster {
    pub async fn start(strategy: &str) -> Self {
        Self::start_with(strategy, &[]).await
    }

    /// With further variables.
    pub async fn start_with(strategy: &str, variables: &[(&str, &str)]) -> Self {
        let database = Stored::from_environment().await;
        let servers: Vec<_> = (0..SERVERS).map(|_| Memcached::start_with_sasl()).collect();
        let mut to_memcached = vec![];
        for server in &servers {
            PROCESSES.iter().for_each(|process| server.let_in(process));
            to_memcached.push(Line::start(server.address(), &PROCESSES).await);
        }
        let mut instances = vec![];
        for (index, process) in PROCESSES.iter().enumerate() {
            let to_memcached: Vec<_> = to_memcached.iter().map(|lines| lines[index].clone()).collect();
            let addresses: Vec<_> = to_memcached.iter().map(|line| line.address.to_string()).collect();
            let to_database = Line::start(database.address(), &[""]).await.remove(0);
            let settings = Settings::new()
                .with("DATABASE_URL", &database.url_through(to_database.address))
                .with("MEMCACHIER_SERVERS", &addresses.join(","))
                .with("MEMCACHIER_USERNAME", process)
                .with("MEMCACHIER_PASSWORD", PASSWORD)
                .with("RUST_LOG", "warn");
            let settings =
                variables.iter().fold(settings, |settings, (name, value)| settings.with(name, value));
            let is_strategy = strategy != UNCACHED;
            let settings = if is_strategy { settings.with("CACHE_STRATEGY", strategy) } else { settings };
            instances.push(Instance::start(settings, to_database, database.is_server(), to_memcached));
        }
        Self { instances, servers: servers.into_iter().map(Mutex::new).collect(), database }
    }

    pub fn server(&self, index: usize) -> MutexGuard<'_, Memcached> {
        self.servers[index].lock().unwrap()
    }

    /// How often the list was asked of Postgres by all processes.
    pub fn list_queries(&self) -> usize {
        self.instances.iter().map(|instance| instance.to_database.list_queries()).sum()
    }

    /// Ends the processes, which must end well.
    pub fn stop(&self) {
        self.instances.iter().for_each(|instance| instance.signal("INT"));
        for instance in &self.instances {
            let (status, output) = instance.app.lock().unwrap().take().unwrap().ended();
            assert!(status.success(), "{status}: {output}");
        }
    }
}

impl Instance {
    fn start(settings: Settings, to_database: Line, has_line: bool, to_memcached: Vec<Line>) -> Self {
        // One that nobody else takes while it restarts.
        let settings = settings.with("PORT", &free_port().to_string());
        let app = settings.serve();
        let url = app.url.clone();
        Self { settings, url, app: Mutex::new(Some(app)), to_database, has_line, to_memcached }
    }

    pub fn signal(&self, name: &str) {
        self.app.lock().unwrap().as_ref().unwrap().signal(name);
    }

    /// How much memory the process holds, in bytes.
    pub fn memory(&self) -> usize {
        self.app.lock().unwrap().as_ref().unwrap().memory()
    }

    /// Kills the process, without a word to anybody, and starts it again.
    pub fn restart(&self) {
        let mut app = self.app.lock().unwrap();
        drop(app.take());
        *app = Some(self.settings.serve());
    }
}
