//! What came of an operation, as text and as JSON.

use std::io::{self, IsTerminal};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::stats;
use crate::cli::output::{Unwritten, milliseconds, note, print};
use crate::cli::remedy::Place;
use neverstale::backend::{self, ErrorKind, ServerStats};

/// What came of an operation.
pub(in crate::cli) struct Outcome {
    pub(super) key: Option<String>,
    /// What happens if all goes well: `found`, `stored`, …
    pub(super) event: &'static str,
    pub(super) result: Result<Answer, Unmet>,
    pub(super) took: Duration,
    pub(super) place: Place,
}

pub(super) enum Answer {
    Value(Bytes),
    Number(u64),
    Done,
    Stats { servers: Vec<ServerStats>, all: bool },
}

/// Why what was asked for did not happen.
pub(super) enum Unmet {
    Missing,
    Present,
    Failed(backend::Error),
}

impl From<backend::Error> for Unmet {
    fn from(error: backend::Error) -> Self {
        Self::Failed(error)
    }
}

impl Outcome {
    /// Prints the result to standard output, and how long it took to standard error if that is a terminal.
    ///
    /// # Errors
    ///
    /// If standard output cannot be written.
    pub(in crate::cli) fn print(&self) -> Result<(), Unwritten> {
        let Ok(answer) = &self.result else { return Ok(()) };
        match answer {
            Answer::Value(value) => print(value)?,
            Answer::Number(number) => print(number.to_string().as_bytes())?,
            Answer::Stats { servers, all } if servers.iter().any(|server| server.stats.is_ok()) => {
                print(stats::table(servers, *all).as_bytes())?;
            }
            Answer::Stats { .. } | Answer::Done => {}
        }
        if io::stderr().is_terminal() {
            note(&format!("{} in {:.1?}", self.event, self.took));
        }
        Ok(())
    }

    /// Returns whether the cache did its part but the key was missing, or already there.
    pub(in crate::cli) fn is_unmet(&self) -> bool {
        matches!(self.result, Err(Unmet::Missing | Unmet::Present))
    }

    /// Returns what failed or did not happen, with what to do about it.
    pub(in crate::cli) fn failure(&self) -> Option<String> {
        let key = self.key.as_deref().unwrap_or_default();
        match &self.result {
            Ok(Answer::Stats { servers, .. }) => {
                let failures: Vec<_> = servers
                    .iter()
                    .filter_map(|server| server.stats.as_ref().err())
                    .map(|error| self.explain(error))
                    .collect();
                (!failures.is_empty()).then(|| failures.join("\n"))
            }
            Ok(_) => None,
            Err(Unmet::Missing) => Some(format!("{key}: not in the cache")),
            Err(Unmet::Present) => Some(format!("{key}: in the cache already")),
            Err(Unmet::Failed(error)) if error.kind == ErrorKind::NotANumber => {
                Some(format!("{key}: {}; {}", error.kind, self.place.remedy(&error.kind)))
            }
            Err(Unmet::Failed(error)) => Some(self.explain(error)),
        }
    }

    fn explain(&self, error: &backend::Error) -> String {
        format!("{error}\n  remedy: {}", self.place.remedy(&error.kind))
    }

    pub(in crate::cli) fn to_json(&self) -> Value {
        let mut fields = Map::new();
        fields.insert("ok".into(), self.failure().is_none().into());
        fields.insert("took_ms".into(), milliseconds(self.took).into());
        if let Some(key) = &self.key {
            fields.insert("key".into(), key.as_str().into());
        }
        match &self.result {
            Ok(Answer::Stats { servers, .. }) => {
                fields.insert(
                    "servers".into(),
                    servers.iter().map(|server| stats::to_json(server, self.place)).collect(),
                );
            }
            Ok(answer) => {
                fields.insert(self.event.into(), true.into());
                fields.extend(answer.value());
            }
            Err(Unmet::Missing | Unmet::Present) => {
                fields.insert(self.event.into(), false.into());
            }
            Err(Unmet::Failed(error)) => {
                fields.insert("cause".into(), error.to_string().into());
                fields.insert("remedy".into(), self.place.remedy(&error.kind).into());
            }
        }
        fields.into()
    }
}

impl Answer {
    fn value(&self) -> Option<(String, Value)> {
        match self {
            Self::Value(bytes) => Some(match std::str::from_utf8(bytes) {
                Ok(text) => ("value".into(), text.into()),
                Err(_) => ("value_base64".into(), BASE64_STANDARD.encode(bytes).into()),
            }),
            Self::Number(number) => Some(("value".into(), json!(number))),
            Self::Done | Self::Stats { .. } => None,
        }
    }
}
