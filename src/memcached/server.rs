//! One server, driven by one task: it connects when there is work, leaves the server out when it fails, and brings it
//! back.
//!
//! A write that was lost may have left an old value behind. Its key is kept and deleted on the next connection, before
//! anything else is asked there: what was overwritten during an outage cannot be read after it.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connect::{self, Stream};
use super::connection::{Connection, End, Work};
use super::error::{Error, ErrorKind};
use super::options::{Options, ServerAddress};
use super::protocol::{Opcode, Request, Response};
use super::stats::{Counters, ServerStats};

/// Work waiting for one server; who comes then waits for room.
const LONGEST_QUEUE: usize = 4096;

/// Keys of lost writes that are remembered; beyond it an old value may live until it expires.
const MOST_OWED: usize = 10_000;

/// Deletes sent at once to a server that is back.
const OWED_AT_ONCE: usize = 500;

/// What callers have of a server.
#[derive(Clone)]
pub(super) struct Server {
    queue: mpsc::Sender<Work>,
    shared: Arc<Shared>,
}

/// What callers and the task share.
struct Shared {
    address: ServerAddress,
    name: Arc<str>,
    operation_timeout: Duration,
    counters: Counters,
    owed: Mutex<BTreeSet<Bytes>>,
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
            owed: Mutex::default(),
        });
        let task = Task { options: Arc::clone(options), queue: work, shared: Arc::clone(&shared) };
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

    pub(super) fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, &self.shared.name)
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
        answer: oneshot::Receiver<Result<T, ErrorKind>>,
    ) -> Result<T, Error> {
        let counters = &self.shared.counters;
        counters.operations.add(operations);
        let started = Instant::now();
        let result = match self.shared.refuse(work) {
            None => Err(ErrorKind::LeftOut),
            Some(work) => self.queue_and_wait(work, answer).await,
        };
        if result.is_ok() {
            counters.took(started.elapsed());
        }
        result.map_err(|kind| {
            counters.errors.add(1);
            counters.timeouts.add(usize::from(matches!(kind, ErrorKind::Timeout(_))));
            self.error(kind)
        })
    }

    async fn queue_and_wait<T>(
        &self,
        work: Work,
        answer: oneshot::Receiver<Result<T, ErrorKind>>,
    ) -> Result<T, ErrorKind> {
        let gone = || ErrorKind::Closed("the client's task is gone".into());
        let limit = self.shared.operation_timeout;
        let deadline = Instant::now() + limit;
        let Ok(room) = timeout_at(deadline, self.queue.reserve()).await else {
            self.make_up_for(work);
            return Err(ErrorKind::Timeout(limit));
        };
        room.map_err(|_| gone())?.send(work);
        let answer = timeout_at(deadline, answer).await.map_err(|_| ErrorKind::Timeout(limit))?;
        answer.map_err(|_| gone())?
    }

    /// Deletes, as soon as there is room, what a write for which there was none has not overwritten. Were the write
    /// itself sent then, it could overwrite a later one.
    fn make_up_for(&self, work: Work) {
        let keys = work.fail(&ErrorKind::Timeout(self.shared.operation_timeout));
        if keys.is_empty() {
            return;
        }
        let deletes = keys.into_iter().map(|key| Request::of(Opcode::DeleteQuiet, key));
        let requests = deletes.chain([Request::of(Opcode::Noop, Bytes::new())]).collect();
        let queue = self.queue.clone();
        tokio::spawn(async move { drop(queue.send(Work::Quiet(requests, oneshot::channel().0)).await) });
    }
}

impl Shared {
    /// Fails work if the server is left out, or returns it.
    fn refuse(&self, work: Work) -> Option<Work> {
        if !self.is_left_out() {
            return Some(work);
        }
        // Under the lock that bringing back takes as well: what is owed here is paid before the server is back.
        let mut owed = self.owed();
        if !self.is_left_out() {
            return Some(work);
        }
        self.owe_more(&mut owed, work.fail(&ErrorKind::LeftOut));
        None
    }

    /// Opens the server to callers if nothing is owed to it, and returns whether it is open.
    fn bring_back(&self) -> bool {
        let owed = self.owed();
        if owed.is_empty() {
            self.set_left_out(false);
        }
        owed.is_empty()
    }

    fn owe(&self, keys: impl IntoIterator<Item = Bytes>) {
        self.owe_more(&mut self.owed(), keys);
    }

    fn owe_more(&self, owed: &mut BTreeSet<Bytes>, keys: impl IntoIterator<Item = Bytes>) {
        for key in keys {
            if owed.len() < MOST_OWED {
                owed.insert(key);
            } else if !owed.contains(&key) {
                self.counters.forgotten.add(1);
            }
        }
    }

    fn owed(&self) -> MutexGuard<'_, BTreeSet<Bytes>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_left_out(&self) -> bool {
        self.counters.left_out.load(Ordering::Relaxed)
    }

    fn set_left_out(&self, left_out: bool) {
        self.counters.left_out.store(left_out, Ordering::Relaxed);
    }
}

/// The other end of the queue.
struct Task {
    options: Arc<Options>,
    queue: mpsc::Receiver<Work>,
    shared: Arc<Shared>,
}

impl Task {
    async fn run(mut self) {
        loop {
            // What is owed is no caller's concern, and is paid without waiting for one.
            let is_owed = !self.shared.owed().is_empty();
            let work = if is_owed { None } else { self.queue.recv().await };
            if work.is_none() && !is_owed {
                return;
            }
            let mut outage = self.connect_and_serve(work).await;
            while let Some(cause) = outage {
                self.leave_out(&cause);
                let Some(stream) = self.wait_until_back().await else { return };
                outage = self.serve(stream, None).await;
            }
        }
    }

    /// Connects after a pause. Returns why the server must be left out, if so.
    async fn connect_and_serve(&mut self, mut waiting: Option<Work>) -> Option<ErrorKind> {
        match self.connect(&mut waiting).await {
            Ok(stream) => self.serve(stream, waiting).await,
            Err(cause) => {
                self.fail(waiting, &cause);
                Some(cause)
            }
        }
    }

    /// Connects. Callers are not made to wait longer than an operation may take.
    async fn connect(&mut self, waiting: &mut Option<Work>) -> Result<Box<dyn Stream>, ErrorKind> {
        let (options, shared) = (Arc::clone(&self.options), Arc::clone(&self.shared));
        let mut attempt = pin!(establish(&options, &shared));
        tokio::select! {
            result = &mut attempt => return result,
            () = sleep(options.operation_timeout) => {}
        }
        let cause = ErrorKind::Timeout(options.operation_timeout);
        self.fail(waiting.take(), &cause);
        self.leave_out(&cause);
        attempt.await
    }

    /// Serves a connection to its end. Returns why the server must be left out, if so: a connection that was closed is
    /// simply made again.
    async fn serve(&mut self, mut stream: Box<dyn Stream>, first: Option<Work>) -> Option<ErrorKind> {
        let was_left_out = self.shared.is_left_out();
        while !self.shared.bring_back() {
            let limit = self.options.connect_timeout;
            let settled = timeout(limit, settle(&mut stream, &self.shared)).await;
            if let Err(cause) = settled.unwrap_or(Err(ErrorKind::Timeout(limit))) {
                self.fail(first, &cause);
                return Some(cause);
            }
        }
        if was_left_out {
            tracing::info!(memcached.server = %self.shared.name, "memcached answers again");
        }
        self.shared.counters.connections.add(1);
        let connection = Connection::new(stream, self.options.operation_timeout);
        let End { cause, overwritten } = connection.run(first, &mut self.queue).await;
        self.shared.owe(overwritten);
        cause.filter(|cause| !matches!(cause, ErrorKind::Closed(_)))
    }

    fn fail(&self, work: impl IntoIterator<Item = Work>, cause: &ErrorKind) {
        for work in work {
            self.shared.owe(work.fail(cause));
        }
    }

    fn leave_out(&mut self, cause: &ErrorKind) {
        self.shared.counters.failed(cause);
        if !self.shared.is_left_out() {
            tracing::warn!(memcached.server = %self.shared.name, "memcached is left out: {cause}");
            self.shared.set_left_out(true);
        }
        self.fail_queued();
    }

    fn fail_queued(&mut self) {
        while let Ok(work) = self.queue.try_recv() {
            self.fail([work], &ErrorKind::LeftOut);
        }
    }

    /// Tries again until the server answers; none if the client is gone.
    async fn wait_until_back(&mut self) -> Option<Box<dyn Stream>> {
        loop {
            sleep(self.options.retry_interval).await;
            if self.queue.is_closed() {
                return None;
            }
            match establish(&self.options, &self.shared).await {
                Err(cause) => {
                    self.shared.counters.failed(&cause);
                    tracing::debug!(memcached.server = %self.shared.name, "still left out: {cause}");
                }
                Ok(stream) => {
                    // Whoever got into the queue just before it was closed to all has given up by now.
                    self.fail_queued();
                    return Some(stream);
                }
            }
        }
    }
}

/// Connects, logs in, and pays what is owed, which also shows that the server answers.
async fn establish(options: &Options, shared: &Shared) -> Result<Box<dyn Stream>, ErrorKind> {
    let attempt = async {
        let mut stream = connect::connect(options, &shared.address).await?;
        if let Some(credentials) = &options.credentials {
            let logged_in = connect::log_in(&mut stream, credentials).await?;
            shared.counters.logged_in.store(logged_in, Ordering::Relaxed);
        }
        settle(&mut stream, shared).await?;
        Ok(stream)
    };
    let limit = options.connect_timeout;
    timeout(limit, attempt).await.unwrap_or_else(|_| Err(ErrorKind::Timeout(limit)))
}

async fn settle(stream: &mut Box<dyn Stream>, shared: &Shared) -> Result<(), ErrorKind> {
    loop {
        let keys: Vec<_> = shared.owed().iter().take(OWED_AT_ONCE).cloned().collect();
        connect::delete_all(stream, &keys).await?;
        let mut owed = shared.owed();
        for key in &keys {
            owed.remove(key);
        }
        if owed.is_empty() {
            return Ok(());
        }
    }
}
