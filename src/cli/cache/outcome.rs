//! What came of an operation, as text and as JSON.

use std::io::{self, IsTerminal};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::stats;
use crate::cli::output::{Unwritten, milliseconds, note, print};
use crate::cli::remedy::Place;
use neverstale::backend::{self, ErrorKind, ServerStats};

/// What came of an operation.
pub(in crate::cli) struct Outcome {
    pub(super) key: Option<String>,
    /// What happens if all goes well: `found`, `stored`, …
    pub(super) event: &'static str,
    pub(super) result: Result<Answer, backend::Error>,
    pub(super) took: Duration,
    pub(super) place: Place,
}

pub(super) enum Answer {
    Value(Bytes),
    Number(u64),
    Done,
    /// Nothing was done, since the key is not there.
    Missing,
    /// Nothing was done, since the key is there.
    Present,
    Stats {
        servers: Vec<ServerStats>,
        all: bool,
    },
}

impl Outcome {
    /// Prints the result to standard output, and how long it took to standard error if that is a terminal.
    ///
    /// # Errors
    ///
    /// If standard output cannot be written.
    pub(in crate::cli) fn print(&self) -> Result<(), Unwritten> {
        match &self.result {
            Err(_) | Ok(Answer::Missing | Answer::Present) => return Ok(()),
            Ok(Answer::Value(value)) => print(value)?,
            Ok(Answer::Number(number)) => print(number.to_string().as_bytes())?,
            Ok(Answer::Stats { servers, all }) if servers.iter().any(|server| server.stats.is_ok()) => {
                print(stats::table(servers, *all).as_bytes())?;
            }
            Ok(Answer::Stats { .. } | Answer::Done) => {}
        }
        if io::stderr().is_terminal() {
            note(&format!("{} in {:.1?}", self.event, self.took));
        }
        Ok(())
    }

    /// Returns whether the cache did its part but the key was missing, or already there.
    pub(in crate::cli) fn is_unmet(&self) -> bool {
        matches!(self.result, Ok(Answer::Missing | Answer::Present))
    }

    /// Returns what failed or did not happen, with what to do about it.
    pub(in crate::cli) fn failure(&self) -> Option<String> {
        let key = self.key.as_deref().unwrap_or_default();
        match &self.result {
            Ok(Answer::Value(_) | Answer::Number(_) | Answer::Done) => None,
            Ok(Answer::Missing) => Some(format!("{key}: not in the cache")),
            Ok(Answer::Present) => Some(format!("{key}: in the cache already")),
            Ok(Answer::Stats { servers, .. }) => {
                let errors = servers.iter().filter_map(|server| server.stats.as_ref().err());
                let failures: Vec<_> = errors.map(|error| self.explain(error)).collect();
                (!failures.is_empty()).then(|| failures.join("\n"))
            }
            Err(error) if error.kind == ErrorKind::NotANumber => {
                Some(format!("{key}: {}; {}", error.kind, self.place.remedy(&error.kind)))
            }
            Err(error) => Some(self.explain(error)),
        }
    }

    fn explain(&self, error: &backend::Error) -> String {
        format!("{error}\n  remedy: {}", self.place.remedy(&error.kind))
    }

    pub(in crate::cli) fn to_json(&self) -> Value {
        let mut fields = json!({ "ok": self.failure().is_none(), "took_ms": milliseconds(self.took) });
        if let Some(key) = &self.key {
            fields["key"] = key.as_str().into();
        }
        match &self.result {
            Ok(Answer::Stats { servers, .. }) => {
                fields["servers"] = servers.iter().map(|server| stats::to_json(server, self.place)).collect();
            }
            Ok(answer) => {
                fields[self.event] = (!self.is_unmet()).into();
                match answer {
                    Answer::Value(bytes) => match str::from_utf8(bytes) {
                        Ok(text) => fields["value"] = text.into(),
                        Err(_) => fields["value_base64"] = BASE64_STANDARD.encode(bytes).into(),
                    },
                    Answer::Number(number) => fields["value"] = (*number).into(),
                    _ => {}
                }
            }
            Err(error) => {
                fields["cause"] = error.to_string().into();
                fields["remedy"] = self.place.remedy(&error.kind).into();
            }
        }
        fields
    }
}
