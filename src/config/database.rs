//! Which database holds the tasks.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use sqlx::sqlite::SqliteConnectOptions;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::env::{self, Variables, missing, wrong, wrong_secret};
use super::postgres::{PostgresServer, SHAPE, Unusable};

/// The longest `SLOW_QUERY`: within the time a request may take.
const SLOWEST_QUERY: Duration = Duration::from_secs(20);

const ACCEPTED_CA: &str = "a certificate in PEM, lines and all, which begins with -----BEGIN CERTIFICATE-----, \
                           or the path of a file with one or more of them, which begins with / or .";

/// The database, and how slow its list query pretends to be.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// `DATABASE_URL`; without it `db.sqlite3` in the current directory, in development only. A Postgres on this
    /// machine may be reached by the directory of its socket: `postgres:///name?host=/var/run/postgresql`.
    ///
    /// With `DATABASE_CA_CERT`, a certificate or the path of one, only a Postgres is accepted whose certificate this CA
    /// has signed, for the host of the URL. Without it the URL's `sslmode` decides; by default the connection is
    /// encrypted if the server can do it, and no certificate is checked.
    pub url: DatabaseUrl,
    /// `SLOW_QUERY`: how long the list query sleeps, as the tutorial's does. Nothing by default.
    pub slow_query: Duration,
}

/// A checked `DATABASE_URL`.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(SqliteConnectOptions),
    /// A server.
    Postgres(PostgresServer),
}

impl DatabaseConfig {
    pub(super) fn from_variables(variables: &Variables, development: bool) -> Result<Self, env::Error> {
        let url = match variables.get("DATABASE_URL")? {
            Some(url) => DatabaseUrl::parse(url)?,
            None if development => DatabaseUrl::Sqlite(SqliteConnectOptions::new().filename("db.sqlite3")),
            None => {
                let because = "with DEVELOPMENT_MODE off the tasks need a database of their own, \
                               such as postgres://user:password@host/name";
                return Err(missing("DATABASE_URL", because));
            }
        };
        let url = match variables.get("DATABASE_CA_CERT")? {
            Some(authority) => url.trusting(read_authority(authority)?),
            None => url,
        };
        let slow_query =
            variables.parse("SLOW_QUERY", "a duration from 0s to 20s, such as 2s or 500ms", |value| {
                humantime::parse_duration(value).ok().filter(|duration| *duration <= SLOWEST_QUERY)
            })?;
        Ok(Self { url, slow_query: slow_query.unwrap_or_default() })
    }
}

impl DatabaseUrl {
    /// Returns whether it names a file that is not there.
    #[must_use]
    pub fn is_missing_file(&self) -> bool {
        matches!(self, Self::Sqlite(options) if !options.get_filename().exists())
    }

    fn trusting(self, certificates: Vec<u8>) -> Self {
        match self {
            Self::Postgres(server) => Self::Postgres(server.trusting(certificates)),
            Self::Sqlite(_) => self,
        }
    }

    fn parse(url: &str) -> Result<Self, env::Error> {
        let (scheme, rest) = url.split_once(':').ok_or_else(unusable)?;
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => parse_sqlite(rest),
            "postgres" | "postgresql" => {
                let server = rest.strip_prefix("//").ok_or_else(unusable)?;
                let server = PostgresServer::parse(server);
                let refuse = |Unusable(accepted)| wrong_secret("DATABASE_URL", &accepted);
                server.map(Self::Postgres).map_err(refuse)
            }
            _ => Err(unusable()),
        }
    }
}

fn parse_sqlite(path: &str) -> Result<DatabaseUrl, env::Error> {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let file = decoded.trim_start_matches('/').split('?').next().unwrap_or_default();
    if file.is_empty() || file.contains(":memory:") || decoded.contains("mode=memory") {
        // Every connection of the pool would have a database of its own.
        return Err(wrong_secret("DATABASE_URL", "a SQLite file that lasts, such as sqlite://db.sqlite3"));
    }
    // Credentials of a server, after the wrong scheme.
    if decoded.split_once(':').is_some_and(|(_, rest)| rest.contains('@')) {
        return Err(unusable());
    }
    format!("sqlite:{path}").parse().map(DatabaseUrl::Sqlite).map_err(|_| unusable())
}

/// Returns certificates as PEM, all of which can be used.
fn read_authority(value: &str) -> Result<Vec<u8>, env::Error> {
    let refuse = |found: &str| wrong("DATABASE_CA_CERT", found, ACCEPTED_CA);
    // A key that was put here by mistake is no path, and must not get into the log.
    let is_path = value.starts_with(['/', '.']) && !value.contains(char::is_whitespace);
    let (mut pem, shown) = if value.contains("-----BEGIN") {
        // Where a variable is one line, its line ends are written out.
        (value.replace("\\n", "\n").into_bytes(), "-----BEGIN…")
    } else if is_path {
        let text = std::fs::read(value).map_err(|error| refuse(&format!("{value}: {error}")))?;
        (text, value)
    } else {
        return Err(wrong_secret("DATABASE_CA_CERT", ACCEPTED_CA));
    };
    // Some editors put a byte order mark before everything else.
    if let Some(rest) = pem.strip_prefix("\u{feff}".as_bytes()) {
        pem = rest.to_vec();
    }
    let mut store = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let is_usable = certificates.is_ok_and(|certificates| {
        !certificates.is_empty() && certificates.into_iter().all(|certificate| store.add(certificate).is_ok())
    });
    if is_usable { Ok(pem) } else { Err(refuse(shown)) }
}

fn unusable() -> env::Error {
    wrong_secret("DATABASE_URL", SHAPE)
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
    use sqlx::postgres::PgSslMode;

    use super::*;

    fn database<const N: usize>(
        pairs: [(&str, &str); N],
        development: bool,
    ) -> Result<DatabaseConfig, String> {
        DatabaseConfig::from_variables(&Variables::from(pairs), development)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn development_has_a_file_and_production_must_say() {
        assert_eq!(database([], true).unwrap().url.to_string(), "SQLite, db.sqlite3");
        for blank in ["", " ", "\t\n", "\u{a0}\u{2003}"] {
            let error = database([("DATABASE_URL", blank)], false).unwrap_err();
            assert!(error.starts_with("DATABASE_URL is not set: with DEVELOPMENT_MODE off"), "{error}");
        }
        assert!(
            database([], false)
                .unwrap_err()
                .starts_with("DATABASE_URL is not set: with DEVELOPMENT_MODE off")
        );
    }

    #[test]
    fn a_password_is_never_shown() {
        for scheme in ["postgres", "postgresql", "PostgreSQL"] {
            let url = format!("{scheme}://tasks:hunter2@db.example.com:5433/app?sslmode=require");
            let config = database([("DATABASE_URL", &url)], false).unwrap();
            assert_eq!(config.url.to_string(), "Postgres, db.example.com:5433/app");
            assert!(!format!("{config:?}").contains("hunter2"));
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
            let error = database([("DATABASE_URL", broken)], false).unwrap_err();
            assert!(error.starts_with("DATABASE_URL is wrong") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_file_that_may_be_a_password_is_not_named() {
        for url in ["sqlite:hunter2@db", "sqlite://hunter2@db/app", "sqlite://me%40hunter2/app"] {
            let config = database([("DATABASE_URL", url)], true).unwrap();
            assert_eq!(config.url.to_string(), "SQLite, …", "{url}");
            assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
        }
        let config = database([("DATABASE_URL", "sqlite:///srv/app@2/db.sqlite3")], true).unwrap();
        assert_eq!(config.url.to_string(), "SQLite, /srv/app@2/db.sqlite3");
    }

    #[test]
    fn a_socket_is_named_by_its_directory_in_either_way_of_writing_it() {
        for url in [
            "postgres:///app?host=/var/run/postgresql",
            "postgresql://tasks@%2Fvar%2Frun%2Fpostgresql/app",
            "postgres:///app?user=tasks&password=hunter2&host=/var/run/postgresql&port=5432",
        ] {
            let config = database([("DATABASE_URL", url)], false).unwrap();
            assert_eq!(config.url.to_string(), "Postgres, app at /var/run/postgresql/.s.PGSQL.5432", "{url}");
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
            assert!(database([("DATABASE_URL", url)], true).is_err(), "{url}");
        }
    }

    #[test]
    fn an_authority_is_a_certificate_or_a_file_with_one() {
        let own = rcgen::generate_simple_self_signed(["db.example.com".into()]).unwrap().cert.pem();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        std::fs::write(&file, format!("{own}{own}")).unwrap();
        let one_line = own.replace('\n', "\\n");
        for (mode, expected) in [
            ("", PgSslMode::VerifyFull),
            ("?sslmode=require", PgSslMode::VerifyFull),
            ("?sslmode=disable", PgSslMode::VerifyFull),
            ("?sslmode=verify-ca", PgSslMode::VerifyCa),
        ] {
            let marked = format!("\u{feff}{}", own.replace('\n', "\r\n"));
            for value in [own.as_str(), &one_line, &marked, file.to_str().unwrap()] {
                let url = format!("postgres://u@h/d{mode}");
                let config = database([("DATABASE_URL", &url), ("DATABASE_CA_CERT", value)], false).unwrap();
                let DatabaseUrl::Postgres(server) = config.url else { panic!("{url}") };
                assert_eq!(server.options.get_ssl_mode() as u8, expected as u8, "{mode}");
            }
        }
        let nothing = directory.path().join("nothing.pem");
        std::fs::write(&nothing, "").unwrap();
        let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----";
        let key = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----";
        for value in ["${db.CA_CERT}", "MIIBkeywithoutitsfirstline", "MIIB\nMIIB"] {
            let error = database([("DATABASE_CA_CERT", value)], true).unwrap_err();
            assert!(error.starts_with("DATABASE_CA_CERT is wrong (its value is not shown here)"), "{error}");
        }
        for value in [broken, key, nothing.to_str().unwrap(), "/nowhere/ca.pem"] {
            let error = database([("DATABASE_CA_CERT", value)], true).unwrap_err();
            assert!(
                error.starts_with("DATABASE_CA_CERT is \"") && error.contains("accepted: a certificate"),
                "{error}"
            );
            assert!(!error.contains("MIIB"), "{error}");
        }
    }

    #[test]
    fn a_slow_query_stays_within_a_request() {
        assert_eq!(database([("SLOW_QUERY", "500ms")], true).unwrap().slow_query, Duration::from_millis(500));
        for value in ["fast", "1h", "-1s"] {
            assert!(
                database([("SLOW_QUERY", value)], true).unwrap_err().starts_with("SLOW_QUERY is"),
                "{value}"
            );
        }
    }
}
