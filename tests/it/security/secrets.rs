//! Everything that is secret is set, everything fails, and nothing of it is printed or sent.

use crate::support::app::Settings;
use crate::support::page::Page;
use crate::support::visitor::Visitor;

const SECRETS: [(&str, &str, &str); 6] = [
    ("SECRET_KEY", "secretkey-horse-battery-staple-and-more", "secretkey-horse"),
    ("ADMIN_PASSWORD", "adminhorse", "adminhorse"),
    ("DATABASE_URL", "postgres://dbuser:dbhorse@127.0.0.1:1/tasks", "dbhorse"),
    ("CACHE_URL", "memcached://cacheuser:cachehorse@127.0.0.1:1", "cachehorse"),
    ("API_URL", "http://apiuser:apihorse@127.0.0.1:1/?key=querykeyhorse", "horse"),
    ("MEMCACHIER_PASSWORD", "sparehorse", "sparehorse"),
];

fn with_secrets(settings: Settings) -> Settings {
    let settings = SECRETS.iter().fold(settings, |settings, (name, value, _)| settings.with(name, value));
    settings.with("RUST_LOG", "trace").with("CACHE_SIGNED", "on").with("MEMCACHIER_USERNAME", "spare")
}

#[track_caller]
fn assert_tells_nothing(what: &str, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    assert!(!text.contains("horse"), "{what} tells a secret: {text}");
    for (_, value, _) in SECRETS {
        assert!(!text.contains(value), "{what} tells {value}: {text}");
    }
}

#[test]
fn no_command_that_fails_prints_a_secret() {
    let settings = with_secrets(Settings::new());
    let commands: [&[&str]; 9] = [
        &["check"],
        &["check", "--json"],
        &["migrate"],
        &["clearsessions"],
        &["cache", "get", "k"],
        &["cache", "stats"],
        &["cache", "set", "k", "v", "--json"],
        &["nonsense"],
        &["--help"],
    ];
    for command in commands {
        let output = settings.run(command);
        assert_tells_nothing(&command.join(" "), &output.stdout);
        assert_tells_nothing(&command.join(" "), &output.stderr);
    }
    assert_tells_nothing("shell", &settings.run_with_input(&["shell"], b"get k\nstats\nnonsense\n").stderr);
}

#[test]
fn no_wrong_value_is_printed_that_may_be_secret() {
    for (name, wrong) in [
        ("DATABASE_URL", "mysql://u:horse@h/d"),
        ("DATABASE_URL", "horse"),
        ("CACHE_URL", "redis://u:horse@h"),
        ("CACHE_URL", "memcached://u:horse@h:port"),
        ("MEMCACHIER_SERVERS", "u:horse@h"),
        ("API_URL", "ftp://u:horse@h/"),
        ("API_URL", "horse"),
    ] {
        for command in ["serve", "check"] {
            let output = Settings::new().with(name, wrong).run(&[command]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && said.contains(name), "{name}: {said}");
            assert_tells_nothing(name, &output.stderr);
            assert_tells_nothing(name, &output.stdout);
        }
    }
}

/// The database is a file here, so that there is a server at all.
#[tokio::test]
async fn no_page_or_log_of_a_server_that_fails_tells_a_secret() {
    for (debug, format) in [("True", "text"), ("False", "json")] {
        let settings = with_secrets(Settings::new()).with("DATABASE_URL", "sqlite://db.sqlite3");
        let app = settings.with("DEBUG", debug).with("LOG_FORMAT", format).serve();
        let visitor = Visitor::new();
        visitor.add(&app, "milk").await;
        for path in ["/", "/apicalls", "/cache", "/cache.json", "/metrics", "/readyz", "/nowhere", "/?page=x"]
        {
            for password in ["adminhorse", "wrong"] {
                let request = visitor.request(&app, "GET", path).basic_auth("admin", Some(password));
                let page = Page::read(request).await;
                assert_tells_nothing(path, format!("{:?} {}", page.headers, page.body).as_bytes());
            }
        }
        let cookie = visitor.cookie().unwrap();
        assert_tells_nothing("the cookie", cookie.as_bytes());
        Visitor::with_cookie(&format!("{cookie}x")).get(&app, "/").await;
        let (_, output) = app.terminate();
        assert!(output.contains("TRACE") || output.contains("DEBUG"));
        assert_tells_nothing("the log", output.as_bytes());
        assert!(!output.contains(&cookie) && !output.contains(cookie.split('.').next().unwrap()));
    }
}

/// Where a page holds both a secret and what an attacker chooses, and is compressed, its length tells the secret.
#[tokio::test]
async fn no_page_holds_a_secret_of_its_visitor() {
    let app = Settings::new().serve();
    let visitor = Visitor::new();
    let page = visitor.add(&app, "milk").await;
    let cookie = visitor.cookie().unwrap();
    for part in cookie.split('.') {
        assert!(!page.body.contains(part), "{}", page.body);
    }
    assert_eq!(page.attributes("input[type=hidden]", "name"), ["id"], "nothing hidden but the ids of tasks");
}
