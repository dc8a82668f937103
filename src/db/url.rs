//! Which database a URL names.

mod postgres;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use sqlx::sqlite::SqliteConnectOptions;

use self::postgres::SHAPE;
pub use self::postgres::{InvalidUrl, PostgresServer};

/// A checked `DATABASE_URL`.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(SqliteConnectOptions),
    /// A server.
    Postgres(PostgresServer),
}

impl DatabaseUrl {
    /// Names a SQLite file.
    #[must_use]
    pub fn of_file(path: impl AsRef<Path>) -> Self {
        Self::Sqlite(SqliteConnectOptions::new().filename(path))
    }

    /// Returns whether it names a file that is not there.
    #[must_use]
    pub fn is_missing_file(&self) -> bool {
        matches!(self, Self::Sqlite(options) if !options.get_filename().exists())
    }

    /// Accepts only a server with a certificate of this CA, or one of these, in PEM. A file needs none.
    #[must_use]
    pub fn trusting(self, certificates: Vec<u8>) -> Self {
        match self {
            Self::Postgres(server) => Self::Postgres(server.trusting(certificates)),
            Self::Sqlite(_) => self,
        }
    }
}

impl FromStr for DatabaseUrl {
    type Err = InvalidUrl;

    fn from_str(url: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = url.split_once(':').ok_or_else(unusable)?;
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => parse_sqlite(rest),
            "postgres" | "postgresql" if rest.starts_with("//") => {
                PostgresServer::parse(url).map(Self::Postgres)
            }
            _ => Err(unusable()),
        }
    }
}

fn parse_sqlite(path: &str) -> Result<DatabaseUrl, InvalidUrl> {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let file = decoded.trim_start_matches('/').split('?').next().unwrap_or_default();
    if file.is_empty() || file.contains(":memory:") || decoded.contains("mode=memory") {
        // Every connection of the pool would have a database of its own.
        return Err(InvalidUrl("a SQLite file that lasts, such as sqlite://db.sqlite3".into()));
    }
    // Credentials of a server, after the wrong scheme.
    if decoded.split_once(':').is_some_and(|(_, rest)| rest.contains('@')) {
        return Err(unusable());
    }
    format!("sqlite:{path}").parse().map(DatabaseUrl::Sqlite).map_err(|_| unusable())
}

fn unusable() -> InvalidUrl {
    InvalidUrl(SHAPE.into())
}

fn is_doubtful(file: &Path) -> bool {
    file.is_relative() && file.as_os_str().as_encoded_bytes().contains(&b'@')
}

/// Names the database without its password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What looks like a file may be a password and a host, after the wrong scheme.
            Self::Sqlite(options) if is_doubtful(options.get_filename()) => f.write_str("SQLite, …"),
            Self::Sqlite(options) => write!(f, "SQLite, {}", options.get_filename().display()),
            Self::Postgres(server) => write!(f, "{server}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for scheme in ["postgres", "postgresql", "PostgreSQL"] {
            let url = format!("{scheme}://tasks:hunter2@db.example.com:5433/app?sslmode=require");
            let url: DatabaseUrl = url.parse().unwrap();
            assert_eq!(url.to_string(), "Postgres, db.example.com:5433/app");
            assert!(!format!("{url:?}").contains("hunter2"));
        }
        for broken in [
            "postgres://tasks:hunter2@db:port/app",
            "postgres://tasks:x/hunter2@db/app",
            "postgres:tasks:hunter2@db",
            "POSTGRES://tasks:hunter2#@db/app",
            "mysql://tasks:hunter2@db/app",
            "sqlite://tasks:hunter2@db/app",
            "host=db password=hunter2",
            "tasks:hunter2@db/app",
            "hunter2",
        ] {
            let InvalidUrl(accepted) = broken.parse::<DatabaseUrl>().unwrap_err();
            assert!(!accepted.contains("hunter2"), "{accepted}");
        }
    }

    #[test]
    fn a_file_that_may_be_a_password_is_not_named() {
        for url in ["sqlite:hunter2@db", "sqlite://hunter2@db/app", "sqlite://me%40hunter2/app"] {
            let url: DatabaseUrl = url.parse().unwrap();
            assert_eq!(url.to_string(), "SQLite, …");
            assert!(!format!("{url:?}").contains("hunter2"), "{url:?}");
        }
        let url: DatabaseUrl = "sqlite:///srv/app@2/db.sqlite3".parse().unwrap();
        assert_eq!(url.to_string(), "SQLite, /srv/app@2/db.sqlite3");
    }

    #[test]
    fn a_socket_is_named_by_its_directory_in_either_way_of_writing_it() {
        for url in [
            "postgres:///app?host=/var/run/postgresql",
            "postgresql://tasks@%2Fvar%2Frun%2Fpostgresql/app",
            "postgres:///app?user=tasks&password=hunter2&host=/var/run/postgresql&port=5432",
        ] {
            let server: DatabaseUrl = url.parse().unwrap();
            assert_eq!(server.to_string(), "Postgres, app at /var/run/postgresql/.s.PGSQL.5432", "{url}");
        }
    }

    #[test]
    fn a_database_that_would_not_last_is_refused() {
        for url in [
            "sqlite::memory:",
            "sqlite://",
            "sqlite://?mode=rwc",
            "sqlite://%3Amemory%3A",
            "sqlite://f?mode=memory",
        ] {
            assert!(url.parse::<DatabaseUrl>().is_err(), "{url}");
        }
    }
}
