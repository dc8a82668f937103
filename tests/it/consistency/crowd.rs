//! Who comes along while the list is read and written: guests who have sessions, browsers that keep pages, monitors,
//! and clients who do not behave.

use std::time::Duration;

use fastrand::Rng;
use reqwest::header::{self, HeaderMap};
use reqwest::{RequestBuilder, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::checker::Span;
use super::load::{Failure, Load, PATIENCE};
use crate::support::jar::Jar;
use testkit::http;

/// Between two requests of the same one, at most.
const PAUSE: Duration = Duration::from_millis(40);

/// How often a guest looks for a message before it is given up for lost.
const LOOKS: usize = 10;

/// How long somebody who does not behave stays.
const STAY: Duration = Duration::from_secs(2);

/// What a crowd has to tell.
#[derive(Default)]
pub struct Tale {
    pub requests: usize,
    pub failures: Vec<Failure>,
    /// What was not as it had been promised.
    pub broken: Vec<String>,
}

impl Tale {
    pub fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.failures.extend(other.failures);
        self.broken.extend(other.broken);
    }
}

/// Somebody with one connection to each process, who does one thing after the other.
struct Caller<'a> {
    load: &'a Load<'a>,
    http: reqwest::Client,
    rng: Rng,
    last: Sent,
    tale: Tale,
}

/// A request, to a process, and how long it took.
#[derive(Clone, Copy)]
struct Sent {
    instance: usize,
    span: Span,
    request: &'static str,
}

impl<'a> Caller<'a> {
    fn new(load: &'a Load<'a>, seed: u64) -> Self {
        let last = Sent { instance: 0, span: Span { begin: 0, end: 0 }, request: "" };
        Self { load, http: http(), rng: Rng::with_seed(seed), last, tale: Tale::default() }
    }

    /// Sends a request, `GET /path` or `POST /path`, to some process. Returns the answer if it has one of these
    /// statuses.
    async fn send(
        &mut self,
        request: &'static str,
        make: impl FnOnce(RequestBuilder) -> RequestBuilder,
        expected: &[u16],
    ) -> Option<Answer> {
        sleep(PAUSE.mul_f64(self.rng.f64())).await;
        let instance = self.rng.usize(..self.load.cluster.instances.len());
        let (method, path) = request.split_once(" /").unwrap();
        let url = format!("{}{path}", self.load.cluster.instances[instance].url);
        let builder = make(self.http.request(method.parse().unwrap(), url)).timeout(PATIENCE);
        let begin = self.load.now();
        let answer = async { Answer::read(builder.send().await?).await }.await;
        self.tale.requests += 1;
        self.last = Sent { instance, span: Span { begin, end: self.load.now() }, request };
        match answer {
            Ok(answer) if expected.contains(&answer.status) => return Some(answer),
            Ok(answer) => self.complain(self.last, answer.status.to_string()),
            Err(error) => self.complain(self.last, format!("{error:?}")),
        }
        None
    }

    fn complain(&mut self, of: Sent, answer: String) {
        let Sent { instance, span, request } = of;
        self.tale.failures.push(Failure { instance, span, request, answer });
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    async fn read(response: Response) -> reqwest::Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self { status, headers, body: response.text().await? })
    }

    /// The id of the task of this name.
    fn id_of(&self, name: &str) -> Option<String> {
        let cell = format!(r#"<td class="name">{name}</td>"#);
        let row = self.body.split(r#"<tr data-id=""#).skip(1).find(|row| row.contains(&cell))?;
        Some(row.split_once('"')?.0.to_owned())
    }
}

/// A guest: adds a task, removes it, puts it back and removes it for good, each at some process, and looks at another.
pub async fn visit(load: &Load<'_>, number: u64, is_over: impl Fn() -> bool) -> Tale {
    let mut guest = Guest { caller: Caller::new(load, number), jar: Jar::default() };
    for round in 0_u64.. {
        if is_over() {
            break;
        }
        let name = format!("Guest {number}.{round}");
        if guest.stay(&name).await.is_none() {
            guest.tidy(&name).await;
        }
        if round % 20 == 19 {
            guest.jar = Jar::default();
        }
    }
    guest.caller.tale
}

struct Guest<'a> {
    caller: Caller<'a>,
    jar: Jar,
}

impl Guest<'_> {
    async fn stay(&mut self, name: &str) -> Option<()> {
        self.post("POST /add", &[("name", name)]).await?;
        let id = self.look(name, true, "Added").await??;
        self.post("POST /remove", &[("id", &id)]).await?;
        self.look(name, false, "Removed").await?;
        self.post("POST /undo", &[]).await?;
        let id = self.look(name, true, "Put").await??;
        self.post("POST /remove", &[("id", &id)]).await?;
        Some(())
    }

    /// Removes what may have been left behind.
    async fn tidy(&mut self, name: &str) {
        for _ in 0..20 {
            let found =
                self.caller.send("GET /", |request| request, &[200]).await.map(|page| page.id_of(name));
            let is_tidy = match found {
                Some(Some(id)) => self.post("POST /remove", &[("id", &id)]).await.is_some(),
                Some(None) => true,
                None => false,
            };
            if is_tidy {
                return;
            }
            sleep(PAUSE * 10).await;
        }
    }

    async fn post(&mut self, request: &'static str, form: &[(&str, &str)]) -> Option<()> {
        let jar = self.jar.clone();
        let answer = self.caller.send(request, |request| jar.bring(request).form(form), &[303]).await?;
        self.jar.keep(&answer.headers);
        Some(())
    }

    /// Looks for the task and for what was said of it. The change was acknowledged, so it must be seen, wherever the
    /// guest looks. What was said must be told as well, unless the process that said it could not write it down; where
    /// one cannot read it, another tells it later. Returns the task's id if it was told, since what was not written
    /// down cannot be undone.
    async fn look(&mut self, name: &str, is_there: bool, said: &str) -> Option<Option<String>> {
        let (change, message) = (self.caller.last, format!("{said} “{name}”"));
        for _ in 0..LOOKS {
            let jar = self.jar.clone();
            let page = self.caller.send("GET /", |request| jar.bring(request), &[200]).await?;
            let id = page.id_of(name);
            if id.is_some() != is_there {
                self.caller.tale.broken.push(format!("after {message:?} the list was another"));
            }
            let is_told = page.body.contains(&message);
            self.jar.keep(&page.headers);
            if is_told {
                return Some(id);
            }
            sleep(PAUSE * 10).await;
        }
        self.caller.complain(change, format!("{message:?} was not told"));
        None
    }
}

/// Browsers that ask again for what they have, and those who watch the site.
pub async fn watch(load: &Load<'_>, number: u64, is_over: impl Fn() -> bool) -> Tale {
    const WATCHED: [&str; 5] =
        ["GET /healthz", "GET /readyz", "GET /apicalls", "GET /cache.json", "GET /metrics"];
    let mut caller = Caller::new(load, number);
    let mut tag: Option<String> = None;
    while !is_over() {
        let known = tag.clone();
        let revalidate = |request: RequestBuilder| {
            let request = request.header(header::ACCEPT_ENCODING, "identity");
            known.iter().fold(request, |request, tag| request.header(header::IF_NONE_MATCH, tag))
        };
        if let Some(answer) = caller.send("GET /", revalidate, &[200, 304]).await {
            tag = answer.headers.get(header::ETAG).map(|tag| tag.to_str().unwrap().to_owned()).or(tag);
        }
        let watched = WATCHED[caller.rng.usize(..WATCHED.len())];
        caller.send(watched, |request| request, &[200]).await;
    }
    caller.tale
}

/// Those who do not behave. They are promised nothing; the others must not notice them.
pub async fn annoy(load: &Load<'_>, number: u64, is_over: impl Fn() -> bool) {
    let mut rng = Rng::with_seed(number);
    while !is_over() {
        let instance = rng.usize(..load.cluster.instances.len());
        let url = &load.cluster.instances[instance].url;
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        // Whether a process that is just being killed lets them in is of no interest.
        let _ = timeout(STAY * 2, misbehave(address, &mut rng)).await;
        sleep(PAUSE).await;
    }
}

async fn misbehave(address: &str, rng: &mut Rng) -> std::io::Result<()> {
    let head = |line: &str| format!("{line} HTTP/1.1\r\nHost: {address}\r\n");
    let get = head("GET /") + "\r\n";
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: ";
    let mut stream = TcpStream::connect(address).await?;
    match rng.u8(..8) {
        0 => {
            let noise: Vec<u8> = (0..2000).map(|_| rng.u8(..)).collect();
            stream.write_all(&noise).await?;
            read_all(&mut stream).await
        }
        1 => {
            stream.write_all(head("GET /").as_bytes()).await?;
            sleep(STAY.mul_f64(rng.f64())).await;
            Ok(())
        }
        2 => {
            stream.write_all(get.repeat(50).as_bytes()).await?;
            read_all(&mut stream).await
        }
        3 => {
            let _ = timeout(STAY, stream.write_all(get.repeat(2000).as_bytes())).await;
            sleep(STAY.mul_f64(rng.f64())).await;
            Ok(())
        }
        4 => {
            let request = format!("{}{form}200000\r\n\r\n", head("POST /add"));
            stream.write_all(request.as_bytes()).await?;
            stream.write_all(&[b'x'; 200_000]).await?;
            read_all(&mut stream).await
        }
        5 => {
            let request = format!("{}{form}60000\r\n\r\n", head("POST /add"));
            stream.write_all(request.as_bytes()).await?;
            for _ in 0..rng.u8(1..40) {
                stream.write_all(b"x").await?;
                sleep(STAY / 40).await;
            }
            Ok(())
        }
        6 => {
            let crowd = futures_util::future::join_all((0..50).map(|_| TcpStream::connect(address))).await;
            sleep(STAY.mul_f64(rng.f64())).await;
            drop(crowd);
            Ok(())
        }
        _ => {
            let huge = format!("{}X-Huge: {}\r\n\r\n", head("GET /"), "x".repeat(600_000));
            stream.write_all(huge.as_bytes()).await?;
            read_all(&mut stream).await
        }
    }
}

/// Reads for a while what is said.
async fn read_all(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = timeout(STAY / 4, stream.read(&mut buffer)).await {
        if read? == 0 {
            break;
        }
    }
    Ok(())
}
