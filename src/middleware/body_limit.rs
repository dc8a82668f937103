//! Reads bodies, within limits: of each one's length, of all together, and of time.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::room::{Place, Room};

/// The longest body that is served. A form with the longest name needs a tenth of it.
const LIMIT: usize = 64 * 1024;

/// How much more of a longer one is read and dropped. A server that answers and closes while a browser still sends
/// makes the browser show a broken connection in place of the answer.
const DRAINED: usize = 1024 * 1024;

/// What all bodies together may take of memory, until their requests are answered.
const MEMORY: usize = 32 * 1024 * 1024;

/// How long a body may take to come.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct BodyLimit {
    memory: Room,
    patience: Duration,
}

impl Default for BodyLimit {
    fn default() -> Self {
        Self { memory: Room::new(MEMORY), patience: PATIENCE }
    }
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("the body is longer than {} KiB", LIMIT / 1024)]
    TooLong,
    #[error("the body did not come within {} s", PATIENCE.as_secs())]
    Late,
    #[error("the body cannot be read")]
    Broken(#[source] axum::Error),
    #[error("there are too many bodies in memory")]
    NoRoom,
}

impl Unread {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
            Self::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl BodyLimit {
    /// Returns a body and the place it takes. Of one that is refused, the sender gets to see the answer.
    pub(super) async fn read(&self, body: Body) -> Result<(Bytes, Place<'_>), Unread> {
        timeout(self.patience, self.read_all(body)).await.unwrap_or(Err(Unread::Late))
    }

    async fn read_all(&self, mut body: Body) -> Result<(Bytes, Place<'_>), Unread> {
        // What has come takes room, and not what is announced: else who announces much and sends nothing would take it
        // from those who send.
        let mut kept = Ok((BytesMut::new(), self.memory.corner()));
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(Unread::Broken)?;
            let Ok(data) = frame.into_data() else { continue };
            length += data.len();
            if length > LIMIT + DRAINED {
                break;
            }
            kept = match kept {
                Ok(_) if length > LIMIT => Err(Unread::TooLong),
                Ok((mut bytes, mut place)) => {
                    bytes.extend_from_slice(&data);
                    if place.grow_to(bytes.capacity()) { Ok((bytes, place)) } else { Err(Unread::NoRoom) }
                }
                refused => refused,
            };
        }
        kept.map(|(bytes, place)| (bytes.freeze(), place))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt, stream};

    use super::*;

    fn limit(memory: usize) -> BodyLimit {
        BodyLimit { memory: Room::new(memory), ..BodyLimit::default() }
    }

    /// A body that comes piece by piece.
    fn pieces(length: usize, count: usize, pause: Duration) -> Body {
        let piece = Bytes::from(vec![b'x'; length]);
        Body::from_stream(stream::iter(0..count).then(move |_| {
            let piece = piece.clone();
            async move {
                tokio::time::sleep(pause).await;
                Ok::<_, Infallible>(piece)
            }
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_so_long_to_come() {
        let second = Duration::from_secs(1);
        let limit = limit(MEMORY);
        assert_eq!(limit.read(pieces(1, 14, second)).await.unwrap().0.len(), 14);
        assert!(matches!(limit.read(pieces(1, 16, second)).await, Err(Unread::Late)));
        assert!(limit.memory.take(MEMORY).is_some(), "it takes no room any more");
    }

    #[tokio::test]
    async fn bodies_take_room_until_they_are_let_go() {
        let limit = limit(100_000);
        let first = limit.read(pieces(40_000, 1, Duration::ZERO)).await.unwrap();
        let second = limit.read(pieces(40_000, 1, Duration::ZERO)).await.unwrap();
        assert!(matches!(limit.read(pieces(40_000, 1, Duration::ZERO)).await, Err(Unread::NoRoom)));
        drop(first);
        assert_eq!(limit.read(pieces(40_000, 1, Duration::ZERO)).await.unwrap().0.len(), 40_000);
        drop(second);
        assert!(limit.memory.take(100_000).is_some());
    }

    #[tokio::test]
    async fn what_is_refused_takes_no_room_and_is_read_to_its_end() {
        let limit = limit(MEMORY);
        assert_eq!(limit.read(pieces(LIMIT, 1, Duration::ZERO)).await.unwrap().0.len(), LIMIT);
        for count in [2, 17, 1000] {
            let read = limit.read(pieces(LIMIT, count, Duration::ZERO)).await;
            assert!(matches!(read, Err(Unread::TooLong)), "{read:?}");
        }
        assert!(limit.memory.take(MEMORY).is_some());
    }
}
