//! What a check has found, as people and machines read it.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::output::{Unwritten, milliseconds, say};

/// What was tried, and how it went.
#[derive(Clone)]
pub(super) struct Finding {
    pub(super) what: String,
    pub(super) outcome: Result<String, Problem>,
    pub(super) took: Option<Duration>,
}

/// What is wrong, and what to do.
#[derive(Clone)]
pub(super) struct Problem {
    pub(super) cause: String,
    pub(super) remedy: &'static str,
}

impl Finding {
    pub(super) fn is_ok(&self) -> bool {
        self.outcome.is_ok()
    }

    pub(super) fn to_json(&self) -> Value {
        let took = self.took.map(milliseconds);
        match &self.outcome {
            Ok(found) => json!({ "what": self.what, "ok": true, "found": found, "took_ms": took }),
            Err(Problem { cause, remedy }) => {
                json!({ "what": self.what, "ok": false, "cause": cause, "remedy": remedy, "took_ms": took })
            }
        }
    }
}

/// Prints a finding.
pub(super) fn report(finding: &Finding) -> Result<(), Unwritten> {
    let Finding { what, outcome, took } = finding;
    let took = took.map(|took| format!(" ({took:.1?})")).unwrap_or_default();
    match outcome {
        Ok(found) => say(&format!("ok      {what}: {found}{took}")),
        Err(problem) => {
            say(&format!("FAILED  {what}: {}{took}", problem.cause))?;
            say(&format!("        remedy: {}", problem.remedy))
        }
    }
}
