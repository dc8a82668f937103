//! One request on its way to its page: look up, or else run the view once and store.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header, request};
use axum::response::Response;
use bytes::Bytes;
use neverstale::build::{Joined, Look};
use neverstale::{Envelope, Event, Key};
use tokio::time::{Instant, timeout};
use tower::{Service, ServiceExt};

use super::again::{self, KnownVersion, Replay};
use super::answer;
use super::encoding::Encoding;
use super::entry::{Entry, Page};
use super::headers;
use super::key::{self, PageKey, State};
use super::local::Local;
use super::mistake::Mistake;
use super::outcome::{CurrentVersion, Fwd, Outcome, PageVersion, Report};
use super::policy::Policy;
use super::privacy::Privacy;
use super::store::{Found, Slot, Store};
use super::verdict;

/// How often a request looks again because it waited for a page that turned out to be another variant.
const LOOKS: usize = 3;

/// How long it asks for the version when it looks again. Then its view runs, which may have a time limit.
const GATE_AGAIN: Duration = Duration::from_secs(1);

/// What a layer does, and where it keeps pages.
pub(super) struct Pages {
    pub(super) policy: Policy,
    pub(super) store: Arc<Store>,
}

/// One request on its way.
pub(super) struct Visit<S> {
    pub(super) pages: Arc<Pages>,
    pub(super) view: S,
    pub(super) keys: PageKey,
    pub(super) parts: request::Parts,
    pub(super) body: Body,
    pub(super) report: Report,
    pub(super) privacy: Privacy,
    /// Whether the visitor may have a page of their own, which is known before a build has begun, most likely.
    pub(super) may_be_own: bool,
}

impl Pages {
    /// Returns this process's copies, where there are any of these pages.
    fn copies(&self) -> Option<&Local> {
        self.store.local.as_ref().filter(|_| self.policy.versions.is_some())
    }
}

/// Runs the view, whose response the cache does not keep.
pub(super) async fn pass_by<S>(
    view: S,
    request: Request,
    outcome: Outcome,
    report: Report,
) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response>,
{
    let (mut response, view) = run(view, request).await?;
    outcome.say(Report { view: Some(view), ..report }, &mut response);
    Ok(response)
}

/// Looks for the page; but not where that may be done together with the right to build it, since the page is most
/// likely missing: there are copies, and none of this version.
async fn look_up(pages: &Pages, parts: &request::Parts, keys: &PageKey, may_wait: bool) -> (Look, Found) {
    let store = &pages.store;
    let is_likely_missing = may_wait && pages.copies().is_some() && !store.learned.contains_key(&keys.page);
    match &keys.state {
        State::Version(version) if is_likely_missing => {
            let (key, generation) = (keys.page.clone(), version.to_string());
            (Look::First, Found::Nothing(Slot { key, generation, fwd: Fwd::UriMiss }))
        }
        _ => (Look::Again, store.find(keys, &parts.headers).await),
    }
}

/// Runs the view, and returns how long it took.
async fn run<S>(view: S, request: Request) -> Result<(Response, Duration), S::Error>
where
    S: Service<Request, Response = Response>,
{
    let start = Instant::now();
    let response = view.oneshot(request).await?;
    Ok((response, start.elapsed()))
}

impl<S: Service<Request, Response = Response>> Visit<S> {
    /// Returns the page of the request: from a copy, from the cache, or of the view.
    pub(super) async fn answer(mut self) -> Result<Response, S::Error> {
        let mut has_waited = false;
        for look in 0..LOOKS {
            let limit = if look == 0 { Duration::MAX } else { GATE_AGAIN };
            let Ok(passed) = timeout(limit, self.pass_gate()).await else {
                return self.pass_by(Outcome::Bypass("version-late")).await;
            };
            let version = match passed {
                Ok(version) => version,
                Err(response) => return Ok(response),
            };
            if let Some(version) = &version
                && let Some(response) = self.show_copy(version).await
            {
                return Ok(response);
            }
            let versioned = version.map(|version| self.keys.at(version));
            let keys = versioned.as_ref().unwrap_or(&self.keys);
            let (look, found) = look_up(&self.pages, &self.parts, keys, look == 0 && !self.may_be_own).await;
            match found {
                Found::Page(page) => {
                    let outcome = Outcome::Hit(page.remaining());
                    return Ok(self.show(&page, outcome).await);
                }
                Found::Pass(slot) => return Ok(self.build(&slot).await?.0),
                Found::Unavailable => {
                    return self.pass_by(Outcome::Bypass("cache-unavailable")).await;
                }
                Found::Nothing(slot) => {
                    let cache = self.store().cache.clone();
                    // Kept until the answer is there: whoever comes meanwhile learns what came of the build.
                    let flight = cache.join(&self.flight(&slot));
                    let decode = |value| slot.decode(versioned.is_some(), value);
                    match flight.wait(&slot.key, look, self.max_wait(), decode).await {
                        Joined::Value { value: Entry::Page(page), was_there } if self.is_for_me(&page) => {
                            let hit = Outcome::Hit(page.remaining());
                            return Ok(self
                                .show(&page, if was_there { hit } else { Outcome::Collapsed })
                                .await);
                        }
                        Joined::Value { value: Entry::Page(page), .. } => {
                            self.store().learned.insert(keys.page.clone(), page.vary_on);
                        }
                        Joined::Value { value: Entry::Pass { .. }, .. }
                        | Joined::Failed(_)
                        | Joined::BuildAlone => {
                            return Ok(self.build(&slot).await?.0);
                        }
                        Joined::Value { .. } => {}
                        // Whoever was waited for may have stored a newer version than the one asked for.
                        Joined::Build(permit) if versioned.is_some() && permit.has_waited && !has_waited => {
                            has_waited = true;
                            permit.end(None).await;
                        }
                        Joined::Build(permit) => {
                            let (response, built) = permit.during(self.build(&slot)).await?;
                            permit.end(Some(built)).await;
                            return Ok(response);
                        }
                    }
                }
            }
        }
        self.pass_by(Outcome::Miss("varies-too-often".into())).await
    }

    /// Asks for the current version, where pages are kept by version; if that fails, the answer is that of the failure.
    async fn pass_gate(&mut self) -> Result<Option<Arc<str>>, Response> {
        let Some(versions) = &self.pages.policy.versions else { return Ok(None) };
        let told = self.parts.extensions.remove::<KnownVersion>().and_then(|told| told.take(versions));
        let (version, gate) = match told {
            Some(told) => (told.version, told.gate),
            None => {
                let start = Instant::now();
                (again::current(versions).await, start.elapsed())
            }
        };
        self.report.gate = Some(self.report.gate.unwrap_or_default() + gate);
        // A view that asks for itself begins later, which is as well where its build may be given up.
        if let Ok(version) = &version
            && !self.may_be_own
        {
            self.parts.extensions.insert(CurrentVersion(Arc::clone(version)));
        }
        version.map(Some).map_err(|mut response| {
            Outcome::Bypass("version-unknown").say(self.report, &mut response);
            response
        })
    }

    /// Runs the view, stores its answer if it may be, and returns it with what those who wait are told.
    async fn build(self, slot: &Slot) -> Result<(Response, Envelope), S::Error> {
        let (pages, keys) = (self.pages, self.keys);
        let store = &pages.store;
        let asked = self.parts.clone();
        let (response, view) = run(self.view, Request::from_parts(self.parts, self.body)).await?;
        store.cache.record(Event::Build);
        let report = Report { view: Some(view), ..self.report };
        let (mut parts, body) = response.into_parts();
        let base = &keys.page;
        let place = match &pages.policy.versions {
            None => Ok((base.clone(), slot.generation.clone())),
            Some(_) if Mistake::PageUnderAskedVersion.is_made() => {
                Ok((slot.key.clone(), slot.generation.clone()))
            }
            Some(_) => match parts.extensions.get() {
                Some(PageVersion(version)) => Ok((key::at(base, version), version.clone())),
                None => {
                    let reason = verdict::left_alone(&parts, body.size_hint().exact(), &self.privacy);
                    Err(reason.unwrap_or("no-label".into()))
                }
            },
        };
        let prepared = match place {
            Ok(place) => {
                let page = answer::keep(
                    &pages.policy,
                    pages.copies().is_some(),
                    &self.privacy,
                    &asked.headers,
                    &mut parts,
                    body,
                )
                .await;
                page.map(|page| (page, place))
            }
            Err(reason) => Err((body, reason)),
        };
        match prepared {
            Ok((mut page, (key, generation))) => {
                page.generation = generation;
                if let Some(local) = pages.copies() {
                    local.keep(base, &page);
                }
                let mut response = answer::respond(parts, page.body(&asked.headers));
                let (built, is_stored) = store.keep(&key, page, &asked.headers, pages.policy.ttl).await;
                let outcome = match is_stored {
                    true if store.cache.keeps_nothing() => Outcome::Miss("cache-keeps-nothing".into()),
                    true => Outcome::Stored(slot.fwd),
                    false => Outcome::Miss("cache-refused".into()),
                };
                outcome.say(report, &mut response);
                Ok((response, built))
            }
            Err((body, reason)) => {
                let mut response = Response::from_parts(parts, body);
                Outcome::Miss(reason).say(report, &mut response);
                // What fails may work at once, and is not worth a note for those who come later.
                let is_lasting = !response.status().is_server_error();
                Ok((response, store.pass(slot, is_lasting).await))
            }
        }
    }

    async fn pass_by(self, outcome: Outcome) -> Result<Response, S::Error> {
        let request = Request::from_parts(self.parts, self.body);
        pass_by(self.view, request, outcome, self.report).await
    }

    /// Answers with this process's copy, if it has that of the version. By `&mut`, since the body is not `Sync`.
    async fn show_copy(&mut self, version: &str) -> Option<Response> {
        let (versions, local) = (self.pages.policy.versions.as_ref()?, self.pages.copies()?);
        let ready = local.get(&self.keys.page, version)?;
        let body = ready.body(&self.parts.headers).await;
        let outcome = Outcome::Local(ready.page.remaining());
        let mut response = self.respond(ready.page.status(), ready.headers.clone(), body, outcome);
        response.extensions_mut().insert(Replay::new(self.report.cache, versions, local, &ready));
        Some(response)
    }

    /// Answers with a page, and keeps a copy of it where there are copies. By `&mut` as well.
    async fn show(&mut self, page: &Page, outcome: Outcome) -> Response {
        let local = self.pages.copies();
        let body = match local.and_then(|local| local.copy(&self.keys.page, page)) {
            Some(ready) => ready.body(&self.parts.headers).await,
            None => page.body(&self.parts.headers),
        };
        self.respond(page.status(), page.headers(), body, outcome)
    }

    fn respond(
        &self,
        status: StatusCode,
        headers: HeaderMap,
        body: (Option<Encoding>, Bytes),
        outcome: Outcome,
    ) -> Response {
        let (mut parts, ()) = Response::new(()).into_parts();
        (parts.status, parts.headers) = (status, headers);
        if let Some(age) = headers::age(&parts.headers) {
            parts.headers.insert(header::AGE, age.into());
        }
        let mut response = answer::respond(parts, body);
        outcome.say(self.report, &mut response);
        response
    }

    /// Returns how long it may still wait for another process: asking for the version may have taken its part.
    fn max_wait(&self) -> Duration {
        self.pages.policy.max_wait.saturating_sub(self.report.arrival.0.elapsed())
    }

    /// Returns the name that all who build this page share.
    fn flight(&self, slot: &Slot) -> Key {
        if Mistake::PageFlightWithoutVersion.is_made() { self.keys.page.clone() } else { slot.build() }
    }

    /// Returns whether a page was made for the same values of the headers it varies on.
    fn is_for_me(&self, page: &Page) -> bool {
        page.variant == key::variant(&page.vary_on, &self.parts.headers)
    }

    fn store(&self) -> &Store {
        &self.pages.store
    }
}
