//! A pool of connections to either database.
//!
//! A role, a server or a pooler may allow fewer connections than a process wants. Then statements wait for the
//! connections that there are, instead of failing. sqlx's pool would keep them waiting for a new connection in vain.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use super::connection::{Connection, Failure, is_full, is_lost, is_starting};
use super::statement::{Arg, Row, only_reads};

/// How long to wait for a connection; below the limit of an operation, so that it is the pool that says so.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// Between two attempts to connect to a server that is starting or full.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(600);

/// How long connections beyond one stay open unused: other processes may need them.
const IDLE: Duration = Duration::from_secs(10);

/// How long the pool makes do with one connection less after the server refused one.
const SCARCE: Duration = Duration::from_secs(10);

/// A pool of connections.
///
/// A connection is closed after a failed statement, or one whose caller has left: it may have become useless, and to
/// wait for the end of an abandoned statement may take for ever.
pub(super) struct Pool<C: Connection> {
    options: C::Options,
    size: usize,
    /// One for each connection that may be in use.
    permits: Arc<Semaphore>,
    state: Mutex<State<C>>,
}

struct State<C> {
    /// The one used last is at the end.
    idle: Vec<(C, Instant)>,
    /// Whether a task closes what is unused. It runs while more than one connection is idle.
    has_closer: bool,
    in_use: usize,
    /// Permits that are kept for a while, since the server refused a connection.
    withheld: usize,
}

/// A connection in use. It is closed, unless it is given back after a statement that ended well.
pub(super) struct Lease<C: Connection> {
    pool: Arc<Pool<C>>,
    connection: Option<C>,
    /// Released last: a statement that waited for it finds the connection idle, and need not open another.
    _permit: OwnedSemaphorePermit,
}

impl<C: Connection> Pool<C> {
    /// Makes a pool of at most `size` connections, which connects when it is first used.
    pub(super) fn new(options: C::Options, size: usize) -> Arc<Self> {
        let state = State { idle: vec![], has_closer: false, in_use: 0, withheld: 0 };
        let permits = Arc::new(Semaphore::new(size));
        Arc::new(Self { options, size, permits, state: Mutex::new(state) })
    }

    pub(super) fn options(&self) -> &C::Options {
        &self.options
    }

    /// Returns whether statements run on all connections that there may be, so that another one waits.
    pub(super) fn is_congested(&self) -> bool {
        let state = self.state();
        state.in_use + state.withheld >= self.size
    }

    /// Runs a statement. One that was certainly not executed is tried once more on a new connection, and so is one that
    /// only reads if its connection was lost.
    pub(super) async fn fetch<T: Row>(
        self: &Arc<Self>,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> sqlx::Result<Vec<T>> {
        let Failure { error, can_be_repeated } = match self.try_fetch(sql, args).await {
            Ok(rows) => return Ok(rows),
            Err(failure) => failure,
        };
        let may_be_repeated = can_be_repeated || (only_reads(sql) && is_lost(&error));
        if !may_be_repeated {
            return Err(error);
        }
        tracing::debug!("tried again on a new connection: {error}");
        // The same has probably happened to the idle connections.
        self.state().idle.clear();
        self.try_fetch(sql, args).await.map_err(|failure| failure.error)
    }

    async fn try_fetch<T: Row>(
        self: &Arc<Self>,
        sql: &'static str,
        args: &[Arg<'_>],
    ) -> Result<Vec<T>, Failure> {
        let mut lease = self.lease().await?;
        let rows = lease.connection().fetch(sql, args).await?;
        lease.give_back();
        Ok(rows)
    }

    /// Waits for a connection.
    pub(super) async fn lease(self: &Arc<Self>) -> sqlx::Result<Lease<C>> {
        let deadline = Instant::now() + ACQUIRE_TIMEOUT;
        let mut permit = self.permit(deadline).await?;
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(connection) = self.take_idle().await {
                return Ok(self.lend(connection, permit));
            }
            let opened = timeout_at(deadline, C::open(&self.options)).await;
            match opened.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
                Ok(connection) => return Ok(self.lend(connection, permit)),
                Err(error) if is_full(&error) && self.has_connections() => {
                    self.withhold(permit);
                    permit = self.permit(deadline).await?;
                }
                Err(error)
                    if (is_full(&error) || is_starting(&error)) && Instant::now() + pause < deadline =>
                {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn permit(&self, deadline: Instant) -> sqlx::Result<OwnedSemaphorePermit> {
        let permit = timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await;
        permit.ok().and_then(Result::ok).ok_or(sqlx::Error::PoolTimedOut)
    }

    async fn take_idle(&self) -> Option<C> {
        let (mut connection, _) = self.state().idle.pop()?;
        if connection.is_usable().await {
            return Some(connection);
        }
        // The same has probably happened to the other idle connections.
        self.state().idle.clear();
        None
    }

    fn lend(self: &Arc<Self>, connection: C, permit: OwnedSemaphorePermit) -> Lease<C> {
        self.state().in_use += 1;
        Lease { pool: Arc::clone(self), connection: Some(connection), _permit: permit }
    }

    fn has_connections(&self) -> bool {
        let state = self.state();
        state.in_use > 0 || !state.idle.is_empty()
    }

    /// Keeps a permit for a while. The leases of the connections that there are pass theirs on.
    fn withhold(self: &Arc<Self>, permit: OwnedSemaphorePermit) {
        let pool = Arc::clone(self);
        pool.state().withheld += 1;
        tokio::spawn(async move {
            sleep(SCARCE).await;
            pool.state().withheld -= 1;
            drop(permit);
        });
    }

    fn state(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Connection> Lease<C> {
    pub(super) fn connection(&mut self) -> &mut C {
        self.connection.as_mut().expect("it is there until the lease ends")
    }

    pub(super) fn give_back(mut self) {
        let connection = self.connection.take();
        let mut state = self.pool.state();
        state.idle.extend(connection.map(|connection| (connection, Instant::now())));
        if state.idle.len() > 1 && !mem::replace(&mut state.has_closer, true) {
            tokio::spawn(close_unused(Arc::downgrade(&self.pool)));
        }
    }
}

impl<C: Connection> Drop for Lease<C> {
    fn drop(&mut self) {
        self.pool.state().in_use -= 1;
    }
}

/// Closes connections beyond one that have not been used for long, until one is left.
async fn close_unused<C: Connection>(pool: Weak<Pool<C>>) {
    loop {
        sleep(IDLE / 2).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut state = pool.state();
        let unused = state.idle.iter().take_while(|(_, since)| since.elapsed() >= IDLE).count();
        let unused = unused.min(state.idle.len().saturating_sub(1));
        state.idle.drain(..unused);
        if state.idle.len() <= 1 {
            state.has_closer = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use futures_util::future::BoxFuture;

    use super::*;

    struct Unreal;

    impl Connection for Unreal {
        type Options = ();

        fn open((): &()) -> BoxFuture<'_, sqlx::Result<Self>> {
            Box::pin(ready(Ok(Self)))
        }

        async fn is_usable(&mut self) -> bool {
            true
        }

        async fn fetch<T: Row>(&mut self, _: &'static str, _: &[Arg<'_>]) -> Result<Vec<T>, Failure> {
            Ok(vec![])
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_beyond_one_are_closed_when_unused_for_long() {
        let pool = Pool::<Unreal>::new((), 3);
        for _ in 0..2 {
            let leases = [pool.lease().await, pool.lease().await, pool.lease().await];
            leases.into_iter().for_each(|lease| lease.unwrap().give_back());
            sleep(IDLE - Duration::from_millis(1)).await;
            assert_eq!(pool.state().idle.len(), 3);
            sleep(IDLE).await;
            let state = pool.state();
            assert_eq!((state.idle.len(), state.has_closer), (1, false), "and no timer is left");
        }
    }
}
