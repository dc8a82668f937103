//! What a cache does for an application, tried through ordinary operations with keys of its own.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::finding::{Finding, Problem};
use crate::cli::remedy::Place;
use neverstale::backend::{self, ErrorKind, ServerCheck};
use neverstale::{Cache, Key, Ttl};

/// How many keys are looked at for one that belongs to a server. With a hundred servers, one in a hundred does.
const TRIES: u32 = 10_000;

/// How long what cannot be removed again stays.
const MINUTE: Ttl = Ttl::After(Duration::from_secs(60));

/// Over 30 days, which memcached reads as a point in time.
const MONTH: Ttl = Ttl::After(Duration::from_secs(31 * 24 * 60 * 60));

/// Tries all servers at the same time, or the store itself where there are none.
pub(super) async fn findings(cache: &Cache, place: Place) -> Vec<Finding> {
    let checks = cache.check().await;
    if checks.is_empty() {
        let here = Finding { what: "cache".into(), outcome: Ok(cache.to_string()), took: None };
        let key = random_key();
        return [vec![here], probe(cache, place, "cache", &key).await].concat();
    }
    join_all(checks.into_iter().map(|check| look_into(cache, place, check))).await.concat()
}

/// A server that does not answer the first look is asked nothing more: each question would wait as long again.
async fn look_into(cache: &Cache, place: Place, check: ServerCheck) -> Vec<Finding> {
    let what = format!("cache {}", check.server);
    let outcome = check.outcome.map_err(|error| problem(place, &error));
    let is_well = outcome.is_ok();
    let first = Finding { what: what.clone(), outcome, took: Some(check.took) };
    if !is_well {
        return vec![first];
    }
    let Some(key) = key_on(cache, &check.server) else {
        let cause = format!("none of {TRIES} keys belongs to it");
        let problem = Problem { cause, remedy: "take it out of the list: it is of no use" };
        return vec![first, Finding { what, outcome: Err(problem), took: None }];
    };
    [vec![first], probe(cache, place, &what, &key).await].concat()
}

fn key_on(cache: &Cache, server: &str) -> Option<Key> {
    (0..TRIES).map(|_| random_key()).find(|key| cache.backend().server_of(&cache.name(key)) == server)
}

fn random_key() -> Key {
    Key::reserved("tasklist:check:", &format!("{:016x}", fastrand::u64(..)))
}

/// Tries one server, until something is wrong, and removes the key.
async fn probe(cache: &Cache, place: Place, what: &str, key: &Key) -> Vec<Finding> {
    let mut findings = vec![timed(format!("{what} round trip"), round_trip(cache, place, key)).await];
    if findings.iter().all(Finding::is_ok) {
        findings.push(timed(format!("{what} clock"), clock(cache, place, key)).await);
    }
    // The last, since it is what a slow network may take too long for.
    if findings.iter().all(Finding::is_ok) {
        findings.push(timed(format!("{what} value limit"), value_limit(cache, place, key)).await);
    }
    // What cannot be removed expires; that it could not is a consequence of what has been found.
    let _ = cache.backend().delete(&cache.name(key)).await;
    findings
}

async fn timed(what: String, outcome: impl Future<Output = Result<String, Problem>>) -> Finding {
    let started = Instant::now();
    Finding { what, outcome: outcome.await, took: Some(started.elapsed()) }
}

async fn round_trip(cache: &Cache, place: Place, key: &Key) -> Result<String, Problem> {
    let value = Bytes::from(format!("{key}\r\n\0"));
    let failed = |error| problem(place, &error);
    cache.backend().set(&cache.name(key), value.clone(), MINUTE).await.map_err(failed)?;
    match cache.backend().get(&cache.name(key)).await.map_err(failed)? {
        Some(found) if found == value => Ok("a value comes back as it was stored".into()),
        Some(_) => Err(Problem {
            cause: "a value comes back as another one".into(),
            remedy: "does something between here and the server change what is stored?",
        }),
        None => Err(Problem {
            cause: "a value is gone as soon as it is stored".into(),
            remedy: "is the server short of memory, or emptied all the time?",
        }),
    }
}

async fn clock(cache: &Cache, place: Place, key: &Key) -> Result<String, Problem> {
    let failed = |error| problem(place, &error);
    cache.backend().set(&cache.name(key), Bytes::from_static(b"31 days"), MONTH).await.map_err(failed)?;
    match cache.backend().get(&cache.name(key)).await.map_err(failed)? {
        Some(_) => Ok("a value that is to live for 31 days is kept".into()),
        None => Err(Problem {
            cause: "a value that is to live for 31 days is gone at once".into(),
            remedy: "set the clocks of this machine and of the server: memcached reads lifetimes over 30 days as \
                     points in time",
        }),
    }
}

async fn value_limit(cache: &Cache, place: Place, key: &Key) -> Result<String, Problem> {
    let length = cache.largest_value();
    let value = Bytes::from(vec![b'x'; length]);
    cache.backend().set(&cache.name(key), value, MINUTE).await.map_err(|error| match error.kind {
        ErrorKind::Timeout(_) if place == Place::Memcached => Problem {
            cause: format!("{length} bytes: {}", error.kind),
            remedy: "is the network to the server slow? What takes longer is left uncached",
        },
        kind => Problem { cause: format!("{length} bytes: {kind}"), remedy: place.remedy(&kind) },
    })?;
    Ok(format!("takes {length} bytes"))
}

fn problem(place: Place, error: &backend::Error) -> Problem {
    Problem { cause: error.kind.to_string(), remedy: place.remedy(&error.kind) }
}
