//! Sessions in the database, read through the cache: Django's `cached_db`.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tracing::Instrument;

use super::cache_store::key;
use super::store::{Acceptable, Name, Replaced, Store, Stored};
use super::{Error, LIFETIME};
use neverstale::{Cache, Ttl};

/// Keeps sessions in a store that loses none, such as one in the database, and copies of them in the cache. Nothing
/// that happens to the copies is an error.
#[derive(Clone)]
pub struct WriteThrough {
    origin: Arc<dyn Store>,
    cache: Cache,
}

/// What is in the cache.
#[derive(Serialize, Deserialize)]
enum Copy {
    Session(Stored),
    /// There is no session of this name any more. It stays there, so that whoever has read the session before and is
    /// late cannot put a copy back.
    Gone(Name),
}

/// How a copy gets into the cache.
enum Put {
    /// In the place of any other.
    Set,
    /// Where there is none: one that came meanwhile is of a later state, or says that the session is gone.
    Add,
}

impl WriteThrough {
    /// Keeps sessions in this store, and copies in this cache.
    #[must_use]
    pub fn new(origin: impl Store, cache: &Cache) -> Self {
        Self { origin: Arc::new(origin), cache: cache.counted_as("sessions") }
    }

    /// Returns the session that is in the store.
    async fn load(&self, name: &Name) -> Result<Option<Stored>, Error> {
        self.origin.get(name, Acceptable::Nothing).await
    }

    async fn keep_copy(&self, session: &Stored, put: Put) {
        let Stored { name, .. } = session;
        let copy = Copy::Session(session.clone());
        match put {
            Put::Set => self.cache.set(&key(name), &copy, session.ttl()).await,
            Put::Add if self.cache.add(&key(name), &copy, session.ttl()).await => {}
            Put::Add => return self.remove_unreadable(name).await,
        }
        // Whoever deletes it from now on says so in the cache after us. Whoever did before may have been quicker.
        match self.load(name).await {
            Ok(Some(_)) => {}
            Ok(None) => self.keep_gone(name).await,
            Err(_) => self.cache.delete(&key(name)).await,
        }
    }

    /// Removes a value that is no copy: unsigned, forged, or of another release. It would be in the way of every copy.
    async fn remove_unreadable(&self, name: &Name) {
        let key = key(name);
        if self.cache.get::<Copy>(&key).await.is_none() && self.cache.has_key(&key).await {
            self.cache.delete(&key).await;
        }
    }

    /// Replaces a session, and tells the cache; also when it is not known whether it is replaced.
    async fn replace_to_the_end(&self, old: Option<&Stored>, new: &Stored) -> Result<Replaced, Error> {
        let replaced = self.origin.replace(old, new).await;
        match &replaced {
            Ok(Replaced::Done) => self.keep_copy(new, Put::Set).await,
            Ok(Replaced::Changed(_)) => {}
            Ok(Replaced::Gone) => self.keep_gone(&new.name).await,
            Err(_) => self.cache.delete(&key(&new.name)).await,
        }
        replaced
    }

    async fn delete_to_the_end(&self, name: &Name) -> Result<(), Error> {
        let deleted = self.origin.delete(name).await;
        match &deleted {
            Ok(()) => self.keep_gone(name).await,
            Err(_) => self.cache.delete(&key(name)).await,
        }
        deleted
    }

    async fn keep_gone(&self, name: &Name) {
        self.cache.set(&key(name), &Copy::Gone(name.clone()), Ttl::After(LIFETIME)).await;
    }
}

#[async_trait]
impl Store for WriteThrough {
    async fn add(&self, session: &Stored) -> Result<bool, Error> {
        // A copy is made when it is read: who never brings the cookie back would only fill the cache.
        self.origin.add(session).await
    }

    async fn get(&self, name: &Name, copy: Acceptable) -> Result<Option<Stored>, Error> {
        let seen = match copy {
            Acceptable::Any => None,
            Acceptable::Only(seen) => Some(seen),
            Acceptable::Nothing => return self.load(name).await,
        };
        let is_good = |copy: &Stored| {
            copy.name == *name && !copy.is_over() && seen.is_none_or(|seen| copy.seen() == seen)
        };
        let found: Option<Copy> = self.cache.get(&key(name)).await;
        let is_missing = found.is_none();
        match found {
            Some(Copy::Gone(gone)) if gone == *name => return Ok(None),
            Some(Copy::Session(copy)) if is_good(&copy) => return Ok(Some(copy)),
            _ => {}
        }
        let session = self.load(name).await?;
        match &session {
            Some(session) if is_missing => self.keep_copy(session, Put::Add).await,
            // The copy there may be of a later state than what was just read: it is left to whoever saved that.
            Some(_) => {}
            None => self.keep_gone(name).await,
        }
        Ok(session)
    }

    async fn replace(&self, old: Option<&Stored>, new: &Stored) -> Result<Replaced, Error> {
        let (store, old, new) = (self.clone(), old.cloned(), new.clone());
        to_the_end(async move { store.replace_to_the_end(old.as_ref(), &new).await }).await
    }

    async fn delete(&self, name: &Name) -> Result<(), Error> {
        let (store, name) = (self.clone(), name.clone());
        to_the_end(async move { store.delete_to_the_end(&name).await }).await
    }

    async fn clear_expired(&self, most: usize) -> Result<usize, Error> {
        self.origin.clear_expired(most).await
    }

    fn describe(&self) -> &'static str {
        "cached_db, in the database and read through the cache"
    }
}

impl fmt::Debug for WriteThrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteThrough({}, {:?})", self.origin.describe(), self.cache)
    }
}

/// Does what changes a session in a task of its own: what has come to the database the cache is told, also when nobody
/// waits for it any more.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    match tokio::spawn(change.in_current_span()).await {
        Ok(changed) => changed,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime ends.
            Err(_) => Err(Error::Timeout),
        },
    }
}
