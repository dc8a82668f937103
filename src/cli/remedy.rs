//! What to do about a cache or a database that could not be asked.

use crate::cache::backend::ErrorKind;
use crate::config::database::DatabaseUrl;
use crate::db;

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

/// Returns what to do about an error, as a question or an instruction.
pub(super) fn remedy(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unreachable(_) => {
            "is MEMCACHIER_SERVERS right, does memcached run there, is it behind a firewall? \
             With file://, may this user write to the directory? With db://, is the database well, and migrated?"
        }
        ErrorKind::Timeout(_) => {
            "it accepts connections and does not answer: is it overloaded, stopped, or no memcached?"
        }
        ErrorKind::Unauthenticated => {
            "check MEMCACHIER_USERNAME and MEMCACHIER_PASSWORD on the provider's overview page; where other commands \
             work, may this user write? A memcached started with -F allows nobody to clear it"
        }
        ErrorKind::LeftOut | ErrorKind::Busy => "wait a few seconds and try again",
        ErrorKind::Down(cause) | ErrorKind::PendingDelete(cause) => remedy(cause),
        ErrorKind::TooLarge(_) => "store a shorter value: one has at most 1,000,000 bytes",
        ErrorKind::NotANumber => "set the key to digits first, such as 0",
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
