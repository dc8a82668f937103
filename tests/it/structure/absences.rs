//! What a part must not know besides modules of ours: crates, words, and what belongs into one place only.

use super::{code, files};

/// Where something must not appear, and what. Which modules of ours a module imports, `imports` says.
const ABSENCES: &[(&str, &[&str])] = &[
    ("src/cache", &["axum", "http::", "askama", "sqlx"]),
    ("src/cache/version", &["tasks", "Stamp"]),
    ("src/session", &["askama", "sqlx"]),
    ("src/memcached", &["axum"]),
    ("src/memcached/protocol", &["async", "tokio", "Instant", "SystemTime", "std::net", "std::io"]),
    ("src/tasks", &["axum", "askama"]),
    ("src/db", &["axum", "askama"]),
    ("src/upstream", &["axum", "askama"]),
    ("src/views", &["CACHE_CONTROL", "cache-control", "sqlx", "neverstale::backend", ".layer("]),
    ("src/templates", &["sqlx"]),
    ("src/monitor", &["axum", "http::", "askama", "sqlx"]),
    ("src/admin", &["askama", "sqlx"]),
    ("src/router", &["ServiceBuilder", "from_fn"]),
    ("src/", &["todo!(", "unimplemented!(", "#[ignore"]),
];

/// What may appear in a place all the same.
const EXCEPTIONS: &[(&str, &str)] = &[("src/cache/view", "axum"), ("src/cache/view", "http::")];

/// What may appear in these places and nowhere else.
const ONLY_IN: &[(&str, &[&str])] = &[
    // The second is no configuration: it is compiled for tests only, which must not come by way of `.env`.
    ("env::var", &["src/config/env.rs", "src/cache/mistake.rs"]),
    ("backend::database", &["src/app.rs"]),
    ("backend::dummy", &["src/app.rs"]),
    ("backend::file", &["src/app.rs"]),
    ("backend::locmem", &["src/app.rs"]),
    ("backend::memcache", &["src/app.rs"]),
    ("prometheus_client", &["src/monitor/metrics.rs"]),
    ("reqwest", &["src/upstream.rs", "src/config/api.rs"]),
    ("anyhow", &["src/cli"]),
    (".layer(", &["src/middleware.rs", "src/router.rs"]),
    (
        "sqlx::",
        &["src/db", "src/tasks", "src/config/database.rs", "src/config/log.rs", "src/config/postgres.rs"],
    ),
];

#[test]
fn every_part_knows_only_what_it_may() {
    for path in files("src") {
        let code = code(&path);
        for (place, absent) in ABSENCES {
            for word in absent.iter().filter(|_| path.starts_with(place)) {
                let is_exception =
                    EXCEPTIONS.iter().any(|(place, known)| path.starts_with(place) && known == word);
                assert!(is_exception || !code.contains(word), "{path} must not know {word}");
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
    let is_used = |place: &str, word: &str| {
        files("src").iter().any(|path| path.starts_with(place) && code(path).contains(word))
    };
    for (place, word) in EXCEPTIONS {
        assert!(is_used(place, word), "{place} knows no {word}");
    }
    for (word, place) in
        ONLY_IN.iter().flat_map(|(word, places)| places.iter().map(move |place| (word, place)))
    {
        assert!(is_used(place, word), "{place} has no {word}");
    }
}
