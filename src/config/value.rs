//! What clap's parsers of values lack for values that platforms set and that may be secret.

use std::error::Error as _;
use std::ffi::OsStr;

use clap::builder::{EnumValueParser, PossibleValue, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Command, Error, ValueEnum};
use secrecy::SecretString;

/// Parses a value without the blanks around it, where it cannot begin or end with one.
#[derive(Clone)]
pub(super) struct Trimmed<P>(pub(super) P);

/// Parses a value that may hold a secret, and never shows it.
#[derive(Clone)]
pub(super) struct Masked<P>(pub(super) P);

#[derive(Clone, Copy, ValueEnum)]
enum Switch {
    #[value(alias = "on", alias = "1", alias = "yes")]
    True,
    #[value(alias = "off", alias = "0", alias = "no")]
    False,
}

/// Parses one of several names.
pub(super) fn choice<T: ValueEnum + Clone + Send + Sync + 'static>() -> Trimmed<EnumValueParser<T>> {
    Trimmed(EnumValueParser::new())
}

/// Parses `true` and `false`, and the other usual spellings.
pub(super) fn switch() -> impl TypedValueParser<Value = bool> {
    choice().map(|switch: Switch| matches!(switch, Switch::True))
}

/// Parses a password or a key, with the blanks around it.
pub(super) fn secret(value: &str) -> Result<SecretString, &'static str> {
    if value.trim().is_empty() { Err("expected more than blanks") } else { Ok(value.into()) }
}

impl<P: TypedValueParser> TypedValueParser for Trimmed<P> {
    type Value = P::Value;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<P::Value, Error> {
        let text = value.to_str().ok_or_else(|| masked(arg, "expected text in UTF-8"))?;
        self.0.parse_ref(command, arg, text.trim().as_ref())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.0.possible_values()
    }
}

impl<P: TypedValueParser> TypedValueParser for Masked<P> {
    type Value = P::Value;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<P::Value, Error> {
        self.0.parse_ref(command, arg, value).map_err(|error| {
            let cause = error.source().map(ToString::to_string);
            masked(arg, &cause.unwrap_or_else(|| "expected text in UTF-8".into()))
        })
    }
}

fn masked(arg: Option<&Arg>, cause: &str) -> Error {
    let name = arg.map(ToString::to_string).unwrap_or_default();
    let message = format!("invalid value for '{name}' (not shown here): {cause}\n");
    Error::raw(ErrorKind::ValueValidation, message)
}
