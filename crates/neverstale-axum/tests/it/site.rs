//! A site of one view, whose answers a test chooses, and which it can hold.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, header};
use axum::response::Response;
use neverstale::{Cache, CacheOptions, Ttl};
use neverstale_axum::{CachePageLayer, PageCache};
use tokio::sync::{Semaphore, mpsc};
use tower::Layer;

use super::{Answer, around, ask};
use testkit::stores::Store;
use testkit::{PATIENCE, eventually, within_reason};

pub const MINUTE: Ttl = Ttl::After(Duration::from_secs(60));

type Respond = Arc<dyn Fn(usize, &Request<Body>) -> Response + Send + Sync>;

/// A view that counts its runs.
#[derive(Clone)]
pub struct View {
    respond: Respond,
    runs: Arc<AtomicUsize>,
    gate: Arc<Mutex<Option<Gate>>>,
}

#[derive(Clone)]
struct Gate {
    begun: mpsc::UnboundedSender<usize>,
    ends: Arc<Semaphore>,
}

/// Runs of a view that wait until they are let go.
pub struct Held {
    begun: mpsc::UnboundedReceiver<usize>,
    ends: Arc<Semaphore>,
}

impl View {
    pub fn new(respond: impl Fn(usize, &Request<Body>) -> Response + Send + Sync + 'static) -> Self {
        Self { respond: Arc::new(respond), runs: Arc::default(), gate: Arc::default() }
    }

    /// Answers as the view would in this run of it.
    pub fn respond(&self, run: usize, request: &Request<Body>) -> Response {
        (self.respond)(run, request)
    }

    pub async fn answer(self, request: Request<Body>) -> Response {
        let run = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        let gate = self.gate.lock().unwrap().clone();
        // Made now, so that what is held is what was true then.
        let response = (self.respond)(run, &request);
        if let Some(gate) = gate {
            gate.begun.send(run).ok();
            gate.ends.acquire().await.unwrap().forget();
        }
        response
    }
}

impl Held {
    /// Waits until a run has begun.
    pub async fn begun(&mut self) -> usize {
        within_reason("a run begins", self.begun.recv()).await.unwrap()
    }

    /// Lets so many runs end.
    pub fn end(&self, count: usize) {
        self.ends.add_permits(count);
    }
}

/// Options whose `max_wait` is longer than any test waits, so that a caller that goes on has been woken.
fn patient() -> CacheOptions {
    CacheOptions::default().max_wait(10 * PATIENCE)
}

/// A view behind the layer, as one process has it.
#[derive(Clone)]
pub struct Site {
    pub view: View,
    pub cache: Cache,
    pub pages: PageCache,
    router: Router,
}

impl Site {
    /// Puts the layer around a view on a store.
    pub fn new(store: &Store, view: View) -> Self {
        Self::with(store, view, |layer| layer)
    }

    /// As [`new`](Self::new), for a layer with other settings.
    pub fn with(store: &Store, view: View, set: impl Fn(CachePageLayer) -> CachePageLayer) -> Self {
        Self::over(Cache::new(store.backend.clone(), patient()), view, set)
    }

    /// As [`new`](Self::new), under a prefix of keys.
    pub fn prefixed(store: &Store, view: View, prefix: &str) -> Self {
        let cache = Cache::new(store.backend.clone(), patient());
        let pages = PageCache::new(&cache).key_prefix(prefix);
        Self { router: around(&view, pages.cache_page(MINUTE)), view, cache, pages }
    }

    pub fn over(cache: Cache, view: View, set: impl Fn(CachePageLayer) -> CachePageLayer) -> Self {
        let pages = PageCache::new(&cache);
        let layer = set(pages.cache_page(MINUTE));
        Self { router: around(&view, layer), view, cache, pages }
    }

    /// As [`over`](Self::over), with copies in the process.
    pub fn with_copies(cache: Cache, view: View) -> Self {
        let pages = PageCache::new(&cache).with_local_copies(1 << 20);
        Self::over(cache, view, |_| pages.cache_page(MINUTE)).replayed(&pages)
    }

    /// Puts the replay of these pages around it. A page may depend on the language.
    pub fn replayed(self, pages: &PageCache) -> Self {
        let replay = pages.replay_layer(|_| true).vary_on([header::ACCEPT_LANGUAGE]);
        Self { router: Router::new().fallback_service(replay.layer(self.router)), ..self }
    }

    /// The same view in another process.
    pub fn elsewhere(&self, store: &Store) -> Self {
        let cache = Cache::new(store.other.clone(), CacheOptions::default());
        Self::over(cache, self.view.clone(), |layer| layer)
    }

    pub async fn ask(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> Answer {
        ask(&self.router, method, target, headers).await
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.ask(Method::GET, target, &[]).await
    }

    pub async fn get_with(&self, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(Method::GET, target, headers).await
    }

    /// Asks without waiting.
    pub fn begin(&self, target: &'static str, headers: &'static [(&str, &str)]) -> Pending {
        let site = self.clone();
        Pending(tokio::spawn(async move { site.get_with(target, headers).await }))
    }

    /// As [`begin`](Self::begin), and waits until it has found nothing, and so waits for whoever builds the page.
    pub async fn begin_in_line(&self, target: &'static str) -> Pending {
        let misses = || self.cache.stats().iter().map(|stats| stats.misses).sum::<u64>();
        let before = misses();
        let asked = self.begin(target, &[]);
        eventually("it has found nothing", async || misses() > before).await;
        asked
    }

    /// Begins a request whose run waits to be ended. Later runs do not wait.
    pub async fn begin_held(&self, target: &'static str) -> (Held, Pending) {
        let mut held = self.hold();
        let asked = self.begin(target, &[]);
        held.begun().await;
        self.let_go();
        (held, asked)
    }

    pub fn runs(&self) -> usize {
        self.view.runs.load(Ordering::SeqCst)
    }

    /// From now on runs wait.
    pub fn hold(&self) -> Held {
        let (begun, received) = mpsc::unbounded_channel();
        let ends = Arc::new(Semaphore::new(0));
        *self.view.gate.lock().unwrap() = Some(Gate { begun, ends: ends.clone() });
        Held { begun: received, ends }
    }

    /// From now on runs do not wait.
    pub fn let_go(&self) {
        *self.view.gate.lock().unwrap() = None;
    }
}

/// A request under way.
pub struct Pending(pub tokio::task::JoinHandle<Answer>);

impl Pending {
    pub async fn answer(self) -> Answer {
        within_reason("there is an answer", self.0).await.unwrap()
    }
}

/// A view that says which run it is, with these headers.
pub fn numbered(headers: &'static [(&'static str, &'static str)]) -> View {
    View::new(move |run, _| with(headers, format!("run {run}")))
}

/// A view that says which run it is, what it was asked, and one header of the request.
pub fn echoing(header: &'static str, headers: &'static [(&'static str, &'static str)]) -> View {
    View::new(move |run, request| {
        let value = request.headers().get(header).map_or("none", |value| value.to_str().unwrap());
        with(headers, format!("run {run} for {value}"))
    })
}

pub fn with(headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::builder();
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}
