//! What is wrong with the configuration.

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that is not accepted. Its text holds no value that may be a secret.
    #[error(transparent)]
    Wrong(#[from] clap::Error),
    /// A variable that others make necessary.
    #[error("{variable} is not set: {because}")]
    Missing {
        /// The variable's name.
        variable: String,
        /// What makes it necessary, and what to do.
        because: String,
    },
    /// A `.env` that cannot be read or understood.
    #[error(".env{place}: {cause}")]
    File {
        /// `, line 3`, or nothing.
        place: String,
        /// What is wrong there, without the line's text: it may hold a password.
        cause: String,
    },
}

/// Says that a variable must be set.
pub(super) fn missing(variable: &str, because: &str) -> Error {
    Error::Missing { variable: variable.into(), because: because.into() }
}
