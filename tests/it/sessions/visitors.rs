//! A visitor's browser, and what a process does for one request, as the layer of [`Sessions`] does it.

use std::collections::BTreeMap;
use std::sync::Arc;

use neverstale_sessions::{Error, RequestSession, Seen, Session, Sessions};
use serde_json::Value;
use tower_sessions::Expiry;
use tower_sessions::session::Id;

/// What a session may hold in these tests.
pub const KEYS: [&str; 4] = ["user", "a", "b", "c"];

/// What is in a session.
pub type Data = BTreeMap<String, String>;

/// What a browser keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub id: Id,
    pub seen: Seen,
}

/// What is asked of a process.
#[derive(Clone, Debug)]
pub enum Step {
    /// Under an id of its own, whatever session there was.
    LogIn(String),
    /// By a request that is safe.
    Read,
    /// By one that is not.
    Look,
    /// If somebody is logged in.
    Write(&'static str, String),
    LogOut,
}

/// What comes back.
pub struct Answer {
    /// What was in the session when it was loaded.
    pub found: Data,
    pub error: Option<Error>,
    pub cookie: Cookie,
}

/// What a browser is told to do with its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookie {
    Keep,
    Give(Ticket),
    Take,
}

/// Does what a request asks.
pub async fn request(sessions: &Sessions, ticket: Option<Ticket>, step: &Step) -> Answer {
    let seen = ticket.map(|ticket| ticket.seen).filter(|_| matches!(step, Step::Read));
    let request = Arc::new(sessions.request(seen));
    let expiry = Some(Expiry::OnInactivity(time::Duration::weeks(2)));
    let session = Session::new(ticket.map(|ticket| ticket.id), Arc::clone(&request), expiry);
    let mut found = Data::new();
    let error = work(&session, &request, step, &mut found).await.err();
    let cookie = match (ticket, session.id(), request.seen()) {
        (Some(old), Some(id), Some(seen)) if old == (Ticket { id, seen }) => Cookie::Keep,
        (_, Some(id), Some(seen)) => Cookie::Give(Ticket { id, seen }),
        (Some(_), _, None) if request.is_missing() => Cookie::Take,
        _ => Cookie::Keep,
    };
    Answer { found, error, cookie }
}

async fn work(
    session: &Session,
    request: &RequestSession,
    step: &Step,
    found: &mut Data,
) -> Result<(), Error> {
    let explain = |error| request.explain(error);
    for key in KEYS {
        let value: Option<Value> = session.get_value(key).await.map_err(explain)?;
        found.extend(value.map(|value| (key.to_owned(), value.as_str().unwrap().to_owned())));
    }
    match step {
        Step::LogIn(user) => {
            session.cycle_id().await.map_err(explain)?;
            session.insert("user", user).await.map_err(explain)?;
        }
        Step::Write(key, value) if found.contains_key("user") => {
            session.insert(key, value).await.map_err(explain)?;
        }
        Step::LogOut => session.flush().await.map_err(explain)?,
        Step::Write(..) | Step::Read | Step::Look => {}
    }
    if session.is_modified() && !session.is_empty().await {
        session.save().await.map_err(explain)?;
    }
    Ok(())
}
