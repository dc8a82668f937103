//! Everything that is secret is set, everything fails, and nothing of it is printed or sent.

use tasklist::config::Config;

use crate::support::app::Settings;
use crate::support::visitor::Visitor;
use testkit::page::Page;

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

/// The places where a secret may stand, by intention or by mistake.
const PLACES: [(&str, &str); 24] = [
    ("DATABASE_URL", "postgres://user:{}@host:5432/name"),
    ("DATABASE_URL", "postgres://user:{}@host/name?sslmode=require"),
    ("DATABASE_URL", "postgres://user:{}@host:port/name"),
    ("DATABASE_URL", "postgres://user:{}@[::1/name"),
    ("DATABASE_URL", "POSTGRESQL://user:{}@h1,h2/name"),
    ("DATABASE_URL", "postgres:user:{}@host"),
    ("DATABASE_URL", "user:{}@host/name"),
    ("DATABASE_URL", "mysql://user:{}@host/name"),
    ("DATABASE_URL", "sqlite://user:{}@host/name"),
    ("DATABASE_URL", "postgres:///name?host=h&user=u&password={}"),
    ("DATABASE_URL", "postgres://user@host/name?sslpassword={}"),
    ("DATABASE_URL", "postgres://user:pw@host/name?{}"),
    ("DATABASE_URL", "postgres://user:pw@host/name?sslmode={}"),
    ("DATABASE_URL", "host=h user=u password={}"),
    ("DATABASE_CA_CERT", "{}"),
    ("DATABASE_CA_CERT", "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----"),
    ("DATABASE_CA_CERT", "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----"),
    ("CACHE_URL", "memcached://user:{}@host:11211"),
    ("CACHE_URL", "memcached://user:{}@host:port"),
    ("CACHE_URL", "redis://user:{}@host"),
    ("MEMCACHIER_SERVERS", "user:{}@host:11211"),
    ("API_URL", "https://user:{}@host/path"),
    ("API_URL", "https://{}@host/path"),
    ("API_URL", "https://host/path/{}?key={}"),
];

/// Every character that means something in a URL, and some that mean nothing.
const BETWEEN: [&str; 24] = [
    "@", "/", "#", "?", ":", "%", "%2", "%40", "&", "=", "+", "[", "]", "\\", ";", ",", "@/", ":/", "/?",
    "é", "!", "$", "://", "-",
];

#[test]
fn no_part_of_a_secret_is_shown_of_any_url_that_it_is_in() {
    let seed = 0x5ec2e7;
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..5_000 {
        // Digits too: a port may look like half of a password, and the other way round.
        let part = |random: &mut fastrand::Rng| match random.u8(..3) {
            // Of a range that no default limit, which is shown as well, has digits of.
            0 => random.u32(7100..7700).to_string(),
            _ => std::iter::repeat_with(|| char::from(*random.choice(b"QWXYZJKV0189").unwrap()))
                .take(6)
                .collect(),
        };
        let parts: Vec<String> = (0..random.usize(2..4)).map(|_| part(&mut random)).collect();
        let between = random.choice(BETWEEN).unwrap();
        let (name, place) = random.choice(PLACES).unwrap();
        let value = place.replace("{}", &parts.join(between));
        let shown = match Config::from_variables([(name, value.as_str())]) {
            Ok(config) => format!("{config:?} {}", config.database.url),
            Err(error) => format!("{error} {error:?}"),
        };
        for piece in parts.iter().flat_map(|part| pieces(part)) {
            assert!(
                !shown.contains(piece),
                "round {round} of seed {seed}: {name}={value} is shown as {shown}"
            );
        }
    }
}

/// The parts that are long enough to be recognized.
fn pieces(secret: &str) -> impl Iterator<Item = &str> {
    (0..secret.len().saturating_sub(3)).map(|start| &secret[start..start + 4])
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
        Visitor::expecting(&format!("{cookie}x")).get(&app, "/").await;
        let (_, output) = app.interrupt();
        assert!(output.contains("TRACE") || output.contains("DEBUG"));
        assert_tells_nothing("the log", output.as_bytes());
        assert!(!output.contains(&cookie) && !output.contains(cookie.split('.').next().unwrap()));
    }
}

/// The length of a compressed page reveals a secret in it if an attacker chooses another part of it.
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
