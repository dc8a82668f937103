//! One request's work with a session, between the [`Session`](super::Session) that handlers use and the store.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde_json::Value;
use time::OffsetDateTime;
use tower_sessions::session::{self, Id, Record};
use tower_sessions::{SessionStore, session_store};

use super::store::{Acceptable, Name, Replaced, Seen, Store, Stored};
use super::{Error, LIFETIME, Sessions};
use neverstale_axum::Privacy;

/// How often a new session is given another id, because there is one of this id already.
const COLLISIONS: usize = 10;

/// How often changes are put on top of those of others.
const MERGES: usize = 10;

/// A `SessionStore` for one request: it knows what was loaded, so that a save can tell what it changes.
pub struct Visit {
    store: Arc<dyn Store>,
    acceptable: Acceptable,
    /// Marked by whoever loads the session, also in vain.
    privacy: Privacy,
    progress: Arc<Mutex<Progress>>,
}

/// What a request knows of its session.
#[derive(Default)]
struct Progress {
    /// What is in the store.
    stored: Option<Stored>,
    /// What the request has loaded or saved, which lacks what others have added since.
    data: HashMap<String, Value>,
    /// Whether the request came without a session, and none was stored since.
    is_absent: bool,
    is_saved: bool,
    is_given_up: bool,
    is_exact: bool,
    /// Whether the answer depends on the session, or on there being none.
    is_read: bool,
    /// Whether it was looked for in vain, or deleted.
    is_missing: bool,
    failure: Option<Error>,
}

impl Visit {
    /// Begins the work with a session, which may be loaded from such a copy.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, acceptable: Acceptable) -> Self {
        Self { store, acceptable, privacy: Privacy::default(), progress: Arc::default() }
    }

    /// Marks this request's privacy when the session is loaded.
    pub(super) fn marking(self, privacy: Privacy) -> Self {
        Self { privacy, ..self }
    }

    /// Begins without a session. Loading finds an empty one without asking the store: a response that depends on there
    /// being none depends on private state, too.
    pub(super) fn without_session(self) -> Self {
        self.progress().is_absent = true;
        self
    }

    /// Returns the same visit for a look ahead, which does not mark the request's privacy: what is found decides only
    /// whether the visitor is answered with the page that everybody gets.
    #[must_use]
    pub fn ahead(&self) -> Self {
        let (store, progress) = (Arc::clone(&self.store), Arc::clone(&self.progress));
        Self { store, acceptable: self.acceptable, privacy: Privacy::default(), progress }
    }

    /// Returns whether there may be a session: the request brought one, or one was stored since.
    #[must_use]
    pub fn may_have_session(&self) -> bool {
        !self.progress().is_absent
    }

    /// Notes that the answer depends on the session.
    pub fn note_read(&self) {
        self.progress().is_read = true;
    }

    /// Returns whether the answer depends on the session.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.progress().is_read
    }

    /// Returns whether the session was looked for in vain, or deleted.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.progress().is_missing
    }

    /// Lets the layer save nothing after this: the answer is right without it.
    pub fn give_up(&self) {
        self.progress().is_given_up = true;
    }

    /// Lets a save fail with [`Error::Contended`], from now on, if others have changed the session since it was loaded.
    pub fn insist(&self) {
        self.progress().is_exact = true;
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.progress().is_given_up
    }

    /// Returns what is in the store, as far as it is known.
    pub(super) fn stored(&self) -> Option<Stored> {
        self.progress().stored.clone()
    }

    /// Returns what the visitor is told to have seen.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        self.progress().stored.as_ref().map(Stored::seen)
    }

    /// Returns what was behind an error of the session, which has only its text.
    #[must_use]
    pub fn explain(&self, error: session::Error) -> Error {
        match (self.progress().failure.take(), error) {
            (Some(failure), _) => failure,
            (None, session::Error::SerdeJson(error)) => Error::Encoding(error),
            (None, session::Error::Store(error)) => Error::Encoding(serde::ser::Error::custom(error)),
        }
    }

    /// Returns the session of a request that has none.
    fn none_yet(&self, id: &Id) -> Option<Record> {
        let expiry_date = OffsetDateTime::now_utc() + LIFETIME;
        self.progress().is_absent.then(|| Record { id: *id, data: HashMap::new(), expiry_date })
    }

    async fn try_create(&self, record: &mut Record) -> Result<(), Error> {
        for _ in 0..COLLISIONS {
            let session = Stored::of(record)?;
            if self.store.add(&session).await? {
                self.note_saved(session, record);
                return Ok(());
            }
            record.id = Id::default();
        }
        Err(Error::Contended)
    }

    async fn try_load(&self, id: &Id) -> Result<Option<Record>, Error> {
        self.privacy.mark();
        if let Some(none) = self.none_yet(id) {
            return Ok(Some(none));
        }
        let found = self.store.get(&Name::of(id), self.acceptable).await?;
        let Some(session) = found else {
            self.note_missing();
            return Ok(None);
        };
        let record = match session.record(*id) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!("a session that cannot be read is taken for none: {error}");
                self.note_missing();
                return Ok(None);
            }
        };
        let mut progress = self.progress();
        progress.data.clone_from(&record.data);
        progress.stored = Some(session);
        Ok(Some(record))
    }

    /// Stores a session under the id that the request was given with none.
    async fn try_begin(&self, record: &Record) -> Result<(), Error> {
        if record.data.is_empty() {
            return Ok(());
        }
        let session = Stored::of(record)?;
        if !self.store.add(&session).await? {
            return Err(Error::Contended);
        }
        self.note_saved(session, record);
        Ok(())
    }

    async fn try_save(&self, record: &Record) -> Result<(), Error> {
        if !self.may_have_session() {
            return self.try_begin(record).await;
        }
        let (mut old, known, is_saved, is_exact) = {
            let progress = self.progress();
            (progress.stored.clone(), progress.data.clone(), progress.is_saved, progress.is_exact)
        };
        if is_saved && known == record.data {
            return Ok(());
        }
        for _ in 0..MERGES {
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
                    // Which the visitor is told of, and not led to the same copy again.
                    self.progress().stored = Some(current);
                    return Err(Error::Contended);
                }
                Replaced::Changed(current) => old = Some(current),
                Replaced::Gone => {
                    self.note_missing();
                    return Err(Error::Gone);
                }
            }
        }
        Err(Error::Contended)
    }

    fn note_saved(&self, session: Stored, record: &Record) {
        let mut progress = self.progress();
        progress.data.clone_from(&record.data);
        progress.stored = Some(session);
        progress.is_saved = true;
        progress.is_absent = false;
    }

    fn note_missing(&self) {
        let mut progress = self.progress();
        progress.stored = None;
        progress.is_missing = true;
    }

    /// Keeps an error for [`explain`](Self::explain).
    fn tell<T>(&self, result: Result<T, Error>) -> session_store::Result<T> {
        self.note_read();
        result.map_err(|error| {
            let text = error.to_string();
            self.progress().failure = Some(error);
            session_store::Error::Backend(text)
        })
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts what was changed from `known` to `mine` on top of `theirs`.
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

#[async_trait]
impl SessionStore for Visit {
    async fn create(&self, record: &mut Record) -> session_store::Result<()> {
        self.tell(self.try_create(record).await)
    }

    async fn save(&self, record: &Record) -> session_store::Result<()> {
        self.tell(self.try_save(record).await)
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<Record>> {
        self.tell(self.try_load(id).await)
    }

    async fn delete(&self, id: &Id) -> session_store::Result<()> {
        if !self.may_have_session() {
            return Ok(());
        }
        let deleted = self.store.delete(&Name::of(id)).await;
        self.note_missing();
        self.tell(deleted)
    }
}

/// For a layer that does not know what its visitors have seen: any copy is taken, and the later save wins.
#[async_trait]
impl SessionStore for Sessions {
    async fn create(&self, record: &mut Record) -> session_store::Result<()> {
        self.visit(Acceptable::Any).create(record).await
    }

    async fn save(&self, record: &Record) -> session_store::Result<()> {
        self.visit(Acceptable::Any).save(record).await
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<Record>> {
        self.visit(Acceptable::Any).load(id).await
    }

    async fn delete(&self, id: &Id) -> session_store::Result<()> {
        self.visit(Acceptable::Any).delete(id).await
    }
}

impl Sessions {
    /// Begins a request's work with its session.
    #[must_use]
    pub fn visit(&self, acceptable: Acceptable) -> Visit {
        Visit::new(Arc::clone(&self.store), acceptable)
    }
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Visit")
    }
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
