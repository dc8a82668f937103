//! Connections to Postgres that are used again, and how many of them there may be.
//!
//! A role, a server or a pooler may allow fewer connections than a process wants. Then statements wait for those that
//! there are, instead of failing.

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sqlx::FromRow;
use sqlx::postgres::PgRow;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use super::error::code_of;
use super::postgres::{Client, Connector, Failure, is_full, is_lost, shows_pooler};
use super::statement::Arg;

/// How long to wait for a connection; below the limit of an operation, so that it is the pool that says so.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// Between two attempts to connect to a server that is starting or full.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(600);

/// How long connections beyond one stay open unused: other processes may need them.
const IDLE: Duration = Duration::from_secs(10);

/// How long a pool that was refused a connection makes do with those it has.
const SCARCE: Duration = Duration::from_secs(10);

/// A pool of connections. Cheap to clone.
///
/// A connection is closed after a failed statement, or one whose caller has left: it may have become useless, and to
/// wait for the end of an abandoned statement may take for ever.
#[derive(Clone)]
pub(super) struct Connections(Arc<Shared>);

struct Shared {
    connector: Connector,
    most: u32,
    /// One for each connection that may be in use.
    permits: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The one used last is at the end.
    idle: Vec<(Client, Instant)>,
    /// Idle or in use.
    open: usize,
    /// Permits that were taken away since the server refused a connection, and when.
    withheld: Option<(usize, Instant)>,
    has_reaper: bool,
}

/// A connection in use. It is closed, unless it is given back after a statement that ended well.
pub(super) struct Lease {
    shared: Arc<Shared>,
    client: Option<Client>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Connections {
    /// A pool of at most so many connections. Connects when it is first used.
    pub(super) fn new(connector: Connector, most: u32) -> Self {
        let permits = Arc::new(Semaphore::new(most as usize));
        Self(Arc::new(Shared { connector, most, permits, state: Mutex::default() }))
    }

    pub(super) fn connector(&self) -> &Connector {
        &self.0.connector
    }

    /// Returns whether statements run on all connections that there may be, so that another one waits.
    pub(super) fn is_congested(&self) -> bool {
        let state = self.0.state();
        let withheld = state.withheld.map_or(0, |(count, _)| count);
        state.open - state.idle.len() + withheld >= self.0.most as usize
    }

    /// Runs a statement. One that was certainly not executed is tried once more on a new connection, and so is a lost
    /// one if it only reads.
    pub(super) async fn fetch<T>(
        &self,
        sql: &'static str,
        args: &[Arg<'_>],
        only_reads: bool,
    ) -> sqlx::Result<Vec<T>>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let Failure { error, can_be_repeated } = match self.try_fetch(sql, args).await {
            Ok(rows) => return Ok(rows),
            Err(failure) => failure,
        };
        let may_repeat = can_be_repeated || (only_reads && is_lost(&error));
        if !may_repeat {
            return Err(error);
        }
        tracing::debug!("tried again on a new connection: {error}");
        if shows_pooler(&error) {
            self.0.connector.suspect_pooler();
        }
        // Whatever has happened to one has happened to all of them.
        self.0.state().close_idle();
        self.try_fetch(sql, args).await.map_err(|failure| failure.error)
    }

    async fn try_fetch<T>(&self, sql: &'static str, args: &[Arg<'_>]) -> Result<Vec<T>, Failure>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let not_sent = |error| Failure { error, can_be_repeated: false };
        let mut lease = self.lease().await.map_err(not_sent)?;
        let rows = lease.client().fetch(sql, args).await?;
        lease.give_back();
        Ok(rows)
    }

    /// Waits for a connection.
    pub(super) async fn lease(&self) -> sqlx::Result<Lease> {
        let deadline = Instant::now() + ACQUIRE_TIMEOUT;
        let mut pause = FIRST_PAUSE;
        let mut permit = self.permit(deadline).await?;
        loop {
            let idle = self.0.state().take_idle();
            if let Some(client) = idle {
                let mut lease = self.lend(client, permit);
                if lease.is_usable().await {
                    return Ok(lease);
                }
                // What has ended one has ended the others.
                self.0.state().close_idle();
                permit = lease.close();
            }
            let connected = timeout_at(deadline, self.0.connector.connect()).await;
            let error = match connected.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
                Ok(client) => {
                    self.0.state().open += 1;
                    return Ok(self.lend(client, permit));
                }
                Err(error) => error,
            };
            let refused = self.0.state().when_refused(&error);
            match refused {
                Refused::UseIdle => {}
                Refused::WaitForOthers => {
                    permit.forget();
                    permit = self.permit(deadline).await?;
                }
                Refused::TryAgain if Instant::now() + pause < deadline => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Refused::TryAgain | Refused::Fail => return Err(error),
            }
        }
    }

    fn lend(&self, client: Client, permit: OwnedSemaphorePermit) -> Lease {
        Lease { shared: Arc::clone(&self.0), client: Some(client), permit: Some(permit) }
    }

    async fn permit(&self, deadline: Instant) -> sqlx::Result<OwnedSemaphorePermit> {
        let again = self.0.state().permits_to_give_again();
        self.0.permits.add_permits(again);
        let permit = timeout_at(deadline, Arc::clone(&self.0.permits).acquire_owned()).await;
        permit.ok().and_then(Result::ok).ok_or(sqlx::Error::PoolTimedOut)
    }
}

/// What to do after a failed attempt to connect.
enum Refused {
    UseIdle,
    WaitForOthers,
    TryAgain,
    Fail,
}

impl State {
    fn take_idle(&mut self) -> Option<Client> {
        self.idle.pop().map(|(client, _)| client)
    }

    fn close_idle(&mut self) {
        self.open -= self.idle.len();
        self.idle.clear();
    }

    fn when_refused(&mut self, error: &sqlx::Error) -> Refused {
        if is_full(error) && !self.idle.is_empty() {
            Refused::UseIdle
        } else if is_full(error) && self.open > 0 {
            // Whoever uses them has a permit to pass on.
            let (count, _) = self.withheld.unwrap_or((0, Instant::now()));
            self.withheld = Some((count + 1, Instant::now()));
            Refused::WaitForOthers
        } else if is_full(error) || is_starting(error) {
            Refused::TryAgain
        } else {
            Refused::Fail
        }
    }

    fn permits_to_give_again(&mut self) -> usize {
        match self.withheld {
            Some((count, since)) if since.elapsed() >= SCARCE => {
                self.withheld = None;
                count
            }
            _ => 0,
        }
    }

    /// Closes connections beyond one that have not been used for long.
    fn close_unused(&mut self) {
        let count = self.idle.iter().take_while(|(_, since)| since.elapsed() >= IDLE).count();
        let count = count.min(self.idle.len().saturating_sub(1));
        self.idle.drain(..count);
        self.open -= count;
    }
}

/// Returns whether a server, or a pooler in front of it, is expected to take connections soon.
fn is_starting(error: &sqlx::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    match error {
        sqlx::Error::Io(error) => {
            [BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof].contains(&error.kind())
        }
        error => code_of(error) == "57P03",
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(self: &Arc<Self>, client: Client) {
        let mut state = self.state();
        state.idle.push((client, Instant::now()));
        if state.idle.len() > 1 && !mem::replace(&mut state.has_reaper, true) {
            tokio::spawn(reap(Arc::downgrade(self)));
        }
    }
}

/// Closes connections that are not used, as long as there is more than one.
async fn reap(shared: Weak<Shared>) {
    loop {
        sleep(IDLE / 2).await;
        let Some(shared) = shared.upgrade() else { return };
        let mut state = shared.state();
        state.close_unused();
        if state.idle.len() <= 1 {
            state.has_reaper = false;
            return;
        }
    }
}

impl Lease {
    pub(super) fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("it is there until the lease ends")
    }

    async fn is_usable(&mut self) -> bool {
        let is_pooled = self.shared.connector.is_pooled();
        let client = self.client();
        !(client.is_direct() && is_pooled) && client.is_alive().await
    }

    /// Closes the connection, so that another can be opened in its place.
    fn close(mut self) -> OwnedSemaphorePermit {
        self.permit.take().expect("it is there until the lease ends")
    }

    pub(super) fn give_back(mut self) {
        if let Some(client) = self.client.take() {
            self.shared.give_back(client);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.client.take().is_some() {
            self.shared.state().open -= 1;
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}
