//! The files that Heroku and DigitalOcean read, against what their references say of them.

use serde_json::{Value, json};

use super::{json as read_json, yaml};

/// What is wrong with a document.
fn problems(schema: &str, document: &Value) -> Vec<String> {
    let schema = serde_json::from_str(schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn problems_of_app(app: &Value) -> Vec<String> {
    problems(include_str!("app_json.schema.json"), app)
}

/// Beside the schema: every name that the spec uses is one that it gives.
fn problems_of_spec(spec: &Value) -> Vec<String> {
    let mut problems = problems(include_str!("app_spec.schema.json"), spec);
    let all = |kind: &str| spec[kind].as_array().cloned().unwrap_or_default();
    let names = |kind: &str| -> Vec<String> {
        all(kind).iter().filter_map(|part| part["name"].as_str().map(str::to_owned)).collect()
    };
    for rule in spec["ingress"]["rules"].as_array().into_iter().flatten() {
        let name = rule["component"]["name"].as_str().unwrap_or_default();
        if !names("services").iter().any(|service| service == name) {
            problems.push(format!("no service {name}"));
        }
    }
    let parts: Vec<_> = ["services", "jobs", "databases"].into_iter().flat_map(names).collect();
    if (1..parts.len()).any(|index| parts[..index].contains(&parts[index])) {
        problems.push(format!("a name that is not alone: {parts:?}"));
    }
    let given = ["DATABASE_URL", "CA_CERT", "HOSTNAME", "PORT", "USERNAME", "PASSWORD", "DATABASE"];
    for env in spec["envs"].as_array().into_iter().flatten() {
        let value = env["value"].as_str().unwrap_or_default();
        let Some(bound) = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else { continue };
        let is_known = match bound.split_once('.') {
            Some((database, what)) => {
                names("databases").iter().any(|name| name == database) && given.contains(&what)
            }
            None => ["APP_DOMAIN", "APP_URL", "APP_ID"].contains(&bound),
        };
        if !is_known {
            problems.push(format!("nothing gives {value}"));
        }
    }
    problems
}

#[test]
fn both_files_are_as_their_platforms_want_them() {
    assert_eq!(problems_of_app(&read_json("app.json")), Vec::<String>::new());
    assert_eq!(problems_of_spec(&yaml("spec.yaml")), Vec::<String>::new());
}

#[test]
fn what_a_platform_would_refuse_is_found() {
    let mistakes: [(&str, Value); 12] = [
        ("/services/0/instance_size_slug", json!("apps-s-1vcpu-0.5g")),
        ("/services/0/health_check", json!({ "path_http": "/healthz" })),
        ("/services/0/http_port", json!("8080")),
        ("/services/0/termination", json!({ "grace_period_seconds": 601 })),
        ("/jobs/0/kind", json!("PREDEPLOY")),
        ("/jobs/0/github", json!({ "repo": "tasklist", "branch": "main" })),
        ("/envs/0/scope", json!("RUNTIME")),
        ("/envs/0/value", json!("${database.DATABASE_URL}")),
        ("/databases/0", json!({ "name": "db", "engine": "PG", "production": true })),
        ("/ingress/rules/0/component/name", json!("wbe")),
        ("/jobs/0/name", json!("web")),
        ("/region", json!("nyc9")),
    ];
    for (place, value) in mistakes {
        let mut spec = yaml("spec.yaml");
        *spec.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = value.clone();
        assert!(!problems_of_spec(&spec).is_empty(), "{place}: {value}");
    }
    let mistakes: [(&str, Value); 5] = [
        ("/formation/web/size", json!("basics")),
        ("/formation/web", json!({ "quantity": 1, "sizes": "basic" })),
        ("/env/SECRET_KEY", json!({ "generator": "secrets" })),
        ("/addons/0", json!({ "plans": "heroku-postgresql" })),
        ("/buildpacks/0", json!({ "uri": "https://github.com/emk/heroku-buildpack-rust" })),
    ];
    for (place, value) in mistakes {
        let mut app = read_json("app.json");
        *app.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = value.clone();
        assert!(!problems_of_app(&app).is_empty(), "{place}: {value}");
    }
    let mut app = read_json("app.json");
    app["enviroment"] = json!({});
    assert!(!problems_of_app(&app).is_empty());
}

#[test]
fn the_spec_runs_commands_and_asks_paths_that_exist() {
    let spec = yaml("spec.yaml");
    let (job, service) = (&spec["jobs"][0], &spec["services"][0]);
    assert_eq!((&job["kind"], &job["run_command"]), (&json!("PRE_DEPLOY"), &json!("tasklist migrate")));
    assert_eq!(service["health_check"]["http_path"], "/healthz");
    assert!(service.get("run_command").is_none(), "the image's own");
    for part in [job, service] {
        assert_eq!(part["dockerfile_path"], "Dockerfile");
    }
    let seconds = service["termination"]["grace_period_seconds"].as_u64().unwrap();
    assert!(seconds > 26, "LINGER, DRAIN and DRAIN_CHANGES of `serve` pass before");
}
