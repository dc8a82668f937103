//! One request on its way to its page: look up, or else run the handler once and store.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, header, request, response};
use axum::response::Response;
use bytes::Bytes;
use neverstale::build::{Joined, Look};
use neverstale::{Envelope, Event, Key};
use tokio::time::{Instant, timeout};
use tower::{Service, ServiceExt};

use super::context::PageContext;
use super::encoding::Encoding;
use super::entry::{Entry, Page, Validity};
use super::headers;
use super::key::{self, PageKey};
#[cfg(fault_injection)]
use super::mistake::Mistake;
use super::order::Stored;
use super::outcome::{Fwd, Outcome, Report};
use super::policy::Policy;
use super::privacy::Privacy;
use super::storable::{page_of, refusal};
use super::store::{Found, Slot};
use super::version::{self, Keyed, PageVersion, Shown, Source};

/// How often a request looks again because it waited for a page that turned out to be another variant.
const LOOKS: usize = 3;

/// How long a version check may take when a request looks again. Then its handler runs, which may have a time limit.
const CHECK_AGAIN: Duration = Duration::from_secs(1);

/// One request on its way.
pub(super) struct PageRequest<S> {
    pub(super) policy: Arc<Policy>,
    pub(super) handler: S,
    pub(super) keys: PageKey,
    pub(super) parts: request::Parts,
    pub(super) body: Body,
    pub(super) report: Report,
    pub(super) privacy: Privacy,
    /// Where the replay layer may keep the response.
    pub(super) keyed: Option<Keyed>,
}

/// Runs the handler, whose response the cache does not keep.
pub(super) async fn bypass<S>(
    handler: S,
    request: Request,
    outcome: Outcome,
    report: Report,
) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response>,
{
    let (mut response, report) = run(handler, request, report).await?;
    outcome.write(report, &mut response);
    Ok(response)
}

/// Looks for the page. Where it is likely missing, it is left to be looked for together with the right to build it.
async fn look_up(policy: &Policy, keys: &PageKey, headers: &HeaderMap, is_missing: bool) -> (Look, Found) {
    match &keys.version {
        Some(version) if is_missing && !policy.store.learned.contains_key(&keys.page) => {
            let (key, generation) = (keys.page.clone(), version.to_string());
            (Look::First, Found::Nothing(Slot { key, generation, fwd: Fwd::UriMiss }))
        }
        _ => (Look::Again, policy.store.find(keys, headers).await),
    }
}

/// Runs the handler, and reports how long it took.
async fn run<S>(handler: S, request: Request, report: Report) -> Result<(Response, Report), S::Error>
where
    S: Service<Request, Response = Response>,
{
    let start = Instant::now();
    let response = handler.oneshot(request).await?;
    Ok((response, Report { handler: Some(start.elapsed()), ..report }))
}

impl<S: Service<Request, Response = Response>> PageRequest<S> {
    /// Returns the page of the request: from the cache, or of the handler.
    pub(super) async fn respond(mut self) -> Result<Response, S::Error> {
        let mut has_waited = false;
        // The response that is kept in this process shows another version.
        let is_outdated = self.keyed.as_ref().is_some_and(Keyed::is_checked);
        for look in 0..LOOKS {
            let limit = if look == 0 { Duration::MAX } else { CHECK_AGAIN };
            let version = match timeout(limit, self.check_version()).await {
                Ok(Ok(version)) => version,
                Ok(Err(response)) => return Ok(response),
                Err(_) => return self.bypass(Outcome::Bypass("version-late")).await,
            };
            let versioned = version.map(|version| self.keys.at(version));
            let keys = versioned.as_ref().unwrap_or(&self.keys);
            let is_missing = look == 0 && is_outdated;
            let (look, found) = look_up(&self.policy, keys, &self.parts.headers, is_missing).await;
            let slot = match found {
                Found::Page(page) => {
                    let outcome = Outcome::Hit(page.validity.remaining());
                    return Ok(self.show(&page, outcome).await);
                }
                Found::Pass(slot) => return Ok(self.build(&slot).await?.0),
                Found::Unavailable => return self.bypass(Outcome::Bypass("cache-unavailable")).await,
                Found::Nothing(slot) => slot,
            };
            let cache = self.policy.store.cache.clone();
            // Kept until there is a response: a request that joins meanwhile gets what was built.
            let flight = cache.join(&self.flight(&slot));
            let decode = |value| slot.decode(versioned.is_some(), value);
            match flight.wait(&slot.key, look, self.max_wait(), decode).await {
                Joined::Value { value: Entry::Page(page), was_there } if self.is_variant_of(&page) => {
                    let remaining = page.validity.remaining();
                    let outcome = if was_there { Outcome::Hit(remaining) } else { Outcome::Collapsed };
                    return Ok(self.show(&page, outcome).await);
                }
                Joined::Value { value: Entry::Page(page), .. } => {
                    self.policy.store.learned.insert(keys.page.clone(), page.vary_on);
                }
                Joined::Value { value: Entry::Pass { .. }, .. } | Joined::Failed(_) | Joined::BuildAlone => {
                    return Ok(self.build(&slot).await?.0);
                }
                Joined::Value { .. } => {}
                // Another process may have stored a newer version meanwhile than the one that was current before.
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
        self.bypass(Outcome::Miss("varies-too-often".into())).await
    }

    /// Returns the current version, where pages are kept by version.
    ///
    /// # Errors
    ///
    /// The response that says why there is no version.
    async fn check_version(&mut self) -> Result<Option<Arc<str>>, Response> {
        let Some(versions) = &self.policy.versions else { return Ok(None) };
        let checked = self.keyed.as_ref().and_then(|keyed| keyed.take(versions));
        let (version, took) = match checked {
            Some(check) => (check.version, self.report.arrival.elapsed()),
            None => {
                let start = Instant::now();
                (version::current(versions).await, start.elapsed())
            }
        };
        self.report.check = Some(self.report.check.unwrap_or_default() + took);
        if let Some(context) = self.parts.extensions.get_mut::<PageContext>() {
            context.version = version.as_ref().ok().cloned();
        }
        version.map(Some).map_err(|mut response| {
            Outcome::Bypass("version-unknown").write(self.report, &mut response);
            response
        })
    }

    /// Runs the handler, stores its response if it may be stored, and returns it with what waiting requests get.
    async fn build(self, slot: &Slot) -> Result<(Response, Envelope), S::Error> {
        let Self { policy, keys, privacy, keyed, .. } = self;
        let (store, headers) = (&policy.store, self.parts.headers.clone());
        let request = Request::from_parts(self.parts, self.body);
        let (response, report) = run(self.handler, request, self.report).await?;
        store.cache.record(Event::Build);
        let (mut parts, body) = response.into_parts();
        let place = match refusal(&parts, body.size_hint().exact(), &privacy, policy.max_size) {
            Some(reason) => Err(reason),
            None => place(&policy, &keys.page, slot, &parts).ok_or("no-label".into()),
        };
        let page = match place {
            Ok((key, generation)) => {
                let is_keyed = keyed.is_some();
                let page = page_of(&policy, &privacy, &headers, &mut parts, body, generation, is_keyed).await;
                page.map(|page| (key, page))
            }
            Err(reason) => Err((body, reason)),
        };
        match page {
            Ok((key, page)) => {
                let mut response = with_body(parts, page.body(&headers).await);
                let shown = keyed.map(|_| shown(&policy, &keys, &page.validity));
                response.extensions_mut().insert(Stored::new(shown));
                let (built, is_stored) = store.keep(&key, page, &headers, policy.ttl).await;
                let outcome = match is_stored {
                    true if store.cache.keeps_nothing() => Outcome::Unstored("cache-keeps-nothing"),
                    true => Outcome::Stored(slot.fwd),
                    false => Outcome::Unstored("cache-refused"),
                };
                outcome.write(report, &mut response);
                Ok((response, built))
            }
            Err((body, reason)) => {
                let mut response = Response::from_parts(parts, body);
                Outcome::Miss(reason).write(report, &mut response);
                // What fails may work at once, and is not worth a note for later requests.
                let is_lasting = !response.status().is_server_error();
                Ok((response, store.pass(slot, is_lasting).await))
            }
        }
    }

    async fn bypass(self, outcome: Outcome) -> Result<Response, S::Error> {
        let request = Request::from_parts(self.parts, self.body);
        bypass(self.handler, request, outcome, self.report).await
    }

    /// Responds with a page. By `&mut`, since the body is not `Sync`.
    async fn show(&mut self, page: &Page, outcome: Outcome) -> Response {
        let (mut parts, ()) = Response::new(()).into_parts();
        (parts.status, parts.headers) = (page.status(), page.headers.clone());
        if let Some(age) = headers::age(&parts.headers) {
            parts.headers.insert(header::AGE, age.into());
        }
        let mut response = with_body(parts, page.body(&self.parts.headers).await);
        let shown = self.keyed.as_ref().map(|_| shown(&self.policy, &self.keys, &page.validity));
        response.extensions_mut().insert(Stored::new(shown));
        outcome.write(self.report, &mut response);
        response
    }

    /// Returns how long the request may still wait for another process: a version check may have taken its part.
    fn max_wait(&self) -> Duration {
        self.policy.max_wait.saturating_sub(self.report.arrival.elapsed())
    }

    /// Returns the key that all builds of this page share.
    fn flight(&self, slot: &Slot) -> Key {
        #[cfg(fault_injection)]
        if Mistake::PageFlightWithoutVersion.is_made() {
            return self.keys.page.clone();
        }
        slot.build()
    }

    /// Returns whether a page was made for the same values of the headers it varies on.
    fn is_variant_of(&self, page: &Page) -> bool {
        page.variant == key::variant(&page.vary_on, &self.parts.headers)
    }
}

/// Returns the key and the generation of a page that was built; none if the response does not name its version.
fn place(policy: &Policy, page: &Key, slot: &Slot, response: &response::Parts) -> Option<(Key, String)> {
    if policy.versions.is_none() {
        return Some((page.clone(), slot.generation.clone()));
    }
    #[cfg(fault_injection)]
    if Mistake::PageUnderAskedVersion.is_made() {
        return Some((slot.key.clone(), slot.generation.clone()));
    }
    let PageVersion(version) = response.extensions.get()?;
    Some((page.at(version), version.clone()))
}

/// Returns what a page shows, and where it is read whether that is current.
fn shown(policy: &Policy, keys: &PageKey, validity: &Validity) -> Shown {
    let source = match &policy.versions {
        Some(versions) => Source::Versions(versions.clone()),
        None => Source::Generations(policy.store.generations(&keys.generation)),
    };
    Shown { source, validity: validity.clone(), cache: policy.name }
}

/// Returns the response with a page's body, which may be encoded and then has a tag of its own.
fn with_body(mut parts: response::Parts, (encoding, body): (Option<Encoding>, Bytes)) -> Response {
    if let Some(encoding) = encoding {
        parts.headers.insert(header::CONTENT_ENCODING, encoding.header());
        headers::name_encoding(&mut parts.headers);
    }
    Response::from_parts(parts, body.into())
}
