//! The files that platforms read: what they name exists, and they hold no secret.

mod rolling;
mod tls;

use std::collections::BTreeSet;

use crate::structure::{read, variables};
use crate::support::app::Settings;
use crate::support::postgres::Postgres;

/// The words of a text that look like variables of ours.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.contains('_') && *word == word.to_uppercase()).map(str::to_owned).collect()
}

#[test]
fn every_variable_in_a_deploy_file_is_one_the_program_reads() {
    let app: serde_json::Value = serde_json::from_str(&read("app.json")).unwrap();
    let keys = app["env"].as_object().unwrap().keys().cloned();
    let spec = read("spec.yaml");
    let spec_keys = spec.lines().filter_map(|line| line.trim().strip_prefix("- key: ")).map(str::to_owned);
    let named: BTreeSet<_> = keys.chain(spec_keys).collect();
    assert!(named.is_superset(&["DEVELOPMENT_MODE", "ALLOWED_HOSTS"].map(String::from).into()));
    let known = variables();
    assert!(named.is_subset(&known), "{:?} mean nothing", named.difference(&known));
    let example = names_in(&read(".env.example"));
    assert!(example.is_subset(&known), "{:?} mean nothing", example.difference(&known));
}

#[test]
fn no_deploy_file_holds_a_secret() {
    let spec = read("spec.yaml");
    let lines: Vec<_> = spec.lines().map(str::trim).collect();
    for secret in
        lines.iter().enumerate().filter(|(_, line)| **line == "type: SECRET").map(|(index, _)| index)
    {
        let item = lines[..secret].iter().rposition(|line| line.starts_with("- key: ")).unwrap();
        let end = lines[secret..].iter().position(|line| line.starts_with("- ") || line.is_empty());
        let value =
            lines[item..end.map_or(lines.len(), |end| secret + end)].iter().find(|l| l.starts_with("value:"));
        assert!(value.is_none(), "{} has a value", lines[item]);
    }
    for password in ["SECRET_KEY", "MEMCACHIER_USERNAME", "MEMCACHIER_PASSWORD"] {
        let item = lines.iter().position(|line| line.ends_with(password)).unwrap();
        assert!(lines[item..item + 4].contains(&"type: SECRET"), "{password} is a secret");
    }
}

/// Runs the Procfile's lines in their order, with the variables that Heroku sets and no others.
#[tokio::test]
async fn the_procfile_migrates_and_serves() {
    let procfile = read("Procfile");
    let commands: Vec<_> = procfile.lines().filter_map(|line| line.split_once(": ")).collect();
    assert_eq!(commands.iter().map(|(process, _)| *process).collect::<Vec<_>>(), ["release", "web"]);
    let arguments =
        |line: &str| -> String { line.strip_prefix("./target/release/tasklist ").unwrap().to_owned() };

    let database = Postgres::shared().database().await;
    let app: serde_json::Value = serde_json::from_str(&read("app.json")).unwrap();
    let mut settings = Settings::new().with("DATABASE_URL", &database.url);
    for (name, value) in app["env"].as_object().unwrap() {
        // What has no value the platform draws.
        let value = value["value"].as_str().or(value["generator"].as_str());
        settings = settings.with(name, value.unwrap());
    }
    let release = settings.run(&[&arguments(commands[0].1)]);
    assert!(release.status.success(), "{}", String::from_utf8_lossy(&release.stderr));
    assert_eq!(arguments(commands[1].1), "serve");
    let web = settings.serve();
    let lines: Vec<serde_json::Value> =
        web.output().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["mode"], "production", "{lines:?}");
    let page =
        web.request("GET", "/").header("host", "blooming-ridge-97247.herokuapp.com").send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert_eq!(web.get("/healthz").await.status, 200);
}

#[test]
fn the_spec_runs_commands_and_asks_paths_that_exist() {
    let spec = read("spec.yaml");
    for line in [
        "run_command: tasklist migrate",
        "kind: PRE_DEPLOY",
        "http_path: /healthz",
        "dockerfile_path: Dockerfile",
        "- key: LOG_FORMAT\n    scope: RUN_TIME\n    value: json",
    ] {
        assert!(spec.contains(line), "{line}");
    }
    let dockerfile = read("Dockerfile");
    assert!(dockerfile.contains("CMD [\"tasklist\", \"serve\"]"));
    assert!(dockerfile.lines().any(|line| line.starts_with("USER ")), "it does not run as root");
}
