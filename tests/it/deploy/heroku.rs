//! The Procfile, run line by line as Heroku runs it.

use super::{environment, json, with_all, yaml};
use crate::structure::read;
use crate::support::app::{BINARY, Settings};
use testkit::free_port;
use testkit::memcached::Memcached;
use testkit::page::Page;
use testkit::postgres::{Postgres, TestDatabase};

const HOST: &str = "blooming-ridge-97247.herokuapp.com";

/// What is in the environment of a dyno: what Heroku sets, the add-ons' variables, and what `app.json` asks for.
fn dyno(name: &str, database: &TestDatabase, memcached: &Memcached) -> Settings {
    let directory = Settings::empty();
    let home = directory.directory().display().to_string();
    let settings = directory
        .with("HOME", &home)
        .with("PATH", "/usr/local/bin:/usr/bin:/bin")
        .with("DYNO", name)
        .with("PORT", &free_port().to_string())
        .with("DATABASE_URL", &database.url_with("127.0.0.1", "?sslmode=require"));
    let settings = settings.with_login(memcached);
    let settings = with_all(settings, &environment(&json("app.json")["env"]));
    // The slug, as the buildpack leaves it.
    let release = settings.directory().join("target/release");
    std::fs::create_dir_all(&release).unwrap();
    std::os::unix::fs::symlink(BINARY, release.join("tasklist")).unwrap();
    settings
}

#[tokio::test]
async fn the_lines_of_the_procfile_migrate_and_serve_in_a_dyno() {
    let procfile = read("Procfile");
    let lines: Vec<_> = procfile.lines().map(|line| line.split_once(": ").unwrap()).collect();
    let [("release", release), ("web", web)] = lines[..] else { panic!("{procfile}") };
    let own = rcgen::generate_simple_self_signed(["ip-10-0-0-1.ec2.internal".into()]).unwrap();
    let postgres = Postgres::start_with_tls(&own.cert.pem(), &own.signing_key.serialize_pem());
    let (database, memcached) = (postgres.database().await, Memcached::start_with_sasl());

    let refused = dyno("web.1", &database, &memcached).shell(web).output().unwrap();
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && why.contains("run `tasklist migrate` first"), "{why}");

    let released = dyno("release.1", &database, &memcached).shell(release).output().unwrap();
    assert!(released.status.success(), "{}", String::from_utf8_lossy(&released.stderr));

    // Two dynos, which a router asks in turn.
    let dynos = ["web.1", "web.2"].map(|name| dyno(name, &database, &memcached));
    let apps = dynos.each_ref().map(|settings| settings.serve_by(settings.shell(web)));
    for (number, app) in (1..).zip(&apps) {
        let add = app.request("POST", "/add").header("host", HOST).header("x-forwarded-proto", "https");
        let answer = Page::read(add.form(&[("name", format!("Task {number}"))])).await;
        assert_eq!(answer.status, 303);
        assert!(answer.header("set-cookie").unwrap().contains("; Secure"), "{:?}", answer.headers);
    }
    for app in &apps {
        app.get_from(HOST, "/").await.assert_lists(["Task 1", "Task 2"]);
    }
    assert!(memcached.stat("cmd_set") > 0, "the add-on's variables are used");

    for app in apps {
        let (status, said) = app.terminate();
        assert!(status.success(), "{said}");
        let lines: Vec<serde_json::Value> =
            said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let serving = lines.iter().find(|line| line["message"] == "serving").unwrap();
        assert_eq!(serving["mode"], "production");
        assert_eq!(lines.last().unwrap()["message"], "stopped", "it is not cut: {said}");
    }
}

#[test]
fn a_container_is_migrated_and_served_as_a_slug_is() {
    let (manifest, app) = (yaml("heroku.yml"), json("app.json"));
    assert_eq!(manifest["release"]["command"], serde_json::json!(["tasklist migrate"]));
    assert_eq!(manifest["release"]["image"], "web");
    assert_eq!(manifest["build"]["docker"]["web"], "Dockerfile");
    assert_eq!(manifest["run"]["web"], "tasklist serve");
    let plans: Vec<_> =
        manifest["setup"]["addons"].as_array().unwrap().iter().map(|addon| &addon["plan"]).collect();
    assert_eq!(plans, app["addons"].as_array().unwrap().iter().collect::<Vec<_>>());
    for (name, value) in manifest["setup"]["config"].as_object().unwrap() {
        assert_eq!(*value, app["env"][name]["value"], "{name}");
    }
}
