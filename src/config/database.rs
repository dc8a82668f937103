//! Which database holds the tasks.

use std::time::Duration;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::env::{self, Variables, missing, wrong, wrong_secret};
use crate::db::{DatabaseUrl, InvalidUrl};

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

impl DatabaseConfig {
    pub(super) fn from_variables(variables: &Variables, development: bool) -> Result<Self, env::Error> {
        let url = match variables.get("DATABASE_URL")? {
            Some(url) => {
                url.parse().map_err(|InvalidUrl(accepted)| wrong_secret("DATABASE_URL", &accepted))?
            }
            None if development => DatabaseUrl::of_file("db.sqlite3"),
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

#[cfg(test)]
mod tests {
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
        let error = database([("DATABASE_URL", "tasks:hunter2@db/app")], false).unwrap_err();
        assert!(error.starts_with("DATABASE_URL is wrong") && !error.contains("hunter2"), "{error}");
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
            database([("DATABASE_URL", "postgres://u@h/d"), ("DATABASE_CA_CERT", value)], false).unwrap();
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
