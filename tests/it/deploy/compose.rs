//! compose.yaml: its services as far as they are ours, with the others' places taken by servers of the tests.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{dockerfile, with_all, yaml};
use crate::structure::read;
use crate::support::app::{BINARY, Settings};
use testkit::free_port;
use testkit::memcached::Memcached;
use testkit::postgres::Postgres;
use testkit::process::find;

/// Puts in the values of `${NAME}`, `${NAME:-default}` and `${NAME:?message}`, as Compose does.
fn interpolate(text: &str, env: &BTreeMap<&str, &str>) -> String {
    let Some((before, rest)) = text.split_once("${") else { return text.into() };
    let (inside, after) = rest.split_once('}').unwrap();
    let (name, otherwise) = inside.split_once(':').unwrap_or((inside, "?not set"));
    let value = match (env.get(name), otherwise.split_at(1)) {
        (Some(value), _) => *value,
        (None, ("-", default)) => default,
        (None, (_, message)) => panic!("{name}: {message}"),
    };
    format!("{before}{value}{}", interpolate(after, env))
}

fn variables(service: &Value, env: &BTreeMap<&str, &str>) -> BTreeMap<String, String> {
    let pairs = service["environment"].as_object().unwrap().iter();
    pairs.map(|(name, value)| (name.clone(), interpolate(value.as_str().unwrap(), env))).collect()
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_services_migrate_and_serve_and_are_told_well() {
    let compose = yaml("compose.yaml");
    let env = BTreeMap::from([
        ("POSTGRES_PASSWORD", "hunter2"),
        ("SECRET_KEY", "0123456789abcdef0123456789abcdef"),
    ]);
    let (database, memcached) = (Postgres::shared().database().await, Memcached::start());
    let postgres = variables(&compose["services"]["postgres"], &env);
    let settings = |service: &str| {
        let mut variables = variables(&compose["services"][service], &env);
        let login = format!("{}:{}", postgres["POSTGRES_USER"], postgres["POSTGRES_PASSWORD"]);
        let url = format!("postgres://{login}@postgres/{}", postgres["POSTGRES_DB"]);
        assert_eq!(variables.insert("DATABASE_URL".into(), database.url.clone()), Some(url));
        let servers = variables.insert("MEMCACHIER_SERVERS".into(), memcached.address());
        assert_eq!(servers.as_deref(), Some("memcached:11211"));
        let image = dockerfile::environment().into_iter().collect();
        with_all(with_all(Settings::empty(), &image), &variables)
    };
    let run = |command: &[&str]| {
        assert_eq!(command[0], "tasklist");
        format!("exec {BINARY} {}", command[1..].join(" "))
    };

    let command = words(&compose["services"]["migrate"]["command"]);
    let migrated = settings("migrate").shell(&run(&command)).output().unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));

    let port = free_port().to_string();
    let web = settings("web").with("PORT", &port);
    let image: Vec<String> = serde_json::from_str(dockerfile::said(&dockerfile::images()[1], "CMD")).unwrap();
    let app = web.serve_by(web.shell(&run(&image.iter().map(String::as_str).collect::<Vec<_>>())));
    app.add("Composed").await.assert_lists(["Composed"]);
    assert!(!memcached.keys().is_empty(), "it caches there");

    let check = words(&compose["services"]["web"]["healthcheck"]["test"]);
    let ["CMD", program, arguments @ ..] = &check[..] else { panic!("{check:?}") };
    let asks = |port: &str| {
        let arguments = arguments.iter().map(|argument| argument.replace("8080", port));
        Command::new(find(program)).args(arguments).output().unwrap().status.success()
    };
    assert!(asks(&port));
    assert!(!asks(&free_port().to_string()), "nobody is there");
    assert!(app.terminate().0.success());
}

/// The lines at the head of compose.yaml that prepare its `.env`.
fn preparations() -> Vec<String> {
    let head = read("compose.yaml");
    let typed = head.lines().filter_map(|line| line.strip_prefix("#   "));
    typed.filter(|line| !line.starts_with("docker ")).map(str::to_owned).collect()
}

/// Does them in a directory whose `.env` says this, if there is one, and returns what it says then.
fn prepared(before: Option<&str>) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(".env");
    if let Some(text) = before {
        fs::write(&file, text).unwrap();
    }
    for line in preparations() {
        let status = Command::new(find("bash")).args(["-euc", &line]).current_dir(directory.path()).status();
        assert!(status.unwrap().success(), "{line}");
    }
    fs::read_to_string(&file).unwrap()
}

#[test]
fn preparing_adds_what_is_missing_and_overwrites_nothing() {
    let first = prepared(None);
    for (name, length) in [("POSTGRES_PASSWORD=", 32), ("SECRET_KEY=", 64)] {
        let value = first.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(value.len(), length, "{first}");
    }
    assert_eq!(prepared(Some(&first)), first, "once is enough");
    let kept = "ALLOWED_HOSTS=my.example\nSECRET_KEY=my own\nDEBUG=False";
    let then = prepared(Some(kept));
    assert!(then.starts_with(&format!("{kept}\n")) && then.contains("\nPOSTGRES_PASSWORD="), "{then}");
    assert_eq!(then.matches("SECRET_KEY").count(), 1, "{then}");
}

#[test]
fn the_page_on_deploying_says_to_type_the_same() {
    let page = read("docs/deploy.md");
    assert!(!preparations().is_empty());
    for line in preparations() {
        assert!(page.contains(&format!("\n$ {line}\n")), "{line}");
    }
}

#[test]
fn nothing_serves_before_it_is_migrated_or_is_killed_before_it_has_ended() {
    let compose = yaml("compose.yaml");
    let services = &compose["services"];
    assert_eq!(services["migrate"]["depends_on"]["postgres"]["condition"], "service_healthy");
    assert!(services["postgres"]["healthcheck"]["test"].is_array());
    assert_eq!(services["web"]["depends_on"]["migrate"]["condition"], "service_completed_successfully");
    assert_eq!(services["migrate"]["restart"], "no");
    assert_eq!(services["web"]["stop_grace_period"], "30s");
    for (name, service) in services.as_object().unwrap() {
        for other in service["depends_on"].as_object().into_iter().flatten().map(|(other, _)| other) {
            assert!(services.get(other).is_some(), "{name} waits for {other}");
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let volume = volume.as_str().unwrap().split(':').next().unwrap();
            assert!(compose["volumes"].get(volume).is_some(), "{volume}");
        }
        let is_public = service["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|port| !port.to_string().contains("127.0.0.1:"));
        assert!(!is_public, "{name} is for what stands in front");
    }
}

#[test]
#[should_panic(expected = "SECRET_KEY: see the head of compose.yaml")]
fn without_its_secrets_nothing_starts() {
    variables(&yaml("compose.yaml")["services"]["web"], &BTreeMap::from([("POSTGRES_PASSWORD", "x")]));
}
