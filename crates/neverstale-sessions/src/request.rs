//! The session of one request, between the [`Session`] that handlers use and the store.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::Value;
use time::OffsetDateTime;
use tower_sessions::session::{self, Id, Record};
use tower_sessions::{Session, SessionStore, session_store};

use super::error::Error;
use super::store::{Replaced, Seen, Store, Stored};
use neverstale_axum::Privacy;

/// How often a change that met another one is made again.
const ATTEMPTS: usize = 10;

/// The store behind the [`Session`] of one request, which knows what the request has loaded and saved.
///
/// The layer puts it among the request's extensions, in an `Arc`. It has what `Session` lacks: [errors](Self::explain)
/// with their causes, and [updates](Self::update) that lose no concurrent change.
///
/// ```
/// use std::sync::Arc;
///
/// use axum::Extension;
/// use neverstale_sessions::{Error, RequestSession, Session};
///
/// async fn count(
///     Extension(session): Extension<Session>,
///     Extension(request): Extension<Arc<RequestSession>>,
/// ) -> Result<(), Error> {
///     let change = || async {
///         let visits = session.get("visits").await?.unwrap_or(0_u32);
///         session.insert("visits", visits + 1).await
///     };
///     request.update(&session, change).await
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::post(count));
/// ```
pub struct RequestSession {
    store: Arc<dyn Store>,
    privacy: Privacy,
    progress: Mutex<Progress>,
}

/// What a request knows of its session.
#[derive(Default)]
struct Progress {
    state: State,
    /// What the request has loaded or saved, which lacks what others have added since.
    data: HashMap<String, Value>,
    /// A copy that equals this may be loaded.
    seen: Option<Seen>,
    is_saved: bool,
    /// Whether a save fails if others have changed the session.
    is_exact: bool,
    /// Whether the response depends on the session, or on there being none.
    is_used: bool,
    /// Whether a save has begun and not succeeded.
    has_failed: bool,
    failure: Option<Error>,
}

/// What is in the store, as far as the request knows.
#[derive(Default)]
enum State {
    #[default]
    Unknown,
    /// The request has brought no cookie.
    NoCookie,
    Stored(Stored),
    /// Not found, or deleted.
    Missing,
}

impl RequestSession {
    pub(super) fn new(store: Arc<dyn Store>, seen: Option<Seen>) -> Self {
        let progress = Progress { seen, ..Progress::default() };
        Self { store, privacy: Privacy::default(), progress: Mutex::new(progress) }
    }

    /// Lets a load mark the request's privacy, and find an empty session if the request has brought no cookie.
    ///
    /// A response that depends on there being no session depends on private state, too.
    pub(super) fn of_request(self, privacy: Privacy, has_cookie: bool) -> Self {
        if !has_cookie {
            self.progress().state = State::NoCookie;
        }
        Self { privacy, ..self }
    }

    /// Returns whether there may be a session: the request brought a cookie, or has stored one.
    fn may_exist(&self) -> bool {
        !matches!(self.progress().state, State::NoCookie)
    }

    /// Returns whether the session was looked for in vain, or deleted.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self.progress().state, State::Missing)
    }

    /// Returns the digest of what is stored, as far as the request knows.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        self.stored().as_ref().map(Stored::seen)
    }

    pub(super) fn stored(&self) -> Option<Stored> {
        match &self.progress().state {
            State::Stored(stored) => Some(stored.clone()),
            _ => None,
        }
    }

    pub(super) fn is_used(&self) -> bool {
        self.progress().is_used
    }

    pub(super) fn has_failed(&self) -> bool {
        self.progress().has_failed
    }

    /// Changes a session and saves it at once. If another request has changed it meanwhile, loads it and changes it
    /// again.
    ///
    /// Saves earlier changes of this request too, but not where the session had to be loaded again.
    ///
    /// # Errors
    ///
    /// Those of `change` and of the store. [`Error::Gone`] if the session was deleted, and [`Error::Contended`] if it
    /// changed ten times in a row.
    ///
    /// # Cancel safety
    ///
    /// The change is saved or not. Dropped before the save, it stays in the session that the layer saves.
    pub async fn update<T, F>(&self, session: &Session, change: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, session::Error>>,
    {
        for _ in 0..ATTEMPTS {
            let outcome = change().await.map_err(|error| self.explain(error))?;
            self.progress().is_exact = true;
            let saved = session.save().await.map_err(|error| self.explain(error));
            self.progress().is_exact = false;
            match saved {
                Err(Error::Contended) => {}
                saved => return saved.map(|()| outcome),
            }
            session.load().await.map_err(|error| self.explain(error))?;
            // A `Session` that is missing would begin anew.
            if self.is_missing() {
                return Err(Error::Gone);
            }
        }
        Err(Error::Contended)
    }

    /// Returns the cause of an error of the [`Session`], which has only its text.
    #[must_use]
    pub fn explain(&self, error: session::Error) -> Error {
        match (self.progress().failure.take(), error) {
            (Some(failure), _) => failure,
            (None, session::Error::SerdeJson(error)) => Error::Encoding(error),
            (None, session::Error::Store(error)) => Error::Store(error.into()),
        }
    }

    async fn try_create(&self, record: &mut Record) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            if self.try_add(record).await? {
                return Ok(());
            }
            record.id = Id::default();
        }
        Err(Error::Contended)
    }

    async fn try_add(&self, record: &Record) -> Result<bool, Error> {
        let session = Stored::of(record)?;
        let is_added = self.store.add(&session).await?;
        if is_added {
            self.note_saved(session, record);
        }
        Ok(is_added)
    }

    async fn try_load(&self, id: &Id) -> Result<Option<Record>, Error> {
        self.privacy.mark();
        if !self.may_exist() {
            let expiry_date = OffsetDateTime::now_utc();
            return Ok(Some(Record { id: *id, data: HashMap::new(), expiry_date }));
        }
        let (name, seen) = (Stored::name_of(id), self.progress().seen);
        let found = match seen {
            Some(seen) => self.store.get_seen(&name, seen).await?,
            None => self.store.get(&name).await?,
        };
        let unreadable =
            |error: &Error| tracing::error!("a session that cannot be read is taken for none: {error}");
        let found = found.and_then(|stored| {
            let record = stored.record(*id).inspect_err(unreadable).ok()?;
            Some((stored, record))
        });
        let mut progress = self.progress();
        let Some((stored, record)) = found else {
            progress.state = State::Missing;
            return Ok(None);
        };
        progress.data.clone_from(&record.data);
        progress.state = State::Stored(stored);
        Ok(Some(record))
    }

    async fn try_save(&self, record: &Record) -> Result<(), Error> {
        if !self.may_exist() {
            let is_done = record.data.is_empty() || self.try_add(record).await?;
            return if is_done { Ok(()) } else { Err(Error::Contended) };
        }
        let mut old = self.stored();
        let (known, is_saved, is_exact) = {
            let progress = self.progress();
            (progress.data.clone(), progress.is_saved, progress.is_exact)
        };
        if is_saved && known == record.data {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let data = match &old {
                Some(old) => merge(&known, &record.data, old.data()?),
                None => record.data.clone(),
            };
            let new = Stored::of(&Record { data, ..record.clone() })?;
            match self.store.replace(old.as_ref(), &new).await? {
                Replaced::Done => {
                    self.note_saved(new, record);
                    return Ok(());
                }
                Replaced::Changed(current) if is_exact => {
                    let mut progress = self.progress();
                    progress.state = State::Stored(current);
                    // The copy that the visitor has seen is old.
                    progress.seen = None;
                    return Err(Error::Contended);
                }
                Replaced::Changed(current) => old = Some(current),
                Replaced::Gone => {
                    self.progress().state = State::Missing;
                    return Err(Error::Gone);
                }
            }
        }
        Err(Error::Contended)
    }

    fn note_saved(&self, session: Stored, record: &Record) {
        let mut progress = self.progress();
        progress.data.clone_from(&record.data);
        progress.state = State::Stored(session);
        progress.is_saved = true;
    }

    /// Runs a save, and notes until its end that it has failed: a handler may drop it.
    async fn save_with(&self, save: impl Future<Output = Result<(), Error>>) -> session_store::Result<()> {
        self.progress().has_failed = true;
        let saved = self.run(save).await;
        self.progress().has_failed = saved.is_err();
        saved
    }

    /// Runs an operation, and keeps its error for [`explain`](Self::explain).
    async fn run<T>(&self, operation: impl Future<Output = Result<T, Error>>) -> session_store::Result<T> {
        self.progress().is_used = true;
        operation.await.map_err(|error| {
            let text = error.to_string();
            self.progress().failure = Some(error);
            session_store::Error::Backend(text)
        })
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SessionStore for RequestSession {
    async fn create(&self, record: &mut Record) -> session_store::Result<()> {
        self.save_with(self.try_create(record)).await
    }

    async fn save(&self, record: &Record) -> session_store::Result<()> {
        self.save_with(self.try_save(record)).await
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<Record>> {
        self.run(self.try_load(id)).await
    }

    async fn delete(&self, id: &Id) -> session_store::Result<()> {
        if !self.may_exist() {
            return Ok(());
        }
        let name = Stored::name_of(id);
        let deleted = self.run(self.store.delete(&name)).await;
        self.progress().state = State::Missing;
        deleted
    }
}

impl fmt::Debug for RequestSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestSession")
    }
}

/// Applies to `theirs` what was changed from `known` to `mine`.
fn merge(
    known: &HashMap<String, Value>,
    mine: &HashMap<String, Value>,
    mut theirs: HashMap<String, Value>,
) -> HashMap<String, Value> {
    theirs.retain(|key, _| mine.contains_key(key) || !known.contains_key(key));
    let changed = mine.iter().filter(|(key, value)| known.get(*key) != Some(value));
    theirs.extend(changed.map(|(key, value)| (key.clone(), value.clone())));
    theirs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pairs: &[(&str, u64)]) -> HashMap<String, Value> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect()
    }

    #[track_caller]
    fn check(known: &[(&str, u64)], mine: &[(&str, u64)], theirs: &[(&str, u64)], expected: &[(&str, u64)]) {
        assert_eq!(merge(&data(known), &data(mine), data(theirs)), data(expected));
    }

    #[test]
    fn what_a_request_changed_is_put_on_top_of_what_others_did() {
        check(&[], &[("a", 1)], &[("b", 2)], &[("a", 1), ("b", 2)]);
        check(&[("a", 1)], &[("a", 1)], &[("a", 2)], &[("a", 2)]);
        check(&[("a", 1)], &[("a", 3)], &[("a", 2)], &[("a", 3)]);
        check(&[("a", 1)], &[("a", 3)], &[], &[("a", 3)]);
    }

    #[test]
    fn what_either_removed_is_gone() {
        check(&[("a", 1)], &[], &[("a", 1), ("b", 2)], &[("b", 2)]);
        check(&[("a", 1)], &[("a", 1), ("c", 3)], &[], &[("c", 3)]);
        check(&[], &[], &[("a", 1)], &[("a", 1)]);
    }
}
