//! docs/from-django.md: all that stands in its middle column is there, and all that Django has stands in its left one.

use std::collections::BTreeSet;

use super::commands::is_command;
use super::links::is_a_file;
use super::{code, files, is_variable, read, variables};
use crate::documents::markdown::quoted;

/// What somebody who comes from Django and from the tutorials looks for.
const SOUGHT: &str = "BACKEND LOCATION TIMEOUT KEY_PREFIX VERSION KEY_FUNCTION MAX_ENTRIES CULL_FREQUENCY username password \
    binary behaviors tcp_nodelay tcp_keepalive connect_timeout send_timeout receive_timeout _poll_timeout ketama \
    remove_failed retry_timeout dead_timeout BMemcached PyLibMCCache PyMemcacheCache LocMemCache DatabaseCache \
    FileBasedCache DummyCache RedisCache cache.get cache.set cache.add cache.get_or_set cache.get_many cache.set_many \
    cache.delete cache.delete_many cache.has_key cache.touch cache.incr cache.decr cache.clear cache.close \
    cache.incr_version cache.aget cache_page UpdateCacheMiddleware FetchFromCacheMiddleware CACHE_MIDDLEWARE_SECONDS \
    learn_cache_key get_cache_key patch_response_headers vary_on_headers vary_on_cookie never_cache cache_control \
    patch_vary_headers patch_cache_control get_max_age ConditionalGetMiddleware GZipMiddleware load endcache \
    make_template_fragment_key template_fragments TASKS_KEY VIEW_KEY SESSION_ENGINE SESSION_CACHE_ALIAS \
    SESSION_COOKIE_AGE SESSION_COOKIE_NAME SESSION_COOKIE_SECURE SESSION_COOKIE_HTTPONLY SESSION_COOKIE_SAMESITE \
    SESSION_SAVE_EVERY_REQUEST SESSION_EXPIRE_AT_BROWSER_CLOSE SESSION_SERIALIZER cycle_key flush messages get_messages \
    MESSAGE_STORAGE CsrfViewMiddleware csrf_token csrf_exempt SECRET_KEY DEBUG DEVELOPMENT_MODE ALLOWED_HOSTS DATABASES \
    dj_database_url MIDDLEWARE INSTALLED_APPS TEMPLATES STATIC_ROOT LOGGING django_heroku runserver migrate \
    makemigrations createcachetable clearsessions check deploy shell collectstatic whitenoise gunicorn Procfile \
    requirements.txt app.json spec.yaml createsuperuser";

struct Row {
    django: String,
    here: String,
    differs: String,
}

fn rows(text: &str) -> Vec<Row> {
    let lines = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    let cells = lines.map(|line| line.trim_start_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let rows = cells.filter(|cells| cells[0] != "Django").map(|cells| {
        // The last is what follows the line's end.
        let [django, here, differs, ""] = cells[..] else { panic!("three cells: {cells:?}") };
        Row { django: django.into(), here: here.into(), differs: differs.into() }
    });
    rows.collect()
}

/// Says what kind of thing is there under such a name, or nothing.
fn find(name: &str) -> Option<&'static str> {
    let variable = name.split('=').next().unwrap();
    if is_variable(variable) && variables().contains(variable) {
        return Some("variable");
    }
    if let Some(command) = name.strip_prefix("tasklist ") {
        return is_command(&command.split(' ').collect::<Vec<_>>()).then_some("command");
    }
    if name.starts_with('/') {
        return read("src/router.rs").contains(&format!("\"{name}\"")).then_some("route");
    }
    if name.contains("::") {
        return is_item(name).then_some("item");
    }
    is_a_file(name).then_some("file")
}

/// Whether a path leads to something public: a module, an item in one, or what belongs to a type in one.
fn is_item(path: &str) -> bool {
    let parts: Vec<_> = path.split("::").collect();
    let folder = format!("crates/{}/src", parts[0].replace('_', "-"));
    let (folder, parts) =
        if exists(&folder) { (folder.as_str(), &parts[1..]) } else { ("src", parts.as_slice()) };
    let file = |length: usize| match length {
        0 => format!("{folder}/lib.rs"),
        length => format!("{folder}/{}.rs", parts[..length].join("/")),
    };
    let length = (0..=parts.len()).rev().find(|length| exists(&file(*length))).expect("a crate has a root");
    let is_public = parts.is_empty()
        || length == 0 && folder != "src"
        || code(&file(0)).lines().any(|line| line == format!("pub mod {};", parts[0]));
    // What is passed on from a part of the crate, that part defines.
    let inside = files(folder);
    let own = code(&file(length));
    let has = |item| declares(&own, item) || exports(&own, item);
    is_public
        && match parts[length..] {
            [] => true,
            [item] => has(item),
            [holder, member] => has(holder) && inside.iter().any(|path| belongs(&code(path), holder, member)),
            _ => false,
        }
}

fn exists(path: &str) -> bool {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// Whether a text has a public function, type, trait or constant of that name.
fn declares(text: &str, item: &str) -> bool {
    let kinds = ["fn", "struct", "enum", "trait", "const", "type", "mod"];
    text.lines().filter_map(|line| line.trim_start().strip_prefix("pub ")).any(|line| {
        let mut words =
            words(line).skip_while(|word| !kinds.contains(word) || *word == "const" && line.contains(" fn "));
        words.next().is_some() && words.next() == Some(item)
    })
}

/// Whether a text passes on something of that name from elsewhere.
fn exports(text: &str, item: &str) -> bool {
    let uses = text.split(';').filter(|statement| statement.contains("pub use "));
    uses.into_iter().any(|statement| words(statement).any(|word| word == item))
}

/// Whether a text has a type or trait with a function, field or variant of that name.
fn belongs(text: &str, holder: &str, member: &str) -> bool {
    let blocks = text.split("\n}").filter_map(|block| {
        let head = block.find(" {\n")?;
        let (head, body) = block.split_at(head);
        let head = head.rsplit("\n\n").next().unwrap_or(head);
        let is_block = words(head).any(|word| ["impl", "struct", "enum", "trait"].contains(&word));
        (is_block && words(head).any(|word| word == holder)).then_some(body)
    });
    let is_member = |line: &str| {
        let public = line.strip_prefix("    pub ").or(line.strip_prefix("    ")).unwrap_or_default();
        let is_function = declares(line, member);
        is_function || public.strip_prefix(member).is_some_and(|rest| rest.starts_with([',', ':', '(', ' ']))
    };
    blocks.into_iter().any(|body| body.lines().any(is_member))
}

#[test]
fn all_that_is_named_in_the_middle_is_there() {
    let rows = rows(&read("docs/from-django.md"));
    assert!(rows.len() > 100, "{}", rows.len());
    let mut kinds = BTreeSet::new();
    for Row { django, here, differs } in &rows {
        if here.starts_with("not here") {
            assert_eq!(here, "not here", "{django}");
            assert!(differs.len() > 10, "why is there no {django}?");
            continue;
        }
        assert!(quoted(here).next().is_some(), "{django}: nothing is named");
        for name in quoted(here) {
            let kind = find(name);
            assert!(kind.is_some(), "{django}: there is no {name}");
            kinds.extend(kind);
        }
        // What is said of it is held to the same where it names an item.
        for name in quoted(differs).filter(|name| name.contains("::")) {
            assert!(is_item(name), "{django}: there is no {name}");
        }
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["command", "file", "item", "route", "variable"]);
}

#[test]
fn whoever_comes_from_django_finds_what_they_look_for() {
    let rows = rows(&read("docs/from-django.md"));
    for sought in SOUGHT.split_whitespace() {
        let is_found = rows.iter().any(|row| {
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
            let mut words = row.django.split(|c| !is_word(c));
            words.any(|word| word == sought || word.split('.').any(|part| part == sought))
        });
        assert!(is_found, "{sought} is not on the left");
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let there = [
        "CACHE_URL=db://",
        "tasklist cache get",
        "crates/neverstale/src/lib.rs",
        "/metrics",
        "neverstale::Cache::get_or_set",
        "neverstale::CacheOptions::default_ttl",
        "neverstale::Ttl::Never",
        "neverstale::backend::Backend",
        "neverstale_axum::headers::never_cached",
        "neverstale_axum::PageCache::cache_page",
        "neverstale_sessions::Sessions",
        "neverstale_sessions::Session",
    ];
    for name in there {
        assert!(find(name).is_some(), "{name}");
    }
    let absent = [
        "CACHE_UTL",
        "tasklist cache flush",
        "src/caches.rs",
        "/meters",
        "neverstale::Cache::get_or_make",
        "neverstale::Cache::timed",
        "neverstale::CacheOptions::nothing",
        "neverstale::Ttl::Ever",
        "neverstale_axum::headers::lists",
        "neverstale::VersionSource",
        "middleware::around",
        "nothing",
    ];
    for name in absent {
        assert_eq!(find(name), None, "{name}");
    }
}
