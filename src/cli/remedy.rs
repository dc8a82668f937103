//! What to do about a cache that could not be asked.

use crate::cache::backend::ErrorKind;

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
            "check MEMCACHIER_USERNAME and MEMCACHIER_PASSWORD on the provider's overview page"
        }
        ErrorKind::LeftOut | ErrorKind::Busy => "wait a few seconds and try again",
        ErrorKind::TooLarge(_) => "store a shorter value: one has at most 1,000,000 bytes",
        ErrorKind::NotANumber => "set the key to digits first, such as 0",
        ErrorKind::Refused(cause) if cause.contains("memory") => {
            "it is full and may not evict: give it more memory (memcached -m), or start it without -M"
        }
        ErrorKind::Refused(_) => {
            "raise the server's limit (memcached -I 2m), unless it is how the provider's plan is; \
             what is longer is left uncached"
        }
        _ => {
            "is the server of MEMCACHIER_SERVERS a memcached that speaks the binary protocol? \
             A web server does not, nor one started with -B ascii"
        }
    }
}
