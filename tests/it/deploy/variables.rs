//! The variables that the files name, and the secrets that they do not hold.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{json, yaml};
use crate::structure::{read, variables};

/// What production needs, and what gives it where the file does not name it.
const NEEDED: [(&str, &[&str]); 5] = [
    ("DATABASE_URL", &["heroku-postgresql"]),
    ("DEVELOPMENT_MODE", &["build: ."]),
    ("ALLOWED_HOSTS", &[]),
    ("SECRET_KEY", &[]),
    ("MEMCACHIER_SERVERS", &["memcachier:dev"]),
];

/// What the files name that others read.
const FOREIGN: [&str; 6] =
    ["POSTGRES_DB", "POSTGRES_PASSWORD", "POSTGRES_USER", "APP_DOMAIN", "APP_ID", "CA_CERT"];

const FILES: [&str; 6] =
    ["app.json", "heroku.yml", "spec.yaml", "compose.yaml", "deploy/tasklist@.service", "docs/deploy.md"];

/// The words of a text that look like variables.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_name =
        |word: &&str| word.contains('_') && word.trim_matches('_') == *word && *word == word.to_uppercase();
    words
        .filter(is_name)
        .filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(str::to_owned)
        .collect()
}

/// The variables that a file sets, by the form of the file.
fn set_by(file: &str) -> BTreeSet<String> {
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let found = match file {
        "app.json" => keys(&json(file)["env"]),
        "heroku.yml" => keys(&yaml(file)["setup"]["config"]),
        "compose.yaml" => keys(&yaml(file)["services"]["web"]["environment"]),
        "spec.yaml" => {
            let spec = yaml(file);
            spec["envs"].as_array().unwrap().iter().map(|env| env["key"].as_str().unwrap().into()).collect()
        }
        "Dockerfile" | "deploy/tasklist@.service" => {
            let text = read(file);
            let lines = text
                .lines()
                .filter_map(|line| line.strip_prefix("ENV ").or(line.strip_prefix("Environment=")));
            lines.flat_map(str::split_whitespace).map(|pair| pair.split_once('=').unwrap().0.into()).collect()
        }
        _ => vec![],
    };
    found.into_iter().collect()
}

#[test]
fn every_variable_in_a_deploy_file_is_one_the_program_reads() {
    let known = variables();
    for file in FILES.into_iter().chain(["Dockerfile"]) {
        let set = set_by(file);
        assert!(
            set.is_subset(&known),
            "{file}: {:?} mean nothing",
            set.difference(&known).collect::<Vec<_>>()
        );
        assert_eq!(set.is_empty(), file.ends_with(".md"), "{file}");
        // Words of the files' own languages are no variables.
        let words =
            read(file).replace("PRE_DEPLOY", "").replace("RUN_TIME", "").replace("YOUR_GITHUB_USERNAME", "");
        let words = words.replace("AF_INET6", "").replace("AF_INET", "").replace("AF_UNIX", "");
        let named: BTreeSet<_> =
            names_in(&words).into_iter().filter(|name| !FOREIGN.contains(&name.as_str())).collect();
        assert!(
            named.is_subset(&known),
            "{file}: {:?} mean nothing",
            named.difference(&known).collect::<Vec<_>>()
        );
    }
    let example = names_in(&read(".env.example"));
    assert!(example.is_subset(&known), "{:?} mean nothing", example.difference(&known));
}

#[test]
fn every_variable_that_production_needs_is_set_or_mentioned() {
    for file in FILES {
        let text = read(file);
        // Its own comment sends the reader to the page where these are.
        let text = if file.starts_with("deploy/") { text + &read("docs/deploy.md") } else { text };
        for (name, givers) in NEEDED {
            let is_there = text.contains(name) || givers.iter().any(|giver| text.contains(giver));
            let is_family = name == "MEMCACHIER_SERVERS" && text.contains("MEMCACHIER_*");
            assert!(is_there || is_family, "{file} does not say {name}");
        }
    }
}

#[test]
fn no_deploy_file_holds_a_secret() {
    let secrets =
        ["SECRET_KEY", "ADMIN_PASSWORD", "MEMCACHIER_SERVERS", "MEMCACHIER_USERNAME", "MEMCACHIER_PASSWORD"];
    let spec = yaml("spec.yaml");
    for secret in secrets {
        let env = spec["envs"].as_array().unwrap().iter().find(|env| env["key"] == secret).unwrap();
        assert_eq!((&env["type"], env.get("value")), (&Value::from("SECRET"), None), "{secret}");
    }
    let app = json("app.json");
    for secret in ["SECRET_KEY", "ADMIN_PASSWORD"] {
        assert_eq!(app["env"][secret]["generator"], "secret");
        assert!(app["env"][secret].get("value").is_none());
        let value =
            yaml("compose.yaml")["services"]["web"]["environment"][secret].as_str().unwrap().to_owned();
        assert!(value.starts_with(&format!("${{{secret}:")), "{value}");
    }
    let unit = set_by("deploy/tasklist@.service");
    assert!(secrets.iter().all(|secret| !unit.contains(*secret)), "{unit:?}");
}
