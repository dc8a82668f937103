//! A client of one connection that stays open, for what is timed or looked at request by request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};

use super::process::PATIENCE;

pub struct Client {
    stream: BufReader<TcpStream>,
    host: String,
}

/// An answer, as it came.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Client {
    /// Connects to `http://host:port/`.
    pub fn connect(url: &str) -> Result<Self> {
        let host = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let stream = TcpStream::connect(&host)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::with_capacity(256 * 1024, stream), host })
    }

    pub fn get(&mut self, path: &str, headers: &[String]) -> Result<Answer> {
        self.ask("GET", path, headers, "")
    }

    /// Sends a form, as a browser does from the site's own page.
    pub fn post(&mut self, path: &str, headers: &[String], form: &str) -> Result<Answer> {
        let mut all = vec![FORM.to_owned(), SAME_ORIGIN.to_owned()];
        all.extend_from_slice(headers);
        self.ask("POST", path, &all, form)
    }

    fn ask(&mut self, method: &str, path: &str, headers: &[String], body: &str) -> Result<Answer> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.host);
        for header in headers {
            request += &format!("{header}\r\n");
        }
        if method == "POST" {
            request += &format!("content-length: {}\r\n", body.len());
        }
        request += &format!("\r\n{body}");
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.read()
    }

    fn read(&mut self) -> Result<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            ensure!(self.stream.read_line(&mut head)? > 0, "the connection ends within a head: {head}");
        }
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        let mut answer = Answer { status: status.with_context(|| head.clone())?, head, body: vec![] };
        let length = answer.header("content-length").map_or(Ok(0), str::parse)?;
        ensure!(answer.header("transfer-encoding").is_none(), "an answer in chunks");
        // What the head of a 304 tells is the length of what is not sent.
        answer.body.resize(if answer.status == 304 { 0 } else { length }, 0);
        self.stream.read_exact(&mut answer.body)?;
        Ok(answer)
    }
}

/// What a browser says of a form of the site's own.
pub const FORM: &str = "content-type: application/x-www-form-urlencoded";
pub const SAME_ORIGIN: &str = "sec-fetch-site: same-origin";

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Whether it says that it comes from the cache.
    pub fn is_hit(&self) -> bool {
        self.header("cache-status").is_some_and(|status| status.contains("; hit"))
    }

    /// How many bytes it is.
    pub fn length(&self) -> usize {
        self.head.len() + self.body.len()
    }
}
