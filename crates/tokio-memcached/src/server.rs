//! One server, driven by one task: it connects when there is work, marks the server down when it fails, and tries it
//! again until it answers.
//!
//! Requests to a server are executed in the order in which they were queued, as far as they are executed at all: there
//! is one connection at a time, and the next is made after the one before was closed. A connection that failed is
//! closed so that the system forgets what it has not delivered. What the server's system had received by then the
//! server may still execute; it does so when it next looks at that connection.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::connect::{self, Stream};
use super::connection::{Connection, End};
use super::error::{Error, ErrorKind, Failure};
use super::limits::{Limits, later, whole_call};
use super::options::{Options, ServerAddress};
use super::protocol::{Request, Response};
use super::stats::{Counters, ServerStats};
use super::work::{Queued, Work};

/// Work waiting for one server; a caller that finds the queue full waits for room.
const LONGEST_QUEUE: usize = 4096;

/// The longest pause between two attempts to authenticate again with a server that goes on refusing commands.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The callers' side of a server.
#[derive(Clone)]
pub(super) struct Server {
    queue: mpsc::Sender<Queued>,
    shared: Arc<Shared>,
}

/// What callers and the task share.
struct Shared {
    address: ServerAddress,
    name: Arc<str>,
    operation_timeout: Duration,
    counters: Counters,
    is_back: Notify,
}

impl Server {
    /// Starts the server's task, which ends with the last clone of this.
    pub(super) fn start(address: ServerAddress, options: &Arc<Options>) -> Self {
        let (queue, work) = mpsc::channel(LONGEST_QUEUE);
        let shared = Arc::new(Shared {
            name: address.to_string().into(),
            address,
            operation_timeout: options.operation_timeout,
            counters: Counters::default(),
            is_back: Notify::new(),
        });
        let task = Task {
            options: Arc::clone(options),
            queue: work,
            shared: Arc::clone(&shared),
            authentication: Authentication::new(options.retry_interval),
        };
        tokio::spawn(task.run());
        Self { queue, shared }
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    pub(super) fn address(&self) -> &ServerAddress {
        &self.shared.address
    }

    pub(super) fn stats(&self) -> ServerStats {
        self.shared.counters.snapshot(&self.shared.address)
    }

    /// Makes an error of what went wrong before anything was sent.
    pub(super) fn unwritten(&self, kind: ErrorKind) -> Error {
        self.error(Failure::unwritten(kind))
    }

    /// Makes an error of a response that is none, and counts it.
    pub(super) fn refused(&self, kind: ErrorKind) -> Error {
        self.shared.counters.errors.add(1);
        self.shared.counters.failed(&kind);
        self.error(Failure::written(kind))
    }

    fn error(&self, failure: Failure) -> Error {
        Error::new(failure, &self.shared.name, self.shared.counters.outage())
    }

    /// Waits until the server is not marked down.
    pub(super) async fn until_up(&self) {
        loop {
            let is_back = self.shared.is_back.notified();
            if !self.shared.is_down() {
                return;
            }
            is_back.await;
        }
    }

    pub(super) async fn one(&self, request: Request) -> Result<Response, Error> {
        let (answer, response) = oneshot::channel();
        self.ask(1, Work::One(request, answer), response).await
    }

    pub(super) async fn quiet(&self, requests: Vec<Request>) -> Result<Vec<(usize, Response)>, Error> {
        let (answers, responses) = oneshot::channel();
        self.ask(requests.len() - 1, Work::Quiet(requests, answers), responses).await
    }

    pub(super) async fn stat(&self, request: Request) -> Result<Vec<(usize, Response)>, Error> {
        let (answers, responses) = oneshot::channel();
        self.ask(1, Work::Stat(request, answers), responses).await
    }

    async fn ask<T>(
        &self,
        operations: usize,
        work: Work,
        answer: oneshot::Receiver<Result<T, Failure>>,
    ) -> Result<T, Error> {
        let counters = &self.shared.counters;
        counters.operations.add(operations);
        let started = Instant::now();
        let result = match self.shared.is_down() {
            true => Err(Failure::unwritten(ErrorKind::Down)),
            false => self.queue_and_wait(work, answer).await,
        };
        if result.is_ok() {
            counters.took(started.elapsed());
        }
        result.map_err(|failure| {
            counters.errors.add(1);
            if failure.kind != ErrorKind::Down {
                counters.failed(&failure.kind);
            }
            counters.timeouts.add(usize::from(matches!(failure.kind, ErrorKind::Timeout(_))));
            self.error(failure)
        })
    }

    async fn queue_and_wait<T>(
        &self,
        work: Work,
        answer: oneshot::Receiver<Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let gone = || ErrorKind::Closed("the client's task is gone".into());
        let (queued, limit) = (Queued::new(work), self.shared.operation_timeout);
        let started = queued.since;
        let Ok(room) = timeout_at(later(started, limit), self.queue.reserve()).await else {
            return Err(Failure::unwritten(ErrorKind::Timeout(limit)));
        };
        room.map_err(|_| Failure::unwritten(gone()))?.send(queued);
        let limit = whole_call(limit);
        // How far it went is not known here: the task, which knows, has had time enough to say it.
        let answer = timeout_at(later(started, limit), answer).await;
        let answer = answer.map_err(|_| Failure::written(ErrorKind::Timeout(limit)))?;
        answer.map_err(|_| Failure::written(gone()))?
    }
}

impl Shared {
    fn is_down(&self) -> bool {
        self.counters.is_down.load(Ordering::Relaxed)
    }

    fn set_down(&self, is_down: bool) {
        self.counters.is_down.store(is_down, Ordering::Relaxed);
        if !is_down {
            self.is_back.notify_waiters();
        }
    }
}

/// When a server that refuses commands for want of authentication is authenticated with again.
struct Authentication {
    retry_interval: Duration,
    pause: Duration,
    not_before: Instant,
}

impl Authentication {
    fn new(retry_interval: Duration) -> Self {
        Self { retry_interval, pause: Duration::ZERO, not_before: Instant::now() }
    }

    /// Notes an attempt. If it follows soon after the one before, that one has not helped: the user may authenticate,
    /// and may not use some command. The pauses grow then, so that such a user does not reconnect without end.
    fn begin(&mut self) {
        let now = Instant::now();
        let is_soon = now < later(self.not_before, self.pause);
        self.pause =
            if is_soon { self.pause.saturating_mul(2).min(LONGEST_PAUSE) } else { self.retry_interval };
        self.not_before = later(now, self.pause);
    }
}

/// The other end of the queue.
struct Task {
    options: Arc<Options>,
    queue: mpsc::Receiver<Queued>,
    shared: Arc<Shared>,
    authentication: Authentication,
}

impl Task {
    async fn run(mut self) {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                let Some(first) = self.queue.recv().await else { return };
                waiting.push_back(first);
            }
            let mut connected = self.connect(&mut waiting).await;
            loop {
                let (cause, pause) = match connected {
                    Err(cause) => (cause, self.options.retry_interval),
                    Ok(stream) => match self.serve(stream, &mut waiting).await {
                        None => break,
                        Some(ErrorKind::Authentication) => {
                            self.authentication.begin();
                            (ErrorKind::Authentication, Duration::ZERO)
                        }
                        Some(cause) => (cause, self.options.retry_interval),
                    },
                };
                self.mark_down(&cause, &mut waiting);
                let Some(stream) = self.wait_until_back(pause).await else { return };
                connected = Ok(stream);
            }
        }
    }

    /// Connects. What waits meanwhile is not made to wait longer than a response may take.
    async fn connect(&mut self, waiting: &mut VecDeque<Queued>) -> Result<Box<dyn Stream>, ErrorKind> {
        let (options, shared) = (Arc::clone(&self.options), Arc::clone(&self.shared));
        let limit = options.operation_timeout;
        // Some of the time may have been spent on a connection that was lost while it was idle.
        let earliest = later(Instant::now(), limit / 2);
        let deadline = waiting.front().map_or(earliest, |first| later(first.since, limit).max(earliest));
        let mut attempt = pin!(establish(&options, &shared));
        tokio::select! {
            result = &mut attempt => return result,
            () = sleep_until(deadline) => {}
        }
        self.mark_down(&ErrorKind::Timeout(limit), waiting);
        attempt.await
    }

    /// Serves a connection to its end. Returns why the server must be marked down, if so: a connection that was closed
    /// is simply made again.
    async fn serve(&mut self, stream: Box<dyn Stream>, waiting: &mut VecDeque<Queued>) -> Option<ErrorKind> {
        if self.shared.is_down() {
            self.shared.set_down(false);
            tracing::info!(memcached.server = %self.shared.name, "memcached answers again");
        }
        self.shared.counters.connections.add(1);
        let limits = Limits::new(&self.options);
        let connection = Connection::new(stream, limits, self.authentication.not_before);
        let End { cause, unwritten } = connection.run(std::mem::take(waiting), &mut self.queue).await;
        if !matches!(cause, Some(ErrorKind::Closed(_))) {
            *waiting = unwritten;
            return cause;
        }
        // Once: a server that hangs up again and again is not worth waiting for.
        for queued in unwritten {
            if queued.was_returned {
                queued.fail(ErrorKind::Closed("again before anything could be written".into()));
            } else {
                waiting.push_back(Queued { was_returned: true, ..queued });
            }
        }
        None
    }

    fn mark_down(&mut self, cause: &ErrorKind, waiting: &mut VecDeque<Queued>) {
        self.shared.counters.failed(cause);
        if !self.shared.is_down() {
            tracing::warn!(memcached.server = %self.shared.name, "memcached is left out: {cause}");
            self.shared.set_down(true);
        }
        waiting.drain(..).for_each(|queued| queued.fail(cause.clone()));
        while let Ok(queued) = self.queue.try_recv() {
            queued.fail(ErrorKind::Down);
        }
    }

    /// Tries again until the server answers; none if the client is gone.
    async fn wait_until_back(&mut self, pause: Duration) -> Option<Box<dyn Stream>> {
        let (options, shared) = (Arc::clone(&self.options), Arc::clone(&self.shared));
        let mut attempts = pin!(try_until_back(&options, &shared, pause));
        loop {
            tokio::select! {
                stream = &mut attempts => return Some(stream),
                // It got into the queue just before the server was marked down.
                queued = self.queue.recv() => queued?.fail(ErrorKind::Down),
            }
        }
    }
}

/// Tries to connect, the first time after this pause, until the server answers.
async fn try_until_back(options: &Options, shared: &Shared, mut pause: Duration) -> Box<dyn Stream> {
    loop {
        sleep(pause).await;
        // An interval of zero must not keep the processor busy.
        pause = options.retry_interval.max(Duration::from_millis(1));
        match establish(options, shared).await {
            Ok(stream) => return stream,
            Err(cause) => {
                shared.counters.failed(&cause);
                tracing::debug!(memcached.server = %shared.name, "still left out: {cause}");
            }
        }
    }
}

/// Connects, authenticates, and sees that the server answers.
async fn establish(options: &Options, shared: &Shared) -> Result<Box<dyn Stream>, ErrorKind> {
    let attempt = async {
        let mut stream = connect::connect(options, &shared.address).await?;
        if let Some(credentials) = &options.credentials {
            let is_authenticated = connect::log_in(&mut stream, credentials).await?;
            shared.counters.is_authenticated.store(is_authenticated, Ordering::Relaxed);
        }
        connect::greet(&mut stream).await?;
        Ok(stream)
    };
    let limit = options.connect_timeout;
    timeout(limit, attempt).await.unwrap_or_else(|_| Err(ErrorKind::Timeout(limit)))
}
