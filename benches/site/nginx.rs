//! nginx in front of the program, keeping its pages for a second: what an operator may put there in place of a cache of
//! the program's own. A page is up to a second old, and older while the next one is fetched.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::contest::Contestant;
use super::load::Target;
use super::process::{Process, find, wait_for};
use super::servers::free_port;

pub struct Nginx {
    process: Process,
    url: String,
    _directory: TempDir,
}

impl Nginx {
    /// Serves what a program serves.
    pub fn start(program: &str) -> Result<Self> {
        let (directory, port) = (tempfile::tempdir()?, free_port()?);
        let path = |name: &str| directory.path().join(name).display().to_string();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {};\n", path(what)))
            .concat();
        let configuration = format!(
            "daemon off;\nworker_processes auto;\npid {pid};\nerror_log {errors};\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}proxy_cache_path {pages} keys_zone=pages:1m;\n\
             server {{\nlisten 127.0.0.1:{port};\nkeepalive_requests 1000000000;\n\
             location / {{\nproxy_pass {program};\nproxy_http_version 1.1;\nproxy_set_header Connection \"\";\n\
             proxy_cache pages;\nproxy_cache_valid 200 1s;\nproxy_cache_lock on;\n\
             proxy_ignore_headers Cache-Control Vary;\n\
             proxy_cache_use_stale updating;\nproxy_cache_background_update on;\n}}\n}}\n}}\n",
            pid = path("pid"),
            errors = path("errors"),
            pages = path("pages"),
        );
        fs::write(path("nginx.conf"), configuration)?;
        let mut command = Command::new(find("nginx")?);
        command.args(["-e", &path("errors"), "-c", &path("nginx.conf")]);
        let process = Process::start(command.stdout(Stdio::null()).stderr(Stdio::inherit()))?;
        let address = format!("127.0.0.1:{port}");
        wait_for("nginx listens", || std::net::TcpStream::connect(&address).ok())
            .with_context(|| fs::read_to_string(path("errors")).unwrap_or_default())?;
        Ok(Self { process, url: format!("http://{address}/"), _directory: directory })
    }

    /// As a contestant that is asked the same.
    pub fn contestant(&self, target: &Target) -> Contestant {
        Contestant::new(Target { url: self.url.clone(), ..target.clone() }, &[self.process.id()])
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Told to stop, it ends its workers; killed, it would leave them behind.
        self.process.end_by("TERM");
    }
}
