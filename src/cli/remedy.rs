//! What to do about a cache or a database that could not be asked.

use crate::config::Config;
use crate::config::cache::BackendConfig;
use crate::db::{self, DatabaseUrl};
use neverstale::backend::ErrorKind;

/// Says that a database cannot be reached, and what to do.
pub(super) fn unreachable(url: &DatabaseUrl, cause: db::Error) -> anyhow::Error {
    let remedy = reach_remedy(url, &cause);
    anyhow::Error::new(cause).context(format!("failed to reach {url}; {remedy}"))
}

/// Returns what to do about a database that cannot be reached.
pub(super) fn reach_remedy(url: &DatabaseUrl, error: &db::Error) -> &'static str {
    match url {
        _ if error.is_ca_certificate() => {
            "the server's own certificate is that of a CA (CA:TRUE), which no TLS client here accepts from a server. \
             Give the server one that the CA has signed, or a self-signed one that is no CA \
             (openssl req -x509 -addext basicConstraints=critical,CA:FALSE); or leave DATABASE_CA_CERT out and \
             end DATABASE_URL with ?sslmode=require, which encrypts and checks no certificate"
        }
        _ if error.is_untrusted() => {
            "is DATABASE_CA_CERT the authority that signed this server's certificate, and is the host in DATABASE_URL \
             one of the certificate's names? With sslmode=verify-ca in DATABASE_URL the name is not asked"
        }
        DatabaseUrl::Sqlite(_) => "does the directory of DATABASE_URL exist, and may this user write to it?",
        DatabaseUrl::Postgres(_) => {
            "is the server of DATABASE_URL up, are user, password and database name right?"
        }
    }
}

/// Returns what to do about a database that can be reached, and whose tables cannot be read.
pub(super) fn read_remedy(error: &db::Error) -> &'static str {
    if error.is_statement_pooling() {
        "the pooler in front of the database lends a connection for one statement only; transactions are needed: set \
         pool_mode = transaction (or session) there"
    } else if error.is_transient() {
        "it took the connection and ran no statement: is the server overloaded or stopped, or does a pooler in front of \
         it wait for a connection of its own? In session mode it needs two at least for each process \
         (default_pool_size)"
    } else {
        "may the user of DATABASE_URL read its tables?"
    }
}

/// Where the configured cache is, as far as remedies differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Process,
    Files,
    Sqlite,
    Postgres,
    Memcached,
}

impl Place {
    pub(super) fn of(config: &Config) -> Self {
        match (&config.cache.backend, &config.database.url) {
            (BackendConfig::Locmem | BackendConfig::Dummy, _) => Self::Process,
            (BackendConfig::File(_), _) => Self::Files,
            (BackendConfig::Database, DatabaseUrl::Sqlite(_)) => Self::Sqlite,
            (BackendConfig::Database, DatabaseUrl::Postgres(_)) => Self::Postgres,
            (BackendConfig::Memcached(_) | BackendConfig::MemcacheCrate(_), _) => Self::Memcached,
        }
    }

    /// Returns what to do about an error, as a question or an instruction.
    pub(super) fn remedy(self, kind: &ErrorKind) -> &'static str {
        match (self, kind) {
            (_, ErrorKind::Down(Some(cause)) | ErrorKind::PendingDelete(cause)) => self.remedy(cause),
            (_, ErrorKind::Down(None) | ErrorKind::Busy) | (Self::Process, ErrorKind::Timeout(_)) => {
                "wait a few seconds and try again"
            }
            (_, ErrorKind::TooLarge(_)) => "store a shorter value: one has at most 1,000,000 bytes",
            (_, ErrorKind::NotANumber) => "set the key to digits first, such as 0",
            (Self::Files, ErrorKind::Timeout(_)) => {
                "is the disk of CACHE_URL's directory slow, or does another process keep its locks?"
            }
            (Self::Sqlite, ErrorKind::Timeout(_)) => {
                "does another process write to the file of DATABASE_URL for long, or is its disk slow?"
            }
            (Self::Postgres, ErrorKind::Timeout(_)) => "is the server of DATABASE_URL overloaded or stopped?",
            (Self::Process, _) => "start the command again",
            (Self::Files, _) => {
                "may this user write to the directory of CACHE_URL, and is there room on its disk?"
            }
            (Self::Sqlite, _) => {
                "may this user write to the file of DATABASE_URL and its directory, and has `tasklist migrate` run?"
            }
            (Self::Postgres, _) => {
                "is the server of DATABASE_URL up, may its user use the table cache, and has `tasklist migrate` run?"
            }
            (Self::Memcached, _) => memcached_remedy(kind),
        }
    }
}

fn memcached_remedy(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Timeout(_) => {
            "it accepts connections and does not answer: is it overloaded, stopped, or no memcached?"
        }
        ErrorKind::Unreachable(_) => {
            "is MEMCACHIER_SERVERS right, does memcached run there, is it behind a firewall?"
        }
        ErrorKind::Unauthenticated => {
            "check MEMCACHIER_USERNAME and MEMCACHIER_PASSWORD on the provider's overview page; where other commands \
             work, may this user write? A memcached started with -F allows nobody to clear it"
        }
        ErrorKind::Refused(cause) if cause.contains("memory") => {
            "it is full and may not evict: give it more memory (memcached -m), or start it without -M"
        }
        ErrorKind::Refused(_) => {
            "raise the server's limit (memcached -I 2m), unless it is how the provider's plan is; \
             what is longer is left uncached"
        }
        ErrorKind::Unsupported(_) => {
            "is it a memcached of version 1.4 or later, and is there a proxy before it that passes on only some commands?"
        }
        ErrorKind::Overloaded(_) => {
            "wait a few seconds and try again; if it stays so, what does the server's log or the provider's status page \
             say?"
        }
        _ => {
            "is the server of MEMCACHIER_SERVERS a memcached that speaks the binary protocol? \
             A web server does not, nor one started with -B ascii"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_remedy_names_what_is_configured_and_nothing_else() {
        let of_sqlite: &[&str] = &["DATABASE_URL", "migrate"];
        let (foreign_to_memcached, foreign_to_others) =
            (["CACHE_URL", "DATABASE_URL", "migrate"], ["MEMCACHIER", "memcached", "firewall"]);
        let postgres = "postgres://u@h/d";
        for (url, database, named) in [
            ("locmem://", "sqlite://f", &[][..]),
            ("dummy://", "sqlite://f", &[]),
            ("file:///var/tmp/x", "sqlite://f", &["CACHE_URL"]),
            ("db://", "sqlite://f", of_sqlite),
            ("db://", postgres, &["DATABASE_URL", "server", "migrate"]),
            ("memcached://h", postgres, &["MEMCACHIER", "memcached", "firewall"]),
        ] {
            for client in ["native", "memcache"] {
                let variables = [("CACHE_URL", url), ("DATABASE_URL", database), ("MEMCACHE_CLIENT", client)];
                let place = Place::of(&Config::from_variables(variables).unwrap());
                let unreachable = place.remedy(&ErrorKind::Unreachable(String::new()));
                assert!(named.iter().all(|word| unreachable.contains(word)), "{url}: {unreachable}");
                let foreign: &[&str] =
                    if place == Place::Memcached { &foreign_to_memcached } else { &foreign_to_others };
                for kind in [
                    ErrorKind::Unreachable(String::new()),
                    ErrorKind::Timeout(Duration::ZERO),
                    ErrorKind::Busy,
                    ErrorKind::Down(None),
                    ErrorKind::Unauthenticated,
                    ErrorKind::Protocol(String::new()),
                    ErrorKind::TooLarge(0),
                    ErrorKind::NotANumber,
                    ErrorKind::Refused("out of memory".into()),
                    ErrorKind::Refused(String::new()),
                ] {
                    let remedy = place.remedy(&kind);
                    assert!(!foreign.iter().any(|word| remedy.contains(word)), "{url}: {kind}: {remedy}");
                }
            }
        }
    }
}
