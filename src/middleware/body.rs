//! Reads bodies, with limits on the length of each, on the memory of all, and on time.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// The longest body, in bytes. A form with the longest name needs a tenth of it.
const LONGEST: usize = 64 * 1024;

/// How much of a refused body is read and dropped. If the server closed while a browser still sends, the browser would
/// show a broken connection in place of the response.
const DRAINED: usize = 1024 * 1024;

/// The memory of all bodies together, in bytes, until their requests are answered.
const MEMORY: usize = 32 * 1024 * 1024;

/// How long a body may take to arrive.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The memory for bodies: a permit for each byte.
#[derive(Debug)]
pub(super) struct Bodies(Semaphore);

impl Default for Bodies {
    fn default() -> Self {
        Self(Semaphore::new(MEMORY))
    }
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("the body is longer than {} KiB", LONGEST / 1024)]
    TooLong,
    #[error("the body did not come within {} s", TIMEOUT.as_secs())]
    Late,
    #[error("the body cannot be read")]
    Broken(#[source] axum::Error),
    #[error("there are too many bodies in memory")]
    NoMemory,
}

impl Unread {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
            Self::NoMemory => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Bodies {
    /// Returns a body, and the permit for its memory.
    pub(super) async fn read(&self, mut body: Body) -> Result<(Bytes, SemaphorePermit<'_>), Unread> {
        let read = async {
            let read = self.collect(&mut body).await;
            if matches!(read, Err(Unread::TooLong | Unread::NoMemory)) {
                drain(&mut body).await;
            }
            read
        };
        timeout(TIMEOUT, read).await.unwrap_or(Err(Unread::Late))
    }

    /// Takes permits for what has arrived, not for what is announced: a sender that announces much and sends nothing
    /// would take the memory from others.
    async fn collect(&self, body: &mut Body) -> Result<(Bytes, SemaphorePermit<'_>), Unread> {
        let permits = |count: usize| {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.0.try_acquire_many(count).map_err(|_| Unread::NoMemory)
        };
        let (mut bytes, mut memory) = (BytesMut::new(), permits(0)?);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(Unread::Broken)?.into_data() else { continue };
            if bytes.len() + data.len() > LONGEST {
                return Err(Unread::TooLong);
            }
            bytes.extend_from_slice(&data);
            memory.merge(permits(bytes.capacity().saturating_sub(memory.num_permits()))?);
        }
        Ok((bytes.freeze(), memory))
    }
}

async fn drain(body: &mut Body) {
    let mut length = 0;
    while length < DRAINED
        && let Some(Ok(frame)) = body.frame().await
    {
        length += frame.data_ref().map_or(0, Bytes::len);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::{StreamExt, stream};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A body that comes piece by piece.
    fn pieces(length: usize, count: usize, pause: Duration) -> Body {
        Body::from_stream(stream::iter(0..count).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, Infallible>(vec![b'x'; length])
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_so_long_to_come() {
        let bodies = Bodies::default();
        assert_eq!(bodies.read(pieces(1, 14, SECOND)).await.unwrap().0.len(), 14);
        assert!(matches!(bodies.read(pieces(1, 16, SECOND)).await, Err(Unread::Late)));
        assert_eq!(bodies.0.available_permits(), MEMORY);
    }

    #[tokio::test]
    async fn a_body_takes_memory_until_it_is_dropped() {
        let bodies = Bodies(Semaphore::new(100_000));
        let read = || bodies.read(pieces(40_000, 1, Duration::ZERO));
        let (first, second) = (read().await.unwrap(), read().await.unwrap());
        assert!(matches!(read().await, Err(Unread::NoMemory)));
        drop(first);
        assert_eq!(read().await.unwrap().0.len(), 40_000);
        drop(second);
        assert_eq!(bodies.0.available_permits(), 100_000);
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_takes_no_memory_and_is_drained() {
        let bodies = Bodies::default();
        assert_eq!(bodies.read(pieces(LONGEST, 1, Duration::ZERO)).await.unwrap().0.len(), LONGEST);
        for (count, drained) in [(2, 2), (10, 10), (1000, 2 + DRAINED / LONGEST)] {
            let read = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&read);
            let counted = pieces(LONGEST, count, Duration::ZERO).into_data_stream().inspect(move |_| {
                counter.fetch_add(1, Ordering::Relaxed);
            });
            let refused = bodies.read(Body::from_stream(counted)).await;
            assert!(matches!(refused, Err(Unread::TooLong)), "{refused:?}");
            assert_eq!(read.load(Ordering::Relaxed), drained);
            assert_eq!(bodies.0.available_permits(), MEMORY);
        }
    }
}
