//! The files that platforms read: what they say is done as they say it, and they hold no secret.

mod compose;
mod dockerfile;
mod heroku;
mod rolling;
mod schemas;
mod tls;
mod variables;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::structure::read;
use crate::support::app::Settings;

/// Reads a file in YAML.
fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What a platform is asked to set: what has no value it draws, and a blank is a blank.
fn environment(variables: &Value) -> BTreeMap<String, String> {
    let pairs = variables.as_object().unwrap().iter();
    let value = |value: &Value| {
        let text = value.as_str().or(value["value"].as_str()).or(value["generator"].as_str());
        text.unwrap().to_owned()
    };
    pairs.map(|(name, of)| (name.clone(), value(of))).collect()
}

/// Adds variables to those of a program.
fn with_all(settings: Settings, variables: &BTreeMap<String, String>) -> Settings {
    variables.iter().fold(settings, |settings, (name, value)| settings.with(name, value))
}
