//! Which database holds the tasks.

use std::fs;
use std::time::Duration;

use clap::Args;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::error::{Error, missing};
use super::value::{Masked, Trimmed};
use crate::db::{DatabaseUrl, InvalidUrl};

/// The longest `SLOW_QUERY`: within the time a request may take.
const SLOWEST_QUERY: Duration = Duration::from_secs(20);

/// The database, and how slow its list query pretends to be.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// `DATABASE_URL`, whose server must have a certificate of `DATABASE_CA_CERT` if that is set.
    pub url: DatabaseUrl,
    /// `SLOW_QUERY`.
    pub slow_query: Duration,
}

/// The options of the database.
#[derive(Debug, Args)]
#[command(next_help_heading = "Database")]
pub(super) struct DatabaseArgs {
    /// Database: postgres://user:password@host/name, postgres:///name?host=/var/run/postgresql by a socket of this
    /// machine, or sqlite://path/to/file; by default db.sqlite3 in the current directory, but not in production
    #[arg(long, env, value_parser = Masked(Trimmed(parse_url)))]
    database_url: Option<DatabaseUrl>,
    /// CA certificate, in PEM or as a file's path, that must have signed the certificate of that Postgres for the host
    /// in DATABASE_URL; without it sslmode in DATABASE_URL decides, by which no certificate is checked by default
    #[arg(long, env, value_parser = Masked(Trimmed(parse_certificates)))]
    database_ca_cert: Option<Box<[u8]>>,
}

impl DatabaseArgs {
    pub(super) fn resolve(self, development: bool, slow_query: Duration) -> Result<DatabaseConfig, Error> {
        let url = match self.database_url {
            Some(url) => url,
            None if development => DatabaseUrl::of_file("db.sqlite3"),
            None => {
                let because = "with DEVELOPMENT_MODE off the tasks need a database of their own, \
                               such as postgres://user:password@host/name";
                return Err(missing("DATABASE_URL", because));
            }
        };
        let url = match self.database_ca_cert {
            Some(certificates) => url.trusting(certificates.into()),
            None => url,
        };
        Ok(DatabaseConfig { url, slow_query })
    }
}

fn parse_url(url: &str) -> Result<DatabaseUrl, String> {
    url.parse().map_err(|InvalidUrl(accepted)| format!("expected {accepted}"))
}

pub(super) fn parse_duration(value: &str) -> Result<Duration, &'static str> {
    let duration = humantime::parse_duration(value).ok().filter(|duration| *duration <= SLOWEST_QUERY);
    duration.ok_or("expected a duration from 0s to 20s, such as 2s or 500ms")
}

/// Returns certificates as PEM, all of which can be used.
fn parse_certificates(value: &str) -> Result<Box<[u8]>, String> {
    let refuse = |found: &str| {
        format!(
            "{found}expected a certificate in PEM, lines and all, which begins with -----BEGIN CERTIFICATE-----, or the \
             path of a file with one or more of them, which begins with / or ."
        )
    };
    // A key that was put here by mistake is no path, and must not get into the log.
    let is_path = value.starts_with(['/', '.']) && !value.contains(char::is_whitespace);
    let (mut pem, found) = if value.contains("-----BEGIN") {
        // Where a variable is one line, its line ends are written out.
        (value.replace("\\n", "\n").into_bytes(), String::new())
    } else if is_path {
        let text = fs::read(value).map_err(|error| refuse(&format!("{value}: {error}; ")))?;
        (text, format!("found something else in {value}; "))
    } else {
        return Err(refuse(""));
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
    if is_usable { Ok(pem.into()) } else { Err(refuse(&found)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn development_has_a_file_and_production_must_say() {
        let database = |mode, url| {
            let key = ("SECRET_KEY", "horse");
            let config = Config::from_variables([("DEVELOPMENT_MODE", mode), ("DATABASE_URL", url), key]);
            config.map(|config| config.database.url.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(database("True", ""), Ok("SQLite, db.sqlite3".into()));
        assert_eq!(database("False", " sqlite://f "), Ok("SQLite, f".into()));
        for blank in ["", " ", "\t\n", "\u{a0}\u{2003}"] {
            let error = database("False", blank).unwrap_err();
            assert!(error.starts_with("DATABASE_URL is not set: with DEVELOPMENT_MODE off"), "{error}");
        }
        let error = database("False", "tasks:hunter2@db/app").unwrap_err();
        assert!(
            error.contains("'--database-url <DATABASE_URL>' (not shown here): expected postgres://"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn an_authority_is_a_certificate_or_a_file_with_one() {
        let own = rcgen::generate_simple_self_signed(["db.example.com".into()]).unwrap().cert.pem();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        std::fs::write(&file, format!("{own}{own}")).unwrap();
        let one_line = own.replace('\n', "\\n");
        let marked = format!("\u{feff}{}", own.replace('\n', "\r\n"));
        for value in [own.as_str(), &one_line, &marked, file.to_str().unwrap()] {
            assert!(parse_certificates(value).is_ok(), "{value}");
        }
        let nothing = directory.path().join("nothing.pem");
        std::fs::write(&nothing, "").unwrap();
        let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----";
        let key = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----";
        let (nothing, nowhere) = (nothing.to_str().unwrap(), "/nowhere/ca.pem");
        for value in
            ["${db.CA_CERT}", "MIIBkeywithoutitsfirstline", "MIIB\nMIIB", broken, key, nothing, nowhere]
        {
            let error = parse_certificates(value).unwrap_err();
            assert!(error.contains("expected a certificate") && !error.contains("MIIB"), "{error}");
            assert_eq!(
                error.contains(value),
                value.starts_with('/'),
                "a path is named, and nothing else: {error}"
            );
        }
    }

    #[test]
    fn a_slow_query_stays_within_a_request() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for value in ["fast", "1h", "-1s"] {
            assert!(parse_duration(value).is_err(), "{value}");
        }
    }
}
