//! The verbs, as they are typed after `tasklist cache` and at the prompt of `tasklist shell`.

use std::ffi::OsString;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use tokio::time::Instant;

use super::outcome::{Answer, Outcome};
use crate::cli::remedy::Place;
use neverstale::backend::{Error, ErrorKind};
use neverstale::{Cache, InvalidKey, Key, Ttl};

/// An operation on the cache.
#[derive(Clone, Debug, Subcommand)]
pub(in crate::cli) enum Verb {
    /// Print the value of a key: its bytes as they are, and a newline after them.
    Get {
        /// Its key: no blanks, no control characters.
        #[arg(value_parser = key)]
        key: Key,
    },
    /// Store a value, whatever was there.
    Set(Store),
    /// Store a value where there is none.
    Add(Store),
    /// Store a value where there is one.
    Replace(Store),
    /// Remove a key.
    Delete {
        /// Its key: no blanks, no control characters.
        #[arg(value_parser = key)]
        key: Key,
    },
    /// Add to a number and print the sum. Its lifetime stays.
    Incr(Count),
    /// Subtract from a number, down to 0, and print the rest. Its lifetime stays.
    Decr(Count),
    /// Give a value a new lifetime.
    Touch {
        /// Its key: no blanks, no control characters.
        #[arg(value_parser = key)]
        key: Key,
        /// How long it lives from now, in seconds: fractions are taken, 0 and less is over at once.
        #[arg(long, value_name = "SECONDS", value_parser = ttl, allow_negative_numbers = true)]
        ttl: Ttl,
    },
    /// Empty all servers: every value under any prefix, whoever stored it.
    Clear,
    /// Print what each server says of itself.
    Stats {
        /// All there is, sorted, after the most telling numbers.
        #[arg(long)]
        all: bool,
    },
}

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct Store {
    /// Its key: no blanks, no control characters.
    #[arg(value_parser = key)]
    key: Key,
    /// The value, stored as it is.
    #[arg(allow_hyphen_values = true)]
    value: OsString,
    /// How long it lives, in seconds: fractions are taken, 0 and less is over at once. Without it, it never expires.
    #[arg(long, value_name = "SECONDS", value_parser = ttl, allow_negative_numbers = true)]
    ttl: Option<Ttl>,
}

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct Count {
    /// Its key: no blanks, no control characters.
    #[arg(value_parser = key)]
    key: Key,
    /// By how much.
    #[arg(value_name = "N", default_value_t = 1, value_parser = delta, allow_negative_numbers = true)]
    delta: u64,
}

/// Reads a key as it is stored, so that what the app itself stores can be looked at as well.
fn key(text: &str) -> Result<Key, InvalidKey> {
    Key::as_stored(text)
}

fn delta(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "a whole number is expected, 0 or more")
}

fn ttl(text: &str) -> Result<Ttl, &'static str> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is expected, such as 60, 0.5 or -1")?;
    if seconds <= 0.0 {
        return Ok(Ttl::After(Duration::ZERO));
    }
    let lifetime = Duration::try_from_secs_f64(seconds).map_err(|_| "longer than anything lives")?;
    Ok(Ttl::After(lifetime))
}

impl Verb {
    /// Runs the operation, and returns its outcome and how long it took.
    pub(in crate::cli) async fn run(&self, cache: &Cache, place: Place) -> Outcome {
        let started = Instant::now();
        let result = self.execute(cache).await;
        let took = started.elapsed();
        let (key, event) = self.subject();
        Outcome { key: key.map(ToString::to_string), event, result, took, place }
    }

    /// Returns whether the line that holds it holds a value, which may be a secret.
    pub(in crate::cli) fn has_value(&self) -> bool {
        matches!(self, Self::Set(_) | Self::Add(_) | Self::Replace(_))
    }

    async fn execute(&self, cache: &Cache) -> Result<Answer, Error> {
        let name = self.subject().0.map(|key| cache.name(key)).unwrap_or_default();
        let backend = cache.backend();
        Ok(match self {
            Self::Get { .. } => backend.get(&name).await?.map_or(Answer::Missing, Answer::Value),
            Self::Set(store) => {
                backend.set(&name, store.value(cache)?, store.ttl()).await?;
                Answer::Done
            }
            Self::Add(store) => {
                let is_stored = backend.add(&name, store.value(cache)?, store.ttl()).await?;
                if is_stored { Answer::Done } else { Answer::Present }
            }
            Self::Replace(store) => {
                done_if_there(backend.replace(&name, store.value(cache)?, store.ttl()).await?)
            }
            Self::Delete { .. } => done_if_there(backend.delete(&name).await?),
            Self::Incr(Count { delta, .. }) => counted(backend.incr(&name, *delta).await?),
            Self::Decr(Count { delta, .. }) => counted(backend.decr(&name, *delta).await?),
            Self::Touch { ttl, .. } => done_if_there(backend.touch(&name, *ttl).await?),
            Self::Clear => {
                backend.clear().await?;
                Answer::Done
            }
            Self::Stats { all } => Answer::Stats { servers: backend.stats().await, all: *all },
        })
    }

    /// Returns the key, and what happens to it, or to the cache, if all goes well.
    fn subject(&self) -> (Option<&Key>, &'static str) {
        match self {
            Self::Get { key } | Self::Incr(Count { key, .. }) | Self::Decr(Count { key, .. }) => {
                (Some(key), "found")
            }
            Self::Set(store) | Self::Add(store) | Self::Replace(store) => (Some(&store.key), "stored"),
            Self::Delete { key } => (Some(key), "deleted"),
            Self::Touch { key, .. } => (Some(key), "touched"),
            Self::Clear => (None, "cleared"),
            Self::Stats { .. } => (None, "answered"),
        }
    }
}

impl Store {
    /// Returns the value, if it is not too long.
    fn value(&self, cache: &Cache) -> Result<Bytes, Error> {
        if self.value.len() > cache.largest_value() {
            let kind = ErrorKind::TooLarge(self.value.len());
            return Err(Error { server: cache.backend().server_of(&cache.name(&self.key)), kind });
        }
        Ok(self.value.clone().into_encoded_bytes().into())
    }

    fn ttl(&self) -> Ttl {
        self.ttl.unwrap_or(Ttl::Never)
    }
}

fn done_if_there(is_there: bool) -> Answer {
    if is_there { Answer::Done } else { Answer::Missing }
}

fn counted(number: Option<u64>) -> Answer {
    number.map_or(Answer::Missing, Answer::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_number_of_seconds() {
        for (text, seconds) in
            [("60", 60.0), ("0.5", 0.5), ("0", 0.0), ("-1", 0.0), ("-0.1", 0.0), ("1e3", 1000.0)]
        {
            assert_eq!(ttl(text), Ok(Ttl::After(Duration::from_secs_f64(seconds))), "{text}");
        }
        for text in ["", "soon", "60s", "NaN", "inf", "1e30"] {
            assert!(ttl(text).is_err(), "{text}");
        }
    }
}
