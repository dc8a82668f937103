//! nginx with the site that is documented, on ports and with a certificate of a test's own.

use std::fs;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::structure::read;
use testkit::authority::Authority;
use testkit::free_port;
use testkit::port::on_free_port;
use testkit::process::{Process, find, is_root};

pub struct Nginx {
    process: Process,
    _directory: TempDir,
    authority: Authority,
    port: u16,
}

impl Nginx {
    /// Serves what the processes on these ports serve, with changes made to the documented site.
    pub fn start(ports: [u16; 2], change: impl FnOnce(String) -> String) -> Self {
        let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new("ours"));
        let path = |name: &str| directory.path().join(name).display().to_string();
        let (certificate, key) = authority.certify("localhost");
        fs::write(path("certificate.pem"), certificate).unwrap();
        fs::write(path("key.pem"), key).unwrap();

        let mut site = change(read("deploy/nginx.conf"));
        for (documented, ours) in [
            ("127.0.0.1:8001", format!("127.0.0.1:{}", ports[0])),
            ("127.0.0.1:8002", format!("127.0.0.1:{}", ports[1])),
            ("/etc/letsencrypt/live/tasks.example.com/fullchain.pem", path("certificate.pem")),
            ("/etc/letsencrypt/live/tasks.example.com/privkey.pem", path("key.pem")),
            ("tasks.example.com", "localhost".into()),
        ] {
            assert!(site.contains(documented), "{documented}");
            site = site.replace(documented, &ours);
        }
        fs::write(path("nginx.conf"), around(&path)).unwrap();
        let start = |port| {
            let mut site = site.clone();
            for (documented, ours) in [
                ("listen 80;", format!("listen 127.0.0.1:{};", free_port())),
                ("listen 443 ssl;", format!("listen 127.0.0.1:{port} ssl;")),
            ] {
                assert!(site.contains(documented), "{documented}");
                site = site.replace(documented, &ours);
            }
            fs::write(path("site"), site).unwrap();
            let mut command = Command::new(find("nginx"));
            command.args(["-e", &path("errors"), "-c", &path("nginx.conf")]);
            Process::start(command.stdout(Stdio::null()).stderr(Stdio::inherit()), directory.path())
        };
        // It writes down its number once it listens.
        let listens = |_| fs::read_to_string(path("pid")).is_ok_and(|pid| pid.ends_with('\n'));
        let (process, port) = on_free_port("nginx", start, listens);
        Self { process, _directory: directory, authority, port }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// A client that trusts it and keeps its connections.
    pub fn client(&self) -> reqwest::Client {
        testkit::http_trusting(self.authority.roots())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Told to stop, it ends its workers; killed, it would leave them behind.
        self.process.signal("TERM");
        self.process.wait();
    }
}

/// The configuration around the site, with all files in a directory of its own.
fn around(path: &impl Fn(&str) -> String) -> String {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {};\n", path(what)))
        .concat();
    // Only root may ask for a user, and else its workers might not read what root has written.
    let user = if is_root() { "user root;\n" } else { "" };
    format!(
        "daemon off;\n{user}worker_processes 2;\npid {};\nerror_log {};\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}include {};\n}}\n",
        path("pid"),
        path("errors"),
        path("site"),
    )
}
