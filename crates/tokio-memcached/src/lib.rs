//! An async client for memcached: binary protocol, SASL, pipelined, several servers.
//!
//! ```no_run
//! use tokio_memcached::{Client, Credentials, Expiration, Options};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let credentials = Credentials { username: "user".into(), password: "secret".into() };
//! let options = Options::new(["127.0.0.1:11211".parse()?])?.credentials(credentials);
//! let client = Client::new(options);
//!
//! client.set("greeting", "hello", Expiration::Never).await?;
//! let value = client.get("greeting").await?.expect("it was stored");
//! assert_eq!(value.data, "hello");
//!
//! if client.incr("visits", 1).await?.is_none() {
//!     client.add("visits", "1", Expiration::Never).await?;
//! }
//! for value in client.get_many(&["greeting", "visits"]).await {
//!     println!("{:?}", value?.map(|value| value.data));
//! }
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # How it is built
//!
//! ```text
//!   Client ── Ring ──► Server ──queue──► its task ──► Connection ──► socket
//!   verbs     which    counters          connect,     pipeline       TCP or TLS
//!             server                     mark down,
//!                                        retry            protocol: bytes ⇄ values, no I/O
//! ```
//!
//! - [`protocol`] turns requests into bytes and bytes into responses. It knows no socket and no clock.
//! - A *connection* is owned by one task. The task takes operations from the queue, writes many of them at once, and
//!   gives each response to its caller by the `opaque` that request and response share.
//! - A *server* connects when there is work, authenticates, and is marked down for a while when it fails.
//! - A *client* places keys on servers by a [`Ring`] that agrees with libmemcached's.
//!
//! # Failures
//!
//! A server that fails is marked down, and only the first call pays for finding out:
//!
//! ```
//! use tokio_memcached::{Client, ErrorKind, Options};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // No server listens on this port.
//! let client = Client::new(Options::new(["127.0.0.1:9".parse()?])?);
//! let error = client.get("greeting").await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Connect);
//! // The next call fails at once.
//! let error = client.get("greeting").await.unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Down);
//! # Ok(())
//! # }
//! ```
//!
//! # Pitfalls
//!
//! - **A call can be dropped at any time.** If its request still waits in the queue, it is not sent. Otherwise the
//!   response is read and thrown away, so the connection stays in step; the command may have been executed.
//! - **An overdue response ends the connection,** and so does anything that is not a response to a request. All that
//!   was under way fails. Nothing is sent twice: the client does not retry.
//! - **A server that fails is marked down.** One operation pays for finding out. Those that follow fail at once, until
//!   the server, tried every [`Options::retry_interval`], answers again. Its keys do not move to other servers
//!   meanwhile: when they moved back, old values would be found.
//! - **A write that fails may have happened.** [`Error::was_written`] says whether the server may have got it. The
//!   client does nothing else about it: by the time that the server answers again, the key may be another client's.
//! - **A refusal is a failure.** Every status but those that a method names in its documentation is an error, also of
//!   each command of a multi-key method.
//! - **An idle connection may be lost without a sign.** After a second of silence ([`Options::probe_after`]) the client
//!   probes the connection before it writes a request, and connects again if there is no response. Every 30 s
//!   ([`Options::keep_alive_interval`]) it does so by itself.
//! - **A server may forget that a connection has authenticated.** The client then closes it and authenticates on a new
//!   one. If the server goes on refusing commands, the pauses between such attempts grow.
//! - **A server without SASL is no error,** also if there are credentials: it is used without. Refused credentials are.
//! - **Connections end with the client.** [`Client::close`] waits for what is under way. When the last clone is dropped
//!   instead, the tasks end by themselves, soon after.
//!
//! # Cost
//!
//! A `get` copies its key and, so that a value that is kept does not keep the buffer into which others were read, its
//! value; one of 32 KiB is not copied. With one caller it makes 3.1 system calls (a write, a read and a wait between
//! them), with 64 callers on the same connection 0.7 to 1.6 (counted under strace, which slows them), since their
//! requests go out together. `scripts/bench` shows these numbers, and the times beside those of a bare socket.
//!
//! # Limits
//!
//! Keys have 1 to 250 bytes without blanks and control characters. A server has one connection. All other limits are
//! [`Options`]: values of up to 32 MiB, 128 MiB of responses to one operation, a queue of 4,096 operations and as many
//! taken by the connection, and batches of 1 MiB. A call ends within four times [`Options::operation_timeout`]: it
//! waits for room, waits to be written, is written, and is responded to. The protocol is the binary one only;
//! MemCachier and memcached up to today's 1.6 speak it.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `tls` | no | connections by TLS, with rustls: `Options::tls` |

#![cfg_attr(docsrs, feature(doc_cfg))]

mod client;
mod connect;
mod connection;
mod error;
mod many;
mod operation;
mod options;
mod pipeline;
pub mod protocol;
mod ring;
mod server;
mod stats;
mod value;

pub use self::client::{Client, is_valid_key};
pub use self::error::{Error, ErrorKind};
pub use self::options::{Credentials, InvalidAddress, Options, ServerAddress};
#[doc(inline)]
pub use self::protocol::{Expiration, Status};
pub use self::ring::Ring;
pub use self::stats::{LATENCY_BUCKETS, ServerStats};
pub use self::value::{Cas, Item, Value};
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
