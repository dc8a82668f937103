//! One server, driven by one task: it connects when there is work, marks the server down when it fails, and tries it
//! again until it answers.
//!
//! Requests to a server are executed in the order in which they were queued, as far as they are executed at all: there
//! is one connection at a time, and the next is made after the one before was closed. A connection that failed is
//! closed so that the system forgets what it has not delivered. What the server's system had received by then the
//! server may still execute; it does so when it next looks at that connection.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::connect::{Stream, connect};
use super::connection::Connection;
use super::error::{Error, ErrorKind};
use super::operation::Operation;
use super::options::{Options, ServerAddress};
use super::protocol::{Opcode, Request, Response, Status};
use super::stats::{Counters, ServerStats};

/// The longest pause between two attempts to authenticate again with a server that goes on refusing commands.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The callers' side of a server.
pub(super) struct Server {
    state: Mutex<State>,
    /// Its sender is gone once the task has ended.
    is_down: watch::Receiver<bool>,
    shared: Arc<Shared>,
}

/// How far a server's task has come in its life.
struct State {
    /// The task, until the first operation starts it.
    task: Option<Task>,
    /// The task's queue, until the server is closed.
    queue: Option<mpsc::Sender<Operation>>,
}

/// What callers and the task share.
struct Shared {
    address: ServerAddress,
    name: Arc<str>,
    options: Arc<Options>,
    counters: Mutex<Counters>,
}

impl Server {
    /// Prepares the server's task, which the first operation starts, and which ends with this.
    pub(super) fn new(address: &ServerAddress, options: &Arc<Options>) -> Self {
        let (queue, operations) = mpsc::channel(options.queue_length);
        let (down, is_down) = watch::channel(false);
        let shared = Arc::new(Shared {
            name: address.to_string().into(),
            address: address.clone(),
            options: Arc::clone(options),
            counters: Mutex::new(Counters::new(address.clone())),
        });
        let authentication = Authentication { pause: Duration::ZERO, not_before: Instant::now() };
        let task = Task { queue: operations, is_down: down, shared: Arc::clone(&shared), authentication };
        let state = Mutex::new(State { task: Some(task), queue: Some(queue) });
        Self { state, is_down, shared }
    }

    /// Returns the queue, and starts the task if this is the first operation.
    fn queue(&self) -> Result<mpsc::Sender<Operation>, Error> {
        let runtime = Handle::try_current().map_err(|_| Error::new(ErrorKind::NoRuntime))?;
        let mut state = lock(&self.state);
        if let Some(task) = state.task.take() {
            runtime.spawn(task.run());
        }
        state.queue.clone().ok_or(Error::new(ErrorKind::Closed))
    }

    /// Takes no more operations. Those before are done or fail, and then the task ends.
    pub(super) fn close(&self) {
        *lock(&self.state) = State { task: None, queue: None };
    }

    /// Waits until the task has ended, and with it the connection.
    pub(super) async fn ended(&self) {
        let mut is_down = self.is_down.clone();
        while is_down.changed().await.is_ok() {}
    }

    pub(super) fn address(&self) -> &ServerAddress {
        &self.shared.address
    }

    pub(super) fn counters(&self) -> MutexGuard<'_, Counters> {
        self.shared.counters()
    }

    pub(super) fn stats(&self) -> ServerStats {
        self.counters().snapshot(*self.is_down.borrow())
    }

    /// Waits until the server is not marked down, or closed.
    pub(super) async fn until_up(&self) {
        let _ = self.is_down.clone().wait_for(|is_down| !is_down).await;
    }

    /// Sends one command and returns its response, whose status is OK or one of `also`.
    pub(super) async fn one(&self, request: Request, also: &[Status]) -> Result<Response, Error> {
        let response = self.send(vec![request]).await?.pop();
        self.accept(response.expect("a response was waited for"), also)
    }

    /// Sends quiet commands, and returns the responses that there are.
    pub(super) async fn quiet(&self, mut requests: Vec<Request>) -> Result<Vec<Response>, Error> {
        requests.push(Request::of(Opcode::Noop, Bytes::new()));
        self.send(requests).await
    }

    /// Sends requests, and returns the responses, of whatever status.
    pub(super) async fn send(&self, requests: Vec<Request>) -> Result<Vec<Response>, Error> {
        let started = Instant::now();
        let commands = requests.iter().filter(|request| request.opcode() != Opcode::Noop).count();
        self.counters().counts.operations += commands as u64;
        let responses = self.queue_and_wait(requests, started).await.map_err(|error| self.fail(error))?;
        self.counters().count_response(started.elapsed());
        Ok(responses)
    }

    async fn queue_and_wait(&self, requests: Vec<Request>, since: Instant) -> Result<Vec<Response>, Error> {
        let queue = self.queue()?;
        if *self.is_down.borrow() {
            return Err(Error::new(ErrorKind::Down));
        }
        let options = &self.shared.options;
        let timeout = |limit| Error::new(ErrorKind::Timeout(limit));
        let limit = options.operation_timeout;
        let room = timeout_at(since + limit, queue.reserve_owned()).await.map_err(|_| timeout(limit))?;
        let (reply, responses) = oneshot::channel();
        let operation = Operation { requests, reply, since, was_returned: false };
        room.map_err(|_| Error::new(ErrorKind::Closed))?.send(operation);
        // How far it went is not known here: the task, which knows, has had time enough to say it.
        let responses = timeout_at(since + options.max_call(), responses).await;
        let responses = responses.map_err(|_| timeout(options.max_call()).written(true))?;
        responses.map_err(|_| Error::new(ErrorKind::Closed).written(true))?
    }

    /// Returns a response whose status is OK or one of `also`.
    pub(super) fn accept(&self, response: Response, also: &[Status]) -> Result<Response, Error> {
        if response.status == Status::OK || also.contains(&response.status) {
            return Ok(response);
        }
        Err(self.fail(Error::refused(response.status).written(true)))
    }

    /// Counts an error, and returns it as this server's.
    pub(super) fn fail(&self, error: Error) -> Error {
        let mut counters = self.counters();
        counters.count_error(&error);
        let error = match counters.last_error() {
            Some(outage) if error.kind() == ErrorKind::Down => Error::caused(ErrorKind::Down, outage.clone()),
            _ => error,
        };
        error.at(&self.shared.name)
    }
}

impl Shared {
    fn counters(&self) -> MutexGuard<'_, Counters> {
        lock(&self.counters)
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, Error> {
        let (stream, is_authenticated) = connect(&self.options, &self.address).await?;
        self.counters().counts.is_authenticated = is_authenticated;
        Ok(stream)
    }

    /// Tries to connect, the first time after this pause, until the server answers.
    async fn connect_in_the_end(&self, mut pause: Duration) -> Box<dyn Stream> {
        loop {
            sleep(pause).await;
            pause = self.options.retry_interval;
            match self.connect().await {
                Ok(stream) => return stream,
                Err(cause) => {
                    self.counters().note_failure(&cause);
                    tracing::debug!(memcached.server = %self.name, "still left out: {cause:#}");
                }
            }
        }
    }
}

/// Locks what no panic leaves half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When to authenticate again with a server that refuses commands for want of authentication.
struct Authentication {
    pause: Duration,
    not_before: Instant,
}

impl Authentication {
    /// Notes an attempt. If it follows soon after the one before, that one has not helped: the user may authenticate,
    /// and may not use some command. The pauses grow then, so that such a user does not reconnect without end.
    fn begin(&mut self, retry_interval: Duration) {
        let now = Instant::now();
        let is_soon = now < self.not_before + self.pause;
        self.pause = if is_soon { (self.pause * 2).min(LONGEST_PAUSE) } else { retry_interval };
        self.not_before = now + self.pause;
    }
}

/// The other end of the queue.
struct Task {
    queue: mpsc::Receiver<Operation>,
    is_down: watch::Sender<bool>,
    shared: Arc<Shared>,
    authentication: Authentication,
}

impl Task {
    /// Runs until the queue is closed, and what was in it is done.
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut waiting = VecDeque::new();
        while let Some(connected) = self.connect(&mut waiting).await {
            let mut served = match connected {
                Ok(stream) => self.serve(stream, &mut waiting).await,
                Err(cause) => Err((cause, shared.options.retry_interval)),
            };
            while let Err((cause, pause)) = served {
                self.mark_down(&cause, &mut waiting);
                let stream = self.while_down(pin!(shared.connect_in_the_end(pause))).await;
                let Some(stream) = stream else { return };
                served = self.serve(stream, &mut waiting).await;
            }
        }
    }

    /// Connects when there is work; none if the queue is closed. What waits meanwhile is not made to wait longer than a
    /// response may take.
    async fn connect(&mut self, waiting: &mut VecDeque<Operation>) -> Option<Result<Box<dyn Stream>, Error>> {
        if waiting.is_empty() {
            waiting.push_back(self.queue.recv().await?);
        }
        let shared = Arc::clone(&self.shared);
        let limit = shared.options.operation_timeout;
        // Some of the time may have been spent on a connection that was lost while it was idle.
        let earliest = Instant::now() + limit / 2;
        let deadline = waiting.front().map_or(earliest, |first| (first.since + limit).max(earliest));
        let mut attempt = pin!(shared.connect());
        if let Ok(connected) = timeout_at(deadline, &mut attempt).await {
            return Some(connected);
        }
        self.mark_down(&Error::new(ErrorKind::Timeout(limit)), waiting);
        self.while_down(attempt).await
    }

    /// Serves a connection to its end. Returns why the server must be marked down, if so, and when it may be retried: a
    /// connection that was closed is simply made again.
    async fn serve(
        &mut self,
        stream: Box<dyn Stream>,
        waiting: &mut VecDeque<Operation>,
    ) -> Result<(), (Error, Duration)> {
        if self.is_down.send_replace(false) {
            tracing::info!(memcached.server = %self.shared.name, "memcached answers again");
        }
        self.shared.counters().counts.connections += 1;
        let options = Arc::clone(&self.shared.options);
        let connection = Connection::new(stream, options, self.authentication.not_before);
        let Err(cause) = connection.run(waiting, &mut self.queue).await else { return Ok(()) };
        match cause.kind() {
            ErrorKind::Disconnected => {
                // Once: a server that hangs up again and again is not worth waiting for.
                for operation in std::mem::take(waiting) {
                    if operation.was_returned {
                        operation.fail(cause.clone());
                    } else {
                        waiting.push_back(Operation { was_returned: true, ..operation });
                    }
                }
                Ok(())
            }
            ErrorKind::Authentication => {
                self.authentication.begin(self.shared.options.retry_interval);
                Err((cause, Duration::ZERO))
            }
            _ => Err((cause, self.shared.options.retry_interval)),
        }
    }

    fn mark_down(&mut self, cause: &Error, waiting: &mut VecDeque<Operation>) {
        self.shared.counters().note_failure(cause);
        if !self.is_down.send_replace(true) {
            tracing::warn!(memcached.server = %self.shared.name, "memcached is left out: {cause:#}");
        }
        waiting.drain(..).for_each(|operation| operation.fail(cause.clone()));
        while let Ok(operation) = self.queue.try_recv() {
            operation.fail(Error::new(ErrorKind::Down));
        }
    }

    /// Does what may bring the server back, and meanwhile fails operations. Returns none if the queue is closed.
    async fn while_down<T>(&mut self, mut work: impl Future<Output = T> + Unpin) -> Option<T> {
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                // It got into the queue just before the server was marked down.
                operation = self.queue.recv() => operation?.fail(Error::new(ErrorKind::Down)),
            }
        }
    }
}
