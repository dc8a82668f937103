//! Sessions in a store, with copies in the cache: Django's `cached_db`.
//!
//! The store is written first. Nothing that happens to the copies is an error.

use std::panic::resume_unwind;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tracing::Instrument;

use super::cache_store::key;
use super::error::Error;
use super::store::{DEFAULT_LIFETIME, Replaced, Seen, Store, Stored};
use neverstale::{Cache, Ttl};

#[derive(Clone)]
pub(super) struct WriteThrough {
    store: Arc<dyn Store>,
    cache: Cache,
}

/// A value in the cache.
#[derive(Serialize, Deserialize)]
enum Copy {
    Session(Stored),
    /// The session of this name is gone. The marker keeps a late reader from adding the copy that it has read before.
    Gone(String),
}

impl WriteThrough {
    pub(super) fn new(store: impl Store, cache: Cache) -> Self {
        Self { store: Arc::new(store), cache }
    }

    /// Takes back a copy that was just stored, if its session is no longer there.
    ///
    /// A process that deletes the session from now on marks it as gone after us. One that deleted it before may have
    /// been quicker with its marker than we with our copy.
    async fn check_copy(&self, name: &str) {
        match self.store.get(name).await {
            Ok(Some(_)) => {}
            Ok(None) => self.mark_gone(name).await,
            Err(_) => self.cache.delete(&key(name)).await,
        }
    }

    /// Adds a copy where there is none. One that came meanwhile is of a later state, or says that the session is gone.
    async fn add_copy(&self, session: &Stored) {
        let (name, key) = (&session.name, key(&session.name));
        if self.cache.add(&key, &Copy::Session(session.clone()), session.ttl()).await {
            self.check_copy(name).await;
        } else if self.cache.get::<Copy>(&key).await.is_none() && self.cache.has_key(&key).await {
            // An unsigned or forged value, or one of another release, would keep every copy out.
            self.cache.delete(&key).await;
        }
    }

    async fn mark_gone(&self, name: &str) {
        self.cache.set(&key(name), &Copy::Gone(name.to_owned()), Ttl::After(DEFAULT_LIFETIME)).await;
    }

    async fn replace_both(&self, old: Option<&Stored>, new: &Stored) -> Result<Replaced, Error> {
        let replaced = self.store.replace(old, new).await;
        let key = key(&new.name);
        match &replaced {
            Ok(Replaced::Done) => {
                self.cache.set(&key, &Copy::Session(new.clone()), new.ttl()).await;
                self.check_copy(&new.name).await;
            }
            Ok(Replaced::Changed(_)) => {}
            Ok(Replaced::Gone) => self.mark_gone(&new.name).await,
            Err(_) => self.cache.delete(&key).await,
        }
        replaced
    }

    async fn delete_both(&self, name: &str) -> Result<(), Error> {
        let deleted = self.store.delete(name).await;
        match &deleted {
            Ok(()) => self.mark_gone(name).await,
            Err(_) => self.cache.delete(&key(name)).await,
        }
        deleted
    }
}

#[async_trait]
impl Store for WriteThrough {
    async fn add(&self, session: &Stored) -> Result<bool, Error> {
        // The first read makes the copy: clients that never send the cookie back would only fill the cache.
        self.store.add(session).await
    }

    async fn get(&self, name: &str) -> Result<Option<Stored>, Error> {
        self.store.get(name).await
    }

    async fn get_seen(&self, name: &str, seen: Seen) -> Result<Option<Stored>, Error> {
        let found: Option<Copy> = self.cache.get(&key(name)).await;
        let is_missing = found.is_none();
        match found {
            Some(Copy::Gone(gone)) if gone == name => return Ok(None),
            Some(Copy::Session(copy)) if copy.name == name && !copy.is_expired() && copy.seen() == seen => {
                return Ok(Some(copy));
            }
            _ => {}
        }
        let session = self.store.get(name).await?;
        match &session {
            Some(session) if is_missing => self.add_copy(session).await,
            // The copy there may be later than what was just read. The request that saved it takes care of it.
            Some(_) => {}
            None => self.mark_gone(name).await,
        }
        Ok(session)
    }

    async fn replace(&self, old: Option<&Stored>, new: &Stored) -> Result<Replaced, Error> {
        let (both, old, new) = (self.clone(), old.cloned(), new.clone());
        to_the_end(async move { both.replace_both(old.as_ref(), &new).await }).await
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        let (both, name) = (self.clone(), name.to_owned());
        to_the_end(async move { both.delete_both(&name).await }).await
    }

    async fn clear_expired(&self, most: usize) -> Result<usize, Error> {
        self.store.clear_expired(most).await
    }
}

/// Runs a change in a task of its own, so that a caller that is dropped leaves no old copy behind.
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
