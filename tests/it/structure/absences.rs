//! What a part must not know, although the compiler would let it: crates, words, and what belongs into one place only.

use super::{SOURCES, code, files};

/// Where something must not appear, and what.
const ABSENCES: &[(&str, &[&str])] = &[
    (
        "crates/tokio-memcached/src/protocol",
        &["async", "tokio", "Instant", "SystemTime", "std::net", "std::io"],
    ),
    ("src/tasks", &[" axum::", "askama", "neverstale"]),
    ("src/db/", &[" axum::", "askama", "neverstale_axum"]),
    ("src/upstream", &[" axum::", "askama"]),
    ("src/handlers", &["CACHE_CONTROL", "cache-control", "sqlx", "neverstale::backend", ".layer("]),
    ("src/templates", &["sqlx"]),
    ("src/monitor", &[" axum::", "http::", "askama", "sqlx"]),
    ("src/admin", &["askama", "sqlx"]),
    ("src/router", &["ServiceBuilder", "from_fn"]),
    ("", &["todo!(", "unimplemented!(", "#[ignore"]),
];

/// What may appear in these places and nowhere else.
const ONLY_IN: &[(&str, &[&str])] = &[
    // The second is no configuration: it is compiled for tests only, which must not come by way of `.env`.
    ("env::var", &["src/config/env.rs", "crates/neverstale/src/mistake.rs", "crates/testkit/"]),
    ("backend::dummy", &["src/app.rs", "crates/testkit/"]),
    ("backend::file", &["src/app.rs", "crates/testkit/"]),
    ("backend::locmem", &["src/app.rs", "crates/testkit/"]),
    ("backend::memcached", &["src/app.rs", "crates/testkit/"]),
    ("DatabaseCache", &["src/app.rs", "src/db/"]),
    ("memcache_crate::", &["src/app.rs"]),
    ("prometheus_client", &["src/monitor"]),
    ("reqwest", &["src/upstream.rs", "src/config/api.rs", "crates/testkit/"]),
    ("anyhow", &["src/cli"]),
    (".layer(", &["src/middleware.rs", "src/router.rs"]),
    ("sqlx::", &["src/db", "src/tasks", "src/config/log.rs", "crates/testkit/"]),
];

#[test]
fn every_part_knows_only_what_it_may() {
    for path in SOURCES.into_iter().flat_map(files) {
        let code = code(&path);
        for (place, absent) in ABSENCES {
            for word in absent.iter().filter(|_| path.starts_with(place)) {
                assert!(!code.contains(word), "{path} must not know {word}");
            }
        }
        for (word, places) in ONLY_IN {
            let allowed = places.iter().any(|place| path.starts_with(place));
            assert!(allowed || !code.contains(word), "{word} belongs into {places:?}, not into {path}");
        }
    }
}

#[test]
fn nothing_is_allowed_that_nobody_does() {
    let all: Vec<_> = SOURCES.into_iter().flat_map(files).collect();
    let is_used =
        |place: &str, word: &str| all.iter().any(|path| path.starts_with(place) && code(path).contains(word));
    for (word, place) in
        ONLY_IN.iter().flat_map(|(word, places)| places.iter().map(move |place| (word, place)))
    {
        assert!(is_used(place, word), "{place} has no {word}");
    }
}
