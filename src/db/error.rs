//! Errors of the database.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use tokio_rustls::rustls::Error as TlsError;

/// An error of the database. Cheap to clone, for all that wait for the same statement.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached, or is too busy, for now.
    #[error("database is not available")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// It did not answer in time. A write may have happened.
    #[error("database did not answer in time")]
    Timeout,
    /// It answered with an error.
    #[error("database refused")]
    Refused(#[source] Arc<sqlx::Error>),
    /// Its disk is full. It can be read, and a write has not happened.
    #[error("database has no room left on its disk")]
    NoRoom(#[source] Arc<sqlx::Error>),
    /// Its file may only be read, and a write has not happened.
    #[error("database can only be read; may this user write to its file and directory?")]
    ReadOnly(#[source] Arc<sqlx::Error>),
    /// Its file is not the one that was opened. No statement was sent to either.
    #[error(
        "database file {0} was removed or replaced while it was in use; put it back as it was, \
         or stop, put the right file there without -wal and -shm of another, and start again"
    )]
    Moved(String),
    /// A migration cannot be applied.
    #[error("migrations cannot be applied")]
    Migrate(#[source] Arc<sqlx::migrate::MigrateError>),
}

impl Error {
    /// Returns whether no connection of the pool became free in time.
    #[must_use]
    pub fn is_pool_timeout(&self) -> bool {
        matches!(self, Self::Unavailable(source) if matches!(**source, sqlx::Error::PoolTimedOut))
    }

    /// Returns whether it is worth trying again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Timeout)
    }

    /// Returns whether a pooler lends connections for a single statement, so that there are no transactions.
    #[must_use]
    pub fn is_statement_pooling(&self) -> bool {
        matches!(self, Self::Unavailable(error) if error.to_string().contains("statement pooling mode"))
    }

    /// Returns whether the server showed a certificate that is not trusted.
    #[must_use]
    pub fn is_untrusted(&self) -> bool {
        let Self::Refused(error) = self else { return false };
        matches!(&**error, sqlx::Error::Io(error) if is_untrusted(error))
    }

    /// Returns whether the server's certificate is the one of a CA, which no server's may be.
    #[must_use]
    pub fn is_ca_certificate(&self) -> bool {
        let Self::Refused(error) = self else { return false };
        self.is_untrusted() && error.to_string().contains("CaUsedAsEndEntity")
    }

    /// Returns whether a row was found that does not hold what its columns are for.
    #[must_use]
    pub fn is_odd_row(&self) -> bool {
        matches!(self, Self::Refused(error) if matches!(**error, sqlx::Error::ColumnDecode { .. }))
    }

    /// Returns whether the database refused this very statement: nothing of it has happened, and another may work.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(error) if matches!(**error, sqlx::Error::Database(_)))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if is_transport(&error) {
            return Self::Unavailable(Arc::new(error));
        }
        let kind = kind_of(&code_of(&error));
        kind(Arc::new(error))
    }
}

/// Returns the database's own code of an error, or nothing.
pub(super) fn code_of(error: &sqlx::Error) -> Cow<'_, str> {
    match error {
        sqlx::Error::Database(error) => error.code().unwrap_or_default(),
        _ => "".into(),
    }
}

/// Returns whether there is no connection, or none any more.
pub(super) fn is_transport(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => !is_untrusted(error),
        sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
        _ => false,
    }
}

fn is_untrusted(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<TlsError>());
    matches!(cause, Some(TlsError::InvalidCertificate(_)))
}

/// Returns the kind of error that a database's own code stands for. Codes of Postgres (PostgreSQL, "Error Codes") have
/// five letters and digits, those of SQLite ("Result and Error Codes") fewer.
fn kind_of(code: &str) -> fn(Arc<sqlx::Error>) -> Error {
    // Class 08 connection exception, 53 insufficient resources, 57P0x operator intervention, 57014 statement timeout,
    // 25006 read-only (a standby after failover).
    let passing = ["08", "53", "57P0", "57014", "25006"];
    match (code.len(), code.parse::<u16>()) {
        (5, _) if code == "53100" => Error::NoRoom,
        (5, _) if passing.iter().any(|class| code.starts_with(class)) => Error::Unavailable,
        (5, _) | (_, Err(_)) => Error::Refused,
        // IOERR_SHMSIZE: a full disk has no room for what a new connection needs.
        (_, Ok(4874)) => Error::Unavailable,
        // The higher bits only say more: BUSY, LOCKED; READONLY; FULL.
        (_, Ok(code)) => match code & 0xff {
            5 | 6 => Error::Unavailable,
            8 => Error::ReadOnly,
            13 => Error::NoRoom,
            _ => Error::Refused,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transient_errors_are_told_from_lasting_ones() {
        let kind = |code: &str| {
            let error = kind_of(code)(Arc::new(sqlx::Error::RowNotFound));
            format!("{error:?}").split('(').next().unwrap().to_owned()
        };
        for (codes, expected) in [
            ("08006 53300 57P01 57P03 57014 25006 5 261 517 6 4874", "Unavailable"),
            ("53100 13", "NoRoom"),
            ("8 264 776 1544", "ReadOnly"),
            // A code of Postgres is no number, though 22021 would be a BUSY.
            ("22021 23505 42P01 1 10 14 unknown", "Refused"),
        ] {
            for code in codes.split(' ') {
                assert_eq!(kind(code), expected, "{code}");
            }
        }
    }
}
