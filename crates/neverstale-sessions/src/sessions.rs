//! The sessions of a site.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use tower_sessions::cookie::Cookie;

use super::cache_store::CacheStore;
use super::cookie::{Cookies, InvalidCookie};
use super::error::Error;
use super::request::RequestSession;
use super::store::{DEFAULT_LIFETIME, Seen, Store};
use super::write_through::WriteThrough;
use neverstale::{Cache, Integrity, Secret};

/// Ten years. Dates far beyond have no form.
const LONGEST_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A statement that removes more sessions would keep other writers waiting.
const CLEARED_AT_ONCE: usize = 1000;

/// The sessions of a site: where they are kept, and how their cookies look. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    store: Arc<dyn Store>,
    pub(super) cookies: Arc<Cookies>,
    pub(super) lifetime: Duration,
    pub(super) error_response: fn(Error) -> Response,
}

impl Sessions {
    /// Keeps sessions in a cache alone. Where the cache fails, a request goes on without its session.
    ///
    /// The values are signed with the secret, so that nobody can forge a session who can write to the cache.
    #[must_use]
    pub fn in_cache(cache: &Cache, secret: &Secret) -> Self {
        Self::in_store(CacheStore(signed(cache, secret)), secret)
    }

    /// Keeps sessions in a store of yours. All processes of a site need the same secret.
    #[must_use]
    pub fn in_store(store: impl Store, secret: &Secret) -> Self {
        Self {
            store: Arc::new(store),
            cookies: Arc::new(Cookies::new(secret)),
            lifetime: DEFAULT_LIFETIME,
            error_response: Error::into_response,
        }
    }

    /// Keeps sessions in a store of yours, and signed copies of them in a cache, which safe requests read.
    #[must_use]
    pub fn write_through(store: impl Store, cache: &Cache, secret: &Secret) -> Self {
        Self::in_store(WriteThrough::new(store, signed(cache, secret)), secret)
    }

    /// Sets how long a session lives after its last change: two weeks by default, ten years at most.
    ///
    /// A request that only loads it renews it after a fourteenth of that. Requests that do not load it renew nothing.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime.min(LONGEST_LIFETIME);
        self
    }

    /// Sets name and attributes of the cookie. Its value and `Max-Age` are replaced.
    ///
    /// By default `sessionid` with `Path=/`, `HttpOnly` and `SameSite=Lax`. A cookie that does not say whether it is
    /// `Secure` is so over HTTPS.
    ///
    /// # Errors
    ///
    /// [`InvalidCookie`] for a name, path or domain that cannot be sent in a header.
    pub fn cookie(mut self, template: impl Into<Cookie<'static>>) -> Result<Self, InvalidCookie> {
        self.cookies = Arc::new(self.cookies.with_template(template.into())?);
        Ok(self)
    }

    /// Sets the response for a request whose session could not be saved: by default a status without a body.
    #[must_use]
    pub fn error_response(mut self, error_response: fn(Error) -> Response) -> Self {
        self.error_response = error_response;
        self
    }

    /// Begins a request's work with its session, for a layer of your own.
    ///
    /// A copy of the session may be loaded if it equals what the visitor has `seen`. A request that may change
    /// something passes `None`, which asks the store.
    #[must_use]
    pub fn request(&self, seen: Option<Seen>) -> RequestSession {
        RequestSession::new(Arc::clone(&self.store), seen)
    }

    /// Removes expired sessions, a thousand at a time and at most so many times, and returns how many.
    ///
    /// # Errors
    ///
    /// Those of the store. Earlier rounds are not undone.
    ///
    /// # Cancel safety
    ///
    /// Rounds that have ended are not undone.
    pub async fn clear_expired(&self, rounds: usize) -> Result<usize, Error> {
        let mut cleared = 0;
        for _ in 0..rounds {
            let count = self.store.clear_expired(CLEARED_AT_ONCE).await?;
            cleared += count;
            if count < CLEARED_AT_ONCE {
                break;
            }
        }
        Ok(cleared)
    }

    pub(super) fn max_age(&self) -> time::Duration {
        self.lifetime.try_into().unwrap_or(time::Duration::MAX)
    }
}

fn signed(cache: &Cache, secret: &Secret) -> Cache {
    cache.counted_as("sessions").with_integrity(Integrity::signed(secret))
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}
